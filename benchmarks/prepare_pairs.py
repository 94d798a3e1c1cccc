"""The pairs of the sequence to sequence recipes as Parquet, from the packed public data sets.

    python -m benchmarks.prepare_pairs --data DATA --output outputs/pairs

DATA holds `multi30k/{train,val,test_2016_flickr}.{de,en,fr}.gz`, `scan/tasks_{train,test}_*.txt.xz` and
`cmudict/cmudict.dict.xz` (see the README there). Written are

    multi30k/{train,valid,test}.parquet         id, de, en, fr; blanks around a sentence are dropped
    scan/<split>_{train,valid,test}.parquet     source (command), target (actions); words with one blank between
    cmudict/{train,valid,test}.parquet          word, letters, phonemes; `pronunciations` in valid and test

SCAN has no validation data: 5 % of the training commands are held out, by a hash of the command. What a split repeats
on purpose (the primitive `jump`, 1,467 times) stays in training.

CMUdict has no split: 90 % of the words train, 2 % validate and 8 % test, by a hash of the word, so that all
pronunciations of a word are on one side. Training has one row a pronunciation; valid and test have one row a word, with
the list of all that count as right, and the first of them as `phonemes`. Stress digits are dropped, as in the figures
that are usually compared (39 phones: Bisani & Ney, "Joint-sequence models for grapheme-to-phoneme conversion", 2008;
Yao & Zweig, "Sequence-to-sequence neural net models for grapheme-to-phoneme conversion", 2015), and pronunciations that
differ in nothing else become one; `--stress` keeps them. Those figures are of another split of an older dictionary.
"""

import argparse
import gzip
import lzma
import re
from collections import Counter
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

LANGUAGES = ("de", "en", "fr")
MULTI30K_FILES = {"train": "train", "valid": "val", "test": "test_2016_flickr"}
SCAN_SPLITS = ("simple", "length", "addprim_jump", "addprim_turn_left")
SCAN_LINE = re.compile(r"IN: (.+) OUT: (.+)")
SCAN_VALID_SHARE = 0.05
CMUDICT_SHARES = {"train": 0.90, "valid": 0.02, "test": 0.08}
ALTERNATIVE = re.compile(r"\(\d+\)$")  # `read(2)`: another pronunciation of `read`
GROUP_ROWS = 5_000

# Lines of the public files; the rows of SCAN's valid are taken from train, and alternatives of CMUdict may become one.
EXPECTED = {
    "multi30k/train": 29_000,
    "multi30k/valid": 1_014,
    "multi30k/test": 1_000,
    "scan/simple": 16_728 + 4_182,
    "scan/length": 16_990 + 3_920,
    "scan/addprim_jump": 14_670 + 7_706,
    "scan/addprim_turn_left": 21_890 + 1_208,
    "cmudict/words": 126_052,
    "cmudict/entries": 135_166,
}

Counts = dict[str, int]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=Path("outputs/pairs"))
    parser.add_argument("--stress", action="store_true", help="keep the stress digits of CMUdict's vowels")
    arguments = parser.parse_args()
    counts = {
        **multi30k(arguments.data / "multi30k", arguments.output / "multi30k"),
        **scan(arguments.data / "scan", arguments.output / "scan"),
        **cmudict(arguments.data / "cmudict", arguments.output / "cmudict", stress=arguments.stress),
    }
    check_counts(counts)


def check_counts(counts: Counts) -> None:
    """Stop if the files are not those whose sizes are published."""
    wrong = [
        f"{name}: {counts[name]:,} instead of {right:,}" for name, right in EXPECTED.items() if counts[name] != right
    ]
    if wrong:
        raise SystemExit(f"these are not the published files: {'; '.join(wrong)}")
    print(f"all {len(EXPECTED)} counts are the published ones")


def multi30k(data: Path, output: Path) -> Counts:
    """Descriptions of images in German, English and French."""
    counts = {}
    for split, name in MULTI30K_FILES.items():
        sentences = {
            language: [line.strip() for line in lines(data / f"{name}.{language}.gz")] for language in LANGUAGES
        }
        sizes = {language: len(found) for language, found in sentences.items()}
        if len(set(sizes.values())) != 1:
            raise SystemExit(f"the lines of {name} do not pair: {sizes}")
        size = sizes[LANGUAGES[0]]
        write({"id": [f"{split}/{number}" for number in range(size)], **sentences}, output / f"{split}.parquet")
        counts[f"multi30k/{split}"] = size
    return counts


def scan(data: Path, output: Path) -> Counts:
    """Commands and the actions they stand for (Lake & Baroni, "Generalization without systematicity", 2018)."""
    counts = {}
    for name in SCAN_SPLITS:
        train, test = (scan_pairs(data / f"tasks_{part}_{name}.txt.xz") for part in ("train", "test"))
        times = Counter(source for source, _ in train)
        held_out = {source for source in times if times[source] == 1 and place_of(source) < SCAN_VALID_SHARE}
        parts = {
            "train": [pair for pair in train if pair[0] not in held_out],
            "valid": [pair for pair in train if pair[0] in held_out],
            "test": test,
        }
        for part, pairs in parts.items():
            columns = {"source": [source for source, _ in pairs], "target": [target for _, target in pairs]}
            write(columns, output / f"{name}_{part}.parquet")
        counts[f"scan/{name}"] = len(train) + len(test)
    return counts


def scan_pairs(path: Path) -> list[tuple[str, str]]:
    pairs = []
    for number, line in enumerate(lines(path), start=1):
        match = SCAN_LINE.fullmatch(line)
        if match is None:
            raise SystemExit(f"{path}, line {number}: not of the form 'IN: ... OUT: ...'")
        pairs.append((" ".join(match[1].split()), " ".join(match[2].split())))
    return pairs


def cmudict(data: Path, output: Path, *, stress: bool = False) -> Counts:
    """Spelling to sound, in the phones of ARPAbet."""
    entries = 0
    spoken: dict[str, list[str]] = {}
    for line in lines(data / "cmudict.dict.xz"):
        word, *phones = line.partition(" #")[0].split()
        if not stress:
            phones = [phone.rstrip("012") for phone in phones]
        found = spoken.setdefault(ALTERNATIVE.sub("", word), [])
        if (pronunciation := " ".join(phones)) not in found:
            found.append(pronunciation)
        entries += 1
    words: dict[str, list[str]] = {split: [] for split in CMUDICT_SHARES}
    for word in spoken:
        words[cmudict_split(word)].append(word)
    pairs = [(word, pronunciation) for word in words["train"] for pronunciation in spoken[word]]
    train_words, train_phonemes = [word for word, _ in pairs], [phonemes for _, phonemes in pairs]
    write(
        {"word": train_words, "letters": map_letters(train_words), "phonemes": train_phonemes}, output / "train.parquet"
    )
    for split in ("valid", "test"):
        columns = {
            "word": words[split],
            "letters": map_letters(words[split]),
            "phonemes": [spoken[word][0] for word in words[split]],
            "pronunciations": [spoken[word] for word in words[split]],
        }
        write(columns, output / f"{split}.parquet")
    return {"cmudict/words": len(spoken), "cmudict/entries": entries}


def map_letters(words: list[str]) -> list[str]:
    """`cat` as `c a t`, for tokenizers of blank-separated words."""
    return [" ".join(word) for word in words]


def cmudict_split(word: str) -> str:
    place = place_of(word)
    if place < CMUDICT_SHARES["train"]:
        return "train"
    return "valid" if place < CMUDICT_SHARES["train"] + CMUDICT_SHARES["valid"] else "test"


def place_of(text: str) -> float:
    """A number in [0, 1) that depends on the text alone."""
    return int.from_bytes(sha256(text.encode()).digest()[:8], "big") / 2**64


def lines(path: Path) -> list[str]:
    """The lines of a packed file; a line ends at a line feed and nothing else."""
    opener = {".gz": gzip.open, ".xz": lzma.open}[path.suffix]
    with opener(path, "rb") as stream:
        found: list[str] = stream.read().decode().split("\n")
    return found[:-1] if found[-1] == "" else found


def write(columns: Mapping[str, list[str] | list[list[str]]], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(
        {
            name: pa.array(values, pa.list_(pa.string()) if name == "pronunciations" else pa.string())
            for name, values in columns.items()
        }
    )
    pq.write_table(table, path, row_group_size=GROUP_ROWS, compression="zstd")
    print(f"{path.parent.name}/{path.stem}: {table.num_rows:,} rows, columns {', '.join(table.column_names)}")


if __name__ == "__main__":
    main()
