"""ARPA files: ours come back with the same numbers, others' say what they say by hand, and wrong lines are named."""

import gzip
import itertools
import math

import numpy as np
import pytest

from jobs.export import export
from jobs.import_ngram import import_ngram
from jobs.schemas import ExportJob, ImportNgramJob
from rnnlm.data.tokenizers.bytes import BytesTokenizer
from rnnlm.data.tokenizers.chars import CharsConfig
from rnnlm.data.tokenizers.labels import LabelsConfig
from rnnlm.data.tokenizers.sentencepiece import SentencePieceConfig
from rnnlm.data.tokens import TokenTable
from rnnlm.errors import CheckpointError, DataError, RefusedError, TokenizerError
from rnnlm.ngram import NGramConfig, load_ngram, save_ngram
from rnnlm.ngram.arpa_words import arpa_words
from rnnlm.ngram.read_arpa import read_arpa
from rnnlm.ngram.write_arpa import write_arpa
from rnnlm.storage import open_location
from tests.corpora import TEXTS, sentences, words_tokenizer

NINE_DIGITS = 1e-7  # nats: each number is written with nine digits, five and four back-off weights are added up
KENLM = 1e-4  # log10; it adds up float32
TOKENIZER = words_tokenizer()
LN10 = math.log(10)

BY_HAND = """written by hand

\\data\\
ngram 1=5
ngram 2=3
ngram 3=2

\\1-grams:
-99 <s> -0.5
-1.0\tthe\t-0.2
-1.25\tcat\t-0.1
-0.75\t</s>
-2.0\t<unk>

\\2-grams:
-0.3\t<s> the\t-0.4
-0.6\tthe cat\t-0.05
-0.7 <unk> the

\\3-grams:
-0.1\t<s> the cat
-0.2\tthe cat </s>

\\end\\
"""


def written(tmp_path, text=BY_HAND):
    path = tmp_path / "model.arpa"
    path.write_text(text)
    return str(path)


def models():
    """Models of words, of pieces with a bos of their own, of characters and of bytes."""
    texts = [*TEXTS, "two words\nand a line feed"]
    yield TOKENIZER, sentences(60), sentences(20, seed=1)
    pieces = SentencePieceConfig(vocab_size=360).train(texts)
    yield pieces, texts[:100], texts
    yield CharsConfig().train(texts), texts[:20], texts[-20:]
    yield BytesTokenizer(), texts[:20], texts[-20:]


@pytest.mark.parametrize("place", range(4))
def test_a_model_that_went_out_comes_back_with_the_same_numbers(tmp_path, place):
    tokenizer, train, held_out = next(itertools.islice(models(), place, None))
    model = NGramConfig(order=4).train(TokenTable.from_documents(tokenizer.encode(train)), tokenizer)
    write_arpa(model, tokenizer, open_location(str(tmp_path / "model.arpa")))
    again = read_arpa(str(tmp_path / "model.arpa"), tokenizer)
    table = TokenTable.from_documents(tokenizer.encode(held_out))
    ours, theirs = model.look_up(table), again.look_up(table)
    assert theirs.logprobs == pytest.approx(ours.logprobs, abs=NINE_DIGITS)
    longer = ours.lengths > 1  # an ARPA file lists tokens that were never seen, too
    assert np.array_equal(theirs.lengths[longer], ours.lengths[longer])
    assert [path.name for path in tmp_path.iterdir()] == ["model.arpa"]


def test_a_model_of_others_by_hand(tmp_path):
    model = read_arpa(written(tmp_path), TOKENIZER)
    assert (model.order, model.num_ngrams, len(model.unlisted)) == (3, [3, 3, 2], 10)
    share = math.log10(10)  # of ten tokens without a 1-gram: nine words and <unk>
    expected = {
        "the cat": [-0.3, -0.1, -0.2],
        "cat": [-0.5 - 1.25, -0.1 - 0.75],
        "the the": [-0.3, -0.4 - 0.2 - 1.0, -0.2 - 0.75],
        "dog the": [-0.5 - 2.0 - share, -0.7, -0.2 - 0.75],  # dog is read as <unk>
        "cat cat": [-0.5 - 1.25, -0.1 - 1.25, -0.1 - 0.75],
    }
    for text, logprobs in expected.items():
        assert model.logprobs(TOKENIZER.encode([text]))[0] / LN10 == pytest.approx(logprobs, abs=1e-12), text
    found = model.look_up(TokenTable.from_documents(TOKENIZER.encode(["the cat", "dog the"])))
    assert found.lengths.tolist() == [2, 3, 3, 0, 2, 1]


def test_unlisted_tokens_share_the_probability_of_the_unknown_one(tmp_path):
    """A model over <unk>, the and </s> whose probabilities add up to one at every history does so over all tokens."""
    text = "\\data\\\nngram 1=4\n\\1-grams:\n-99\t<s>\n{}\t<unk>\n{}\tthe\n{}\t</s>\n\\end\\\n"
    model = read_arpa(written(tmp_path, text.format(*(repr(math.log10(p)) for p in (0.5, 0.3, 0.2)))), TOKENIZER)
    words = [TOKENIZER.piece(token) for token in range(TOKENIZER.vocab_size) if token != TOKENIZER.eos_id]
    probabilities = [math.exp(model.logprobs(TOKENIZER.encode([word]))[0][0]) for word in words]
    assert sum(probabilities) + 0.2 == pytest.approx(1.0, abs=1e-12)
    assert probabilities[words.index("dog")] == probabilities[words.index("<unk>")] == pytest.approx(0.5 / 11)


def test_an_unlisted_token_was_not_seen_though_ngrams_of_the_unknown_one_were(tmp_path):
    text = BY_HAND.replace("-0.7 <unk> the", "-0.7 the <unk>")
    model = read_arpa(written(tmp_path, text), TOKENIZER)
    found = model.look_up(TokenTable.from_documents(TOKENIZER.encode(["the dog", "the cat"])))
    assert found.lengths.tolist() == [2, 0, 1, 2, 3, 3]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("\\data\\\n", "", r"ends before \\data\\"),
        ("ngram 2=3", "ngram 3=3", r"'ngram 2=' and a count are expected, not 'ngram 3=3' at .*line 5"),
        ("ngram 1=5\nngram 2=3\nngram 3=2\n", "", r"says of no order how many n-grams there are at .*line 5"),
        ("ngram 2=3", "ngram 2=4", r"there are 3 2-grams, \\data\\ says 4 at .*line 20; was its"),
        ("\\2-grams:", "\\3-grams:", r"\\2-grams: is expected, not '\\\\3-grams:' at .*line 15"),
        ("\\end\\\n", "", r"ends before \\end\\ at .*line 22"),
        ("-1.25\tcat\t-0.1", "-1.25", "log10 p, 1 word and perhaps a back-off weight are needed, the line has 1 field"),
        ("the cat\t-0.05", "the cat -0.05 1", "2 words and perhaps .*, the line has 5 fields at .*line 17"),
        ("-0.6", "minus", r"not a number: 'minus' at .*line 17"),
        ("-0.6", "0.6", r"'0.6' is not the log10 of a probability at .*line 17"),
        ("-0.6", "nan", r"'nan' is not the log10 of a probability at .*line 17"),
        ("-0.05", "inf", r"'inf' is not the log10 of a weight at .*line 17"),
        ("-1.25\tcat", "-1.25\tcats", r"'cats' is not a piece of the tokenizer at .*line 11; estimate the model on"),
        ("the cat\t-0.05", "the dog\t-0.05", r"'dog' is not listed among the 1-grams at .*line 17"),
        ("<s> the cat", "cat the cat", r"the context of this 3-gram is not listed among shorter n-grams at .*line 21"),
        ("-0.7 <unk> the", "-0.7 the cat", r"this 2-gram is listed twice at .*line 18"),
        ("-2.0\t<unk>", "-2.0\tcat", r"this 1-gram is listed twice at .*line 13"),
        ("-2.0\t<unk>", "-2.0\tdog", r"<unk>' is not listed among the 1-grams at .*line 18"),
    ],
)  # fmt: skip
def test_a_wrong_line_is_named(tmp_path, old, new, message):
    assert BY_HAND.count(old) == 1
    with pytest.raises(DataError, match=message):
        read_arpa(written(tmp_path, BY_HAND.replace(old, new)), TOKENIZER)


def test_a_file_without_unk_must_list_every_token_and_every_file_the_end(tmp_path):
    with pytest.raises(DataError, match="</s> has no 1-gram"):
        read_arpa(written(tmp_path, "\\data\\\nngram 1=1\n\\1-grams:\n-1\t<unk>\n\\end\\\n"), TOKENIZER)
    with pytest.raises(DataError, match=r"11 tokens have no 1-gram, '.*' for one, and there is no <unk>"):
        read_arpa(written(tmp_path, "\\data\\\nngram 1=2\n\\1-grams:\n-1\tthe\n-1\t</s>\n\\end\\\n"), TOKENIZER)
    with pytest.raises(DataError, match=r"there is no file .*; check arpa"):
        read_arpa(str(tmp_path / "nowhere.arpa"), TOKENIZER)


def test_pieces_are_written_without_white_space_and_never_alike():
    tokenizer = CharsConfig().train(["a b\n\t\u00a0"])
    found = set(arpa_words(tokenizer))
    assert found == {"<s>", "</s>", "<unk>", "a", "b", "\\u0020", "\\u000a", "\\u0009", "\u00a0"}
    with pytest.raises(TokenizerError, match="would both be written '<s>'"):
        arpa_words(words_tokenizer_of("<s> a"))


def test_a_vocabulary_of_labels_has_no_end_to_predict():
    tokenizer = LabelsConfig().train_labelled([(["a", "b"], ["X", "Y"])])
    with pytest.raises(TokenizerError, match="the tokenizer is one of labels and has no end of sequence"):
        arpa_words(tokenizer)


def words_tokenizer_of(text):
    return type(TOKENIZER)([*text.split(), "<eos>", "<unk>"])


def test_a_bos_inside_of_a_text_cannot_be_written(tmp_path):
    pieces = SentencePieceConfig(vocab_size=360).train(TEXTS)
    model = NGramConfig(order=2).train(TokenTable.from_documents([np.array([9, pieces.bos_id, 9])]), pieces)
    with pytest.raises(DataError, match="has met the tokenizer's bos inside of texts"):
        write_arpa(model, pieces, open_location(str(tmp_path / "model.arpa")))


def test_kenlm_reads_ours_and_says_the_same(tmp_path):
    kenlm = pytest.importorskip("kenlm", reason="pip install kenlm (a C++ compiler and CMake build it)")
    model = NGramConfig(order=4).train(TokenTable.from_documents(TOKENIZER.encode(sentences(60))), TOKENIZER)
    write_arpa(model, TOKENIZER, open_location(str(tmp_path / "model.arpa")))
    theirs, held_out = kenlm.Model(str(tmp_path / "model.arpa")), [*sentences(20, seed=1), "a <unk> cat", ""]
    for text, ours in zip(held_out, model.logprobs(TOKENIZER.encode(held_out)), strict=True):
        scores = [score for score, _, _ in theirs.full_scores(text, bos=True, eos=True)]
        assert ours / LN10 == pytest.approx(scores, abs=KENLM)


# ----- the jobs


def test_a_file_becomes_a_model_like_others(tmp_path, capsys):
    arpa = tmp_path / "model.arpa.gz"
    arpa.write_bytes(gzip.compress(BY_HAND.encode()))
    TOKENIZER.save(open_location(str(tmp_path / "tokenizer")))
    job = {"arpa": str(arpa), "tokenizer_path": str(tmp_path / "tokenizer"), "output": str(tmp_path / "ngram")}
    import_ngram(ImportNgramJob(**job))
    assert "3 + 3 + 2 n-grams of order 1 to 3\n10 tokens without a 1-gram share" in capsys.readouterr().out
    documents = TOKENIZER.encode(sentences(20))
    stored = load_ngram(job["output"])
    expected = read_arpa(written(tmp_path), TOKENIZER)
    for ours, theirs in zip(stored.model.logprobs(documents), expected.logprobs(documents), strict=True):
        assert np.array_equal(ours, theirs)
    before = {path.name: path.read_bytes() for path in (tmp_path / "ngram").iterdir()}
    import_ngram(ImportNgramJob(**job))
    assert {path.name: path.read_bytes() for path in (tmp_path / "ngram").iterdir()} == before
    with pytest.raises(RefusedError, match="arpa: "):
        import_ngram(ImportNgramJob(**{**job, "arpa": written(tmp_path, BY_HAND.replace("-0.6", "-0.65"))}))


def test_a_model_is_exported_and_an_imported_one_too(tmp_path):
    model = read_arpa(written(tmp_path), TOKENIZER)
    save_ngram(open_location(str(tmp_path / "ngram")), model, TOKENIZER, {})
    job = ExportJob(checkpoint=str(tmp_path / "ngram"), output=str(tmp_path / "out"), format="arpa")
    export(job)
    export(job)
    again = read_arpa(str(tmp_path / "out" / "model.arpa"), TOKENIZER)
    documents = TOKENIZER.encode(["the cat", "a dog the cat", ""])
    for ours, theirs in zip(again.logprobs(documents), model.logprobs(documents), strict=True):
        assert ours == pytest.approx(theirs, abs=NINE_DIGITS)
    with pytest.raises(CheckpointError, match="there is no n-gram model"):
        export(ExportJob(checkpoint=str(tmp_path), output=str(tmp_path / "out"), format="arpa"))
