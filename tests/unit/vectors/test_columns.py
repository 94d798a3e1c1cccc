"""Columns of vectors: types, sizes, nulls, and blocks of one size from files of many."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rnnlm.data.formats.parquet import ParquetCorpus
from rnnlm.errors import DataError
from rnnlm.vectors.columns import Directions, survey, vector_blocks

VALUES = [[1.0, 2.0], None, [0.0, 0.0], [float("nan"), 1.0], [3.0, -1.0], [None, 1.0], [0.5, 0.5]]
USABLE = [0, 4, 6]


def corpus_of(folder, kind, values=VALUES, files=2):
    folder.mkdir()
    for number, rows in enumerate(np.array_split(np.arange(len(values)), files)):
        table = pa.table({"vector": pa.array([values[row] for row in rows], kind)})
        pq.write_table(table, folder / f"{number}.parquet", row_group_size=2)
    corpus = ParquetCorpus(path=str(folder))
    return corpus, corpus.list_units()


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.float32(), 2),
        pa.list_(pa.float32()),
        pa.large_list(pa.float64()),
        pa.list_(pa.float16()),
    ],
    ids=str,
)
@pytest.mark.parametrize("most", [1, 2, 100])
def test_vectors_are_read_from_any_list_of_numbers(tmp_path, kind, most):
    values = (
        VALUES
        if kind.value_type != pa.float16()
        else [v and [x if x is None else np.float16(x) for x in v] for v in VALUES]
    )
    corpus, listing = corpus_of(tmp_path / "data", kind, values)
    size, found = survey(corpus, listing, "vector")
    assert size == 2
    assert found == Directions(rows=3, null=1, zero=1, non_finite=2)
    blocks = list(vector_blocks(corpus, listing, "vector", 2, most))
    assert [len(block.rows) for block in blocks] == ([3] if most == 100 else [most] * (3 // most) + [1] * (3 % most))
    assert np.concatenate([block.rows for block in blocks]).tolist() == USABLE
    directions = np.concatenate([block.values / block.lengths[:, None] for block in blocks])
    expected = np.array([VALUES[row] for row in USABLE])
    np.testing.assert_allclose(directions, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-6)


def test_vectors_of_different_sizes_are_an_error_with_file_and_row(tmp_path):
    values = [[1.0, 2.0], None, [1.0, 1.0], [1.0], [1.0, 2.0]]
    corpus, listing = corpus_of(tmp_path / "data", pa.list_(pa.float32()), values, files=1)
    with pytest.raises(
        DataError, match=r"the vector has 1 numbers, 2 are needed.*0\.parquet, row group 1, row 1, column"
    ):
        survey(corpus, listing, "vector")


def test_what_is_no_column_of_vectors_is_refused(tmp_path):
    corpus, listing = corpus_of(tmp_path / "ints", pa.list_(pa.int32()), [[1, 2]], files=1)
    with pytest.raises(DataError, match=r"type list<.*int32>, lists of floating point numbers are needed"):
        survey(corpus, listing, "vector")
    with pytest.raises(DataError, match="there is no column 'h' among vector"):
        survey(corpus, listing, "h")
    for name, kind in (("nulls", pa.list_(pa.float32())), ("fixed", pa.list_(pa.float32(), 2))):
        corpus, listing = corpus_of(tmp_path / name, kind, [None, None], files=1)
        with pytest.raises(DataError, match="none of the 2 rows has a vector with a direction"):
            survey(corpus, listing, "vector")
