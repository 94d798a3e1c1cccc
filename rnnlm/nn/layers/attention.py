"""Self-attention in several heads (Vaswani et al. 2017, section 3.2) over a window, with linear biases for distance.

    q, k, v = W x + b                                                   three blocks of S features, in this order
    a_ts    = softmax over s of (q_t . k_s / sqrt(S / heads) - m |t - s|)       for each head, with a slope m of its own
    y_t     = O [sum over s of a_ts v_s, head beside head] + c

    causal      s = t - window + 1, ..., t
    otherwise   |t - s| < window, or every position of the row

The slopes are those of ALiBi (Press, Smith & Lewis 2022): m = 2^(-8 h / heads) for h = 1, ..., heads. Nothing depends
on where in the sequence a position stands, so a layer that carries the last keys and values along reads on for ever.
"""

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from rnnlm.config import config
from rnnlm.nn.layer import Layer, LayerConfig
from rnnlm.nn.layers.history import joined, last
from rnnlm.nn.packing import Packing
from rnnlm.nn.products import Linear
from rnnlm.types import (
    LayerInputs,
    LayerOutputs,
    Lengths,
    PackedHidden,
    PackedInputs,
    Projected,
    ProjectedSequence,
    ProjectedStep,
    State,
    StepOutputs,
)

BLOCK = 64  # queries that are answered at a time, at least; bounds memory for long sequences


@config
class AttentionConfig(LayerConfig):
    """Each position looks at those before it, or at all."""

    num_heads: int = Field(default=4, ge=1)
    "Heads, each with its share of `size`."
    window: int | None = Field(default=64, ge=2)
    "Positions before a query that it sees, itself counted, and with causal=false as many behind it; null sees all."
    size: int | None = Field(default=None, ge=1)
    "Size S of queries, keys and values, all heads together; null takes that of the inputs, which outputs have always."
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    "Probability that an attention weight is zeroed in training."
    causal: bool = True
    "Only the position itself and those before it; false reads whole sequences."

    def __post_init__(self) -> None:
        if self.causal and self.window is None:
            raise ValueError("causal attention remembers window - 1 positions; give a window, or set causal=false")

    def output_size(self, input_size: int) -> int:
        size = self.size or input_size
        if size % self.num_heads:
            what = f"inputs of {size}" if self.size is None else f"size={size}"
            raise ValueError(
                f"num_heads={self.num_heads} cannot share out {what} evenly; set another num_heads or size"
            )
        return input_size

    def looks_ahead(self) -> str | None:
        return None if self.causal else f"{type(self).__name__} with causal=false sees later positions"

    def build(self, input_size: int) -> "Attention":
        self.output_size(input_size)
        size = self.size or input_size
        if self.causal:
            assert self.window is not None
            return CausalAttention(input_size, size, self.num_heads, self.window, dropout=self.dropout)
        return WholeAttention(input_size, size, self.num_heads, self.window, dropout=self.dropout)


class Attention(Layer):
    """W and b are `to_parts`, O and c are `to_outputs`."""

    slopes: Tensor

    def __init__(
        self, input_size: int, size: int, num_heads: int, *, dropout: float, state_sizes: tuple[int, ...] = ()
    ) -> None:
        super().__init__(input_size, input_size, state_sizes)
        self.to_parts = Linear(input_size, 3 * size)
        self.to_outputs = Linear(size, input_size)
        self.num_heads, self.dropout = num_heads, dropout
        slopes = torch.exp2(-8 * torch.arange(1, num_heads + 1) / num_heads)
        self.register_buffer("slopes", slopes[:, None, None], persistent=False)

    def project(self, inputs: PackedInputs) -> Projected:
        parts: Projected = self.to_parts(inputs)
        return parts

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor, distances: Tensor, seen: Tensor) -> Tensor:
        """B T S of queries B T S, keys and values B K S. `distances` T K in positions; `seen` B T K (or for all rows
        1 T K) is true where a query sees a key."""
        query, key, value = [
            part.unflatten(2, (self.num_heads, -1)).transpose(1, 2) for part in (queries, keys, values)
        ]
        bias = (-self.slopes * distances.abs()).masked_fill(~seen[:, None], -torch.inf)
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias.to(query.dtype), dropout_p=dropout)
        return mixed.transpose(1, 2).flatten(2)


class CausalAttention(Attention):
    """State: (keys, values, known): the last window - 1 of each; `known` is 0 where there was nothing yet, else 1."""

    def __init__(self, input_size: int, size: int, num_heads: int, window: int, *, dropout: float) -> None:
        past = window - 1
        super().__init__(input_size, size, num_heads, dropout=dropout, state_sizes=(past * size, past * size, past))
        self.window = window

    def advance(self, projected: ProjectedStep, state: State) -> tuple[StepOutputs, State]:
        outputs, state = self.advance_sequence(projected.unsqueeze(1), state)
        return outputs.squeeze(1), state

    def advance_sequence(self, projected: ProjectedSequence, state: State) -> tuple[LayerOutputs, State]:
        mixed, state = self._run(projected, state, None)
        return self.to_outputs(mixed), state

    def advance_packed(self, projected: Projected, packing: Packing, state: State) -> tuple[PackedHidden, State]:
        mixed, state = self._run(packing.pad(projected), state, packing.lengths.to(projected.device))
        return self.to_outputs(packing.pack(mixed)), state

    def _run(self, projected: ProjectedSequence, state: State, lengths: Lengths | None) -> tuple[LayerOutputs, State]:
        """Block after block of queries; a row's state is that after `lengths` steps, if given."""
        past, size = self.window - 1, max(self.window, BLOCK)
        mixed = []
        for start in range(0, projected.shape[1], size):
            queries, *new = projected[:, start : start + size].chunk(3, dim=2)
            steps = queries.shape[1]
            new.append(queries.new_ones(len(queries), steps, 1))
            keys, values, known = (joined(one, other) for one, other in zip(state, new, strict=True))
            times = torch.arange(past + steps, device=queries.device)
            distances = times[past:, None] - times
            seen = ((distances >= 0) & (distances < self.window)) & (known != 0).transpose(1, 2)
            mixed.append(self.attend(queries, keys, values, distances, seen))
            left = None if lengths is None else (lengths - start).clamp(0, steps)
            state = tuple(last(one, past, left) for one in (keys, values, known))
        return torch.cat(mixed, dim=1), state


class WholeAttention(Attention):
    """Reads whole sequences only; memory grows with the square of the longest."""

    looks_ahead = True

    def __init__(self, input_size: int, size: int, num_heads: int, window: int | None, *, dropout: float) -> None:
        super().__init__(input_size, size, num_heads, dropout=dropout)
        self.window = window

    def read(self, inputs: LayerInputs, lengths: Lengths) -> LayerOutputs:
        queries, keys, values = self.to_parts(inputs).chunk(3, dim=2)
        times = torch.arange(inputs.shape[1], device=inputs.device)
        distances = times[:, None] - times
        seen = (times < lengths.to(inputs.device)[:, None])[:, None, :].expand(-1, len(times), -1)
        if self.window is not None:
            seen = seen & (distances.abs() < self.window)
        # What stands behind a row's end sees itself: torch does not say what a query that sees nothing is given.
        seen = seen | (distances == 0)
        outputs: LayerOutputs = self.to_outputs(self.attend(queries, keys, values, distances, seen))
        return outputs
