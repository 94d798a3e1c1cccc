"""Minimum Bayes risk (Kumar & Byrne 2004; by sampling: Eikema & Aziz 2020): of some draws, the one most like the rest.

    argmax over draws y of mean over draws y' of chrF(y, y')

The most probable text is often short or odd; a draw that many others resemble seldom is.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import Field

from rnnlm.config import config
from rnnlm.data.tokenizers.base import Tokenizer
from rnnlm.decoding.base import Report, Search
from rnnlm.decoding.chrf import chrf_of_pairs
from rnnlm.decoding.sampling import SamplingConfig
from rnnlm.decoding.stepper import Hypothesis, P, Stepper
from rnnlm.decoding.stepwise import StepwiseSearch
from rnnlm.errors import ConfigError


@config
class MinimumBayesRiskConfig(SamplingConfig):
    """The draw with the highest expected chrF."""

    name = "minimum Bayes risk"

    samples: int = Field(default=16, ge=2)
    "Draws of each prompt, which are the candidates and what they are compared with."

    def most_hypotheses(self) -> int | None:
        return self.samples

    def build(self, tokenizer: Tokenizer | None) -> Search:  # type: ignore[override] # its search is another
        if tokenizer is None:
            raise ConfigError("decoding: minimum Bayes risk compares texts, and there is no tokenizer to write them")
        return MinimumBayesRiskSearch(self, StepwiseSearch(self, self.rules(tokenizer)), tokenizer)


@dataclass
class MinimumBayesRiskSearch(Search):
    """Draws, then compares. Draw d of row r has the random numbers that sampling gives it."""

    strategy: MinimumBayesRiskConfig
    sampling: StepwiseSearch
    tokenizer: Tokenizer

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
        drawn = self.sampling.run(
            stepper,
            prompts,
            num_hypotheses=self.strategy.samples,
            seed=seed,
            row_ids=row_ids,
            lanes=lanes,
            report=report,
        )
        return [self._best(draws, num_hypotheses) for draws in drawn]

    def _best(self, draws: list[Hypothesis], count: int) -> list[Hypothesis]:
        """The draws of the highest expected chrF, each once; the first of equals."""
        expected = chrf_of_pairs([self.tokenizer.decode(one.tokens) for one in draws]).mean(1)
        found: dict[tuple[int, ...], Hypothesis] = {}
        for place in np.argsort(-expected, kind="stable").tolist():
            found.setdefault(tuple(draws[place].tokens), draws[place])
        return list(found.values())[:count]
