"""Tokens as vectors. An embedding E is torch's nn.Embedding; `OneHot` is the way without E.

The one-hot vector e_v of token v goes straight into the first layer, whose matrix W makes W e_v of it: column v of W.
This is how the first networks read words (Elman 1990; Mikolov et al. 2010, equation 1). No N x V matrix is made; the
column is looked up (`Layer.project_one_hot`).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rnnlm.nn.dropout import Dropout, drop_words
from rnnlm.types import Scales, TokenIds


class OneHot(nn.Module):
    """A one-hot vector is a token and the number that stands at its place: 1, or what dropout makes of it."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.num_embeddings = vocab_size

    def forward(self, tokens: TokenIds, like: Tensor, *, word_dropout: float, dropout: Dropout) -> Scales:
        """The numbers B T, with device and precision of `like`."""
        scales = like.new_ones(*tokens.shape, 1)
        if not self.training:
            return scales.squeeze(2)
        if word_dropout > 0.0:
            scales = drop_words(scales, tokens, self.num_embeddings, word_dropout)
        if dropout.variational:
            # One mask over the features of a row: a word is left out wherever the row has it.
            mask = F.dropout(torch.ones_like(scales[:, :1]).expand(-1, self.num_embeddings, -1), dropout.probability)
            return (scales * mask.gather(1, tokens.unsqueeze(2))).squeeze(2)
        dropped: Scales = dropout(scales).squeeze(2)
        return dropped
