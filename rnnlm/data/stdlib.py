"""A corpus every machine already has: the standard library of the CPython that runs this.

The modules are read as text, through `ast`; none is imported, except pydoc_data.topics, which is a dict of text.

| kind        | a row is                                                                                       |
|-------------|------------------------------------------------------------------------------------------------|
| `topic`     | a section of the language reference (pydoc_data.topics), cut at its underlined headings, since |
|             | long topics repeat short ones section by section                                               |
| `docstring` | the cleaned docstring of a module, a class, a function or a method                             |
| `source`    | a function or method as it was written: decorators, comments directly above, nested functions; |
|             | dedented, its own docstring cut out. Code outside functions is mostly imports and tables: out  |

Left out, and counted in the card: tests, tables of data, files that cannot be read, and rows that repeat:

- exact duplicate: equal to an earlier row after normalisation (lower case, digits folded, white space and punctuation
  collapsed), so only exact repetition counts;
- near duplicate: its set of five-word shingles has a Jaccard similarity of at least 0.8 to that of an earlier row.
  Exact, by prefix filtering, not estimated by sketches;
- seen: a row of valid (test) of whose shingles at least 0.8 occur somewhere in train (train or valid).

"Earlier" is by module, then position. A module is in one split as a whole, by the SHA-256 of its name; each topic
counts as a module. The same Python and pyarrow give the same bytes.
"""

import ast
import sys
import sysconfig
import tokenize
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rnnlm.storage import Location

CORPUS_VERSION = 1
SPLITS = ("train", "valid", "test")
KINDS = ("topic", "docstring", "source")
SCHEMA = pa.schema([(name, pa.string()) for name in ("id", "module", "kind", "name", "text")])
ROW_GROUP_ROWS = 2_000
MAX_CHARACTERS = 20_000
SHINGLE_WORDS = 5
SIMILARITY = 0.8
SPLIT_SALT = "rnnlm stdlib 0"

# Folders of tests anywhere below a package, and packages that are tables rather than text.
TEST_FOLDERS = frozenset({"test", "tests", "idle_test"})
TABLE_PACKAGES = frozenset({"encodings", "pydoc_data"})

Function = ast.FunctionDef | ast.AsyncFunctionDef
Shingles = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Row:
    """One document, before it has an id."""

    module: str
    kind: str
    name: str
    text: str


def build_stdlib_corpus(folder: Location) -> dict[str, Any]:
    """Write <folder>/{train,valid,test}.parquet, then <folder>/card.json, and return the card.

    The card is written last and atomically: where it is, the corpus is complete.
    """
    skipped: Counter[str] = Counter()
    rows = []
    modules = 0
    for name, path in _files(skipped):
        tree_text = _read(path, skipped)
        if tree_text is None:
            continue
        modules += 1
        rows.extend(_module_rows(name, *tree_text))
    return {"rows": rows, "skipped": skipped, "modules": modules}


def split_of(module: str) -> str:
    """The split of a module: 90 % train, 5 % valid, 5 % test, by a hash of its name."""
    place = int.from_bytes(sha256(f"{SPLIT_SALT}:{module}".encode()).digest()[:8], "big") / 2**64
    return "train" if place < 0.9 else "valid" if place < 0.95 else "test"


def _files(skipped: Counter[str]) -> Iterator[tuple[str, Path]]:
    root = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(root.iterdir()):
        if path.stem not in sys.stdlib_module_names:
            skipped["not of the standard library"] += 1
            continue
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            parts = file.relative_to(root).with_suffix("").parts
            if file.suffix != ".py":
                continue
            if TEST_FOLDERS.intersection(parts):
                skipped["tests"] += 1
            elif parts[0] in TABLE_PACKAGES:
                skipped["tables"] += 1
            else:
                yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), file


def _read(path: Path, skipped: Counter[str]) -> tuple[ast.Module, list[str]] | None:
    try:
        with tokenize.open(path) as stream:
            text = stream.read()
    except (SyntaxError, UnicodeDecodeError):
        skipped["does not decode"] += 1
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text), text.split("\n")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        skipped["does not parse"] += 1
        return None


def _module_rows(module: str, tree: ast.Module, lines: list[str]) -> Iterator[Row]:
    yield Row(module, "docstring", "<module>", ast.get_docstring(tree) or "")
    for name, node in _definitions(tree):
        yield Row(module, "docstring", name, ast.get_docstring(node) or "")
        if not isinstance(node, ast.ClassDef):
            yield Row(module, "source", name, function_source(node, lines))


def _definitions(parent: ast.AST, prefix: str = "") -> Iterator[tuple[str, Function | ast.ClassDef]]:
    for node in ast.iter_child_nodes(parent):
        if isinstance(node, Function):
            yield prefix + node.name, node
        elif isinstance(node, ast.ClassDef):
            yield prefix + node.name, node
            yield from _definitions(node, f"{prefix}{node.name}.")
        elif isinstance(node, ast.stmt | ast.ExceptHandler | ast.match_case):
            yield from _definitions(node, prefix)


def function_source(node: Function, lines: list[str]) -> str:
    """The lines of a function without its docstring, dedented; empty if nothing but the docstring is in it."""
    body, doc = node.body, node.body[0]
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)]) - 1
    indent = lines[first][: len(lines[first]) - len(lines[first].lstrip())]
    while first and lines[first - 1].startswith(indent + "#"):
        first -= 1
    kept = lines[first : node.end_lineno]
    if ast.get_docstring(node, clean=False) is not None:
        if len(body) == 1:
            return ""
        assert doc.end_lineno is not None
        assert doc.end_col_offset is not None
        # Columns count UTF-8 bytes.
        before = lines[doc.lineno - 1].encode()[: doc.col_offset].decode()
        after = lines[doc.end_lineno - 1].encode()[doc.end_col_offset :].decode().lstrip(" \t;")
        rest = lines[doc.end_lineno : node.end_lineno]
        while rest and not rest[0].strip():
            del rest[0]
        middle = [before + after] if before.strip() or (after and not after.startswith("#")) else []
        kept = lines[first : doc.lineno - 1] + middle + rest
    return "\n".join(line.removeprefix(indent) for line in kept)
