"""The adaptive softmax (Grave, Joulin, Cisse, Grangier & Jegou 2017, section 4): few words are predicted often.

Tokens are ranked by frequency and cut into a head and clusters c = 1 .. C. The head holds the most frequent tokens and
one entry a cluster; a rarer token is predicted in two steps:

    P(v | h) = P_head(v | h)                       v in the head
    P(v | h) = P_head(c | h) P_c(v | R_c h)        v in cluster c

Most positions never look beyond the head, in scoring as in training, and the distribution is exact: another model, not
an estimate of the full softmax. R_c reduces the hidden state to H / div_value^c numbers, since rare tokens have too few
examples to fill more.

Our vocabularies are not sorted by frequency, so the ranks are learnt from the training data and kept with the weights.
Tied, the head's rows are the embedding's; a cluster's are the embedding's mapped to the reduced size by a matrix U_c.
"""

import itertools
import math

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from rnnlm.config import config
from rnnlm.errors import ConfigError
from rnnlm.nn.prepared import active_weights
from rnnlm.nn.products import Linear, linear
from rnnlm.nn.softmax.base import Softmax, SoftmaxConfig, SoftmaxLoss, fresh_matrix, log_frequencies
from rnnlm.nn.softmax.fused import Kind, fused_loss, reading_table, target_logprobs
from rnnlm.nn.softmax.log_normaliser import ReadingTable
from rnnlm.types import PackedHidden, PackedLogprobs, PackedTargets, StepLogits, StepOutputs

SMALLEST = 1000  # tokens in a vocabulary that is worth cutting: below, the head alone is as fast


@config
class AdaptiveSoftmaxConfig(SoftmaxConfig):
    """Frequent tokens in one softmax, rare ones in clusters that are looked at when needed."""

    cutoffs: list[int] | None = None
    "Ranks at which clusters of rarer tokens begin, rising; null chooses two that make Zipf's law cheapest."
    div_value: float = Field(default=4.0, ge=1.0)
    "Each cluster works with this many times fewer features than the one before."

    def __post_init__(self) -> None:
        self.refuse_smoothing()
        cutoffs = self.cutoffs or []
        if any(below >= above for below, above in itertools.pairwise([0, *cutoffs])):
            raise ValueError(f"cutoffs {cutoffs} must be at least 1 and rise")

    def build(self, hidden_size: int, embedding: nn.Embedding) -> "AdaptiveSoftmax":
        vocab_size = embedding.num_embeddings
        cutoffs = cheapest_cutoffs(vocab_size) if self.cutoffs is None else self.cutoffs
        if cutoffs and cutoffs[-1] >= vocab_size:
            raise ConfigError(
                f"softmax.cutoffs: {cutoffs} must lie below the size of the vocabulary, {vocab_size} tokens"
            )
        return AdaptiveSoftmax(
            hidden_size,
            embedding.weight if self.tied else None,
            vocab_size,
            bias=self.bias,
            cutoffs=cutoffs,
            sizes=[max(1, round(hidden_size / self.div_value**c)) for c in range(1, len(cutoffs) + 1)],
        )


class AdaptiveSoftmax(Softmax):
    """`sizes` are those of the reduced states, one a cluster."""

    order: Tensor  # rank -> token
    rank: Tensor  # token -> rank

    def __init__(
        self,
        hidden_size: int,
        tied_weight: Tensor | None,
        vocab_size: int,
        *,
        bias: bool,
        cutoffs: list[int],
        sizes: list[int],
    ) -> None:
        super().__init__()
        self.bounds = [0, *cutoffs, vocab_size]
        self.weight = tied_weight
        lengths = [above - below for below, above in itertools.pairwise(self.bounds)]
        self.entries = fresh_matrix(len(cutoffs), hidden_size)  # the clusters', in the head
        self.reduce = nn.ModuleList(_matrix(hidden_size, size, std=hidden_size**-0.5) for size in sizes)
        if tied_weight is None:
            widths = [hidden_size, *sizes]
            self.rows = nn.ParameterList(fresh_matrix(*shape) for shape in zip(lengths, widths, strict=True))
        else:
            self.map = nn.ModuleList(_matrix(tied_weight.shape[1], size, std=size**-0.5) for size in sizes)
        # By rank. Within a cluster only differences count, so that plain log-frequencies will do.
        self.bias = nn.Parameter(torch.zeros(vocab_size)) if bias else None
        self.entry_bias = nn.Parameter(torch.zeros(len(cutoffs))) if bias else None
        self.register_buffer("order", torch.arange(vocab_size))
        self.register_buffer("rank", torch.arange(vocab_size))

    def prepare(self, counts: npt.NDArray[np.int64]) -> None:
        order = np.argsort(-counts, kind="stable")
        self.order.copy_(torch.from_numpy(order))
        self.rank[self.order] = torch.arange(len(order), device=self.rank.device)
        if self.bias is not None and self.entry_bias is not None:
            sorted_logs = torch.from_numpy(log_frequencies(counts)[order])
            with torch.no_grad():
                self.bias.copy_(sorted_logs)
                for cluster, (below, above) in enumerate(itertools.pairwise(self.bounds[1:])):
                    self.entry_bias[cluster] = sorted_logs[below:above].logsumexp(0)

    def _tables(self) -> list[tuple[Tensor, Tensor | None]]:
        """W and b of the head and of each cluster."""
        lengths = [above - below for below, above in itertools.pairwise(self.bounds)]
        if self.weight is None:
            rows = list(self.rows)
        else:
            # One look-up for all: each would have a gradient of the embedding's size.
            head, *rest = F.embedding(self.order, self.weight).split(lengths)
            rows = [head, *(mapped(part).to(part.dtype) for mapped, part in zip(self.map, rest, strict=True))]
        biases: list[Tensor | None] = [None] * len(rows)
        if self.bias is not None and self.entry_bias is not None:
            biases = list(self.bias.split(lengths))
            biases[0] = torch.cat([self.bias[: lengths[0]], self.entry_bias])
        return [(torch.cat([rows[0], self.entries]), biases[0]), *zip(rows[1:], biases[1:], strict=True)]

    def _reading_tables(self) -> list[ReadingTable]:
        """The same for `target_logprobs`: made once where weights are prepared."""
        active = active_weights()

        def make() -> list[ReadingTable]:
            return [reading_table(*table) for table in self._tables()]

        return make() if active is None else active.keep(self, make)

    def _place(self, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of each target the cluster (0 is the head), what the head has to predict, and what the cluster has to."""
        ranks = self.rank[targets]
        bounds = torch.tensor(self.bounds[:-1], device=ranks.device)
        cluster = torch.bucketize(ranks, bounds, right=True) - 1
        in_head = torch.where(cluster == 0, ranks, self.bounds[1] - 1 + cluster)
        return cluster, in_head, ranks - bounds[cluster]

    def logits(self, hidden: StepOutputs) -> StepLogits:
        """Log-probabilities."""
        (head, head_bias), *rest = self._tables()
        first = linear(hidden, head, head_bias).log_softmax(1)
        parts = [first[:, : self.bounds[1]]]
        for cluster, (reduce, (rows, bias)) in enumerate(zip(self.reduce, rest, strict=True)):
            inside = linear(reduce(hidden), rows, bias).log_softmax(1)
            parts.append(inside + first[:, self.bounds[1] + cluster].unsqueeze(1))
        return torch.cat(parts, dim=1)[:, self.rank]

    def logprobs(self, hidden: PackedHidden, targets: PackedTargets) -> PackedLogprobs:
        with torch.no_grad():
            cluster, in_head, inside = self._place(targets)
            head, *rest = self._reading_tables()
            result = target_logprobs(hidden, head, in_head)
            for index, (reduce, rows) in enumerate(zip(self.reduce, rest, strict=True), start=1):
                members = (cluster == index).nonzero().squeeze(1)
                reduced = reduce(hidden[members])
                result[members] += target_logprobs(reduced, rows, inside[members])
        return result

    def objective(self, hidden: PackedHidden, targets: PackedTargets) -> SoftmaxLoss:
        kind = Kind()
        cluster, in_head, inside = self._place(targets)
        (head, head_bias), *rest = self._tables()
        losses = [fused_loss(hidden, head, head_bias, in_head, kind)]
        for index, (reduce, (rows, bias)) in enumerate(zip(self.reduce, rest, strict=True), start=1):
            # Also without a single member: every rank must have a gradient for every parameter.
            members = (cluster == index).nonzero().squeeze(1)
            losses.append(fused_loss(reduce(hidden[members]), rows, bias, inside[members], kind))
        return SoftmaxLoss(
            torch.stack([loss.objective for loss in losses]).sum(), torch.stack([loss.nll for loss in losses]).sum()
        )


def _matrix(input_size: int, size: int, *, std: float) -> nn.Linear:
    """The first logits of a cluster shall be as large as those of the head; torch's own choice makes them tiny."""
    layer = Linear(input_size, size, bias=False)
    nn.init.normal_(layer.weight, std=std)
    return layer


def cheapest_cutoffs(vocab_size: int) -> list[int]:
    """The two ranks that minimise the multiplications of a position if the token of rank r has a probability in
    proportion to 1 / r; none for a vocabulary too small to gain.

    Clusters count with the full width. Reduced they are cheaper, but the head that is cheapest then is too small to be
    good: 130 of 33,000 tokens.
    """
    if vocab_size < SMALLEST:
        return []
    grid = sorted({round(vocab_size * 2 ** (-step / 4)) for step in range(1, 33)})

    def share(above: int) -> float:  # of the tokens up to a rank: harmonic numbers
        return (math.log(above) + 0.5772) / (math.log(vocab_size) + 0.5772)

    def cost(first: int, second: int) -> float:
        clusters = [(first, second), (second, vocab_size)]
        return first + sum((share(above) - share(below)) * (above - below) for below, above in clusters)

    return list(min(itertools.combinations(grid, 2), key=lambda pair: cost(*pair)))
