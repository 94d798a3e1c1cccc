"""Texts that an automaton over bytes accepts, as a rule over tokens (Willard & Louf 2023).

Each token's bytes are walked through the automaton once for each state that is met, which gives a row of a table:
state x token -> state. From then on a step is a look into the table.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Int
from torch import Tensor

from rnnlm.decoding.rules.base import Rule
from rnnlm.decoding.rules.token_text import TextMatrix, TokenTexts
from rnnlm.errors import ConfigError
from rnnlm.types import Lengths, State, StepLogits, StepTokens

DEAD = 0  # the state from which nothing is accepted
NEVER = 1 << 30  # tokens to a text that cannot be reached
MAX_ENTRIES = 1 << 26  # of a table, 256 MiB


class ByteAutomaton(NamedTuple):
    """Deterministic. State DEAD leads to itself by all bytes."""

    transitions: npt.NDArray[np.int32]  # states x 256
    start: int
    accepting: npt.NDArray[np.bool_]  # states


class TokenTable:
    """Rows state -> where each of V tokens leads, made when first asked for. State `begin` is that before the first
    token, which adds another text than it does later."""

    def __init__(self, automaton: ByteAutomaton, texts: TokenTexts) -> None:
        self._automaton = automaton
        self._first, self._later = TextMatrix(texts.first), TextMatrix(texts.later)
        self._textless = np.array([not (first or later) for first, later in zip(*texts, strict=True)])
        self.begin = len(automaton.accepting)
        self.accepting = np.append(automaton.accepting, automaton.accepting[automaton.start])
        self._rows = torch.zeros((1, len(texts.first)), dtype=torch.int32)
        self._place = torch.full((self.begin + 1,), -1, dtype=torch.int64)
        self._num_rows = 0

    @property
    def vocab_size(self) -> int:
        return self._rows.shape[1]

    def row(self, state: int) -> npt.NDArray[np.int32]:
        """Where each token leads from `state`."""
        transitions = self._automaton.transitions
        if state == self.begin:
            found = self._first.walk(transitions, self._automaton.start)
        else:
            found = self._later.walk(transitions, state)
        found[self._textless] = DEAD
        return found

    def rows(self, states: Int[Tensor, " N"]) -> Int[Tensor, "N V"]:
        """The same for several states."""
        missing = states[self._place[states] < 0].unique().tolist()
        if (self._num_rows + len(missing)) * self.vocab_size > MAX_ENTRIES:
            self._place.fill_(-1)
            self._num_rows = 0
            missing = states.unique().tolist()
        for state in missing:
            self._append(state)
        return self._rows[self._place[states]]

    def _append(self, state: int) -> None:
        if self._num_rows == len(self._rows):
            self._rows = torch.cat([self._rows, torch.zeros_like(self._rows)])
        self._rows[self._num_rows] = torch.from_numpy(self.row(state))
        self._place[state] = self._num_rows
        self._num_rows += 1


class AutomatonRule(Rule):
    """Allows a token if the text can then still be finished within the limit, and the end where a text may end. Its
    state is that of the table."""

    def __init__(self, table: TokenTable, distances: npt.NDArray[np.int32], max_tokens: int) -> None:
        """`distances`: for each state the fewest tokens to a text that is accepted."""
        self._table, self._max_tokens = table, max_tokens
        self._distances = torch.from_numpy(distances)
        self._accepting = torch.from_numpy(table.accepting)

    def start(self, count: int, device: torch.device) -> State:
        return (torch.full((count,), self._table.begin, dtype=torch.int64, device=device),)

    def restrict(self, logits: StepLogits, lengths: Lengths, state: State, eos_id: int) -> None:
        states = state[0].cpu()
        left = self._max_tokens - 1 - lengths.cpu()
        allowed = self._distances[self._table.rows(states)] <= left.unsqueeze(1)
        allowed[:, eos_id] = self._accepting[states]
        logits.masked_fill_(~allowed.to(logits.device), -torch.inf)

    def advance(self, tokens: StepTokens, lengths: Lengths, state: State) -> State:  # noqa: ARG002
        rows = self._table.rows(state[0].cpu())
        return (rows.gather(1, tokens.cpu().unsqueeze(1)).squeeze(1).to(state[0]),)


def always_open(table: TokenTable) -> npt.NDArray[np.int32]:
    """The distances where every state but DEAD accepts."""
    distances = np.zeros(table.begin + 1, dtype=np.int32)
    distances[DEAD] = NEVER
    return distances


def token_distances(table: TokenTable, what: str) -> npt.NDArray[np.int32]:
    """The fewest tokens from each state to one that accepts, by a look at all that can be reached. `what` is named in
    errors."""
    before: dict[int, list[int]] = {}
    reached, todo = {table.begin}, [table.begin]
    while todo:
        state = todo.pop()
        for target in np.unique(table.row(state)).tolist():
            if target == DEAD:
                continue
            before.setdefault(target, []).append(state)
            if target not in reached:
                reached.add(target)
                todo.append(target)
        if len(reached) * table.vocab_size > MAX_ENTRIES:
            raise ConfigError(f"{what}: its automaton is too large for {table.vocab_size:,} tokens; make it simpler")
    distances = np.full(table.begin + 1, NEVER, dtype=np.int32)
    current, distance = [state for state in reached if table.accepting[state]], 0
    while current:
        distances[current] = distance
        distance += 1
        current = list({one for state in current for one in before.get(state, []) if distances[one] == NEVER})
    return distances


def check_possible(fewest: int, max_tokens: int, what: str) -> None:
    """Raises ConfigError if there is no text of at most `max_tokens` tokens."""
    if fewest >= NEVER:
        raise ConfigError(f"{what}: no text of the model's tokens is allowed")
    if fewest > max_tokens:
        raise ConfigError(f"{what}: the shortest text has {fewest} tokens, more than max_tokens, {max_tokens}")
