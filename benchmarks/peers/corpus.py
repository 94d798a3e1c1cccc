"""What the peers share: the words of WikiText-2 as one column of ids a lane, and how they report."""

import json
import time
from pathlib import Path

import torch
from torch import Tensor


def read_words(folder: Path) -> tuple[dict[str, Tensor], int]:
    """Splits train and valid as id sequences, <eos> after each line, and the size of the vocabulary."""
    ids: dict[str, int] = {}
    splits = {}
    for name in ("train", "valid"):
        with (folder / f"{name}.txt").open(encoding="utf-8", newline="\n") as lines:
            words = [word for line in lines for word in [*line.split(), "<eos>"]]
        splits[name] = torch.tensor([ids.setdefault(word, len(ids)) for word in words])
    return splits, len(ids)


def as_columns(tokens: Tensor, num_columns: int) -> Tensor:
    """T x B: the sequence cut into columns that follow one another."""
    length = len(tokens) // num_columns
    return tokens[: length * num_columns].view(num_columns, length).t().contiguous()


class Curve:
    """Tells the race when a validation for the curve begins and what it found, as JSON lines, so that the time of it is
    not held against the script."""

    def __init__(self, every_seconds: float) -> None:
        self._every, self._next = every_seconds, every_seconds
        self._began, self._free, self._validating = time.process_time(), 0.0, 0.0

    def due(self) -> bool:
        """True every so many seconds of one core's work."""
        if time.process_time() - self._began < self._next:
            return False
        self._validating = time.process_time()
        print(json.dumps({"validating": True}), flush=True)
        return True

    def report(self, nll: float, tokens: int) -> None:
        """`seconds` are those of the processor since the beginning, without validations for the curve."""
        now = time.process_time()
        self._free, self._validating = self._free + (now - self._validating if self._validating else 0.0), 0.0
        seconds = now - self._began - self._free
        print(json.dumps({"nll": nll, "tokens": tokens, "seconds": seconds}), flush=True)
        self._next = now - self._began + self._every
