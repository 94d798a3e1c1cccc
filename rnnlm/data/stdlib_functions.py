"""Functions of the standard library of the running CPython, each with what its docstring says it does: pairs for a
sequence to sequence model, on every machine.

    source      qualified name and source of a function or method as one line, without comments above it and without its
                docstring, cut to 400 characters
    summary     the first sentence of its docstring, without its full stop
    name_words  its name as words, `isEnabledFor` as "is enabled for": what copying the name is worth as a summary

Left out, and counted in the card: docstrings that begin with a signature or an example, summaries of fewer than 3 or
more than 40 words, sources of fewer than five words, and what `rnnlm/data/stdlib.py` leaves out as repeated, near
repeated or seen. Splits are those of that corpus: a module is in one as a whole. The same Python and the same pyarrow
give the same bytes.
"""

import ast
import platform
import re
from collections import Counter
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rnnlm.data.stdlib import (
    SHINGLE_WORDS,
    SPLITS,
    UNWANTED_CHARACTERS,
    Function,
    Row,
    definitions,
    drop_repeated,
    function_source,
    missing_sources,
    normalise,
    read_modules,
    split_rows,
)
from rnnlm.storage import Location

FUNCTIONS_VERSION = 1
COLUMNS = ("id", "module", "name", "name_words", "source", "summary")
MAX_SOURCE_CHARACTERS = 400
MIN_SUMMARY_WORDS, MAX_SUMMARY_WORDS = 3, 40
ROW_GROUP_ROWS = 2_000

# A full stop, not that of "e.g." or "3.5", and what follows it.
SENTENCE_END = re.compile(r"(?<!\be\.g)(?<!\bi\.e)(?<!\betc)(?<!\bvs)[.!?](?=\s|$)")
NO_SENTENCE = re.compile(r"\s*(?:>>>|[\w.]+\(.*\)\s*(?:->|=|--|:|$))")  # an example, or the signature once more
NAME_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


def build_functions_corpus(folder: Location) -> dict[str, Any]:
    """Write <folder>/{train,valid,test}.parquet, then <folder>/card.json, and return the card; see `stdlib.py`."""
    skipped: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    pairs: dict[str, dict[str, str]] = {}
    for module, tree, lines in read_modules(skipped):
        for name, node in definitions(tree):
            if isinstance(node, Function) and (doc := ast.get_docstring(node)) is not None:
                row = {"id": f"{module}:{name}", "module": module, **function_pair(name, node, doc, lines)}
                if problem := _problem(row):
                    dropped[problem] += 1
                elif pairs.setdefault(row["id"], row) is not row:
                    dropped["another of the same name"] += 1
    if not pairs:
        raise missing_sources(len(pairs))
    texts = [
        Row(row["id"], row["module"], "function", row["name"], f"{row['source']}\n{row['summary']}")
        for row in pairs.values()
    ]
    splits = split_rows(drop_repeated(texts, dropped), dropped)
    for split in SPLITS:
        folder.join(f"{split}.parquet").write_bytes(_parquet([pairs[row.id] for row in splits[split]]))
    card = {
        "corpus_version": FUNCTIONS_VERSION,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "pyarrow": pa.__version__,
        "license": "PSF-2.0",
        "modules": {"skipped": dict(skipped)},
        "rows": {"dropped": dict(dropped), "kept": sum(map(len, splits.values()))},
        "splits": {split: {"rows": len(rows)} for split, rows in splits.items()},
    }
    folder.join("card.json").write_json(card)
    return card


def function_pair(name: str, node: Function, doc: str, lines: list[str]) -> dict[str, str]:
    """The columns of a function but for those of its place."""
    source = " ".join(function_source(node, lines).split())
    start = source.find("def ")  # behind comments and decorators
    return {
        "name": name,
        "name_words": name_words(name),
        "source": cut_source(f"{name} {source[max(0, start) :]}"),
        "summary": first_sentence(doc),
    }


def first_sentence(doc: str) -> str:
    """What a docstring begins with, up to the end of the sentence or paragraph, as one line; empty if it is none."""
    paragraph = doc.strip().split("\n\n")[0]
    if NO_SENTENCE.match(paragraph):
        return ""
    text = " ".join(paragraph.split())
    end = SENTENCE_END.search(text)
    return (text[: end.start()] if end else text).rstrip(" :;,")


def cut_source(text: str) -> str:
    """At most MAX_SOURCE_CHARACTERS, whole words."""
    return text if len(text) <= MAX_SOURCE_CHARACTERS else text[: MAX_SOURCE_CHARACTERS + 1].rpartition(" ")[0]


def name_words(name: str) -> str:
    """The words of the last part of a qualified name, in lower case."""
    return " ".join(NAME_WORD.findall(name.rpartition(".")[2])).lower()


def _problem(row: dict[str, str]) -> str:
    """Why a row is of no use; empty if it is of use."""
    words = len(row["summary"].split())
    if not MIN_SUMMARY_WORDS <= words <= MAX_SUMMARY_WORDS:
        return "no summary" if not words else "summary too short" if words < MIN_SUMMARY_WORDS else "summary too long"
    if len(normalise(row["source"]).split()) < SHINGLE_WORDS or not row["name_words"]:
        return "too short"
    return "control characters" if UNWANTED_CHARACTERS.search(row["source"] + row["summary"]) else ""


def _parquet(rows: list[dict[str, str]]) -> bytes:
    sink = pa.BufferOutputStream()
    table = pa.Table.from_pylist(rows, schema=pa.schema([(column, pa.string()) for column in COLUMNS]))
    pq.write_table(table, sink, compression="zstd", row_group_size=ROW_GROUP_ROWS)
    return bytes(sink.getvalue())
