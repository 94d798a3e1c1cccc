"""Batches of pairs for training, each of about as many target tokens.

Pairs are put in an order drawn from (seed, epoch); within pools of that order they are sorted by the lengths of target
and source, so that a batch holds pairs of like length and little padding, and cut where rows times the longest target
would exceed the budget of `tokens`. The batches of a pool come in a random order.

Batches are global: row i of a batch belongs to rank i mod world size (a rank may be left with an empty row), and the
state is (epoch, position) alone, so any number of workers goes on with the same data in the same order.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from rnnlm.data.pairs import PairTable
from rnnlm.data.tokens import TokenTable
from rnnlm.determinism import numpy_generator
from rnnlm.types import Lengths, Mask, SourceTokens, TokenIds

POOL_TOKENS = 64  # budgets of target tokens whose pairs are sorted by length together


@dataclass(frozen=True)
class PairBatch:
    """B pairs, padded on the right: `source` with eos at its end (its length counts that), `inputs` bos and the target,
    `targets` the target and eos; `mask` is False behind the end of a target, and everywhere in an empty row."""

    source: SourceTokens
    lengths: Lengths
    inputs: TokenIds
    targets: TokenIds
    mask: Mask


class PairReader:
    """Makes batches of the pairs of a table, whatever their order."""

    def __init__(self, table: PairTable, *, source_eos: int, bos_id: int, eos_id: int) -> None:
        self._table, self._source_eos, self._bos_id, self._eos_id = table, source_eos, bos_id, eos_id
        self.source_lengths = np.diff(table.source.offsets) + 1
        self.target_lengths = np.diff(table.target.offsets) + 1

    def plan(
        self, order: npt.NDArray[np.int64], tokens: int, max_rows: int | None = None
    ) -> list[npt.NDArray[np.int64]]:
        """Cut pairs into batches; those whose target alone exceeds the budget stand alone."""
        if not len(order):
            return []
        lengths = self.target_lengths[order]
        starts, longest = [0], 0
        for place, length in enumerate(lengths.tolist()):
            longest = max(longest, length)
            rows = place - starts[-1] + 1
            if place > starts[-1] and (rows * longest > tokens or (max_rows is not None and rows > max_rows)):
                starts.append(place)
                longest = length
        return np.split(order, starts[1:])

    def by_length(self, order: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The same pairs, those of like length side by side."""
        return order[np.lexsort((self.source_lengths[order], self.target_lengths[order]))]

    def read(
        self, pairs: npt.NDArray[np.int64], *, steps: int | None = None, source_steps: int | None = None
    ) -> PairBatch:
        """The batch of some pairs, padded to so many steps (null: to the longest); -1 is an empty row."""
        steps = int(self.target_lengths[pairs].max()) if steps is None else steps
        source_steps = int(self.source_lengths[pairs].max()) if source_steps is None else source_steps
        there = pairs >= 0
        lengths = np.where(there, self.target_lengths[pairs], 0)
        targets = _padded(self._table.target, pairs, steps, self._eos_id)
        inputs = np.concatenate([np.full((len(pairs), 1), self._bos_id), targets[:, :-1]], axis=1)
        return PairBatch(
            source=torch.from_numpy(_padded(self._table.source, pairs, source_steps, self._source_eos)),
            lengths=torch.from_numpy(np.where(there, self.source_lengths[pairs], 1)),
            inputs=torch.from_numpy(inputs),
            targets=torch.from_numpy(targets),
            mask=torch.from_numpy(np.arange(steps) < lengths[:, None]),
        )


class PairStream:
    """See the module's docstring. `resegmented`, if given, makes the table of an epoch anew (subword sampling)."""

    learning_rate_factor = 1.0

    def __init__(
        self,
        table: PairTable,
        open_reader: Callable[[PairTable], PairReader],
        *,
        tokens: int,
        max_rows: int | None,
        seed: int,
        resegmented: Callable[[PairTable, int], PairTable] | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self._table, self._open, self._resegmented = table, open_reader, resegmented
        self._tokens, self._max_rows, self._seed = tokens, max_rows, seed
        self._rank, self._world_size = rank, world_size
        self.epoch = self.position = 0
        self._load_epoch()
        self._steps_per_epoch = len(self._batches)

    @property
    def steps_per_epoch(self) -> int:
        """Of the first epoch; others may have a batch more or less."""
        return self._steps_per_epoch

    def state(self) -> dict[str, int]:
        """Where the stream stands; give it to `restore`."""
        return {"epoch": self.epoch, "position": self.position}

    def restore(self, state: dict[str, int]) -> None:
        self.epoch, self.position = state["epoch"], state["position"]
        self._load_epoch()

    def next(self) -> PairBatch:
        """The next batch."""
        if self.position >= len(self._batches):
            self.epoch, self.position = self.epoch + 1, 0
            self._load_epoch()
        pairs = self._batches[self.position]
        self.position += 1
        steps = int(self._reader.target_lengths[pairs].max())  # on every rank the same
        source_steps = int(self._reader.source_lengths[pairs].max())
        own = pairs[self._rank :: self._world_size]
        if not len(own):
            own = np.array([-1])
        return self._reader.read(own, steps=steps, source_steps=source_steps)

    def _load_epoch(self) -> None:
        table = self._table if self._resegmented is None else self._resegmented(self._table, self.epoch)
        self._reader = self._open(table)
        generator = numpy_generator(self._seed, "pair order", self.epoch)
        order = generator.permutation(table.num_pairs)
        pool = max(1, POOL_TOKENS * self._tokens * table.num_pairs // max(1, table.num_targets))
        batches: list[npt.NDArray[np.int64]] = []
        for start in range(0, len(order), pool):
            found = self._reader.plan(self._reader.by_length(order[start : start + pool]), self._tokens, self._max_rows)
            batches += [found[place] for place in generator.permutation(len(found))]
        self._batches = batches


def _padded(table: TokenTable, documents: npt.NDArray[np.int64], steps: int, fill: int) -> npt.NDArray[np.int64]:
    """B x steps: the tokens of documents and `fill` behind them."""
    start = table.offsets[documents][:, None]
    length = np.where(documents >= 0, table.offsets[documents + 1] - table.offsets[documents], 0)[:, None]
    step = np.arange(steps)
    last = max(0, len(table.tokens) - 1)
    found = np.where(step < length, table.tokens[np.minimum(start + step, last)], fill)
    return found.astype(np.int64)
