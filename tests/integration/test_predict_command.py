"""A tagger by command: a vocabulary, a labelled table and a model, then entities for words and for plain text."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.integration.pipeline import part_bytes, refusal, run_well

NAMES = ["Mary", "Peter", "Zoë", "O'Neil"]
PLACES = ["Rome", "New York", "Köln"]


def sentence(number):
    """Words, labels and text; a name is not always in the first place."""
    name, place = NAMES[number % 4], PLACES[number % 3].split()
    words = [*(["Today"] if number % 2 else []), name, "flies", "to", *place, "."]
    labels = [*(["O"] if number % 2 else []), "B-PER", "O", "O", "B-LOC", *["I-LOC"] * (len(place) - 1), "O"]
    return {"words": words, "labels": labels, "text": "  ".join(words).replace("  .", ".")}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder with corpus.parquet and a model."""
    folder = tmp_path_factory.mktemp("tagger")
    rows = [sentence(number) for number in range(120)]
    pq.write_table(pa.Table.from_pylist(rows), folder / "corpus.parquet", row_group_size=30)
    source = ["corpus=parquet", f"corpus.path={folder / 'corpus.parquet'}", "labels_column=labels"]
    run_well("train_tokenizer", *source, "tokenizer=labels", f"output={folder / 'tokenizer'}")
    vocabulary = f"tokenizer_path={folder / 'tokenizer'}"
    run_well("tokenize_corpus", *source, "cluster=here", vocabulary, f"output={folder / 'table'}")
    run_well(
        "train",
        "task=tagging",
        vocabulary,
        f"train_tokens={folder / 'table'}",
        f"valid_tokens={folder / 'table'}",
        "cell.hidden_size=16",
        "batching.words=128",
        "optimizer.learning_rate=0.03",
        "loop.max_epochs=100",
        "loop.max_steps=60",
        "tracker=none",
        "threads=1",
        f"output={folder / 'model'}",
    )
    return folder


def arguments(made, output, *more):
    return [
        f"checkpoint={made / 'model'}",
        f"corpus.path={made / 'corpus.parquet'}",
        "cluster=here",
        "shard_seconds=1e-9",
        f"output={output}",
        *more,
    ]


def read(output):
    return [row for part in sorted((output / "data").iterdir()) for row in pq.ParquetFile(part).read().to_pylist()]


def test_entities_lie_in_the_text_and_a_run_can_be_repeated(made, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    assert "120 rows (120 ok, 0 with an error)" in run_well("predict", *arguments(made, first))
    before = part_bytes(first)
    assert len(before) > 1
    assert f"{len(before)} of {len(before)} shards were done before" in run_well("predict", *arguments(made, first))
    run_well("predict", *arguments(made, second))
    assert part_bytes(first) == before == part_bytes(second)
    right = 0
    for number, row in enumerate(read(first)):
        found = {(one["type"], row["text"][one["start_char"] : one["end_char"]]) for one in row["entities"]}
        right += found == {("PER", NAMES[number % 4]), ("LOC", PLACES[number % 3].replace(" ", "  "))}
    assert right > 100
    assert "120 rows accounted for" in run_well("verify", f"output={first}")


def test_labels_of_a_text_that_is_split_stand_beside_its_words(made, tmp_path):
    columns = "corpus.columns=[text]"
    run_well("predict", *arguments(made, tmp_path / "out", "words_column=text", "entities=false", columns))
    rows = read(tmp_path / "out")
    assert list(rows[0]) == ["text", "words", "starts", "ends", "labels", "confidence", "error"]
    for number, row in enumerate(rows):
        assert row["words"] == sentence(number)["words"]
        assert [row["text"][a:b] for a, b in zip(row["starts"], row["ends"], strict=True)] == row["words"]
        assert len(row["labels"]) == len(row["words"])


def test_what_cannot_be_is_refused(made, tmp_path):
    for more, said in [
        (["words_column=tokens"], "there is no column 'tokens'"),
        (["entities=false"], "prefix=predicted_"),
        (["overlap=2"], "overlap is what two windows share"),
    ]:
        assert said in refusal(2, "predict", *arguments(made, tmp_path / "out", *more))
    assert not (tmp_path / "out").exists()


def test_a_baseline_labels_and_is_reported_as_a_network_is(made, tmp_path):
    tables = [f"{name}={made / 'table'}" for name in ("train_tokens", "valid_tokens")]
    vocabulary = f"tokenizer_path={made / 'tokenizer'}"
    said = run_well("train_baseline", "baseline=hmm", "tune=true", *tables, vocabulary, f"output={tmp_path / 'hmm'}")
    assert "validation span_f1 1.0000, accuracy 1.0000" in said
    given = [f"checkpoint={tmp_path / 'hmm'}", f"corpus.path={made / 'corpus.parquet'}", "cluster=here"]
    run_well("predict", *given, "prefix=predicted_", f"output={tmp_path / 'out'}")
    assert all(one["score"] > 0.5 for row in read(tmp_path / "out") for one in row["predicted_entities"])
    report = [f"predictions={tmp_path / 'out'}", "reference_column=labels", f"output={tmp_path / 'report'}"]
    assert "F1 100" in run_well("evaluate", *report)
