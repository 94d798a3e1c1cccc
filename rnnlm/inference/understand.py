"""What utterances want: labels of words, which stand for slots, and the probabilities of intents.

Rows that are read together are of like length and padded to the longest. A row's result does not depend on the other
rows, up to the rounding of float32 products of another shape.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from rnnlm.checkpoint import Checkpoint
from rnnlm.data.tokenizers.labels import LabelTokenizer
from rnnlm.inference.packed import Report, ignore
from rnnlm.inference.precision import Products
from rnnlm.inference.spelled import in_pools, with_spellings_once
from rnnlm.inference.tag import Tagged
from rnnlm.nn.intent_model import IntentModel


class Understood(NamedTuple):
    """A label a word with its confidence, and of each intent of the vocabulary the probability (float32)."""

    slots: Tagged
    intents: npt.NDArray[np.float32]


class Understander:
    """Finds intents and slots; build it once."""

    def __init__(self, checkpoint: Checkpoint, *, products: Products | None = None) -> None:
        """`products` (default: float32) says how the model computes."""
        assert isinstance(checkpoint.model, IntentModel)
        assert isinstance(checkpoint.tokenizer, LabelTokenizer)
        self._model, self._once = with_spellings_once(checkpoint.model)
        self.tokenizer, self.multi_intent = checkpoint.tokenizer, checkpoint.model.multi_intent
        self._names = np.array(self.tokenizer.labels, dtype=object)
        self._weights = (products or Products()).prepare(checkpoint.model.device)
        self.num_padding = 0  # positions computed by the last call that belong to no word

    def understand(self, rows: Sequence[Sequence[str]], *, report: Report = ignore) -> list[Understood | None]:
        """Of each row in its order; None for a row without words.

        `report` is told the share of words that is done.
        """
        found: list[Understood | None] = [None] * len(rows)
        done = self.num_padding = 0
        num_words = sum(map(len, rows))
        with torch.inference_mode(), self._weights.active():
            for read in in_pools(rows, self.tokenizer, self._once):
                (labels, confidences), intents = self._model.understand(read.batch)
                columns = (self._names[labels.cpu().numpy()], confidences.cpu().numpy(), intents.cpu().numpy())
                for row, length, names, sure, probabilities in zip(
                    read.rows.tolist(), read.lengths.tolist(), *columns, strict=True
                ):
                    found[row] = Understood(Tagged(names[:length].tolist(), sure[:length]), probabilities)
                self.num_padding += read.num_padding
                done += int(read.lengths.sum())
                report(done / num_words)
        return found
