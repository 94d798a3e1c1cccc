"""The corpora of the language model recipes as plain files, from the packed public data sets.

    python -m benchmarks.prepare_corpora --data DATA --output outputs/corpora

DATA holds `wikitext-2/wiki.{train,valid,test}.tokens.xz`, `tinyshakespeare/input.txt.xz` and
`litbank-novels/original.tar.xz` (see the README there). Written are

    wikitext2/{train,valid,test}.txt     as they are, one paragraph a line
    shakespeare/{train,valid}.txt        the first 90 % of the characters, and the rest
    novels/{train,valid,test}.parquet    paragraphs of 85, 5 and 10 novels, one row each, in their order
"""

import argparse
import lzma
from pathlib import Path

from benchmarks.prepare_documents import Row, paragraphs, write

NEWLINE = b"\n"
TRAIN_SHARE = 0.9  # of the characters of Tiny Shakespeare, as usual
TEST_EVERY, VALID_EVERY = (
    10,
    20,
)  # every tenth novel in the order of file names is for the test, five are for validation


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=Path("outputs/corpora"))
    arguments = parser.parse_args()
    for name in ("wikitext2", "shakespeare", "novels"):
        (arguments.output / name).mkdir(parents=True, exist_ok=True)
    wikitext(arguments.data, arguments.output / "wikitext2")
    shakespeare(arguments.data, arguments.output / "shakespeare")
    novels(arguments.data, arguments.output / "novels")


def wikitext(data: Path, output: Path) -> None:
    for split in ("train", "valid", "test"):
        text = lzma.decompress((data / "wikitext-2" / f"wiki.{split}.tokens.xz").read_bytes())
        (output / f"{split}.txt").write_bytes(text)
        print(f"wikitext2/{split}: {text.count(NEWLINE):,} lines")


def shakespeare(data: Path, output: Path) -> None:
    text = lzma.decompress((data / "tinyshakespeare" / "input.txt.xz").read_bytes()).decode()
    cut = int(TRAIN_SHARE * len(text))
    for split, part in (("train", text[:cut]), ("valid", text[cut:])):
        (output / f"{split}.txt").write_bytes(part.encode())
        print(f"shakespeare/{split}: {len(part):,} characters")


def novels(data: Path, output: Path) -> None:
    books: dict[str, list[Row]] = {}
    for row in paragraphs(data):
        books.setdefault(row["id"].rpartition("/")[0], []).append(row)
    splits: dict[str, list[Row]] = {"train": [], "valid": [], "test": []}
    for number, rows in enumerate(books.values()):
        split = "test" if number % TEST_EVERY == 0 else "valid" if number % VALID_EVERY == 5 else "train"
        splits[split] += rows
    for split, rows in splits.items():
        write(rows, output / f"{split}.parquet")
        titles = len({row["id"].rpartition("/")[0] for row in rows})
        num_bytes = sum(len(row["text"].encode()) for row in rows)
        print(f"novels/{split}: {titles} novels, {len(rows):,} paragraphs, {num_bytes / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
