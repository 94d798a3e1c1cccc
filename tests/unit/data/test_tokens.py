"""Token tables: ids come back from disk, and those of another tokenizer are refused."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnnlm.data.tokenizers.words import WordsConfig
from rnnlm.data.tokens import TokenTable, read_token_table, token_type, tokens_array, tokens_metadata
from rnnlm.errors import DataError
from tests.corpora import words_tokenizer

TOKENIZER = words_tokenizer()
DOCUMENTS = st.lists(st.lists(st.integers(0, 65_535), max_size=6), min_size=1, max_size=8)


def as_arrays(documents):
    return [np.array(document, dtype=np.int32) for document in documents]


def write(file, documents, *, vocab_size=TOKENIZER.vocab_size, missing=None, metadata=None):
    array = tokens_array(as_arrays(documents), vocab_size, missing)
    num_bytes = pa.array([7] * len(documents), pa.int64())
    schema = pa.schema([("tokens", pa.list_(token_type(vocab_size))), ("num_bytes", pa.int64())])
    table = pa.table([array, num_bytes], schema=schema)
    pq.write_table(
        table.replace_schema_metadata(tokens_metadata(TOKENIZER) if metadata is None else metadata),
        file,
        row_group_size=2,
    )


def documents_of(table: TokenTable):
    return [table.tokens[start:stop].tolist() for start, stop in zip(table.offsets, table.offsets[1:], strict=False)]


@given(documents=DOCUMENTS, vocab_size=st.sampled_from([65_536, 65_537]))
def test_ids_become_lists_of_the_smallest_type(documents, vocab_size):
    array = tokens_array(as_arrays(documents), vocab_size)
    assert array.to_pylist() == documents
    assert array.type == pa.list_(token_type(vocab_size))


@given(documents=DOCUMENTS)
def test_missing_documents_are_null(documents):
    missing = np.array([not document for document in documents])
    array = tokens_array(as_arrays(documents), 65_536, missing)
    assert array.to_pylist() == [document or None for document in documents]


@given(
    documents=DOCUMENTS.filter(any), split=st.integers(0, 8), vocab_size=st.sampled_from([100, 65_537]), data=st.data()
)
def test_what_is_written_is_read_in_the_order_of_the_files(tmp_path_factory, documents, split, vocab_size, data):
    folder = tmp_path_factory.mktemp("tokens")
    missing = np.array([not document and data.draw(st.booleans()) for document in documents])
    for name, part in [("a", slice(split)), ("b", slice(split, None))]:
        write(folder / f"{name}.parquet", documents[part], vocab_size=65_536, missing=missing[part])
    table = read_token_table(str(folder), TOKENIZER)
    kept = [document for document, is_missing in zip(documents, missing, strict=True) if not is_missing]
    assert documents_of(table) == kept
    assert table.num_documents == len(kept)
    assert table.num_targets == sum(map(len, kept)) + len(kept)
    assert table.num_bytes == 7 * len(documents)


def test_a_table_in_memory_is_the_same_as_one_from_disk(tmp_path):
    documents = [[3, 4], [], [5]]
    write(tmp_path / "a.parquet", documents)
    disk, memory = read_token_table(str(tmp_path), TOKENIZER), TokenTable.from_documents(as_arrays(documents), 21)
    assert documents_of(disk) == documents_of(memory) == documents
    assert disk.offsets.tolist() == memory.offsets.tolist() == [0, 2, 2, 3]
    assert disk.num_bytes == memory.num_bytes


def test_the_tokens_of_another_tokenizer_are_refused(tmp_path):
    write(tmp_path / "a.parquet", [[3]])
    other = WordsConfig().train(["another vocabulary"])
    said = rf"made by tokenizer {TOKENIZER.fingerprint[:12]}, the one given is {other.fingerprint[:12]} at .*a.parquet"
    with pytest.raises(DataError, match=said + r"; give the tokenizer they were made with"):
        read_token_table(str(tmp_path), other)


def test_one_wrong_file_among_many_is_found(tmp_path):
    write(tmp_path / "a.parquet", [[3]])
    write(tmp_path / "b.parquet", [[3]], metadata={**tokens_metadata(TOKENIZER), b"rnnlm.tokens.tokenizer": b"x"})
    with pytest.raises(DataError, match=r"b\.parquet"):
        read_token_table(str(tmp_path), TOKENIZER)


@pytest.mark.parametrize(
    "metadata", [{}, {b"rnnlm.tokens.version": b"0"}, {b"rnnlm.tokens.version": b"2"}], ids=["none", "old", "new"]
)
def test_another_parquet_file_is_no_token_table(tmp_path, metadata):
    write(tmp_path / "a.parquet", [[3]], metadata=metadata)
    with pytest.raises(DataError, match=r"not a token table at .*; make one with python -m jobs.tokenize_corpus"):
        read_token_table(str(tmp_path), TOKENIZER)


@pytest.mark.parametrize("documents", [[], [[]]])
def test_a_table_without_a_token_is_refused(tmp_path, documents):
    write(tmp_path / "a.parquet", documents)
    with pytest.raises(DataError, match="holds no token"):
        read_token_table(str(tmp_path), TOKENIZER)


def test_a_table_cut_short_is_named(tmp_path):
    file = tmp_path / "a.parquet"
    write(file, [[3]])
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(DataError, match=r"a\.parquet"):
        read_token_table(str(tmp_path), TOKENIZER)
