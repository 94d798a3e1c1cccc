"""The endless stream a language model is trained on: documents end to end, read by many lanes at once.

The documents of an epoch, in an order drawn from (seed, epoch), form one sequence of targets: the tokens of a document,
then the end of sequence. The input at a position is the target before it, or bos where a document starts:

    inputs    bos  w1  w2  bos  w1' ...
    targets   w1   w2  eos  w1' ...

The sequence is cut into `num_lanes` equal contiguous lanes, and each step reads the next `window` positions of every
lane, so that a carried hidden state always continues the text it comes from. Lanes are global: lane i belongs to rank
i mod world size, and the state is (epoch, position) alone, so any number of workers resumes any stream with the same
data in the same order.
"""

from dataclasses import dataclass
from math import ceil

import numpy as np
import numpy.typing as npt
import torch

from rnnlm.data.tokens import TokenTable
from rnnlm.determinism import numpy_generator
from rnnlm.types import Mask, TokenIds


@dataclass(frozen=True)
class Window:
    """T positions of this rank's lanes. `fresh` marks lanes that begin with the initial state instead of the carried
    one; `mask` is False where a lane ran past the end of the epoch and repeats its beginning."""

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
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        assert num_lanes % world_size == 0, "lanes are dealt evenly to the ranks"
        self._table, self._window, self._seed, self._shuffle = table, window, seed, shuffle
        self._bos_id, self._eos_id, self._fresh = bos_id, eos_id, fresh
        self._lane_length = ceil(table.num_targets / num_lanes)
        self._lane_starts = np.arange(rank, num_lanes, world_size, dtype=np.int64) * self._lane_length
        self.epoch = self.position = 0
        self._load_epoch()

    @property
    def steps_per_epoch(self) -> int:
        return ceil(self._lane_length / self._window)

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
        length = min(self._window, self._lane_length - self.position)
        positions = self._lane_starts[:, None] + np.arange(self.position, self.position + length)
        first = self.position == 0
        self.position += length
        return self._read(positions, first=first)

    def _load_epoch(self) -> None:
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
