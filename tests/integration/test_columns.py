import datetime as dt
import decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.integration.pipeline import pipeline, run_well

ROWS = 300
ZONE = "Europe/Berlin"


def some(make):
    """A column with a null in every seventh place."""
    return [None if row % 7 == 3 else make(row) for row in range(ROWS)]


@pytest.fixture(scope="module")
def table():
    start = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    inner = pa.struct([("a", pa.int8()), ("b", pa.list_(pa.struct([("c", pa.string())])))])
    columns = {
        "text": pa.array(some(lambda i: f"row {i}\n\u00fcber")),
        "int8": pa.array(some(lambda i: i % 100), pa.int8()),
        "uint32": pa.array(some(lambda i: i * 7), pa.uint32()),
        "float32": pa.array(some(lambda i: i / 3), pa.float32()),
        "bool": pa.array(some(lambda i: i % 2 == 0)),
        "timestamp": pa.array(some(lambda i: start + dt.timedelta(seconds=i)), pa.timestamp("us", tz=ZONE)),
        "date": pa.array(some(lambda i: dt.date(2020, 1, 1 + i % 28)), pa.date32()),
        "time": pa.array(some(lambda i: dt.time(1, 2, i % 60)), pa.time64("us")),
        "duration": pa.array(some(lambda i: dt.timedelta(seconds=i)), pa.duration("s")),
        "decimal": pa.array(some(lambda i: decimal.Decimal(i) / 100), pa.decimal128(10, 2)),
        "large_string": pa.array(some(str), pa.large_string()),
        "binary": pa.array(some(lambda i: bytes([i % 256, 0])), pa.binary()),
        "fixed": pa.array(some(lambda i: b"abcd"), pa.binary(4)),
        "dictionary": pa.array(some(lambda i: f"c{i % 3}")).dictionary_encode(),
        "list": pa.array(some(lambda i: [None if j == 1 else j for j in range(i % 4)]), pa.list_(pa.int32())),
        "nested": pa.array(some(lambda i: [[1, None], None, []] if i % 2 else []), pa.list_(pa.list_(pa.int16()))),
        "struct": pa.array(some(lambda i: {"a": i % 5, "b": [{"c": "x"}, None]}), inner),
        "map": pa.array(some(lambda i: [("k", i)]), pa.map_(pa.string(), pa.int64())),
        "fixed_list": pa.array(some(lambda i: [i, None]), pa.list_(pa.float32(), 2)),
        "null": pa.nulls(ROWS),
    }
    return pa.table(columns).replace_schema_metadata({"owner": "me"})


def test_every_column_comes_back_as_it_was(table, tmp_path):
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=70)
    arguments = [f"checkpoint={pipeline().model}", "corpus=parquet", f"corpus.path={tmp_path / 'in.parquet'}"]
    run_well("score", *arguments, "cluster=here", "shard_seconds=0.0001", f"output={tmp_path / 'out'}")
    assert len(list((tmp_path / "out" / "data").iterdir())) > 1
    before, after = pq.read_table(tmp_path / "in.parquet"), pq.read_table(tmp_path / "out" / "data")
    assert after.schema.names == [*before.schema.names, "logprob", "num_tokens", "bits_per_byte", "error"]
    kept = after.select(before.schema.names)
    for field in before.schema:
        assert kept.schema.field(field.name).equals(field), field.name
        assert kept.column(field.name).equals(before.column(field.name)), field.name
    assert after.schema.metadata[b"owner"] == b"me"
