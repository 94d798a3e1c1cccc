"""Labelling: rows in any order and company, long ones in windows, places of entities, rows that cannot be labelled."""

import itertools

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rnnlm.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from rnnlm.data.labelled import NO_WORDS, LabelledTable
from rnnlm.data.labelled_stream import LabelledReader
from rnnlm.data.labels.schemes import scheme_of_names
from rnnlm.data.labels.words import split_words
from rnnlm.data.tokenizers.labels import LabelsConfig
from rnnlm.errors import ConfigError, DataError
from rnnlm.inference import spelled
from rnnlm.inference.predict.places import align, places_of
from rnnlm.inference.predict_work import PredictWork, reads
from rnnlm.inference.tag import Tagger
from rnnlm.inference.windows import check_windows, cut
from rnnlm.nn.cells.lstm import LSTMConfig
from rnnlm.nn.layers.convolution import ConvolutionConfig
from rnnlm.nn.words.characters import ConvolutionalCharactersConfig, RecurrentCharactersConfig
from rnnlm.nn.words.embedding import WordEmbeddingConfig
from rnnlm.storage import open_location
from rnnlm.tasks.tagging import TaggingConfig
from tests.corpora import save_tiny

WORDS = ["Mary", "saw", "Peter", "in", "New", "York", ".", "Zoë", "日本", "O'Neil", "x1"]
ENTITY_LABELS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
TAGS = ["NOUN", "VERB", "ADP", "PUNCT"]
FEATURES = [
    WordEmbeddingConfig(size=6),
    RecurrentCharactersConfig(embedding_size=4, cell=LSTMConfig(hidden_size=3)),
    ConvolutionalCharactersConfig(embedding_size=4, num_filters=3),
]


def save_tagger(folder, labels, **fields) -> Checkpoint:
    """A tagger with random weights, far enough from uniform that all labels come up."""
    task = TaggingConfig(**{"cell": LSTMConfig(hidden_size=8), "words": FEATURES, **fields})
    tokenizer = LabelsConfig().train_labelled([(WORDS[:8], [labels[place % len(labels)] for place in range(8)])])
    torch.manual_seed(3)
    model = task.build(tokenizer)
    for parameter in model.parameters():
        parameter.data.mul_(4.0)
    save_checkpoint(open_location(str(folder)), task=task, model=model, tokenizer=tokenizer, trained={})
    return load_checkpoint(str(folder))


@pytest.fixture(scope="module")
def entities(tmp_path_factory):
    return save_tagger(tmp_path_factory.mktemp("entities"), ENTITY_LABELS)


@pytest.fixture(scope="module")
def tags(tmp_path_factory):
    return save_tagger(tmp_path_factory.mktemp("tags"), TAGS, head="softmax")


def path(checkpoint):
    return str(checkpoint.location.path)


def random_rows(count, *, longest=12, seed=0):
    random = np.random.default_rng(seed)
    return [list(random.choice(WORDS, size=random.integers(0, longest))) for _ in range(count)]


def processed(work, **columns):
    table = pa.table(columns)
    found = work.build("cpu").process(table, np.arange(table.num_rows))
    for field in work.new_fields():
        assert found.columns[field.name].type == field.type
        assert len(found.columns[field.name]) == table.num_rows
    assert set(found.columns) == {field.name for field in work.new_fields()}
    return {name: column.to_pylist() for name, column in found.columns.items()}


# ----- the tagger


@pytest.mark.parametrize("kind", ["entities", "tags"])
def test_a_row_is_labelled_as_if_it_were_alone(kind, request, monkeypatch):
    monkeypatch.setattr(spelled, "BATCH_WORDS", 40)
    monkeypatch.setattr(spelled, "POOL_WORDS", 150)
    tagger = Tagger(request.getfixturevalue(kind))
    rows = random_rows(60)
    found = tagger.tag(rows)
    assert [len(one.labels) for one in found] == [len(one.confidences) for one in found] == list(map(len, rows))
    for row, one in zip(rows, found, strict=True):
        (alone,) = tagger.tag([row])
        assert one.labels == alone.labels
        np.testing.assert_allclose(one.confidences, alone.confidences, atol=1e-5)
    order = np.random.default_rng(1).permutation(len(rows))
    for place, one in zip(order, tagger.tag([rows[place] for place in order]), strict=True):
        assert one.labels == found[place].labels
    assert len({label for one in found for label in one.labels}) > 2


def test_a_batch_is_one_pass_and_holds_no_more_than_its_budget(tags, monkeypatch):
    monkeypatch.setattr(spelled, "BATCH_WORDS", 30)
    sizes, shares = [], []
    decode = type(tags.model).decode_labels

    def counted(model, emissions, batch):
        assert torch.is_inference_mode_enabled()
        sizes.append(batch.words.numel())
        return decode(model, emissions, batch)

    monkeypatch.setattr(type(tags.model), "decode_labels", counted)
    rows = [*random_rows(50), WORDS * 4]  # the last one is longer than a batch
    tagger = Tagger(tags)
    tagger.tag(rows, report=shares.append)
    assert sum(size > 30 for size in sizes) == 1
    assert sum(sizes) - tagger.num_padding == sum(map(len, rows))
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert len(shares) == len(sizes)


@pytest.mark.parametrize("kind", ["entities", "tags"])
def test_spellings_that_are_read_once_for_all_batches_say_the_same(kind, request, monkeypatch):
    monkeypatch.setattr(spelled, "CHARACTERS", 9)  # several parts, longest words first
    monkeypatch.setattr(spelled, "BATCH_WORDS", 20)
    checkpoint = request.getfixturevalue(kind)
    rows = [*random_rows(30, seed=7), ["a" * 300, "b"], []]
    table = LabelledTable.from_rows(rows, None, checkpoint.tokenizer)
    with torch.inference_mode():
        expected = checkpoint.model.decode(LabelledReader(table).read(np.arange(len(rows))))
    for row, found, labels, confidences in zip(rows, Tagger(checkpoint).tag(rows), *expected, strict=True):
        assert found.labels == [checkpoint.tokenizer.labels[label] for label in labels[: len(row)]]
        np.testing.assert_allclose(found.confidences, confidences[: len(row)], atol=1e-5)


# ----- alternatives


@torch.no_grad()
def enumerated(checkpoint, words):
    """P(labels | words) of every sequence, by definition."""
    tokenizer, model = checkpoint.tokenizer, checkpoint.model
    batch = LabelledReader(LabelledTable.from_rows([words], None, tokenizer)).read(np.arange(1))
    (emissions,) = model.emissions(batch).double()
    weights = {}
    for labels in itertools.product(range(len(tokenizer.labels)), repeat=len(words)):
        total = sum(emissions[time, label] for time, label in enumerate(labels))
        if model.crf is not None:
            chain = model.crf.chain(emissions.unsqueeze(0), batch.lengths)
            total = total + chain.start[labels[0]] + chain.end[labels[-1]]
            total = total + sum(chain.transitions[one, two] for one, two in itertools.pairwise(labels))
        weights[tuple(tokenizer.labels[label] for label in labels)] = float(total.exp())
    whole = sum(weights.values())
    return {labels: weight / whole for labels, weight in weights.items()}


@pytest.mark.parametrize("kind", ["entities", "tags"])
def test_alternatives_are_the_most_probable_sequences(kind, request):
    checkpoint = request.getfixturevalue(kind)
    rows = [["Mary", "saw", "York"], [], ["Zoë"], ["in", "x1"]]
    work = PredictWork(checkpoint=path(checkpoint), k_best=7, entities=False)
    columns = processed(work, words=rows)
    plain = processed(PredictWork(checkpoint=path(checkpoint), entities=False), words=rows)
    assert {name: columns[name] for name in plain} == plain
    for words, found, labels in zip(rows, columns["alternatives"], columns["labels"], strict=True):
        if not words:
            assert found is None
            continue
        every = enumerated(checkpoint, words)
        best = sorted((one for one in every.values() if one > 0), reverse=True)[:7]
        assert [one["probability"] for one in found] == pytest.approx(best, rel=1e-5)
        assert [every[tuple(one["labels"])] for one in found] == pytest.approx(best, rel=1e-5)
        assert len({tuple(one["labels"]) for one in found}) == len(found)
        assert found[0]["labels"] == labels


def test_alternatives_stand_beside_entities_and_need_whole_rows(entities, tags):
    columns = processed(PredictWork(checkpoint=path(entities), k_best=2), words=random_rows(9))
    assert list(columns) == ["error", "entities", "alternatives"]
    assert {len(found) for found in columns["alternatives"] if found} == {2}
    with pytest.raises(ConfigError, match="k_best: it is about sequences of whole rows"):
        PredictWork(checkpoint=path(tags), k_best=2, window=5).check_model()


# ----- windows


@given(st.integers(0, 200), st.integers(1, 30), st.data())
def test_windows_label_each_word_once_from_the_middle_of_what_they_share(length, window, data):
    overlap = data.draw(st.integers(0, window - 1))
    pieces = cut(5, length, window, overlap)
    assert [word for piece in pieces for word in range(piece.first, piece.behind)] == list(range(length))
    assert all(piece.row == 5 and piece.start <= piece.first < piece.behind <= piece.stop for piece in pieces)
    assert all(piece.stop - piece.start == min(window, length) for piece in pieces)
    for one, other in itertools.pairwise(pieces):
        assert one.stop - other.start >= overlap
        assert one.behind == other.first == (one.stop + other.start) // 2


def test_windows_that_share_all_are_refused():
    check_windows(None, 0)
    check_windows(3, 2)
    for window, overlap in ((None, 1), (3, 3)):
        with pytest.raises(ValueError, match="overlap"):
            check_windows(window, overlap)


def test_with_enough_context_windows_change_nothing(tmp_path):
    encoder = [ConvolutionConfig(width=3, depthwise=False, size=8, causal=False)]
    tagger = Tagger(save_tagger(tmp_path, TAGS, head="softmax", encoder=encoder))
    rows = random_rows(12, longest=70, seed=4)
    whole, pieces = tagger.tag(rows), tagger.tag(rows, window=9, overlap=4)  # a word and its two neighbours
    for one, other in zip(whole, pieces, strict=True):
        assert one.labels == other.labels
        np.testing.assert_allclose(one.confidences, other.confidences, atol=1e-5)
    without = tagger.tag(rows, window=9)
    assert any(one.labels != other.labels for one, other in zip(whole, without, strict=True))


# ----- columns


TEXTS = ["Mary  saw\tPeter.", " Zoë in  New York\n", None, "  ", "日本 😀 O'Neil, x1", "Mary"]


def test_places_of_words_that_were_split(tags):
    columns = processed(PredictWork(checkpoint=path(tags), words_column="text", splits=True), text=TEXTS)
    assert columns["error"] == [None, None, "null_text: the text is null", NO_WORDS, None, None]
    for row, text in enumerate(TEXTS):
        if columns["error"][row]:
            assert all(columns[name][row] is None for name in columns if name != "error")
            continue
        assert columns["words"][row] == list(split_words(text))
        places = zip(columns["starts"][row], columns["ends"][row], strict=True)
        assert [text[start:end] for start, end in places] == columns["words"][row]
        assert len(columns["labels"][row]) == len(columns["confidence"][row]) == len(columns["words"][row])


def test_an_entity_of_a_split_text_is_a_slice_of_it(entities):
    work = PredictWork(checkpoint=path(entities), words_column="text", splits=True)
    columns = processed(work, text=TEXTS * 3)
    assert list(columns) == ["error", "entities"]
    count = 0
    for text, found in zip(TEXTS * 3, columns["entities"], strict=True):
        for one in found or []:
            words = list(split_words(text))[one["start_word"] : one["end_word"]]
            assert text[one["start_char"] : one["end_char"]].split() == " ".join(words).split()
            assert one["type"] in {"PER", "LOC"}
            assert 0 < one["score"] <= 1
            count += 1
    assert count > 3


def test_entities_of_given_words_are_what_their_labels_say(entities):
    rows = random_rows(40, seed=2)
    columns = processed(PredictWork(checkpoint=path(entities)), words=rows)
    plain = processed(PredictWork(checkpoint=path(entities), entities=False), words=rows)
    assert set(plain) == {"labels", "confidence", "error"}
    for row, found in zip(rows, columns["entities"], strict=True):
        for one in found or []:
            words = slice(one["start_word"], one["end_word"])
            place = rows.index(row)
            assert " ".join(row)[one["start_char"] : one["end_char"]] == " ".join(row[words])
            assert plain["labels"][place][words.start] == f"B-{one['type']}"
            assert one["score"] == min(plain["confidence"][place][words])


def test_entities_of_given_words_lie_in_the_text_if_the_words_are_all_it_holds(entities):
    rows = [["Mary", "saw", "New", "York", "."]] * 3 + [["Zoë"]]
    texts = ["Mary  saw New\nYork. ", "Mary had seen New York.", None, "Zoë"]
    work = PredictWork(checkpoint=path(entities), text_column="text")
    columns = processed(work, words=rows, text=texts)
    assert all(columns["entities"])
    # The second text has other words, the third row none: these places are in the words joined by a blank.
    within = [texts[0], " ".join(rows[1]), " ".join(rows[2]), "Zoë"]
    for words, text, found in zip(rows, within, columns["entities"], strict=True):
        for one in found:
            inside = words[one["start_word"] : one["end_word"]]
            assert "".join(text[one["start_char"] : one["end_char"]].split()) == "".join(inside)


def test_words_are_aligned_from_left_to_right():
    words = ["a", "a", "ab", "é"]
    found = align(words, " a a\u00a0abé ")
    assert list(found) == words
    assert found.starts == (1, 3, 5, 7)
    assert align(words, "a a ab é!") is None
    assert align(words, "a ab é") is None
    assert align([], "") is not None
    assert places_of(["a", "b"], "a - b").text == "a b"


def test_rows_that_cannot_be_labelled_say_why(tags):
    rows = [None, [], ["Mary", None], ["Mary", ""], ["Mary"] * 4, ["Mary"] * 3]
    columns = processed(PredictWork(checkpoint=path(tags), max_words=3), words=rows)
    codes = [error and error.split(":")[0] for error in columns["error"]]
    assert codes == ["null_text", "no_words", "null_word", "empty_word", "long_row", None]
    assert [labels is not None for labels in columns["labels"]] == [False] * 5 + [True]


def test_a_table_of_nulls_is_labelled(entities):
    columns = processed(PredictWork(checkpoint=path(entities)), words=pa.nulls(3, pa.list_(pa.string())))
    assert columns["entities"] == [None] * 3


def test_a_confidence_that_is_not_finite_is_an_error_of_its_row(tags, monkeypatch):
    whole = Tagger.tag

    def broken(self, rows, **options):
        found = whole(self, rows, **options)
        found[1].confidences[:] = np.nan
        return found

    monkeypatch.setattr(Tagger, "tag", broken)
    columns = processed(PredictWork(checkpoint=path(tags)), words=[["Mary"], ["saw"]])
    assert columns["error"][0] is None
    assert columns["error"][1].startswith("non_finite")


# ----- what a corpus and a checkpoint give


def test_the_type_of_the_column_decides_how_words_are_read():
    schema = pa.schema(
        [
            ("words", pa.list_(pa.string())),
            ("text", pa.dictionary(pa.int32(), pa.string())),
            ("n", pa.int32()),
            ("ns", pa.list_(pa.int32())),
        ]
    )
    assert reads(schema, "words", "text") == (False, "text")
    assert reads(schema, "words", "nothing") == (False, None)
    assert reads(schema, "words", "n") == (False, None)
    assert reads(schema, "text", "text") == (True, None)
    for name in ("n", "ns", "nothing"):
        with pytest.raises(DataError, match=name):
            reads(schema, name, "text")


def test_labels_of_spans_are_known_by_their_names():
    assert scheme_of_names(ENTITY_LABELS) == "iob2"
    assert scheme_of_names(["O", "I-PER"]) == "iob2"
    assert scheme_of_names(["O", "S-A", "B-A", "E-A"]) == "iobes"
    assert scheme_of_names(["O", "U-A", "B-A", "L-A"]) == "bilou"
    for labels in (TAGS, ["O"], ["B-A", "I-A"], ["O", "B-A", "X"], ["O", "E-A", "L-A"], ["O", "B-"]):
        assert scheme_of_names(labels) is None


def test_only_labels_of_spans_can_be_written_as_entities(tags, entities):
    with pytest.raises(ConfigError, match=r"entities: the labels of the checkpoint \(ADP, NOUN"):
        PredictWork(checkpoint=path(tags), entities=True).check_model()
    PredictWork(checkpoint=path(tags)).check_model()
    PredictWork(checkpoint=path(entities), entities=True).check_model()


def test_a_model_that_does_not_label_is_refused_with_the_job_for_it(tmp_path):
    language_model = str(save_tiny(tmp_path / "c").location.path)
    with pytest.raises(ConfigError, match=r"is a language model: use jobs.score"):
        PredictWork(checkpoint=language_model).check_model()


def test_a_column_that_is_there_already_asks_for_a_prefix(tags):
    schema = pa.schema([("words", pa.list_(pa.string())), ("labels", pa.list_(pa.string()))])
    with pytest.raises(ConfigError, match=r"already has a column 'labels'.*prefix=predicted_"):
        PredictWork(checkpoint=path(tags)).output_schema(schema, schema.names)
    found = PredictWork(checkpoint=path(tags), prefix="predicted_").output_schema(schema, schema.names)
    assert found.names == ["words", "labels", "predicted_labels", "predicted_confidence", "error"]


def test_identity_names_what_decides_the_output(tags, entities):
    def identity(**changed):
        return PredictWork(**{"checkpoint": path(tags), **changed}).identity()

    assert identity() == identity()
    for changed in [
        {"checkpoint": path(entities)},
        {"words_column": "tokens"},
        {"splits": True},
        {"text_column": "text"},
        {"max_words": 5},
        {"window": 5},
        {"window": 5, "overlap": 2},
        {"entities": False},
        {"k_best": 2},
        {"prefix": "p_"},
        {"threads": 2},
    ]:
        assert identity(**changed) != identity(), changed
