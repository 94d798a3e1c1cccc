"""Tables of spans: what corpora give, on disk and in memory, in batches, and what is wrong with rows."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rnnlm.bulk.work import ERROR
from rnnlm.data.labelled import LabelledTable
from rnnlm.data.labelled_stream import LabelledStream
from rnnlm.data.labels.entities import ENTITIES
from rnnlm.data.labels.schemes import Span
from rnnlm.data.span_stream import SpanReader
from rnnlm.data.span_table import OF_SPANS, SPANS_TYPE, SpanColumns, SpanTable, holds_spans, read_span_table
from rnnlm.data.tokenizers.labels import UNKNOWN_LABEL, LabelsConfig
from rnnlm.data.tokens import tokens_metadata
from rnnlm.errors import ConfigError, DataError
from rnnlm.inference.tokenize_spans_work import TokenizeSpansWork
from rnnlm.storage import open_location

ROWS = [["the", "king", "of", "Spain"], ["rain"], ["Spain", "it", "is"]]
SPANS = [
    [Span(3, 4, "GPE"), Span(0, 4, "PER"), Span(3, 4, "LOC"), Span(0, 2, "PER")],
    [],
    [Span(0, 1, "GPE"), Span(0, 3, "new")],
]
VOCABULARY = LabelsConfig().train_labelled([(ROWS[0], [span.type for span in SPANS[0]])])
TABLE = SpanTable.from_spans(ROWS, SPANS, VOCABULARY)


def entities(*spans):
    return [{"start_char": 0, "end_char": 0, "start_word": a, "end_word": b, "type": kind} for a, b, kind in spans]


def write(path, words, spans, fingerprint=None):
    metadata = {**tokens_metadata(VOCABULARY), **OF_SPANS}
    schema = pa.schema([("words", pa.list_(pa.string())), ("spans", SPANS_TYPE)], metadata=metadata)
    given = [None if row is None else [span._asdict() for span in row] for row in spans]
    pq.write_table(pa.table({"words": words, "spans": given}, schema=schema), path)
    return str(path)


def spans_of_row(table, row):
    some = slice(*table.span_offsets[row : row + 2])
    return list(zip(table.starts[some].tolist(), table.ends[some].tolist(), table.types[some].tolist(), strict=True))


def test_a_table_holds_every_span_and_counts_unknown_types():
    assert VOCABULARY.labels == ["GPE", "LOC", "PER"]
    assert spans_of_row(TABLE, 0) == [(0, 2, 2), (0, 4, 2), (3, 4, 0), (3, 4, 1)]
    assert spans_of_row(TABLE, 1) == []
    assert spans_of_row(TABLE, 2) == [(0, 1, 0), (0, 3, UNKNOWN_LABEL)]
    assert TABLE.num_unknown == 1
    assert TABLE.num_targets == 8
    assert str(TABLE) == "3 rows, 8 words, 6 spans, 1 of unknown types"


def test_the_fingerprint_tells_tables_apart_by_their_spans():
    other = SpanTable.from_spans(ROWS, [SPANS[0][1:], *SPANS[1:]], VOCABULARY)
    words = LabelledTable.from_rows(ROWS, None, VOCABULARY)
    again = SpanTable.from_spans(ROWS, [[*row, *row] for row in SPANS], VOCABULARY)
    assert len({TABLE.fingerprint, other.fingerprint, words.fingerprint}) == 3
    assert again.fingerprint == TABLE.fingerprint


def test_a_table_is_read_in_file_order_without_rows_of_nulls(tmp_path):
    write(tmp_path / "a.parquet", [ROWS[0], None], [SPANS[0], None])
    write(tmp_path / "b.parquet", ROWS[1:], SPANS[1:])
    assert read_span_table(str(tmp_path), VOCABULARY).fingerprint == TABLE.fingerprint


def test_what_is_no_table_of_spans_is_refused(tmp_path):
    pq.write_table(pa.table({"words": [["the"]], "spans": [["x"]]}), tmp_path / "plain.parquet")
    with pytest.raises(DataError, match="no vocabulary of labels"):
        read_span_table(str(tmp_path / "plain.parquet"), VOCABULARY)
    labels = pa.table({"words": [["the"]], "labels": [["x"]]}).replace_schema_metadata(tokens_metadata(VOCABULARY))
    pq.write_table(labels, tmp_path / "labels.parquet")
    with pytest.raises(DataError, match="holds labels and no spans"):
        read_span_table(str(tmp_path / "labels.parquet"), VOCABULARY)
    with pytest.raises(DataError, match="no row with words and spans"):
        read_span_table(write(tmp_path / "nulls.parquet", [None], [None]), VOCABULARY)
    with pytest.raises(DataError, match=r"span_outside.*0-2 of 1"):
        read_span_table(write(tmp_path / "beyond.parquet", [["the"]], [[Span(0, 2, "PER")]]), VOCABULARY)


def test_each_row_that_cannot_be_used_says_why(tmp_path):
    rows = [
        (["a", "b"], entities((0, 2, "PER"), (0, 2, "new"), (0, 2, "PER")), None),
        (["a"], [], None),
        (["a"], None, "null"),
        (None, [], "null"),
        (["a", None], [], "null"),
        (["a"], entities((0, 1, None)), "null"),
        (["a"], [None], "null"),
        ([], [], "no_words"),
        ([""], [], "empty_word"),
        (["a", "b"], entities((1, 3, "PER")), "span_outside"),
        (["a", "b"], entities((-1, 1, "PER")), "span_outside"),
        (["a", "b"], entities((2, 1, "PER")), "span_outside"),
        (["a", "b"], entities((1, 1, "PER")), "empty_span"),
    ]
    VOCABULARY.save(open_location(str(tmp_path / "vocabulary")))
    work = TokenizeSpansWork(tokenizer=str(tmp_path / "vocabulary"), words_column="words", labels_column="entities")
    given = pa.table(
        {
            "words": pa.array([row[0] for row in rows], pa.list_(pa.string())),
            "entities": pa.array([row[1] for row in rows], ENTITIES),
        }
    )
    found = work.build("cpu").process(given, np.arange(len(rows))).columns
    assert {name: column.type for name, column in found.items()} == {f.name: f.type for f in work.new_fields()}
    codes = [error and error.partition(":")[0] for error in found[ERROR].to_pylist()]
    assert codes == [row[2] for row in rows]
    assert found["words"].to_pylist() == [None if code else row[0] for row, code in zip(rows, codes, strict=True)]
    spans = found["spans"].to_pylist()
    assert spans[0] == [Span(0, 2, "PER")._asdict(), Span(0, 2, "new")._asdict()]
    assert spans[1:] == [[], *[None] * 11]
    assert found["num_unknown_labels"].to_pylist() == [1, 0, *[None] * 11]
    schema = work.output_schema(given.schema, [])
    assert schema.metadata == {**tokens_metadata(VOCABULARY), **OF_SPANS}
    with pytest.raises(ConfigError, match="labels_of: 'entities' holds spans"):
        replace(work, labels_of="rows").output_schema(given.schema, [])


def test_columns_of_spans_are_known_by_their_type():
    schema = pa.schema([("words", pa.list_(pa.string())), ("entities", ENTITIES), ("text", pa.string())])
    assert [holds_spans(schema, name) for name in ("entities", "words", "text", "none")] == [True, False, False, False]
    assert SpanColumns(schema, "words", "entities")
    for name, problem in (("text", "has type string"), ("entities", "has type list"), ("none", "is not there")):
        with pytest.raises(DataError, match=problem):
            SpanColumns(schema, name, "entities")


def test_batches_hold_the_spans_of_their_rows():
    batch = SpanReader(TABLE).read(np.array([2, -1, 0]))
    assert batch.spans.tolist() == [
        [0, 0, 0, 0],
        [0, 0, 2, UNKNOWN_LABEL],
        [2, 0, 1, 2],
        [2, 0, 3, 2],
        [2, 3, 3, 0],
        [2, 3, 3, 1],
    ]
    assert batch.has_words.tolist() == [True, False, True]
    assert SpanReader(TABLE).read(np.array([1])).spans.shape == (0, 4)


def test_a_stream_gives_every_span_once_an_epoch():
    streams = [
        LabelledStream(SpanReader(TABLE), words=4, max_rows=None, seed=1, rank=rank, world_size=2) for rank in range(2)
    ]
    batches = [stream.next() for _ in range(streams[0].steps_per_epoch) for stream in streams]
    assert sum(len(batch.spans) for batch in batches) == len(TABLE.types)
    assert sum(int((batch.lengths * batch.has_words).sum()) for batch in batches) == len(TABLE.words)
