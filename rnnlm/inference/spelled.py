"""Rows of words in batches, pool by pool: a pool's rows are sorted by length, and what characters or pieces say of its
words is computed once for all its batches."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rnnlm.data.labelled import LabelledTable, Parts, Spellings
from rnnlm.data.labelled_stream import LabelledBatch, LabelledReader
from rnnlm.data.tokenizers.labels import LabelTokenizer
from rnnlm.nn.word_encoder import Model, with_words
from rnnlm.nn.words.base import WordFeature
from rnnlm.nn.words.spelling import Spelling
from rnnlm.types import LayerInputs

BATCH_WORDS = 4096  # words that are read at a time, padding counted; a longer row is read alone
POOL_WORDS = 1 << 18  # words whose rows are sorted by length together; bounds memory
CHARACTERS = 1 << 16  # or pieces, that are read at a time, padding counted; bounds memory

Ids = npt.NDArray[np.int64]


class SpelledOnce(WordFeature):
    """Stands for `feature` in a model that no longer changes: looks up what that made of the spellings of a pool.

    `spelling` (B T) says which of them stand in the batch that comes; what the batch itself says of that is its own
    numbering.
    """

    def __init__(self, feature: Spelling) -> None:
        super().__init__()
        self._feature = feature
        self._vectors = torch.zeros(0)  # U D
        self.spelling = torch.zeros(0, 0, dtype=torch.int64)

    def read(self, spellings: Spellings) -> None:
        """Compute the vectors of a pool's spellings."""
        device = self._feature.embedding.weight.device
        vectors, order = [], []
        for places, ids, lengths in _longest_first(spellings.of(self._feature.unit)):
            vectors.append(self._feature.spelled(ids.to(device), lengths))
            order.append(places)
        self._vectors = torch.empty_like(joined := torch.cat(vectors))
        self._vectors[torch.from_numpy(np.concatenate(order)).to(device)] = joined

    def forward(self, batch: LabelledBatch) -> LayerInputs:  # noqa: ARG002 - see `spelling`
        return F.embedding(self.spelling.to(self._vectors.device), self._vectors)


def with_spellings_once(model: Model) -> tuple[Model, list[SpelledOnce]]:
    """A model with the same weights, and what in it has to be told of pools and batches."""
    once = {place: SpelledOnce(one) for place, one in enumerate(model.words) if isinstance(one, Spelling)}
    copy = with_words(model, [once.get(place, _feature(one)) for place, one in enumerate(model.words)])
    return copy.eval(), list(once.values())


class Read(NamedTuple):
    """A batch, the numbers of its rows, and how many words each has."""

    rows: Ids
    lengths: Ids
    batch: LabelledBatch

    @property
    def num_padding(self) -> int:
        """Positions that belong to no word."""
        return self.batch.words.numel() - int(self.lengths.sum())


def in_pools(rows: Sequence[Sequence[str]], tokenizer: LabelTokenizer, once: Sequence[SpelledOnce]) -> Iterator[Read]:
    """All rows that have words, in batches of like length, for the model that `once` belongs to."""
    for pool in _pools(rows):
        table = LabelledTable.from_rows([rows[row] for row in pool], None, tokenizer)
        for feature in once:
            feature.read(table.spellings)
        reader = LabelledReader(table)
        for places in reader.plan(reader.by_length(np.arange(len(pool))), BATCH_WORDS):
            for feature in once:
                feature.spelling = spelling_of(table, places)
            yield Read(pool[places], reader.lengths[places], reader.read(places))


def _pools(rows: Sequence[Sequence[str]]) -> Iterator[Ids]:
    """Numbers of rows with words that go together until there are POOL_WORDS words."""
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    some = np.flatnonzero(lengths)
    pool = (np.cumsum(lengths[some]) - 1) // POOL_WORDS
    for begin, end in pairwise([*np.flatnonzero(np.diff(pool, prepend=-1)).tolist(), len(some)]):
        yield some[begin:end]


def spelling_of(table: LabelledTable, rows: Ids) -> Tensor:
    """B T: which of the table's spellings the words of some rows have; 0 behind their ends."""
    starts, lengths = table.offsets[rows], table.offsets[rows + 1] - table.offsets[rows]
    step = np.arange(lengths.max())
    real = step < lengths[:, None]
    found = np.zeros(real.shape, dtype=np.int64)
    found[real] = table.spelling[(starts[:, None] + step)[real]]
    return torch.from_numpy(found)


def _longest_first(parts: Parts) -> Iterator[tuple[Ids, Tensor, Tensor]]:
    """Places of some spellings, what they consist of (U P) and lengths (at least 1), until all were given."""
    order = np.argsort(-parts.lengths, kind="stable")
    start = 0
    while start < len(order):
        longest = max(1, int(parts.lengths[order[start]]))
        places = order[start : start + max(1, CHARACTERS // longest)]
        ids, lengths = parts.padded(places)
        yield places, torch.from_numpy(ids), torch.from_numpy(lengths)
        start += len(places)


def _feature(module: nn.Module) -> WordFeature:
    assert isinstance(module, WordFeature)
    return module
