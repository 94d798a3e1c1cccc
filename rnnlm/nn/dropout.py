"""Dropout that keeps one mask through time, and dropout of whole words (Gal & Ghahramani 2016).

A mask that is drawn anew at every step adds noise that a recurrent network must carry through all later steps; one mask
a sequence takes away the same features at every step instead, and can be strong.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rnnlm.types import TokenIds


class Dropout(nn.Module):
    """Zeroes each feature of B T D with `probability` in training, and scales up what is left.

    `variational` draws one mask a row and keeps it over the T steps of the call; otherwise every element is drawn.
    """

    def __init__(self, probability: float, *, variational: bool) -> None:
        super().__init__()
        self.probability, self.variational = probability, variational

    def forward(self, inputs: Tensor) -> Tensor:
        if not self.training or self.probability == 0.0:
            return inputs
        if not self.variational or inputs.dim() == 2:
            return F.dropout(inputs, self.probability)
        mask = F.dropout(inputs.new_ones(inputs.shape[0], 1, inputs.shape[2]), self.probability)
        return inputs * mask


def drop_words(embedded: Tensor, tokens: TokenIds, vocab_size: int, probability: float) -> Tensor:
    """Zero the vectors B T D of a random share of the vocabulary, wherever these words occur in B T, and scale up the
    others (Gal & Ghahramani 2016, section 4.2)."""
    kept = F.dropout(torch.ones(vocab_size, device=embedded.device, dtype=embedded.dtype), probability)
    return embedded * kept[tokens].unsqueeze(-1)
