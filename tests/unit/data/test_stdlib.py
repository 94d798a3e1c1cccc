"""The corpus from the standard library: one real build, checked whole, and its parts on small examples."""

import ast
import os
import random
import subprocess
import sys
import textwrap
from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import pytest

from rnnlm.data import stdlib
from rnnlm.data.stdlib import Row, build_stdlib_corpus, near_duplicates, normalise, shingles, split_of
from rnnlm.errors import EnvironmentFailure
from rnnlm.storage import open_location

FILES = [f"{split}.parquet" for split in stdlib.SPLITS]


@pytest.fixture(scope="module")
def builds(tmp_path_factory):
    """A build in this process, and one beside it in another process with other string hashes."""
    folder, again = tmp_path_factory.mktemp("corpus"), tmp_path_factory.mktemp("again")
    code = (
        "import sys; from rnnlm.data.stdlib import build_stdlib_corpus as build; "
        "from rnnlm.storage import open_location; build(open_location(sys.argv[1]))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    with subprocess.Popen([sys.executable, "-c", code, str(again)], env=environment) as process:
        card = build_stdlib_corpus(open_location(str(folder)))
    assert process.returncode == 0
    return folder, again, card


@pytest.fixture(scope="module")
def built(builds):
    folder, _, card = builds
    return folder, card, {split: pq.read_table(folder / f"{split}.parquet").to_pylist() for split in stdlib.SPLITS}


@pytest.fixture(scope="module")
def every_row(built):
    return [row for rows in built[2].values() for row in rows]


def test_files_have_the_schema_and_row_groups_of_2000(built):
    folder, _, rows = built
    for split in stdlib.SPLITS:
        file = pq.ParquetFile(folder / f"{split}.parquet")
        assert file.schema_arrow.equals(stdlib.SCHEMA)
        groups = [file.metadata.row_group(i) for i in range(file.num_row_groups)]
        assert [group.num_rows for group in groups[:-1]] == [2_000] * (len(groups) - 1)
        assert {group.column(4).compression for group in groups} == {"ZSTD"}
        assert all(value for row in rows[split] for value in row.values())


def test_another_process_with_other_string_hashes_writes_the_same_bytes(builds):
    folder, again, _ = builds
    for name in [*FILES, "card.json"]:
        assert (again / name).read_bytes() == (folder / name).read_bytes()


def test_ids_are_unique_and_rows_in_order_of_their_modules(built, every_row):
    assert len({row["id"] for row in every_row}) == len(every_row)
    for row in every_row:
        assert row["id"].partition("#")[0].startswith(f"{row['module']}:{row['kind']}:")
    for rows in built[2].values():
        modules = [row["module"] for row in rows]
        assert modules == sorted(modules)


def test_a_module_is_in_one_split_and_no_text_is_there_twice(built, every_row):
    for split, rows in built[2].items():
        assert {split_of(row["module"]) for row in rows} == {split}
    assert len({normalise(row["text"]) for row in every_row}) == len(every_row)


def test_valid_and_test_share_few_shingles_with_what_comes_before(built):
    owners = [split for split, rows in built[2].items() for _ in rows]
    hashes = shingles([normalise(row["text"]) for rows in built[2].values() for row in rows])
    known = set()
    for split in stdlib.SPLITS:
        own = [found.tolist() for found, owner in zip(hashes, owners, strict=True) if owner == split]
        assert all(sum(value in known for value in values) < 0.5 * len(values) for values in own)
        known.update(value for values in own for value in values)


def test_the_card_adds_up(built, every_row):
    folder, card, rows = built
    assert open_location(str(folder)).join("card.json").read_json() == card
    counts = card["rows"]
    assert counts["kept"] == len(every_row)
    assert counts["found"] == counts["kept"] + sum(counts["dropped"].values())
    for split, sizes in card["splits"].items():
        for kind in stdlib.KINDS:
            texts = [row["text"] for row in rows[split] if row["kind"] == kind]
            assert sizes["rows"][kind] == len(texts)
            assert sizes["bytes"][kind] == sum(len(text.encode()) for text in texts)
    assert min(sum(sizes["bytes"].values()) for sizes in card["splits"].values()) >= 200_000


def test_no_source_holds_its_own_docstring(every_row):
    sources = [row for row in every_row if row["kind"] == "source"]
    for row in sources[::4]:
        (function,) = ast.parse(row["text"]).body
        assert ast.get_docstring(function) is None, row["id"]
    docstrings = {(row["module"], row["name"]): row["text"] for row in every_row if row["id"].count(":docstring:")}
    for row in sources:
        docstring = docstrings.get((row["module"], row["name"]), "")
        if len(docstring) > 60:
            assert docstring not in row["text"], row["id"]


def test_tests_tables_and_tiny_texts_are_left_out(every_row):
    for row in every_row:
        parts = row["module"].split(".")
        assert not {"test", "tests", "idle_test", "encodings"}.intersection(parts)
        assert parts[0] in sys.stdlib_module_names
        assert len(normalise(row["text"]).split()) >= 5
    names = {(row["module"], row["name"]) for row in every_row}
    assert ("textwrap", "dedent") in names
    assert ("mimetypes", "_default_mime_types") not in names


def function_source(code):
    code = textwrap.dedent(code).strip("\n")
    ((_, node),) = stdlib.definitions(ast.parse(code))
    return stdlib.function_source(node, code.split("\n"))


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ('def f():\n    """Doc."""\n\n    return 1  # one\n', "def f():\n    return 1  # one"),
        (
            'def f():\n    # why\n    """Doc.\n\n    More.\n    """  # noqa\n    return 1',
            "def f():\n    # why\n    return 1",
        ),
        ('def f(): "Doc é."; return 1', "def f(): return 1"),
        ('def f():\n    "Doc é"; x = 1\n    return x', "def f():\n    x = 1\n    return x"),
        ('def f():\n    ("Doc "\n     "more")\n    return 1', "def f():\n    return 1"),
        ('def f():\n    """Doc."""\n', ""),
        ("def f(): return 1", "def f(): return 1"),
        ('def f():\n    f"no doc {1}"\n    return 1', 'def f():\n    f"no doc {1}"\n    return 1'),
        (
            '''
if True:
    # not this

    # but this
    @g(
        1)
    async def f(x):
        """Doc."""
        def g():
            """Inner doc."""
        return """
free
"""
''',
            '# but this\n@g(\n    1)\nasync def f(x):\n    def g():\n        """Inner doc."""\n    return """\nfree\n"""',
        ),
        ("# of f\n# ------ a section\ndef f():\n    pass", "def f():\n    pass"),
    ],
)
def test_the_source_of_a_function_keeps_all_but_the_docstring(code, expected):
    assert function_source(code) == expected


def test_definitions_are_found_below_conditions_and_classes_but_not_inside_functions():
    code = """
    if a:
        def f(): pass
    else:
        try:
            class C:
                "Doc of C."
                def g(self):
                    def inner(): pass
                @property
                def p(self): pass
                @p.setter
                def p(self, value): pass
                class D:
                    async def h(self): pass
        except E:
            def f(): pass
    """
    tree = ast.parse(textwrap.dedent(code))
    names = [name for name, _ in stdlib.definitions(tree)]
    assert names == ["f", "C", "C.g", "C.p", "C.p", "C.D", "C.D.h", "f"]


def test_repeated_names_get_numbers():
    rows = stdlib.make_rows([("b", "source", "f", "1"), ("a", "source", "f", "2"), ("b", "source", "f", "3 \n")])
    assert [row.id for row in rows] == ["a:source:f", "b:source:f", "b:source:f#2"]
    assert [row.text for row in rows] == ["2", "1", "3"]


def test_functions_full_of_literals_are_tables():
    code = f"def f():\n    return {list(range(200))}\n\ndef g(x):\n    return [x, 1]\n"
    found = list(stdlib.module_texts(ast.parse(code), code.split("\n")))
    assert [kind for kind, _, _ in found] == ["table", "source"]


def test_normalise_folds_case_numbers_space_and_punctuation():
    assert normalise("  Add 12 to\n\tx_value, 3.50!") == "add 0 to x value 0 0"
    assert normalise("add 7 to X-value 1.0") == normalise("  Add 12 to\n\tx_value, 3.50!")
    assert normalise(" ...\n") == ""


def test_shingles_are_the_distinct_runs_of_five_words():
    one, other, cyclic = shingles(["a b c d e f", "x b c d e f", "a b c d e a b c d e a b c d e"])
    assert (len(one), len(other), len(cyclic)) == (2, 2, 5)
    assert len(np.intersect1d(one, other)) == 1
    assert len(np.intersect1d(one, cyclic)) == 1


@pytest.mark.parametrize("threshold", [0.5, 0.8, 1.0])
def test_near_duplicates_are_those_that_comparing_all_pairs_finds(threshold):
    generator = random.Random(7)
    sets = []
    for _ in range(150):
        base = generator.choice(sets[-20:]) if sets and generator.random() < 0.7 else range(100)
        values = {v if generator.random() < 0.9 else generator.randrange(200) for v in base}
        sets.append(sorted(generator.sample(sorted(values), max(1, len(values) - generator.randrange(4)))))
    found = near_duplicates([np.array(values, dtype=np.uint64) for values in sets], threshold)
    kept, expected = [], {}
    for index, values in enumerate(sets):
        own = set(values)
        like = [k for k in kept if len(own & set(sets[k])) >= threshold * len(own | set(sets[k]))]
        if like:
            expected[index] = like[0]
        else:
            kept.append(index)
    assert found == expected
    assert near_duplicates([]) == {}
    assert threshold == 1.0 or 10 < len(expected) < 140


def test_a_changed_copy_and_a_part_of_a_row_of_train_are_dropped():
    names = [f"module{i}" for i in range(500)]
    place = {split: next(name for name in names if split_of(name) == split) for split in stdlib.SPLITS}
    words = [f"{a}{b}" for a in "abcdefgh" for b in "klmnopqr"]
    whole, changed = " ".join(words), " ".join(["new", *words[1:]])
    part, half_new = " ".join(words[:20]), " ".join([*words[:10], *(f"n{word}" for word in words[:10])])
    texts = [("train", whole), ("train", changed), ("valid", part), ("valid", half_new), ("test", half_new[3:])]
    rows = [Row(str(i), place[split], "source", "f", text) for i, (split, text) in enumerate(texts)]
    dropped = Counter()
    split_rows = stdlib.split_rows(stdlib.drop_repeated(rows, dropped), dropped)
    assert {split: [row.id for row in kept] for split, kept in split_rows.items()} == {
        "train": ["0"],
        "valid": ["3"],
        "test": [],
    }
    assert dropped["near duplicate"] + dropped["seen"] == 3


def test_unfit_rows_are_counted_by_reason():
    good = "one two three four five"
    texts = ["", "one two three", f"{good} \x1b[0m", "word " * 10_000, good]
    rows = stdlib.make_rows(("m", "docstring", "f", text) for text in texts)
    dropped = Counter()
    assert [row.text for row in stdlib._clean(rows, dropped)] == [good]
    assert dropped == {"empty": 1, "too short": 1, "control characters": 1, "too long": 1}


def test_files_that_cannot_be_read_are_counted(tmp_path, monkeypatch):
    (tmp_path / "json" / "tests").mkdir(parents=True)
    files = {
        "abc.py": b"def f(:",
        "ast.py": b"x = '\xff'",
        "cmd.py": b"x = 1\0",
        "mine.py": b"",
        "turtle.cfg": b"",
        "json/tests/a.py": b"",
    }
    for name, content in {**files, "json/__init__.py": b"'Doc.'", "json/tool.py": b"x = '\\d'"}.items():
        (tmp_path / name).write_bytes(content)
    monkeypatch.setattr(stdlib, "_root", lambda: tmp_path)
    skipped = Counter()
    assert [name for name, _, _ in stdlib.read_modules(skipped)] == ["json", "json.tool"]
    assert skipped == {"cannot be read or parsed": 3, "not a module of the standard library": 1, "test": 1}


def test_a_python_without_sources_is_refused_and_no_card_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(stdlib, "_root", lambda: tmp_path / "none")
    folder = open_location(str(tmp_path / "corpus"))
    with pytest.raises(EnvironmentFailure, match="0 modules"):
        build_stdlib_corpus(folder)
    assert not folder.join("card.json").exists()


def test_nine_of_ten_modules_are_in_train():
    counts = Counter(split_of(f"package.module{i}") for i in range(20_000))
    assert counts["train"] / 20_000 == pytest.approx(0.9, abs=0.01)
    assert counts["valid"] / 20_000 == pytest.approx(0.05, abs=0.01)
    assert split_of("subprocess") == "valid"
