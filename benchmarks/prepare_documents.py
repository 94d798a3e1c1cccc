"""The corpus of the bulk measurements: IMDB reviews and novels, one row a document, as Parquet.

    python -m benchmarks.prepare_documents --data DATA --output outputs/documents

DATA holds `imdb/{train,unsup}.jsonl.xz` and `litbank-novels/original.tar.xz` (see the README there). Written are
`train.parquet`, 25,000 labelled reviews to learn from, and in `documents/` the 50,000 unlabelled reviews and the
paragraphs of 100 novels, with the columns `source`, `id`, `text`.
"""

import argparse
import json
import lzma
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

FILE_ROWS = 25_000
GROUP_ROWS = 5_000

Row = dict[str, str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=Path("outputs/documents"))
    arguments = parser.parse_args()
    folder = arguments.output / "documents"
    folder.mkdir(parents=True, exist_ok=True)
    write(list(reviews(arguments.data, "train")), arguments.output / "train.parquet")
    for name, rows in (("imdb", reviews(arguments.data, "unsup")), ("litbank", paragraphs(arguments.data))):
        found = list(rows)
        for number, start in enumerate(range(0, len(found), FILE_ROWS)):
            write(found[start : start + FILE_ROWS], folder / f"{name}-{number:02d}.parquet")
        print(f"{name}: {len(found):,} rows, {sum(len(row['text'].encode()) for row in found) / 1e6:.1f} MB of text")


def reviews(data: Path, split: str) -> Iterator[Row]:
    """IMDB reviews, line marks as blanks."""
    with lzma.open(data / "imdb" / f"{split}.jsonl.xz", "rt", encoding="utf-8", newline="\n") as lines:
        for line in lines:
            row = json.loads(line)
            yield {"source": "imdb", "id": row["id"], "text": row["text"].replace("<br />", " ")}


def paragraphs(data: Path) -> Iterator[Row]:
    """Paragraphs of the novels, their line ends as blanks."""
    with tarfile.open(data / "litbank-novels" / "original.tar.xz") as archive:
        for member in sorted(archive.getmembers(), key=lambda member: member.name):
            file = archive.extractfile(member)
            if file is None or not member.name.endswith(".txt"):
                continue
            text = file.read().decode("utf-8")
            pieces = (" ".join(piece.split()) for piece in re.split(r"\n\s*\n", text))
            for number, piece in enumerate(filter(None, pieces)):
                yield {"source": "litbank", "id": f"{Path(member.name).stem}/{number}", "text": piece}


def write(rows: list[Row], path: Path) -> None:
    table = pa.Table.from_pylist(rows, schema=pa.schema([(name, pa.string()) for name in ("source", "id", "text")]))
    pq.write_table(table, path, row_group_size=GROUP_ROWS, compression="zstd")


if __name__ == "__main__":
    main()
