"""Labelled rows: a vocabulary of words, characters and labels; tables of them on disk and in memory; what is wrong."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rnnlm.data.labelled import LabelledColumns, LabelledTable, read_labelled_table
from rnnlm.data.labelled_stream import has_label_per_word
from rnnlm.data.tokenizers import load_tokenizer
from rnnlm.data.tokenizers.labels import (
    FIRST_CHARACTER,
    UNKNOWN_CHARACTER,
    UNKNOWN_LABEL,
    LabelsConfig,
    LabelTokenizer,
)
from rnnlm.data.tokens import tokens_metadata
from rnnlm.errors import ConfigError, DataError, TokenizerError
from rnnlm.inference.tokenize_labels_work import TokenizeLabelsWork
from rnnlm.storage import open_location
from tests.corpora import words_tokenizer

ROWS = [(["The", "cat", "saw", "42", "cats"], ["D", "N", "V", "M", "N"]), (["the", "Cat"], ["D", "N"])]


@pytest.fixture
def vocabulary():
    return LabelsConfig().train_labelled(ROWS)


def test_words_are_known_by_frequency_in_lower_case_and_with_zeros_for_digits(vocabulary):
    assert vocabulary.words == ["<unk>", "cat", "the", "00", "cats", "saw"]
    assert vocabulary.word_ids(["THE", "17", "dog"]).tolist() == [2, 3, vocabulary.unk_id]
    assert vocabulary.labels == ["D", "M", "N", "V"]
    assert vocabulary.label_ids(["V", "X"]).tolist() == [3, UNKNOWN_LABEL]


def test_a_spelling_keeps_case_and_digits(vocabulary):
    upper, lower = vocabulary.spelling("Cat"), vocabulary.spelling("cat")
    assert upper[1:].tolist() == lower[1:].tolist()
    assert upper[0] != lower[0]
    assert vocabulary.spelling("é").tolist() == [UNKNOWN_CHARACTER]
    assert vocabulary.spelling("42").min() >= FIRST_CHARACTER
    assert vocabulary.num_characters == len(vocabulary.characters) + FIRST_CHARACTER


def test_rare_words_and_characters_are_left_out():
    found = LabelsConfig(min_count=2, min_character_count=3, max_words=1).train_labelled(ROWS)
    assert found.words == ["<unk>", "cat"]
    assert found.characters == ["a", "t"]
    assert found.word_ids(["the"]).tolist() == [0]


def test_a_corpus_without_words_or_labels_teaches_nothing():
    with pytest.raises(TokenizerError, match="not a single word"):
        LabelsConfig().train_labelled([])
    with pytest.raises(TokenizerError, match="not a single label"):
        LabelsConfig().train_labelled([(["a"], [])])
    with pytest.raises(TokenizerError, match="labels_column"):
        LabelsConfig().train(["a text"])


def test_a_vocabulary_is_kept_and_found_again(vocabulary, tmp_path):
    folder = open_location(str(tmp_path / "vocabulary"))
    vocabulary.save(folder)
    found = load_tokenizer(folder)
    assert isinstance(found, LabelTokenizer)
    assert found.fingerprint == vocabulary.fingerprint
    assert found.word_ids(ROWS[0][0]).tolist() == vocabulary.word_ids(ROWS[0][0]).tolist()
    (tmp_path / "vocabulary" / "tokenizer.model").write_text('{"words": []}')
    with pytest.raises(TokenizerError, match="changed or cut short"):
        load_tokenizer(folder)


def test_texts_are_split_into_words(vocabulary):
    assert vocabulary.encode(["The cat saw."])[0].tolist() == vocabulary.word_ids(["The", "cat", "saw", "."]).tolist()
    assert vocabulary.decode([2, 1]) == "the cat"
    assert vocabulary.piece(5) == "saw"


def test_a_table_holds_each_spelling_once(vocabulary):
    words, labels = zip(*ROWS, strict=True)
    table = LabelledTable.from_rows(words, labels, vocabulary)
    assert (table.num_rows, table.num_targets, table.num_unknown) == (2, 7, 0)
    assert len(table.spellings.characters.lengths) == 7  # The, cat, saw, 42, cats, the, Cat
    assert table.words.tolist() == vocabulary.word_ids([word for row in words for word in row]).tolist()
    for word, place in zip([word for row in words for word in row], table.spelling, strict=True):
        start, end = table.spellings.characters.offsets[place : place + 2]
        assert table.spellings.characters.ids[start:end].tolist() == vocabulary.spelling(word).tolist()
    again = LabelledTable.from_rows(words, labels, vocabulary)
    other = LabelledTable.from_rows(words, [["D"] * len(row) for row in words], vocabulary)
    assert table.fingerprint == again.fingerprint != other.fingerprint


def test_rows_without_labels_and_rows_without_words_have_their_place(vocabulary):
    table = LabelledTable.from_rows([["the"], [], ["cat"]], None, vocabulary)
    assert table.offsets.tolist() == [0, 1, 1, 2]
    assert table.label_offsets.tolist() == [0, 0, 0, 0]
    empty = LabelledTable.from_rows([], None, vocabulary)
    assert (empty.num_rows, len(empty.words)) == (0, 0)


def write(path, vocabulary, words, labels):
    table = pa.table({"words": words, "labels": labels}).replace_schema_metadata(tokens_metadata(vocabulary))
    pq.write_table(table, path)


def test_a_table_is_read_without_the_rows_that_cannot_be_used(vocabulary, tmp_path):
    write(tmp_path / "a.parquet", vocabulary, [["the", "cat"], None, ["saw"]], [["D", "N"], None, ["Z"]])
    table = read_labelled_table(str(tmp_path), vocabulary)
    assert (table.num_rows, table.num_targets, table.num_unknown) == (2, 2, 1)
    assert "1 unknown" in str(table)


def test_a_table_of_another_vocabulary_is_refused(vocabulary, tmp_path):
    other = LabelsConfig().train_labelled([(["x"], ["Y"])])
    write(tmp_path / "a.parquet", other, [["the"]], [["D"]])
    with pytest.raises(DataError, match="made with vocabulary"):
        read_labelled_table(str(tmp_path), vocabulary)
    pq.write_table(pa.table({"words": [["the"]], "labels": [["D"]]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="no vocabulary of labels"):
        read_labelled_table(str(tmp_path), vocabulary)
    write(tmp_path / "a.parquet", vocabulary, pa.array([None], pa.list_(pa.string())), [["D"]])
    with pytest.raises(DataError, match="no row with words and labels"):
        read_labelled_table(str(tmp_path), vocabulary)


def work_of(vocabulary, tmp_path, **options):
    vocabulary.save(open_location(str(tmp_path / "vocabulary")))
    return TokenizeLabelsWork(
        tokenizer=str(tmp_path / "vocabulary"), **{"words_column": "w", "labels_column": "l", **options}
    )


def test_each_row_that_cannot_be_used_says_why(vocabulary, tmp_path):
    table = pa.table(
        {
            "w": [["the", "cat"], None, [], ["the"], ["the", ""], ["the", None]],
            "l": [["D", "Z"], ["D"], [], ["D", "N"], ["D", "N"], ["D", "N"]],
        }
    )
    found = work_of(vocabulary, tmp_path).build("cpu").process(table, np.arange(6)).columns
    assert found["words"].to_pylist() == [["the", "cat"], *[None] * 5]
    assert found["labels"].to_pylist() == [["D", "Z"], *[None] * 5]
    assert found["num_unknown_labels"].to_pylist() == [1, *[None] * 5]
    codes = [None if error is None else error.partition(":")[0] for error in found["error"].to_pylist()]
    assert codes == [None, "null", "no_words", "other_length", "empty_word", "null"]


def test_text_is_split_and_a_class_is_that_of_the_row(vocabulary, tmp_path):
    table = pa.table({"w": ["The cat saw.", None], "l": pa.array(["D", "N"]).dictionary_encode()})
    found = work_of(vocabulary, tmp_path).build("cpu").process(table, np.arange(2)).columns
    assert found["words"].to_pylist() == [["The", "cat", "saw", "."], None]
    assert found["labels"].to_pylist() == [["D"], None]


def test_what_labels_are_of_is_kept_in_the_table(vocabulary, tmp_path):
    # As many classes as words by chance: only the table's own word tells them from labels of words.
    source = pa.table({"w": [["the", "cat"], ["saw"], ["the"]], "l": [["D", "N"], ["V"], []]})
    for labels_of, of_rows, rows in (("auto", False, 2), ("words", False, 2), ("rows", True, 3)):
        work = work_of(vocabulary, tmp_path, labels_of=labels_of)
        found = work.build("cpu").process(source, np.arange(3)).columns
        assert found["error"].null_count == rows
        schema = work.output_schema(source.schema, [])
        pq.write_table(pa.table({name: found[name] for name in schema.names}, schema=schema), tmp_path / "a.parquet")
        table = read_labelled_table(str(tmp_path / "a.parquet"), vocabulary)
        assert (table.of_rows, table.num_rows) == (of_rows, rows)
        assert has_label_per_word(table) is not of_rows
    identities = [work_of(vocabulary, tmp_path, labels_of=one).identity() for one in ("auto", "rows")]
    assert identities[0] != identities[1]


def test_a_string_is_the_class_of_its_row(vocabulary, tmp_path):
    schema = pa.schema([("w", pa.string()), ("l", pa.string())])
    for labels_of in ("auto", "rows"):
        assert work_of(vocabulary, tmp_path, labels_of=labels_of).columns(schema).of_rows
    with pytest.raises(DataError, match="labels_of=words needs a list"):
        LabelledColumns(schema, "w", "l", "words")


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"w": [["a"]]}, "no column 'l'"),
        ({"w": [["a"]], "l": [1]}, "has type int64"),
        ({"w": [[1]], "l": [["a"]]}, "has type list<.*int64>"),
    ],
)
def test_columns_that_hold_no_labels_are_refused(columns, problem):
    with pytest.raises(DataError, match=problem):
        LabelledColumns(pa.table(columns).schema, "w", "l")


def test_a_tokenizer_of_another_kind_is_refused(tmp_path):
    words_tokenizer().save(open_location(str(tmp_path / "vocabulary")))
    work = TokenizeLabelsWork(tokenizer=str(tmp_path / "vocabulary"), words_column="w", labels_column="l")
    with pytest.raises(ConfigError, match="tokenizer=labels"):
        work.vocabulary()


def test_a_table_of_spans_is_no_table_of_labels(vocabulary, tmp_path):
    table = pa.table({"words": [["the"]], "spans": [[]]}).replace_schema_metadata(tokens_metadata(vocabulary))
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DataError, match="no labels; one of spans is for task=entities"):
        read_labelled_table(str(tmp_path), vocabulary)


def test_lists_of_dictionary_encoded_words_are_read(vocabulary):
    words = pa.DictionaryArray.from_arrays(pa.array([0, 1], pa.int32()), pa.array(["the", "cat"]))
    table = pa.table({"w": pa.ListArray.from_arrays(pa.array([0, 2], pa.int32()), words), "l": [["D", "N"]]})
    assert LabelledColumns(table.schema, "w", "l").rows(table) == ([["the", "cat"]], [["D", "N"]], [None])
