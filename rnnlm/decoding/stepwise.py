"""Strategies that choose one token after another and never look back: greedy, sampling."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from rnnlm.config import config
from rnnlm.data.tokenizers.base import Tokenizer
from rnnlm.decoding import waiting
from rnnlm.decoding.base import DecodingConfig, Report, Search
from rnnlm.decoding.lanes import Lanes
from rnnlm.decoding.rows import log_sum_exp
from rnnlm.decoding.rules.base import LOOSEN, NOTHING_LEFT, Rule, RuledStepper
from rnnlm.decoding.stepper import Hypothesis, P, Stepper
from rnnlm.errors import DataError
from rnnlm.types import State, StepLogits, StepTokens


@config
class StepwiseConfig(DecodingConfig):
    """Base of the configs that choose one token after another."""

    draws: ClassVar[bool] = True  # whether choosing needs random numbers

    @abstractmethod
    def choose(
        self, logits: StepLogits, uniforms: Float[Tensor, " B"], log_normaliser: Float[Tensor, " B"]
    ) -> StepTokens:
        """A token for each row. `uniforms` in [0, 1) are the row's own randomness for this step (zeros if not `draws`);
        `log_normaliser` is the log-sum-exp of its logits."""

    def build(self, tokenizer: Tokenizer | None) -> "StepwiseSearch":
        return StepwiseSearch(self, self.rules(tokenizer))


@dataclass
class StepwiseSearch(Search):
    """Each draw has a lane of its own."""

    strategy: StepwiseConfig
    rules: Sequence[Rule]

    def run(
        self,
        stepper: Stepper[P],
        prompts: Sequence[P],
        *,
        num_hypotheses: int,
        seed: int,
        row_ids: Sequence[int],
        lanes: int,
        report: Report,
    ) -> list[list[Hypothesis]]:
        draws = [prompt for prompt in prompts for _ in range(num_hypotheses)]
        ruled = RuledStepper(stepper, self.rules)
        queue = waiting.Waiting(ruled, draws, max(lanes, waiting.READ_PROMPTS))
        first = queue.take(lanes)
        if first is None:
            return []
        running = Lanes(
            first,
            row_ids=[row_id * num_hypotheses + draw for row_id in row_ids for draw in range(num_hypotheses)],
            seed=seed,
            max_tokens=self.strategy.max_tokens,
            draws=self.strategy.draws,
            eos_id=stepper.eos_id,
        )
        found: dict[int, Hypothesis] = {}
        while len(running.rows):
            logits, state = ruled.step(running.tokens, running.state, running.context)
            tokens, logprobs = self._choose(ruled, logits, state, running.uniforms())
            ended = running.write(tokens, logprobs, ruled.advance(tokens, state))
            if len(ended):
                for lane in ended.tolist():
                    row, text, logprob, by_eos = running.take(lane)
                    found[row] = Hypothesis(text, logprob, "end" if by_eos else "length")
                waiting.put_to_use(running, ended, queue)
                report(len(found) / len(draws))
        return [[found[row * num_hypotheses + draw] for draw in range(num_hypotheses)] for row in range(len(prompts))]

    def _choose(
        self, ruled: RuledStepper[P], logits: StepLogits, state: State, uniforms: Float[Tensor, " B"]
    ) -> tuple[StepTokens, Float[Tensor, " B"]]:
        """A token for each row and its log-probability (float64). Spoils the logits."""
        bos = logits[:, ruled.bos_id].clone()
        starts_only = ruled.bos_id != ruled.eos_id  # then bos is never an output
        if starts_only:
            logits[:, ruled.bos_id] = -torch.inf
        log_normaliser = log_sum_exp(logits)
        allowed, log_allowed = logits, log_normaliser
        if ruled.has_rules:
            allowed = ruled.restrict(logits, state)
            if (allowed.amax(1) == -torch.inf).any():
                raise DataError(NOTHING_LEFT, todo=LOOSEN)
            log_allowed = log_sum_exp(allowed)
        tokens = self.strategy.choose(allowed, uniforms, log_allowed)
        whole = torch.logaddexp(log_normaliser, bos) if starts_only else log_normaliser
        return tokens, (logits.gather(1, tokens.unsqueeze(1)).squeeze(1) - whole).double()
