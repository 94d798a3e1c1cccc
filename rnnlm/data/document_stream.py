"""Batches of whole documents, for back-propagation through all of their time: nothing is carried, nothing is cut off.

Documents are put in an order drawn from (seed, epoch). So that rows of a batch are about equally long, the documents of
each `POOL` consecutive batches are sorted by length and the pool's batches put in a random order. A document of more
than `longest` targets is cut into pieces, each of which begins with the initial state and its true last token.

Batches are global: row i of a batch belongs to rank i mod world size, and the state is (epoch, position) alone, where
position counts batches; so any number of workers goes on with the same data in the same order.
"""

from math import ceil

import numpy as np
import numpy.typing as npt
import torch

from rnnlm.data.stream import Window
from rnnlm.data.tokens import TokenTable
from rnnlm.determinism import numpy_generator

POOL = 64  # batches whose documents are sorted by length together


class DocumentStream:
    """See the module's docstring. `shuffle=False` keeps the documents in their order, whatever their lengths."""

    def __init__(
        self,
        table: TokenTable,
        *,
        num_documents: int,
        longest: int,
        bos_id: int,
        eos_id: int,
        seed: int = 0,
        shuffle: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        assert num_documents % world_size == 0, "documents are dealt evenly to the ranks"
        self._table, self._rows, self._seed, self._shuffle = table, num_documents, seed, shuffle
        self._bos_id, self._eos_id, self._rank, self._world_size = bos_id, eos_id, rank, world_size
        targets = np.diff(table.offsets) + 1
        pieces = -(-targets // longest)
        self._document = np.repeat(np.arange(table.num_documents), pieces)
        first = np.repeat(np.cumsum(pieces) - pieces, pieces)
        self._begin = (np.arange(len(self._document)) - first) * longest  # of each piece, in targets of its document
        self._length = np.minimum(longest, targets[self._document] - self._begin)
        self.epoch = self.position = 0
        self.learning_rate_factor = 1.0
        self._load_epoch()

    @property
    def steps_per_epoch(self) -> int:
        return ceil(len(self._document) / self._rows)

    def state(self) -> dict[str, int]:
        """Where the stream stands; give it to `restore`."""
        return {"epoch": self.epoch, "position": self.position}

    def restore(self, state: dict[str, int]) -> None:
        self.epoch, self.position = state["epoch"], state["position"]
        self._load_epoch()

    def next(self) -> Window:
        """The next batch. All batches have the same number of rows; those that the last has too many are empty."""
        if self.position >= self.steps_per_epoch:
            self.epoch, self.position = self.epoch + 1, 0
            self._load_epoch()
        rows = self._batches[self.position]
        self.position += 1
        width = int(self._length[rows[rows >= 0]].max())  # on every rank the same
        return self._read(rows[self._rank :: self._world_size], width)

    def _load_epoch(self) -> None:
        count, size = len(self._document), self.steps_per_epoch * self._rows
        order = np.full(size, -1, dtype=np.int64)  # -1 is an empty row
        order[:count] = np.arange(count)
        if self._shuffle:
            generator = numpy_generator(self._seed, "document order", self.epoch)
            order[:count] = generator.permutation(count)
            for start in range(0, count, POOL * self._rows):
                pool = order[start : min(count, start + POOL * self._rows)]
                pool[:] = pool[np.argsort(self._length[pool], kind="stable")]
            self._batches = order.reshape(-1, self._rows)
            for start in range(0, len(self._batches), POOL):
                generator.shuffle(self._batches[start : start + POOL])
        else:
            self._batches = order.reshape(-1, self._rows)

    def _read(self, pieces: npt.NDArray[np.int64], width: int) -> Window:
        """All pieces at once, padded on the right."""
        document, begin = self._document[pieces], self._begin[pieces]
        length = np.where(pieces >= 0, self._length[pieces], 0)
        within = begin[:, None] + np.arange(width)  # in targets of the document
        start = self._table.offsets[document][:, None]
        end = self._table.offsets[document + 1][:, None] - start  # where eos stands
        tokens, last = self._table.tokens, len(self._table.tokens) - 1
        targets = np.where(within >= end, self._eos_id, tokens[np.minimum(start + within, last)])
        inputs = np.where(within == 0, self._bos_id, tokens[np.clip(start + within - 1, 0, last)])
        return Window(
            inputs=torch.from_numpy(inputs.astype(np.int64)),
            targets=torch.from_numpy(targets.astype(np.int64)),
            mask=torch.from_numpy(np.arange(width) < length[:, None]),
            fresh=torch.ones(len(pieces), dtype=torch.bool),
        )
