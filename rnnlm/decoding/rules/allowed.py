"""Only some outputs: a trie over token ids (De Cao et al. 2021, "Autoregressive Entity Retrieval", section 3.2)."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from rnnlm.data.tokenizers.base import Tokenizer
from rnnlm.decoding.rules.automaton import NEVER, check_possible
from rnnlm.decoding.rules.base import Rule
from rnnlm.errors import ConfigError
from rnnlm.storage import open_location
from rnnlm.types import Lengths, State, StepLogits, StepTokens

ROOT = 0
OUTSIDE = -1  # the state of a beam's empty slots, which may go anywhere


def allowed_rule(allowed: Sequence[str] | str, tokenizer: Tokenizer, max_tokens: int) -> "AllowedRule":
    """The rule that the text is one of `allowed`, or of the lines of the file that it names."""
    texts = allowed_texts(allowed)
    encoded = [ids.tolist() for ids in tokenizer.encode(texts)]
    for number, (text, ids) in enumerate(zip(texts, encoded, strict=True)):
        if tokenizer.unk_id in ids:
            raise ConfigError(f"decoding.allowed[{number}]: {text!r} holds what the model's vocabulary lacks")
    return AllowedRule(encoded, tokenizer.vocab_size, max_tokens)


def allowed_texts(allowed: Sequence[str] | str) -> list[str]:
    """The texts themselves. Raises ConfigError if there are none."""
    if isinstance(allowed, str):
        content = open_location(allowed).read_bytes().decode()
        allowed = content.removesuffix("\n").split("\n") if content else []
    if not allowed:
        raise ConfigError("decoding.allowed: there is no text that is allowed")
    return list(allowed)


class AllowedRule(Rule):
    """Its state is a node of the trie. The edges of all nodes lie one behind another, ordered by node and token."""

    def __init__(self, outputs: Sequence[Sequence[int]], vocab_size: int, max_tokens: int) -> None:
        self._vocab_size, self._max_tokens = vocab_size, max_tokens
        edges, ends = _trie(outputs)
        order = np.lexsort((edges[:, 1], edges[:, 0]))
        self._keys = torch.from_numpy(edges[order, 0] * vocab_size + edges[order, 1])
        self._tokens, self._children = (torch.from_numpy(edges[order, column].copy()) for column in (1, 2))
        self._first = torch.from_numpy(np.searchsorted(edges[order, 0], np.arange(len(ends) + 1)))
        self._ends = torch.from_numpy(ends)
        distances = _distances(edges, ends)
        check_possible(int(distances[ROOT]), max_tokens, "decoding.allowed")
        self._distances = torch.from_numpy(distances)

    def start(self, count: int, device: torch.device) -> State:
        return (torch.full((count,), ROOT, dtype=torch.int64, device=device),)

    def restrict(self, logits: StepLogits, lengths: Lengths, state: State, eos_id: int) -> None:
        nodes, left = state[0].cpu(), self._max_tokens - 1 - lengths.cpu()
        inside = nodes != OUTSIDE
        nodes = nodes.clamp_min(ROOT)
        counts = torch.where(inside, self._first[nodes + 1] - self._first[nodes], 0)
        rows = torch.arange(len(nodes)).repeat_interleave(counts)
        edges = self._first[nodes][rows] + torch.arange(len(rows)) - (counts.cumsum(0) - counts)[rows]
        possible = self._distances[self._children[edges]] <= left[rows]
        allowed = torch.zeros(len(nodes), self._vocab_size, dtype=torch.bool)
        allowed[rows[possible], self._tokens[edges[possible]]] = True
        allowed[:, eos_id] = self._ends[nodes] & inside
        logits.masked_fill_(~allowed.to(logits.device), -torch.inf)

    def advance(self, tokens: StepTokens, lengths: Lengths, state: State) -> State:  # noqa: ARG002
        keys = state[0].cpu() * self._vocab_size + tokens.cpu()
        if not len(self._keys):
            return (torch.full_like(state[0], OUTSIDE),)
        places = torch.searchsorted(self._keys, keys).clamp_max(len(self._keys) - 1)
        found = torch.where(self._keys[places] == keys, self._children[places], OUTSIDE)
        return (found.to(state[0]),)


def _trie(outputs: Sequence[Sequence[int]]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """(node, token, child) of each edge, and which nodes are the end of an output. A child's number is larger than its
    node's."""
    children: dict[tuple[int, int], int] = {}
    ends = set()
    for tokens in outputs:
        node = ROOT
        for token in tokens:
            node = children.setdefault((node, token), len(children) + 1)
        ends.add(node)
    edges = np.array([(node, token, child) for (node, token), child in children.items()], dtype=np.int64)
    return edges.reshape(-1, 3), np.isin(np.arange(len(children) + 1), list(ends))


def _distances(edges: npt.NDArray[np.int64], ends: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """The fewest tokens from each node to the end of an output."""
    distances = np.where(ends, 0, NEVER)
    for node, _, child in edges[::-1].tolist():
        distances[node] = min(distances[node], distances[child] + 1)
    return distances
