"""The 50,000 unlabelled IMDB reviews through a model of entities and a classifier, and every row looked at.

    python -m benchmarks.label_reviews --data DATA --entities outputs/conll/model --classifier outputs/imdb/model

DATA holds `imdb/unsup.jsonl.xz`. Checked of every row: it is there, in order, with its text untouched; each entity lies
in the text, is what the words it counts say, and its score is a probability; the class is one of the model's. Anything
else ends with an error.
"""

import argparse
import json
import lzma
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from benchmarks.machine import machine
from rnnlm.data.labels.words import split_words

Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--entities", required=True)
    parser.add_argument("--classifier", required=True)
    parser.add_argument("--output", type=Path, default=Path("outputs/reviews"))
    arguments = parser.parse_args()
    print(machine())
    reviews = arguments.data / "imdb" / "unsup.jsonl.xz"
    source = ["corpus=jsonl", f"corpus.path={reviews}", "words_column=text", "prefix=found_", "cluster=here"]
    for name, checkpoint in (("entities", arguments.entities), ("classes", arguments.classifier)):
        began = time.perf_counter()
        predict(*source, f"checkpoint={checkpoint}", f"output={arguments.output / name}")
        print(f"{name}: {time.perf_counter() - began:.0f} s by the clock", flush=True)
    with lzma.open(reviews, "rt", encoding="utf-8", newline="\n") as lines:
        given = [json.loads(line) for line in lines]
    types, words = check_entities(given, rows_of(arguments.output / "entities"))
    print(f"entities of {len(given):,} reviews: {sum(types.values()):,}, by type {dict(types.most_common())}")
    print(f"commonest: {', '.join(f'{text} ({count:,})' for text, count in words.most_common(10))}")
    classes = check_classes(given, rows_of(arguments.output / "classes"))
    print(f"classes: {dict(classes.most_common())}")


def predict(*overrides: str) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-m", "jobs.predict", *overrides], check=True, env=environment)


def rows_of(output: Path) -> Iterator[Row]:
    """In the order of parts."""
    for part in sorted((output / "data").glob("*.parquet")):
        yield from pq.ParquetFile(part).read().to_pylist()


def check_entities(given: list[Row], found: Iterator[Row]) -> tuple[Counter[str], Counter[str]]:
    """How often each type and each text was found. Raises AssertionError at a row that is not as it must be."""
    types: Counter[str] = Counter()
    texts: Counter[str] = Counter()
    for review, row in zip(given, found, strict=True):
        text = row["text"]
        assert row["id"] == review["id"], row["id"]
        assert text == review["text"], row["id"]
        assert row["error"] is None, (row["id"], row["error"])
        places = split_words(text)
        words = list(places)
        for one in row["found_entities"]:
            sliced = text[one["start_char"] : one["end_char"]]
            own = words[one["start_word"] : one["end_word"]]
            assert own, (row["id"], one)
            assert "".join(sliced.split()) == "".join("".join(own).split()), (row["id"], one)
            assert (places.starts[one["start_word"]], places.ends[one["end_word"] - 1]) == (
                one["start_char"],
                one["end_char"],
            ), (row["id"], one)
            assert 0.0 <= one["score"] <= 1.0, (row["id"], one)
            types[one["type"]] += 1
            texts[sliced] += 1
    return types, texts


def check_classes(given: list[Row], found: Iterator[Row]) -> Counter[str]:
    """How often each class was given. Raises AssertionError at a row that is not as it must be."""
    classes: Counter[str] = Counter()
    for review, row in zip(given, found, strict=True):
        assert row["id"] == review["id"], row["id"]
        assert row["error"] is None, (row["id"], row["error"])
        assert 0.0 < row["found_confidence"] <= 1.0, row["id"]
        classes[row["found_label"]] += 1
    return classes


if __name__ == "__main__":
    main()
