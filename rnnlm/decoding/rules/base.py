"""What a rule is, and rules at work beside a stepper.

A rule changes logits before a token is chosen: -inf for what is not allowed. What it has to know of a hypothesis is a
state as the model's is, tensors with the hypothesis first, and lies beside the model's in one tuple; so a lane that is
refilled, a row that is dropped and a beam that is reordered take the rules along.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic

import torch

from rnnlm.decoding.stepper import P, Started, Stepper
from rnnlm.types import Context, Lengths, State, StepLogits, StepTokens

NOTHING_LEFT = "the rules of decoding leave nothing to go on with"
LOOSEN = "loosen them, or allow more tokens (max_tokens)"


class Rule(ABC):
    """Changes the logits of N hypotheses, of which each has so far generated `lengths` tokens."""

    def start(self, count: int, device: torch.device) -> State:  # noqa: ARG002 - not all remember
        """The state of `count` hypotheses without a token."""
        return ()

    @abstractmethod
    def restrict(self, logits: StepLogits, lengths: Lengths, state: State, eos_id: int) -> None:
        """Change the logits of the next token, in place."""

    def advance(self, tokens: StepTokens, lengths: Lengths, state: State) -> State:  # noqa: ARG002 - see `start`
        """The state after one more token each; may change the old one. `lengths` are those before."""
        return state


class RuledStepper(Generic[P]):
    """A stepper whose states go on with those of rules: (the model's, lengths, each rule's)."""

    def __init__(self, stepper: Stepper[P], rules: Sequence[Rule]) -> None:
        self._stepper, self._rules = stepper, rules
        self.bos_id, self.eos_id, self.vocab_size = stepper.bos_id, stepper.eos_id, stepper.vocab_size
        self.has_rules = bool(rules)
        self._sizes: list[int] = []  # number of tensors in the states of the rules

    def start(self, prompts: Sequence[P]) -> Started:
        started = self._stepper.start(prompts)
        if not self.has_rules:
            return started
        device = started.tokens.device
        states = [rule.start(len(prompts), device) for rule in self._rules]
        self._sizes = [len(state) for state in states]
        lengths = torch.zeros(len(prompts), dtype=torch.int64, device=device)
        return started._replace(state=(*started.state, lengths, *(tensor for state in states for tensor in state)))

    def step(self, tokens: StepTokens, state: State, context: Context) -> tuple[StepLogits, State]:
        """As the stepper's; the states of the rules stay as they are until `advance`."""
        if not self.has_rules:
            return self._stepper.step(tokens, state, context)
        own = len(state) - 1 - sum(self._sizes)
        logits, new = self._stepper.step(tokens, state[:own], context)
        return logits, (*new, *state[own:])

    def restrict(self, logits: StepLogits, state: State) -> StepLogits:
        """What the rules leave of the logits; those given stay as they are."""
        if not self.has_rules:
            return logits
        result = logits.clone()
        _, lengths, states = self._split(state)
        for rule, one in zip(self._rules, states, strict=True):
            rule.restrict(result, lengths, one, self.eos_id)
        return result

    def advance(self, tokens: StepTokens, state: State) -> State:
        """The state with these tokens taken by the rules."""
        if not self.has_rules:
            return state
        own, lengths, states = self._split(state)
        new = [rule.advance(tokens, lengths, one) for rule, one in zip(self._rules, states, strict=True)]
        return (*own, lengths + 1, *(tensor for one in new for tensor in one))

    def _split(self, state: State) -> tuple[State, Lengths, list[State]]:
        own = len(state) - 1 - sum(self._sizes)
        states, place = [], own + 1
        for size in self._sizes:
            states.append(state[place : place + size])
            place += size
        return state[:own], state[own], states
