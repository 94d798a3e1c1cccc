"""Functions of the standard library and their summaries: parts on small examples, and a corpus of made-up modules."""

import ast
import textwrap

import pyarrow.parquet as pq
import pytest

from rnnlm.data import stdlib_functions
from rnnlm.data.formats.stdlib import StdlibFunctionsCorpus
from rnnlm.data.stdlib import definitions, read_modules, split_of
from rnnlm.data.stdlib_functions import (
    COLUMNS,
    MAX_SOURCE_CHARACTERS,
    build_functions_corpus,
    cut_source,
    first_sentence,
    function_pair,
    name_words,
)
from rnnlm.errors import EnvironmentFailure
from rnnlm.storage import open_location


@pytest.mark.parametrize(
    ("doc", "summary"),
    [
        ("Return the sum.  And more.", "Return the sum"),
        ("Return\nthe   sum\n\nOf all.", "Return the sum"),
        ("Use e.g. this one, i.e. not that. More.", "Use e.g. this one, i.e. not that"),
        ("Version 3.5 of os.path is read! Really", "Version 3.5 of os.path is read"),
        ("Without an end", "Without an end"),
        ("What follows:\n\n  code", "What follows"),
        ("foo(a, b) -> c\n\nReturn c.", ""),
        ("foo.bar(a): adds", ""),
        (">>> foo(1)\n2", ""),
        ("Call foo(a) and wait.", "Call foo(a) and wait"),
        ("", ""),
    ],
)
def test_a_summary_is_the_first_sentence_of_the_first_paragraph(doc, summary):
    assert first_sentence(doc) == summary


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Logger.isEnabledFor", "is enabled for"),
        ("_read_line", "read line"),
        ("HTTPServer", "http server"),
        ("utf8_decode", "utf 8 decode"),
        ("__len__", "len"),
        ("_", ""),
    ],
)
def test_a_name_is_cut_into_words(name, words):
    assert name_words(name) == words


def test_a_source_is_one_line_without_decorators_and_docstring():
    code = textwrap.dedent('''
        class Shop:
            # Comment above.
            @property
            def total(self, tax=0.2):
                """The price of everything."""
                # In the body.
                return sum(self.prices) * (1 + tax)
    ''')
    name, node = list(definitions(ast.parse(code)))[1]
    pair = function_pair(name, node, ast.get_docstring(node), code.split("\n"))
    assert pair == {
        "name": "Shop.total",
        "name_words": "total",
        "source": "Shop.total def total(self, tax=0.2): # In the body. return sum(self.prices) * (1 + tax)",
        "summary": "The price of everything",
    }


def test_a_long_source_is_cut_between_words():
    cut = cut_source("word " * 100)
    assert len(cut) <= MAX_SOURCE_CHARACTERS
    assert set(cut.split()) == {"word"}
    assert cut_source("a" * MAX_SOURCE_CHARACTERS) == "a" * MAX_SOURCE_CHARACTERS


def module(number):
    words = [f"w{number}x{part}".translate(str.maketrans("0123456789", "abcdefghij")) for part in range(12)]
    code = f'def do_{words[0]}(a):\n    """{" ".join(words[1:6])}. More."""\n    return [{", ".join(words[6:])}]\n'
    return f"module{number}", ast.parse(code), code.split("\n")


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    monkeypatch.setattr(stdlib_functions, "read_modules", lambda skipped: map(module, range(120)))
    return StdlibFunctionsCorpus(folder=str(tmp_path), split="all")


def test_a_module_is_in_one_split_and_the_card_adds_up(corpus):
    listing = corpus.list_units()
    assert listing.schema.names == list(COLUMNS)
    card = corpus.card()
    assert listing.rows == card["rows"]["kept"] == 120
    for split in ("train", "valid", "test"):
        rows = pq.read_table(corpus.location().join(f"{split}.parquet").path).to_pylist()
        assert len(rows) == card["splits"][split]["rows"]
        assert {split_of(row["module"]) for row in rows} == {split}


def test_repeated_functions_are_dropped_and_counted(tmp_path, monkeypatch):
    twice = [*map(module, range(60)), *((f"copy{n}", *module(n)[1:]) for n in range(60))]
    monkeypatch.setattr(stdlib_functions, "read_modules", lambda skipped: iter(twice))
    card = build_functions_corpus(open_location(str(tmp_path)))
    assert card["rows"]["dropped"]["exact duplicate"] == 60
    assert card["rows"]["kept"] == 60


def test_the_real_library_gives_pairs_that_are_of_use(tmp_path, monkeypatch):
    def some(skipped):
        for found in read_modules(skipped):
            if found[0] > "b":
                return
            yield found

    monkeypatch.setattr(stdlib_functions, "read_modules", some)
    build_functions_corpus(open_location(str(tmp_path)))
    rows = pq.read_table(tmp_path / "train.parquet").to_pylist()
    assert len(rows) > 200
    for row in rows:
        assert "\n" not in row["source"] + row["summary"]
        assert f"def {row['name'].rpartition('.')[2]}" in row["source"] or len(row["source"]) > 300
        assert 3 <= len(row["summary"].split()) <= 40


def test_a_python_without_sources_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(stdlib_functions, "read_modules", lambda skipped: iter(()))
    with pytest.raises(EnvironmentFailure, match="sources of the standard library"):
        build_functions_corpus(open_location(str(tmp_path)))
    assert not (tmp_path / "card.json").exists()
