"""Slow truths: what the fast paths of the library are compared with. Nothing here is clever, and nothing is shared
with the code under test but the weights."""

import itertools
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rnnlm.decoding.stepper import Started
from rnnlm.nn.cells.base import FusedCell
from rnnlm.nn.language_model import LanguageModel
from rnnlm.nn.softmax.adaptive import AdaptiveSoftmax
from rnnlm.nn.softmax.base import Softmax
from rnnlm.nn.softmax.mixture import MixtureSoftmax


def torch_module(cell: FusedCell) -> nn.RNNBase:
    """A new module of torch's with the cell's weights: nn.RNN, nn.GRU or nn.LSTM."""
    found = cell.fused
    options = {"nonlinearity": found.nonlinearity} if isinstance(found, nn.RNN) else {}
    if found.proj_size:
        options["proj_size"] = found.proj_size
    module = type(found)(found.input_size, found.hidden_size, batch_first=True, **options)
    module.load_state_dict(found.state_dict())
    return module.to(next(found.parameters()).dtype)


def hidden_states(model: LanguageModel, inputs: Sequence[int]) -> Tensor:
    """T x H: one sequence, alone, through torch's own modules, layer by layer, from the zero state."""
    outputs = model.embedding(torch.tensor([list(inputs)]))
    for cell in model.stack.cells():
        outputs, _ = torch_module(cell)(outputs)
    return outputs[0]


def logprobs_naively(model: LanguageModel, inputs: Sequence[int], targets: Sequence[int]) -> np.ndarray:
    """Natural-log probability of each target, by a log_softmax over all logits, in float64."""
    with torch.no_grad():
        hidden = hidden_states(model, inputs)
        bias = model.softmax.bias
        logits = F.linear(hidden.double(), model.softmax.weight.double(), None if bias is None else bias.double())
        return logits.log_softmax(-1)[torch.arange(len(targets)), torch.tensor(list(targets))].numpy()


def softmax_naively(layer: Softmax, hidden: Tensor) -> Tensor:
    """log P of every token at every position (N x V), with a gradient, by the formulas of the papers."""
    if isinstance(layer, MixtureSoftmax):
        weights = (hidden @ layer.mixing.weight.t()).softmax(1)
        experts = layer.latent(hidden).tanh().split(layer.weight.shape[1], dim=1)
        bias = 0.0 if layer.bias is None else layer.bias
        each = [(latent @ layer.weight.t() + bias).softmax(1) for latent in experts]
        return sum(weights[:, k : k + 1] * one for k, one in enumerate(each)).log()
    if isinstance(layer, AdaptiveSoftmax):
        return _adaptive_naively(layer, hidden)
    return F.linear(hidden, layer.weight, layer.bias).log_softmax(1)


def _adaptive_naively(layer: AdaptiveSoftmax, hidden: Tensor) -> Tensor:
    order, result = layer.order.tolist(), {}

    def logits(tokens, cluster, states):
        columns = []
        for place, token in enumerate(tokens):
            if layer.weight is None:
                row = layer.rows[cluster][place]
            else:
                row = layer.weight[token] if cluster == 0 else layer.map[cluster - 1].weight @ layer.weight[token]
            bias = 0.0 if layer.bias is None else layer.bias[layer.bounds[cluster] + place]
            columns.append(states @ row + bias)
        return columns

    head_tokens = order[: layer.bounds[1]]
    entries = hidden @ layer.entries.t() + (0.0 if layer.entry_bias is None else layer.entry_bias)
    head = torch.stack([*logits(head_tokens, 0, hidden), *entries.unbind(1)], dim=1).log_softmax(1)
    result.update(zip(head_tokens, head.unbind(1), strict=False))
    for cluster in range(1, len(layer.bounds) - 1):
        tokens = order[layer.bounds[cluster] : layer.bounds[cluster + 1]]
        states = hidden @ layer.reduce[cluster - 1].weight.t()
        inside = torch.stack(logits(tokens, cluster, states), dim=1).log_softmax(1)
        above = head[:, len(head_tokens) + cluster - 1]
        result.update({token: inside[:, place] + above for place, token in enumerate(tokens)})
    return torch.stack([result[token] for token in range(len(order))], dim=1)


def score_naively(model: LanguageModel, document: Sequence[int], bos_id: int, eos_id: int) -> np.ndarray:
    """log P of each token of a document and of its end."""
    tokens = [int(token) for token in document]
    return logprobs_naively(model, [bos_id, *tokens], [*tokens, eos_id])


def stream_positions(documents: Sequence[Sequence[int]], bos_id: int, eos_id: int) -> tuple[list[int], list[int]]:
    """Inputs and targets of documents end to end."""
    inputs, targets = [], []
    for document in documents:
        inputs += [bos_id, *map(int, document)]
        targets += [*map(int, document), eos_id]
    return inputs, targets


def kept_distribution(logits: np.ndarray, *, temperature: float, top_k: int | None, top_p: float) -> np.ndarray:
    """The distribution that sampling draws from: temperature, then the k best, then the nucleus. V numbers, float64."""
    scaled = logits.astype(np.float64) / temperature
    order = np.argsort(-scaled, kind="stable")
    if top_k is not None:
        order = order[:top_k]
    probabilities = np.exp(scaled[order] - scaled[order].max())
    probabilities /= probabilities.sum()
    # The fewest tokens whose sum reaches top_p: as many as stay below it, and one more.
    size = int((np.cumsum(probabilities) < top_p).sum()) + 1
    result = np.zeros(len(logits))
    result[order[:size]] = probabilities[:size] / probabilities[:size].sum()
    return result


class TableStepper:
    """A language model that is a table: logits of the next token given the last two. Its state holds the last but one,
    so that a row that loses its state gives other text."""

    def __init__(self, vocab_size: int, *, bos_id: int = 1, eos_id: int = 2, seed: int = 0, scale: float = 2.0) -> None:
        self.bos_id, self.eos_id, self.vocab_size = bos_id, eos_id, vocab_size
        generator = torch.Generator().manual_seed(seed)
        self.table = torch.randn(vocab_size, vocab_size, vocab_size, generator=generator) * scale

    def start(self, prompts):
        framed = [[self.bos_id, self.bos_id, *map(int, prompt)] for prompt in prompts]
        before = torch.tensor([tokens[-2] for tokens in framed]).unsqueeze(1)
        return Started(torch.tensor([tokens[-1] for tokens in framed]), (before,), ())

    def step(self, tokens, state, context):
        return self.table[state[0][:, 0], tokens].clone(), (tokens.unsqueeze(1),)

    def logprob(self, prompt: Sequence[int], tokens: Sequence[int], *, end: bool) -> float:
        """log P of `tokens` after `prompt`, and of the end if asked, added up by hand."""
        history = [self.bos_id, self.bos_id, *map(int, prompt)]
        total = 0.0
        for token in [*tokens, *([self.eos_id] if end else [])]:
            total += self.table[history[-2], history[-1]].double().log_softmax(0)[token].item()
            history.append(token)
        return total

    def every_continuation(self, prompt: Sequence[int], max_tokens: int) -> dict[tuple[tuple[int, ...], str], float]:
        """(tokens, finish reason) -> log P, for everything that can be generated without bos."""
        words = [token for token in range(self.vocab_size) if token not in {self.bos_id, self.eos_id}]
        result = {}
        for length in range(max_tokens + 1):
            for tokens in itertools.product(words, repeat=length):
                if length < max_tokens:
                    result[tokens, "end"] = self.logprob(prompt, tokens, end=True)
                else:
                    result[tokens, "length"] = self.logprob(prompt, tokens, end=False)
        return result
