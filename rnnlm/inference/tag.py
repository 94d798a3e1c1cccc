"""Labels of words with a tagger: the best sequence of labels for each row, and how sure the model is of each of them.

Rows that are read together are of like length and padded to the longest. A row's result does not depend on the other
rows, up to the rounding of float32 products of another shape. Rows longer than a `window` can be read in pieces (see
`rnnlm.inference.windows`).
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from rnnlm.checkpoint import Checkpoint
from rnnlm.data.tokenizers.labels import LabelTokenizer
from rnnlm.inference.packed import Report, ignore
from rnnlm.inference.precision import Products
from rnnlm.inference.spelled import Read, in_pools, with_spellings_once
from rnnlm.inference.windows import cut
from rnnlm.nn.tagging_model import TaggingModel
from rnnlm.structure.chain import Chain, Emissions, log_partition
from rnnlm.structure.chain import k_best as chain_k_best
from rnnlm.types import Lengths


class Alternative(NamedTuple):
    """A label a word, and P(labels | words)."""

    labels: list[str]
    probability: float


class Tagged(NamedTuple):
    """A label a word, and the probability that the model gives it (float32, one a word); on demand the most probable
    sequences, the best first."""

    labels: list[str]
    confidences: npt.NDArray[np.float32]
    alternatives: Sequence[Alternative] = ()


class Tagger:
    """Labels words; build it once."""

    def __init__(self, checkpoint: Checkpoint, *, products: Products | None = None) -> None:
        """`products` (default: float32) says how the model computes."""
        assert isinstance(checkpoint.model, TaggingModel)
        assert isinstance(checkpoint.tokenizer, LabelTokenizer)
        self._model, self._once = with_spellings_once(checkpoint.model)
        self.tokenizer = checkpoint.tokenizer
        self._names = np.array(self.tokenizer.labels, dtype=object)
        self._weights = (products or Products()).prepare(checkpoint.model.device)
        self.num_padding = 0  # positions computed by the last call that belong to no word

    def tag(
        self,
        rows: Sequence[Sequence[str]],
        *,
        window: int | None = None,
        overlap: int = 0,
        k_best: int | None = None,
        report: Report = ignore,
    ) -> list[Tagged]:
        """The labels of each row of words, in their order; none for a row without words.

        With a `window` longer rows are read in pieces. `k_best` asks for so many alternatives (fewer where fewer are
        possible), and needs whole rows. `report` is told the share of words that is labelled.
        """
        assert k_best is None or window is None, "pieces have no sequences of the whole row"
        alternatives: dict[int, list[Alternative]] = {}
        offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows], dtype=np.int64)])
        labels = np.zeros(offsets[-1], dtype=np.int64)
        confidences = np.zeros(offsets[-1], dtype=np.float32)
        done = self.num_padding = 0
        every = [piece for row, given in enumerate(rows) for piece in cut(row, len(given), window, overlap)]
        words = [rows[piece.row][piece.start : piece.stop] for piece in every]
        with torch.inference_mode(), self._weights.active():
            for read in in_pools(words, self.tokenizer, self._once):
                emissions = self._model.emissions(read.batch)
                found = [values.cpu().numpy() for values in self._model.decode_labels(emissions, read.batch)]
                if k_best is not None:
                    of_rows = [every[place].row for place in read.rows]
                    alternatives |= zip(of_rows, self._alternatives(emissions, read, k_best), strict=True)
                self.num_padding += read.num_padding
                for place, own_labels, own_confidences in zip(read.rows.tolist(), *found, strict=True):
                    row, start, _, first, behind = every[place]
                    target = slice(offsets[row] + first, offsets[row] + behind)
                    labels[target] = own_labels[first - start : behind - start]
                    confidences[target] = own_confidences[first - start : behind - start]
                    done += behind - first
                report(done / len(labels))
        names = self._names[labels]
        return [
            Tagged(names[start:stop].tolist(), confidences[start:stop], alternatives.get(row, ()))
            for row, (start, stop) in enumerate(pairwise(offsets.tolist()))
        ]

    def _alternatives(self, emissions: Emissions, read: Read, k: int) -> list[list[Alternative]]:
        """The most probable sequences of each row of a batch: exp(score - log Z) of the chain's k best."""
        chain = self._chain(emissions, read.batch.lengths.to(emissions.device))
        found = chain_k_best(chain, k)
        probabilities = (found.scores - log_partition(chain).unsqueeze(1)).exp()
        columns = (values.cpu().numpy() for values in (found.labels, probabilities, found.exists))
        return [
            [
                Alternative(self._names[ids[:length]].tolist(), float(probability))
                for ids, probability in zip(labels[there], sure[there], strict=True)
            ]
            for length, labels, sure, there in zip(read.lengths.tolist(), *columns, strict=True)
        ]

    def _chain(self, emissions: Emissions, lengths: Lengths) -> Chain:
        """With the softmax labels are independent: a chain whose transitions all have the score 0."""
        if self._model.crf is not None:
            return self._model.crf.chain(emissions, lengths)
        zeros = emissions.new_zeros(emissions.shape[2])
        return Chain(emissions, lengths, zeros.expand(len(zeros), -1), zeros, zeros)
