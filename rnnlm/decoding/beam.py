"""Beam search (Graves 2012; Sutskever, Vinyals & Le 2014, section 3.2): at each step the k best beginnings go on.

A candidate that ends is kept if it is among the k best candidates of its step; a beam is done when none of its
hypotheses can still be among the best that ended. Hypotheses are compared by log P / ((5 + n) / 6)^length_penalty (Wu
et al. 2016, equation 14). There is no coverage penalty (equation 15): where attention looked is the model's own affair.

Equal candidates are ordered by the slot of their hypothesis, so a row's outcome depends on its own numbers alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from pydantic import Field

from rnnlm.config import config
from rnnlm.data.tokenizers.base import Tokenizer
from rnnlm.decoding import waiting
from rnnlm.decoding.base import DecodingConfig, Report, Search
from rnnlm.decoding.beams import Beams, Candidates, Settings
from rnnlm.decoding.rows import best_few, log_sum_exp
from rnnlm.decoding.rules.base import LOOSEN, NOTHING_LEFT, Rule, RuledStepper
from rnnlm.decoding.stepper import Hypothesis, P, Stepper
from rnnlm.errors import DataError
from rnnlm.types import State, StepLogits


@config
class BeamConfig(DecodingConfig):
    """Search for the most probable texts."""

    name = "beam search"

    width: int = Field(default=4, ge=1)
    "Beginnings that are followed side by side; as many hypotheses can be had of a prompt."
    length_penalty: float = Field(default=0.6, ge=0.0)
    "Alpha of Wu et al. 2016: 0 compares log-probabilities as they are, which favours short texts; 1 nearly their mean."
    early_stopping: bool = True
    "Stop when no text that goes on can be among the best any more; it changes nothing but the time."

    def most_hypotheses(self) -> int | None:
        return self.width

    def build(self, tokenizer: Tokenizer | None) -> Search:
        return BeamSearch(self, self.rules(tokenizer))


@dataclass
class BeamSearch(Search):
    """Prompts have `width` rows each."""

    strategy: BeamConfig
    rules: Sequence[Rule]

    def run(
        self,
        stepper: Stepper[P],
        prompts: Sequence[P],
        *,
        num_hypotheses: int,
        seed: int,  # noqa: ARG002 - nothing is drawn
        row_ids: Sequence[int],  # noqa: ARG002
        lanes: int,
        report: Report,
    ) -> list[list[Hypothesis]]:
        ruled = RuledStepper(stepper, self.rules)
        side_by_side = max(1, lanes // self.strategy.width)
        queue = waiting.Waiting(ruled, prompts, max(side_by_side, waiting.READ_PROMPTS))
        first = queue.take(side_by_side)
        if first is None:
            return []
        running = Beams(first, self._settings(num_hypotheses, stepper.eos_id))
        found: dict[int, list[Hypothesis]] = {}
        while len(running.rows):
            logits, state = ruled.step(running.tokens, running.state, running.context)
            done = running.grow(self._candidates(ruled, logits, state), state)
            running.state = ruled.advance(running.tokens, running.state)
            if len(done):
                for beam in done.tolist():
                    found[int(running.rows[beam])] = _some(running.take(beam))
                waiting.put_to_use(running, done, queue)
                report(len(found) / len(prompts))
        return [found[row] for row in range(len(prompts))]

    def _settings(self, num_hypotheses: int, eos_id: int) -> Settings:
        strategy = self.strategy
        return Settings(
            width=strategy.width,
            num_best=num_hypotheses,
            max_tokens=strategy.max_tokens,
            length_penalty=strategy.length_penalty,
            early_stopping=strategy.early_stopping,
            eos_id=eos_id,
        )

    def _candidates(self, ruled: RuledStepper[P], logits: StepLogits, state: State) -> Candidates:
        """The best of each hypothesis: one more than the width, as one may be the end."""
        whole = log_sum_exp(logits).double().unsqueeze(1)
        if ruled.bos_id != ruled.eos_id:  # then bos is never an output
            logits[:, ruled.bos_id] = -torch.inf
        allowed = ruled.restrict(logits, state)
        values, tokens = best_few(allowed, min(self.strategy.width + 1, logits.shape[1]))
        own = logits.gather(1, tokens).double() - whole
        # A rule may raise no log-probability above 0, nor may rounding: that ranks only fall is what lets a beam stop.
        gains = (values.double() - whole).clamp_max(0.0)
        shape = (-1, self.strategy.width, tokens.shape[1])
        return Candidates(*(one.reshape(shape).cpu().numpy() for one in (tokens, gains, own)))


def _some(hypotheses: list[Hypothesis]) -> list[Hypothesis]:
    if not hypotheses:
        raise DataError(NOTHING_LEFT, todo=LOOSEN)
    return hypotheses
