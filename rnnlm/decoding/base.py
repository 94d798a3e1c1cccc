"""What a decoding strategy is: a config in conf/decoding, and the search it builds for a vocabulary."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar
from weakref import WeakKeyDictionary

from pydantic import Field

from rnnlm.config import PlacedError, config
from rnnlm.data.tokenizers.base import Tokenizer
from rnnlm.decoding.rules.allowed import allowed_rule
from rnnlm.decoding.rules.banned import banned_rule
from rnnlm.decoding.rules.base import Rule
from rnnlm.decoding.rules.min_tokens import MinTokens
from rnnlm.decoding.rules.no_repeat_ngram import NoRepeatNgram
from rnnlm.decoding.rules.repetition_penalty import RepetitionPenalty
from rnnlm.decoding.rules.token_text import token_texts
from rnnlm.decoding.stepper import FinishReason, Hypothesis, Ids, P, Started, Stepper
from rnnlm.errors import ConfigError
from rnnlm.storage import open_location

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
    banned: list[str] = Field(default_factory=list)
    "Strings that are in no text, not even within a word."
    allowed: list[str] | str | None = None
    "The only texts that are generated, or a file of them, one a line; each as the tokenizer cuts it."
    pattern: str | None = None
    "Regular expression that a text matches from beginning to end; a blank between prompt and text does not count."

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

    def rules(self, tokenizer: Tokenizer | None) -> list[Rule]:
        """The rules that are set, for the tokens of `tokenizer`."""
        found: list[Rule] = []
        if self.repetition_penalty != 1.0:
            found.append(RepetitionPenalty(self.repetition_penalty, self.max_tokens))
        if self.no_repeat_ngram is not None:
            found.append(NoRepeatNgram(self.no_repeat_ngram, self.max_tokens))
        if self.min_tokens:
            found.append(MinTokens(self.min_tokens))
        return [*found, *self._rules_of_text(tokenizer)]

    def _rules_of_text(self, tokenizer: Tokenizer | None) -> list[Rule]:
        if self.pattern is None and self.allowed is None and not self.banned:
            return []
        if tokenizer is None:
            raise ConfigError("decoding: banned, allowed and pattern are about text, and there is no tokenizer")
        found: list[Rule] = []
        if self.allowed is not None:
            found.append(allowed_rule(self.allowed, tokenizer, self.max_tokens))
        if self.banned or self.pattern is not None:
            texts = token_texts(tokenizer)
            if self.banned:
                found.append(banned_rule(self.banned, texts, self.max_tokens))
            if self.pattern is not None:
                from rnnlm.decoding.rules.pattern import pattern_rule  # noqa: PLC0415 - its library is slow to import

                found.append(pattern_rule(self.pattern, texts, self.max_tokens))
        return found

    def files(self) -> dict[str, str]:
        """SHA-256 of what is read from files, named after its field; belongs to the identity of a run."""
        if not isinstance(self.allowed, str):
            return {}
        return {"allowed_sha256": hashlib.sha256(open_location(self.allowed).read_bytes()).hexdigest()}

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
    search = _search(strategy, tokenizer) if isinstance(strategy, DecodingConfig) else strategy
    try:
        search.strategy.check_hypotheses(num_hypotheses)
    except PlacedError as error:
        raise ConfigError(str(error)) from None
    return search.run(
        stepper, prompts, num_hypotheses=num_hypotheses, seed=seed, row_ids=row_ids, lanes=lanes, report=report
    )


def decode_by_length(
    stepper: Stepper[P],
    prompts: Sequence[P],
    lengths: Sequence[int],
    strategy: DecodingConfig,
    *,
    tokenizer: Tokenizer,
    num_hypotheses: int,
    seed: int,
    row_ids: Sequence[int] | None,
    report: Report,
) -> list[list[Hypothesis]]:
    """`decode`, but the short prompts first, so that those of like length are read and stepped together; the outcome
    does not depend on it. `row_ids` are by default the places of the prompts."""
    ids = range(len(prompts)) if row_ids is None else row_ids
    order = sorted(range(len(prompts)), key=lambda row: lengths[row])
    found = decode(
        stepper,
        [prompts[row] for row in order],
        strategy,
        num_hypotheses=num_hypotheses,
        tokenizer=tokenizer,
        seed=seed,
        row_ids=[ids[row] for row in order],
        report=report,
    )
    result: list[list[Hypothesis]] = [[]] * len(prompts)
    for row, hypotheses in zip(order, found, strict=True):
        result[row] = hypotheses
    return result


# Automata of rules take a second or more to build, and bulk work decodes a window at a time with one strategy.
_LAST: WeakKeyDictionary[Tokenizer, tuple[DecodingConfig, Search]] = WeakKeyDictionary()


def _search(strategy: DecodingConfig, tokenizer: Tokenizer | None) -> Search:
    """The strategy's search, built once while a tokenizer is used with one strategy."""
    if tokenizer is None:
        return strategy.build(None)
    last = _LAST.get(tokenizer)
    if last is None or last[0] != strategy:
        last = _LAST[tokenizer] = (strategy, strategy.build(tokenizer))
    return last[1]
