"""How the outputs of an encoder become one vector of a row.

last          [f_n ; b_1]                    the final state of each direction: forward at the last word, backward at
                                             the first (Sutskever, Vinyals & Le 2014; Tang, Qin & Liu 2015)
mean          1/n sum over t of h_t
max           max over t of h_t, feature by feature                      (Collobert et al. 2011; Conneau et al. 2017)
attention     sum over t of a_t h_t    a = softmax over t of v . tanh(W h_t + b)      v: a learnt query
                                                              (Bahdanau et al. 2015; Yang et al. 2016, equations 5-7)

Padding never counts. Where the encoder reads from left to right only, its final state is h_n.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rnnlm.nn.products import Linear
from rnnlm.types import LayerOutputs, Lengths, Mask

PoolingKind = Literal["last", "mean", "max", "attention"]
Pooled = Float[Tensor, "B H"]


class Pooling(nn.Module):
    """B T H to B H."""

    def forward(self, outputs: LayerOutputs, lengths: Lengths) -> Pooled:
        """`lengths` (at least 1) are on the device of the outputs."""
        raise NotImplementedError


class LastPooling(Pooling):
    """The first `forward_size` features are those of the forward direction, all others of the backward one."""

    def __init__(self, forward_size: int) -> None:
        super().__init__()
        self.forward_size = forward_size

    def forward(self, outputs: LayerOutputs, lengths: Lengths) -> Pooled:
        rows = torch.arange(len(lengths), device=lengths.device)
        last = outputs[rows, lengths - 1, : self.forward_size]
        return torch.cat([last, outputs[:, 0, self.forward_size :]], dim=1)


class MeanPooling(Pooling):
    """The mean over the words."""

    def forward(self, outputs: LayerOutputs, lengths: Lengths) -> Pooled:
        real = real_words(outputs, lengths)
        return outputs.masked_fill(~real.unsqueeze(2), 0.0).sum(1) / lengths.unsqueeze(1)


class MaxPooling(Pooling):
    """The largest value of each feature."""

    def forward(self, outputs: LayerOutputs, lengths: Lengths) -> Pooled:
        real = real_words(outputs, lengths)
        return outputs.masked_fill(~real.unsqueeze(2), -torch.inf).amax(1)


class AttentionPooling(Pooling):
    """W and b are `to_keys`, v is `query`."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.to_keys = Linear(size, size)
        self.query = Linear(size, 1, bias=False)

    def forward(self, outputs: LayerOutputs, lengths: Lengths) -> Pooled:
        weights = self.weights(outputs, lengths).unsqueeze(1)
        real = real_words(outputs, lengths)
        return torch.bmm(weights, outputs.masked_fill(~real.unsqueeze(2), 0.0)).squeeze(1)

    def weights(self, outputs: LayerOutputs, lengths: Lengths) -> Float[Tensor, "B T"]:
        """a: how much each word counts; 0 behind the end of a row."""
        scores = self.query(self.to_keys(outputs).tanh()).squeeze(2).to(outputs.dtype)
        weights: Tensor = scores.masked_fill(~real_words(outputs, lengths), -torch.inf).softmax(1)
        return weights


def build_pooling(kind: PoolingKind, size: int, forward_size: int | None) -> Pooling:
    """With fresh weights, for outputs of `size`; `forward_size` is needed for last alone."""
    if kind == "last":
        assert forward_size is not None
        return LastPooling(forward_size)
    if kind == "attention":
        return AttentionPooling(size)
    return MeanPooling() if kind == "mean" else MaxPooling()


def real_words(outputs: LayerOutputs, lengths: Lengths) -> Mask:
    """Which positions are words, not padding."""
    return torch.arange(outputs.shape[1], device=outputs.device) < lengths.unsqueeze(1)
