"""The endless stream a language model is trained on: documents end to end, read by many lanes at once.

The documents of an epoch, in an order drawn from (seed, epoch), form one sequence of targets: the tokens of a document,
then the end of sequence. The input at a position is the target before it, or bos where a document starts:

    inputs    bos  w1  w2  bos  w1' ...
    targets   w1   w2  eos  w1' ...

The sequence is cut into `num_lanes` equal contiguous lanes, and each step reads the next `window` positions of every
lane, so that a carried hidden state always continues the text it comes from. Lanes are global: lane i belongs to rank
i mod world size, and the state is (epoch, position) alone, so any number of workers resumes any stream with the same
data in the same order.

With `jitter`, windows have random lengths, drawn from (seed, epoch), so that the gradient is not cut off at the same
places in every epoch (Merity, Keskar & Socher 2018, section 5): around `window` with the standard deviation `jitter`,
and in one case of twenty around half of it. A short window is a small batch: the learning rate shrinks with it.
"""

from dataclasses import dataclass
from math import ceil

import numpy as np
import numpy.typing as npt
import torch

from rnnlm.data.tokens import TokenTable
from rnnlm.determinism import numpy_generator
from rnnlm.types import Mask, TokenIds

FULL_WINDOWS = 0.95  # share of jittered windows that are not halved
SHORTEST_WINDOW = 5  # steps of a jittered window, as far as `window` is no shorter


@dataclass(frozen=True)
class Window:
    """T positions of this rank's lanes. `fresh` marks lanes that begin with the initial state instead of the carried
    one; `mask` is False at positions that are no targets: a lane ran past the end of the epoch and repeats its
    beginning, a document is shorter than the longest of its batch."""

    inputs: TokenIds
    targets: TokenIds
    mask: Mask
    fresh: torch.Tensor


class LaneStream:
    """See the module's docstring. `shuffle=False` keeps the documents in their order (the standard for word-level
    benchmarks, whose documents are consecutive lines). With `fresh`, a lane whose window begins with a new document
    begins with the initial state, so that the network also learns to start a text from nothing."""

    def __init__(
        self,
        table: TokenTable,
        *,
        num_lanes: int,
        window: int,
        bos_id: int,
        eos_id: int,
        seed: int = 0,
        shuffle: bool = False,
        fresh: bool = False,
        jitter: float = 0.0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        assert num_lanes % world_size == 0, "lanes are dealt evenly to the ranks"
        self._table, self._window, self._seed, self._shuffle, self._jitter = table, window, seed, shuffle, jitter
        self._bos_id, self._eos_id, self._fresh = bos_id, eos_id, fresh
        self._lane_length = ceil(table.num_targets / num_lanes)
        self._lane_starts = np.arange(rank, num_lanes, world_size, dtype=np.int64) * self._lane_length
        self.epoch = self.position = 0
        self.learning_rate_factor = 1.0
        self._load_epoch()

    @property
    def steps_per_epoch(self) -> int:
        """Windows of an epoch; of a jittered one, about so many."""
        mean = self._window * (1.0 if self._jitter == 0.0 else FULL_WINDOWS + (1.0 - FULL_WINDOWS) / 2.0)
        return ceil(self._lane_length / mean)

    def state(self) -> dict[str, int]:
        """Where the stream stands; give it to `restore`."""
        return {"epoch": self.epoch, "position": self.position}

    def restore(self, state: dict[str, int]) -> None:
        self.epoch, self.position = state["epoch"], state["position"]
        self._load_epoch()

    def next(self) -> Window:
        """The next window; the last of an epoch may be shorter."""
        if self.position >= self._lane_length:
            self.epoch, self.position = self.epoch + 1, 0
            self._load_epoch()
        length = self._next_length()
        positions = self._lane_starts[:, None] + np.arange(self.position, self.position + length)
        first = self.position == 0
        self.position += length
        return self._read(positions, first=first)

    def _next_length(self) -> int:
        rest = self._lane_length - self.position
        if self._jitter == 0.0:
            return min(self._window, rest)
        end = int(self._cuts[np.searchsorted(self._cuts, self.position, side="right")])
        self.learning_rate_factor = (end - self.position) / self._window
        return min(end - self.position, rest)

    def _load_epoch(self) -> None:
        if self._jitter > 0.0:
            generator = numpy_generator(self._seed, "window lengths", self.epoch)
            shortest = min(SHORTEST_WINDOW, self._window)
            count = ceil(self._lane_length / shortest)  # enough even if all of them are short
            means = np.where(generator.random(count) < FULL_WINDOWS, self._window, self._window / 2)
            lengths = np.maximum(shortest, np.rint(generator.normal(means, self._jitter))).astype(np.int64)
            self._cuts = np.cumsum(lengths)  # where each window of this epoch ends; the last ones are never reached
        count = self._table.num_documents
        self._order: npt.NDArray[np.int64] = np.arange(count, dtype=np.int64)
        if self._shuffle:
            self._order = numpy_generator(self._seed, "document order", self.epoch).permutation(count)
        lengths = np.diff(self._table.offsets)[self._order] + 1
        self._ends = np.cumsum(lengths)  # where each document of this epoch ends, in targets

    def _read(self, positions: npt.NDArray[np.int64], *, first: bool) -> Window:
        """All positions of a window at once, without a loop over documents."""
        total = int(self._ends[-1])
        wrapped = positions % total
        place = np.searchsorted(self._ends, wrapped, side="right")
        document = self._order[place]
        length = self._table.offsets[document + 1] - self._table.offsets[document]
        within = wrapped - (self._ends[place] - length - 1)
        source = self._table.offsets[document] + within
        tokens, last = self._table.tokens, len(self._table.tokens) - 1
        targets = np.where(within == length, self._eos_id, tokens[np.minimum(source, last)])
        inputs = np.where(within == 0, self._bos_id, tokens[np.maximum(source - 1, 0)])
        return Window(
            inputs=torch.from_numpy(inputs.astype(np.int64)),
            targets=torch.from_numpy(targets.astype(np.int64)),
            mask=torch.from_numpy(positions < total),
            # What a lane carries into a new epoch comes from elsewhere in the corpus.
            fresh=torch.from_numpy((within[:, 0] == 0) & self._fresh | first),
        )
