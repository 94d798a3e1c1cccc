"""What a decoding strategy is: a config in conf/decoding, and the search it builds for a vocabulary."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

from pydantic import Field

from rnnlm.config import PlacedError, config
from rnnlm.data.tokenizers.base import Tokenizer
from rnnlm.decoding.rules.base import Rule
from rnnlm.decoding.rules.min_tokens import MinTokens
from rnnlm.decoding.rules.no_repeat_ngram import NoRepeatNgram
from rnnlm.decoding.rules.repetition_penalty import RepetitionPenalty
from rnnlm.decoding.stepper import FinishReason, Hypothesis, Ids, P, Started, Stepper
from rnnlm.errors import ConfigError

__all__ = ["LANES", "DecodingConfig", "FinishReason", "Hypothesis", "Ids", "Search", "Started", "Stepper", "decode"]

LANES = 192  # rows stepped side by side; 64 take a tenth longer in float32 and a seventh in int8, 256 gain nothing

Report = Callable[[float], None]


class Search(ABC):
    """A strategy made ready for a vocabulary; it can be run any number of times."""

    strategy: "DecodingConfig"

    @abstractmethod
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
        """See `decode`."""


@config
class DecodingConfig:
    """Base of the configs in conf/decoding."""

    name: ClassVar[str] = "this strategy"  # for messages

    max_tokens: int = Field(default=256, ge=1)
    "Most tokens generated after a prompt."
    min_tokens: int = Field(default=0, ge=0)
    "Fewest tokens: the text does not end before."
    no_repeat_ngram: int | None = Field(default=None, ge=1)
    "No sequence of so many tokens is generated twice in a text."
    repetition_penalty: float = Field(default=1.0, gt=0.0)
    "Above 1 makes tokens that were generated before less likely (Keskar et al. 2019, who took 1.2)."

    def __post_init__(self) -> None:
        if self.min_tokens > self.max_tokens:
            raise PlacedError("min_tokens", f"{self.min_tokens} are more than max_tokens, {self.max_tokens}")

    def most_hypotheses(self) -> int | None:
        """How many hypotheses of a prompt can be asked for; None for any number."""
        return None

    def check_hypotheses(self, count: int) -> None:
        """Raises PlacedError if `count` hypotheses of a prompt are more than this strategy has."""
        most = self.most_hypotheses()
        if most is not None and count > most:
            raise PlacedError("num_hypotheses", f"{self.name} finds {most} of each prompt at the most, not {count}")

    def rules(self, tokenizer: Tokenizer | None) -> list[Rule]:  # noqa: ARG002
        """The rules that are set, for the tokens of `tokenizer`."""
        found: list[Rule] = []
        if self.repetition_penalty != 1.0:
            found.append(RepetitionPenalty(self.repetition_penalty, self.max_tokens))
        if self.no_repeat_ngram is not None:
            found.append(NoRepeatNgram(self.no_repeat_ngram, self.max_tokens))
        if self.min_tokens:
            found.append(MinTokens(self.min_tokens))
        return found

    @abstractmethod
    def build(self, tokenizer: Tokenizer | None) -> Search:
        """The search over the tokens of `tokenizer`; without one, settings that are about text raise ConfigError."""


def decode(
    stepper: Stepper[P],
    prompts: Sequence[P],
    strategy: DecodingConfig | Search,
    *,
    seed: int,
    row_ids: Sequence[int],
    num_hypotheses: int = 1,
    tokenizer: Tokenizer | None = None,
    lanes: int = LANES,
    report: Report = lambda _: None,
) -> list[list[Hypothesis]]:
    """Continue each prompt until eos or `max_tokens`; for each prompt, in their order, its hypotheses.

    There are `num_hypotheses` of each prompt: as many draws where the strategy draws, else the best ones found, best
    first, and fewer if there are no more. `lanes` rows are stepped side by side; a prompt that is done makes room for
    the next at once. Draw d of row r is made with the numbers of a generator seeded by (seed, row_ids[r]
    num_hypotheses + d), its number t for its token t, so a text depends neither on its neighbours nor on the worker it
    meets. `report` is told the share of prompts that is done. `tokenizer` is that of what is generated; a search that
    was built already has it. Raises ConfigError if there cannot be as many hypotheses.
    """
    search = strategy.build(tokenizer) if isinstance(strategy, DecodingConfig) else strategy
    try:
        search.strategy.check_hypotheses(num_hypotheses)
    except PlacedError as error:
        raise ConfigError(str(error)) from None
    return search.run(
        stepper, prompts, num_hypotheses=num_hypotheses, seed=seed, row_ids=row_ids, lanes=lanes, report=report
    )
