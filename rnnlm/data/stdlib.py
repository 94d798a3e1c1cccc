"""A corpus every machine already has: the standard library of the CPython that runs this.

The modules are read as text, through `ast`; none is imported, except pydoc_data.topics, which is a dict of texts.

    kind       a row is
    topic      a section of the language reference (pydoc_data.topics), cut at its underlined headings, because long
               topics repeat short ones section by section
    docstring  the cleaned docstring of a module, a class, a function or a method
    source     a function or method as it was written, dedented: comments directly above, decorators, nested functions
               with their docstrings, but not its own docstring. Code outside functions is left out: mostly imports
               and tables

Left out, and counted in the card: tests, tables, files that cannot be read, rows of less than five words, and rows
that repeat ("earlier" is by module, then position):

    exact duplicate  equal to an earlier row after normalisation (lower case, numbers folded, white space and
                     punctuation collapsed); exact matching of normalised texts, nothing fuzzy
    near duplicate   its five-word shingles have a Jaccard similarity of at least 0.8 to those of an earlier row;
                     computed exactly, because the corpus is small enough
    seen             a row of valid (of test) of whose shingles at least half occur anywhere in train (in train or
                     valid): copied between modules and changed a little, or contained in a longer row

A module is in one split as a whole, by a hash of its name; each topic counts as a module. The same Python and the
same pyarrow give the same bytes.
"""

import ast
import importlib
import math
import platform
import re
import sys
import sysconfig
import tokenize
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from rnnlm.errors import EnvironmentFailure
from rnnlm.storage import Location

CORPUS_VERSION = 1
SPLITS = ("train", "valid", "test")
KINDS = ("topic", "docstring", "source")
SCHEMA = pa.schema([(column, pa.string()) for column in ("id", "module", "kind", "name", "text")])
ROW_GROUP_ROWS = 2_000
# Longer rows are left out: none in 3.11 to 3.13, where the longest has 25,082, and what grows past it is no prose.
MAX_CHARACTERS = 32_000
SHINGLE_WORDS = 5  # also the fewest words of a row
NEAR_JACCARD = 0.8
SEEN_SHARE = 0.5
# A function with a list, tuple, set or dict display of so many items is data.
TABLE_ITEMS = 100
# Chosen among the numbers below 4,000 to bring every kind in valid and test near 5 % of the bytes on 3.11 to 3.13.
SPLIT_SALT = 1929

TEST_FOLDERS = frozenset({"test", "tests", "idle_test"})
TABLE_PACKAGES = frozenset({"encodings", "pydoc_data"})
RULER = re.compile(r"([#*=~-])\1{3}")  # in comments that head a section, not a function
HEADING = re.compile(r"^(?=\S.*\n([*=~-])\1{2,}$)", re.MULTILINE)
UNWANTED_CHARACTERS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")

Function = ast.FunctionDef | ast.AsyncFunctionDef
Hashes = npt.NDArray[np.uint64]
Text = tuple[str, str, str, str]  # module, kind, name, text


class Row(NamedTuple):
    """One document; the fields are the columns of the corpus."""

    id: str
    module: str
    kind: str
    name: str
    text: str


def build_stdlib_corpus(folder: Location) -> dict[str, Any]:
    """Write <folder>/{train,valid,test}.parquet, then <folder>/card.json, and return the card.

    The card is written last and atomically: where it is, the corpus is complete.
    """
    skipped: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    read: set[str] = set()
    texts: list[Text] = []
    for module, tree, lines in read_modules(skipped):  # one tree at a time: many would slow garbage collection down
        read.add(module)
        texts.extend((module, *found) for found in module_texts(tree, lines))
    texts.extend(_topics(skipped))
    rows = make_rows(texts)
    by_split = split_rows(drop_repeated(_clean(rows, dropped), dropped), dropped)
    if not read or not all(by_split.values()):
        raise missing_sources(len(read))
    card = {
        "corpus_version": CORPUS_VERSION,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "pyarrow": pa.__version__,
        "license": "PSF-2.0",
        "modules": {"read": len(read), "skipped": dict(skipped)},
        "rows": {"found": len(rows), "dropped": dict(dropped), "kept": sum(map(len, by_split.values()))},
        "splits": {split: _sizes(kept) for split, kept in by_split.items()},
    }
    for split, kept in by_split.items():
        folder.join(f"{split}.parquet").write_bytes(_parquet(kept))
    folder.join("card.json").write_json(card)
    return card


def missing_sources(found: int) -> EnvironmentFailure:
    """The error of a Python without its sources."""
    return EnvironmentFailure(
        f"the sources of the standard library are not all at {_root()}: {found} modules found",
        todo="use a Python that is installed with its sources, or another corpus",
    )


def split_of(module: str) -> str:
    """The split of a module: 90 % train, 5 % valid, 5 % test, by a hash of its name alone."""
    place = int.from_bytes(sha256(f"{SPLIT_SALT}:{module}".encode()).digest()[:8], "big") / 2**64
    return "train" if place < 0.9 else "valid" if place < 0.95 else "test"


def module_texts(tree: ast.Module, lines: list[str]) -> Iterator[tuple[str, str, str]]:
    """(kind, qualified name, text) of everything in one module, in the order of the file."""
    for name, node in [("<module>", tree), *definitions(tree)]:
        doc = ast.get_docstring(node)
        if doc is not None:
            yield "docstring", name, doc
        if isinstance(node, Function):
            source = function_source(node, lines)
            yield "table" if _is_table(node, source) else "source", name, source


def function_source(node: Function, lines: list[str]) -> str:
    """The lines of a function without its docstring, dedented; "" if there is nothing but the docstring."""
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)]) - 1
    indent = lines[first][: len(lines[first]) - len(lines[first].lstrip())]
    while first and lines[first - 1].startswith(indent + "#") and not RULER.search(lines[first - 1]):
        first -= 1
    kept = lines[first : node.end_lineno]
    if ast.get_docstring(node, clean=False) is not None:
        if len(node.body) == 1:
            return ""
        doc = node.body[0]
        assert doc.end_lineno is not None
        assert doc.end_col_offset is not None
        # Columns of the tree count bytes, not characters.
        before = lines[doc.lineno - 1].encode()[: doc.col_offset].decode()
        after = lines[doc.end_lineno - 1].encode()[doc.end_col_offset :].decode().lstrip(" \t;")
        rest = lines[doc.end_lineno : node.end_lineno]
        while rest and not rest[0].strip():
            del rest[0]
        same_line = [] if not before.strip() and after[:1] in ("", "#") else [before + after]
        kept = [*lines[first : doc.lineno - 1], *same_line, *rest]
    return "\n".join(line.removeprefix(indent) for line in kept)


def make_rows(texts: Iterable[Text]) -> list[Row]:
    """Rows in the order of (module, position); a repeated `module:kind:name` gets #2, #3 and so on."""
    names: Counter[str] = Counter()
    rows = []
    for module, kind, name, text in sorted(texts, key=lambda found: found[0]):
        row_id = f"{module}:{kind}:{name}"
        names[row_id] += 1
        suffix = f"#{names[row_id]}" if names[row_id] > 1 else ""
        rows.append(Row(row_id + suffix, module, kind, name, text.rstrip()))
    return rows


def normalise(text: str) -> str:
    """The words of a text, for comparing: lower case, every number 0, white space and punctuation one blank."""
    return " ".join(re.findall(r"[^\W\d_]+|0", re.sub(r"\d+", "0", text.lower())))


def shingles(texts: Sequence[str]) -> list[Hashes]:
    """The sorted 64-bit hashes of all runs of five words of each normalised text, which has at least five.

    Words are numbered by first appearance, so hashes compare only within one call.
    """
    numbers: dict[str, int] = {}
    weights = np.array([pow(0x9E3779B97F4A7C15, i + 1, 2**64) for i in range(SHINGLE_WORDS)], dtype=np.uint64)
    found = []
    for text in texts:
        words = np.array([numbers.setdefault(word, len(numbers) + 1) for word in text.split()], dtype=np.uint64)
        runs = np.lib.stride_tricks.sliding_window_view(words, SHINGLE_WORDS)
        found.append(np.unique((runs * weights).sum(axis=1, dtype=np.uint64)))
    return found


def near_duplicates(sets: Sequence[Hashes], threshold: float = NEAR_JACCARD) -> dict[int, int]:
    """{index: index of the earlier, kept set it resembles}, by exact Jaccard similarity.

    Prefix filtering: order the elements of all sets by rarity. Two sets as similar as the threshold must share one
    of the first n - ceil(threshold * n) + 1 elements of either, so only rare shingles are ever looked up.
    """
    if not sets:
        return {}
    sizes = [len(hashes) for hashes in sets]
    _, inverse, counts = np.unique(np.concatenate(sets), return_inverse=True, return_counts=True)
    rarity = np.empty(len(counts), dtype=np.int64)
    rarity[np.argsort(counts, kind="stable")] = np.arange(len(counts))
    once = int((counts == 1).sum())  # elements below this rank are in one set only
    holders: defaultdict[int, list[int]] = defaultdict(list)
    found: dict[int, int] = {}
    for index, ranks in enumerate(np.split(rarity[inverse.reshape(-1)], np.cumsum(sizes)[:-1])):
        size = sizes[index]
        prefix = [rank for rank in np.sort(ranks)[: size - math.ceil(threshold * size) + 1].tolist() if rank >= once]
        for other in sorted({holder for rank in prefix for holder in holders[rank]}):
            if not threshold * size <= sizes[other] <= size / threshold:
                continue
            shared = len(np.intersect1d(sets[index], sets[other], assume_unique=True))
            if shared >= threshold * (size + sizes[other] - shared):
                found[index] = other
                break
        else:
            for rank in prefix:
                holders[rank].append(index)
    return found


def _root() -> Path:
    return Path(sysconfig.get_paths()["stdlib"])


def read_modules(skipped: Counter[str]) -> Iterator[tuple[str, ast.Module, list[str]]]:
    """(name, tree, lines) of every module that is text; what is not is counted."""
    root = _root()
    for top in sorted(path for path in root.glob("*") if path.is_dir() or path.suffix == ".py"):
        if top.stem not in sys.stdlib_module_names:
            skipped["not a module of the standard library"] += 1
            continue
        for file in sorted(top.rglob("*.py")) if top.is_dir() else [top]:
            parts = file.relative_to(root).with_suffix("").parts
            if TEST_FOLDERS.intersection(parts):
                skipped["test"] += 1
            elif parts[0] in TABLE_PACKAGES:
                skipped["table"] += 1
            elif (parsed := _parse(file)) is None:
                skipped["cannot be read or parsed"] += 1
            else:
                yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), *parsed


def _parse(file: Path) -> tuple[ast.Module, list[str]] | None:
    try:
        with tokenize.open(file) as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escape sequences in old modules
            text = stream.read()
            return ast.parse(text), text.split("\n")
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):  # UnicodeDecodeError is a ValueError
        return None


def definitions(parent: ast.AST, prefix: str = "") -> Iterator[tuple[str, Function | ast.ClassDef]]:
    """Classes, methods and functions with qualified names; those inside functions belong to the function."""
    for node in ast.iter_child_nodes(parent):
        if isinstance(node, Function):
            yield prefix + node.name, node
        elif isinstance(node, ast.ClassDef):
            yield prefix + node.name, node
            yield from definitions(node, f"{prefix}{node.name}.")
        elif isinstance(node, ast.stmt | ast.ExceptHandler | ast.match_case):
            yield from definitions(node, prefix)


def _is_table(function: Function, source: str) -> bool:
    return source.count(",") >= TABLE_ITEMS - 1 and any(
        len(node.keys if isinstance(node, ast.Dict) else node.elts) >= TABLE_ITEMS
        for node in ast.walk(function)
        if isinstance(node, ast.Dict | ast.List | ast.Set | ast.Tuple)
    )


def _topics(skipped: Counter[str]) -> list[Text]:
    try:
        topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    except ImportError:
        skipped["cannot be imported: pydoc_data.topics"] += 1
        return []
    found = []
    for topic, text in topics.items():
        starts = [0, *(match.start() for match in HEADING.finditer(text) if match.start())]
        for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
            section = text[start:end].strip("\n")
            found.append((f"pydoc_data.topics/{topic}", "topic", section.partition("\n")[0], section))
    return found


def _clean(rows: Iterable[Row], dropped: Counter[str]) -> Iterator[Row]:
    """The rows that are text of a fit length."""
    for row in rows:
        if row.kind == "table":
            dropped["table"] += 1
        elif not row.text.strip():
            dropped["empty"] += 1
        elif len(normalise(row.text).split()) < SHINGLE_WORDS:
            dropped["too short"] += 1
        elif len(row.text) > MAX_CHARACTERS:
            dropped["too long"] += 1
        elif UNWANTED_CHARACTERS.search(row.text):
            dropped["control characters"] += 1
        else:
            yield row


def drop_repeated(rows: Iterable[Row], dropped: Counter[str]) -> list[tuple[Row, Hashes]]:
    """The rows that repeat no earlier one, each with its shingles."""
    first: dict[str, Row] = {}
    for row in rows:
        if first.setdefault(normalise(row.text), row) is not row:
            dropped["exact duplicate"] += 1
    sets = shingles(list(first))
    near = near_duplicates(sets)
    dropped["near duplicate"] += len(near)
    return [pair for index, pair in enumerate(zip(first.values(), sets, strict=True)) if index not in near]


def split_rows(pairs: Sequence[tuple[Row, Hashes]], dropped: Counter[str]) -> dict[str, list[Row]]:
    """The rows of each split; rows of valid and test that the splits before them show already are dropped."""
    by_split: dict[str, list[Row]] = {}
    known = np.empty(0, dtype=np.uint64)
    for split in SPLITS:
        own = [pair for pair in pairs if split_of(pair[0].module) == split]
        seen = np.isin(np.concatenate([known[:0], *(hashes for _, hashes in own)]), known)
        parts = np.split(seen, np.cumsum([len(hashes) for _, hashes in own], dtype=np.int64))[:-1]
        kept = [pair for pair, part in zip(own, parts, strict=True) if part.mean() < SEEN_SHARE]
        dropped["seen"] += len(own) - len(kept)
        by_split[split] = [row for row, _ in kept]
        known = np.concatenate([known, *(hashes for _, hashes in kept)])
    return by_split


def _sizes(rows: Sequence[Row]) -> dict[str, Any]:
    """Modules, and rows and UTF-8 bytes of text by kind."""
    texts = {kind: [row.text for row in rows if row.kind == kind] for kind in KINDS}
    return {
        "modules": len({row.module for row in rows}),
        "rows": {kind: len(found) for kind, found in texts.items()},
        "bytes": {kind: len("".join(found).encode()) for kind, found in texts.items()},
    }


def _parquet(rows: Sequence[Row]) -> bytes:
    sink = pa.BufferOutputStream()
    table = pa.Table.from_pylist([row._asdict() for row in rows], schema=SCHEMA)
    pq.write_table(table, sink, compression="zstd", row_group_size=ROW_GROUP_ROWS)
    return bytes(sink.getvalue())
