"""Nested entities by command: a vocabulary of types, a table of spans and a model, then entities with places."""

import pyarrow as pa
import pyarrow.parquet as pq

from rnnlm.data.labels.entities import ENTITIES, entities_of
from rnnlm.data.labels.schemes import Span
from rnnlm.data.labels.words import join_words
from tests.integration.pipeline import run_well

OFFICES, PLACES = ["king", "queen", "bishop"], ["Spain", "Rome", "Ely", "York"]


def row(number):
    """The person holds the place."""
    words = [*(["today"] if number % 2 else []), "the", OFFICES[number % 3], "of", PLACES[number % 4], "sleeps"]
    start = number % 2
    spans = [Span(start, start + 4, "PER"), Span(start + 3, start + 4, "GPE"), Span(start + 3, start + 4, "LOC")]
    return {"words": words, "entities": entities_of(spans, join_words(words))}


def test_nested_entities_are_learnt_and_found(tmp_path):
    rows = [row(number) for number in range(96)]
    beyond = {"words": ["one"], "entities": entities_of([Span(0, 1, "PER")], join_words(["one"]))}
    beyond["entities"][0]["end_word"] = 2
    schema = pa.schema([("words", pa.list_(pa.string())), ("entities", ENTITIES)])
    pq.write_table(pa.Table.from_pylist([*rows, beyond], schema), tmp_path / "corpus.parquet")
    source = ["corpus=parquet", f"corpus.path={tmp_path / 'corpus.parquet'}"]
    labelled = [*source, "labels_column=entities"]
    assert "3 labels" in run_well("train_tokenizer", *labelled, "tokenizer=labels", f"output={tmp_path / 'tokenizer'}")
    vocabulary = f"tokenizer_path={tmp_path / 'tokenizer'}"
    said = run_well("tokenize_corpus", *labelled, "cluster=here", vocabulary, f"output={tmp_path / 'table'}")
    assert "97 rows (96 ok, 1 with an error)" in said
    run_well(
        "train",
        "task=entities",
        vocabulary,
        f"train_tokens={tmp_path / 'table'}",
        f"valid_tokens={tmp_path / 'table'}",
        "cell.hidden_size=16",
        "task.projection_size=16",
        "task.dropout=0.1",
        "batching.words=128",
        "optimizer.learning_rate=0.03",
        "loop.max_epochs=100",
        "loop.max_steps=80",
        "tracker=none",
        "threads=1",
        f"output={tmp_path / 'model'}",
    )
    given = [f"checkpoint={tmp_path / 'model'}", *source, "cluster=here", "prefix=predicted_"]
    run_well("predict", *given, f"output={tmp_path / 'found'}")
    run_well("predict", *given, "flat=true", f"output={tmp_path / 'flat'}")
    for name in ("found", "flat"):
        parts = [pq.ParquetFile(part).read().to_pylist() for part in sorted((tmp_path / name / "data").iterdir())]
        read = [one for part in parts for one in part][:96]
        same = 0
        for one in read:
            predicted = [
                {key: value for key, value in span.items() if key != "score"} for span in one["predicted_entities"]
            ]
            same += predicted == one["entities"] if name == "found" else len(predicted) == 1
        assert same > 90
