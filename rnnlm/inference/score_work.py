"""Scoring as bulk work: a corpus plus `logprob`, `num_tokens`, `bits_per_byte`, `error`, and if asked `token_logprobs`,
`words` and `end_logprob`, the log-probabilities of tokens, of words (`rnnlm.inference.surprisal`) and of the end.

A language model scores a text, an encoder-decoder a target given its source; figures a byte are about what is scored.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from pydantic import Field

from rnnlm.bulk.plan import CostModel
from rnnlm.bulk.work import ERROR, NULL_TEXT, Device, Processed, Processor, WorkConfig
from rnnlm.checkpoint import Checkpoint, loaded
from rnnlm.config import config, to_dict
from rnnlm.errors import ConfigError
from rnnlm.inference.devices import put_on_device, release_cached_memory
from rnnlm.inference.ensemble import EnsembleScorer
from rnnlm.inference.packed import Report, ignore
from rnnlm.inference.precision import Products, choose
from rnnlm.inference.score import Scorer, Scores
from rnnlm.inference.stream.cache import CacheConfig, NoCacheConfig
from rnnlm.inference.surprisal import WORDS, words_column
from rnnlm.inference.tokenize_work import EMPTY_SOURCE
from rnnlm.inference.translate import Translator
from rnnlm.memory import give_back_freed_memory
from rnnlm.ngram import load_ngram
from rnnlm.nn.translation_model import TranslationModel

NON_FINITE = "non_finite: the log-probability is not a finite number"
FLOPS_PER_SECOND = 5e10  # of one core, for estimates; the plan needs ratios, not the truth
BYTES_PER_TOKEN = 3.5  # the same


@config
class ScoreWork(WorkConfig):
    """Scores every text with a language model, or every target with an encoder-decoder."""

    checkpoint: str
    "Run folder (its best checkpoint is taken) or checkpoint folder."
    text_column: str = "text"
    "Column that is scored; with a target_column, column of the sources."
    target_column: str | None = None
    "Column of the targets that an encoder-decoder scores; null for a language model."
    token_logprobs: bool = False
    "Also write the log-probability of each token, end of sequence included."
    words: bool = False
    "Also write where each white-space separated word is and its log-probability, and that of the end of sequence."
    cache: CacheConfig = Field(default_factory=NoCacheConfig)
    "Whether words that were seen a short while ago in the same text are likely again."
    ensemble: list[str] = Field(default_factory=list)
    "Further checkpoints that vote: the mean of their probabilities."
    ngram: str | None = None
    "An n-gram model whose probabilities are mixed in."
    ngram_weight: float = Field(default=0.1, ge=0.0, le=1.0)
    "Its share."
    threads: int = Field(default=1, ge=1)
    "Threads of a worker; the rounding of a product can depend on it, so it belongs to the run's identity."
    products: Products = Field(default_factory=Products)
    "How the model computes."

    @property
    def job(self) -> str:
        return "score"

    def new_fields(self) -> list[pa.Field]:
        tokens = [pa.field("token_logprobs", pa.list_(pa.float32()))] if self.token_logprobs else []
        words = [pa.field("words", WORDS), pa.field("end_logprob", pa.float64())] if self.words else []
        return [
            pa.field("logprob", pa.float64()),
            pa.field("num_tokens", pa.int32()),
            pa.field("bits_per_byte", pa.float64()),
            *tokens,
            *words,
            pa.field(ERROR, pa.string()),
        ]

    def cost(self) -> CostModel:
        per_token = sum(seconds_per_token(loaded(path)) for path in (self.checkpoint, *self.ensemble))
        return CostModel(seconds_per_row=per_token, seconds_per_byte=per_token / BYTES_PER_TOKEN)

    def identity(self) -> dict[str, Any]:
        asked = {
            "cache": to_dict(self.cache),
            "ensemble": [loaded(path).fingerprint for path in self.ensemble],
            "ngram": [load_ngram(self.ngram).fingerprint, self.ngram_weight] if self.ngram else None,
            "words": self.words,
        }
        plain = to_dict(ScoreWork(checkpoint=self.checkpoint))
        return {
            "model": loaded(self.checkpoint).fingerprint,
            # Only what is asked for: a plain run is the same as before there was anything to ask for.
            **{name: value for name, value in asked.items() if value != plain[name]},
            "text_column": self.text_column,
            **({} if self.target_column is None else {"target_column": self.target_column}),
            "token_logprobs": self.token_logprobs,
            "threads": self.threads,
            "products": self.products.card(),
            "torch": torch.__version__,
        }

    def provenance(self) -> dict[str, str]:
        return {"model": loaded(self.checkpoint).fingerprint, "products": json.dumps(self.products.card())}

    def card(self) -> dict[str, Any]:
        return {"products": self.products.card()}

    def needed_columns(self) -> list[str]:
        return [] if self.target_column is None else [self.target_column]

    def check_model(self) -> None:
        """Raise ConfigError unless the model is of the kind that is asked for."""
        pairs = isinstance(loaded(self.checkpoint).model, TranslationModel)
        if pairs and self.target_column is None:
            raise ConfigError("target_column: the checkpoint scores targets given a source; name the column of targets")
        if not pairs and self.target_column is not None:
            raise ConfigError("target_column: the checkpoint is a language model, which scores single texts")
        if pairs and (self.ensemble or self.ngram or not isinstance(self.cache, NoCacheConfig)):
            raise ConfigError("cache, ensemble, ngram: these are for language models; leave them out")

    def choose_products(self, table: pa.Table, device: Device = "auto") -> Products:
        """How to compute fastest without harm, by a trial on these rows of the corpus."""
        torch.set_num_threads(self.threads)
        checkpoints, _ = self._load(device)
        device_used = next(checkpoints[0].model.parameters()).device

        def score(products: Products) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int32]]:
            rows = self.rows_of(table)
            scores = rows.scores(self._scorer(checkpoints, products))
            return scores.logprob, scores.num_tokens

        return choose(score, device_used)

    def rows_of(self, table: pa.Table) -> "Rows":
        """The texts to score, with what is wrong with some."""
        texts = table.column(self.text_column).to_pylist()
        if self.target_column is None:
            return Rows(None, texts, [NULL_TEXT if text is None else None for text in texts])
        targets = table.column(self.target_column).to_pylist()
        errors = [
            NULL_TEXT if source is None or target is None else None if source.strip() else EMPTY_SOURCE
            for source, target in zip(texts, targets, strict=True)
        ]
        return Rows(texts, targets, errors)

    def build(self, device: Device) -> "ScoreProcessor":
        torch.set_num_threads(self.threads)
        checkpoints, hardware = self._load(device)
        scorer = self._scorer(checkpoints, self.products)
        Rows(["a"], ["a"], [None]).scores(scorer)  # the weights are laid out for products now, and then no more
        give_back_freed_memory()
        return ScoreProcessor(self, scorer, hardware)

    def _load(self, device: Device) -> tuple[list[Checkpoint], str]:
        """All models, in their place, and the name of what computes."""
        checkpoints = [loaded(path) for path in (self.checkpoint, *self.ensemble)]
        hardware = [put_on_device(checkpoint, device) for checkpoint in checkpoints]
        return checkpoints, hardware[0]

    def _scorer(self, checkpoints: Sequence[Checkpoint], products: Products) -> "AnyScorer":
        if self.target_column is not None:
            return Translator(checkpoints[0], products=products)
        if not self.ensemble and not self.ngram:
            return Scorer(checkpoints[0], cache=self.cache, products=products)
        ngram = load_ngram(self.ngram) if self.ngram else None
        return EnsembleScorer(
            checkpoints, cache=self.cache, ngram=ngram, ngram_weight=self.ngram_weight, products=products
        )


AnyScorer = Scorer | EnsembleScorer | Translator


@dataclass(frozen=True)
class Rows:
    """Sources (None for a language model), what is scored, and why a row is not."""

    sources: list[str | None] | None
    texts: list[str | None]
    errors: list[str | None]

    def scores(self, scorer: AnyScorer, *, keep_tokens: bool = False, report: Report = ignore) -> Scores:
        """Scores of the rows without an error, in their order."""
        places = [place for place, error in enumerate(self.errors) if error is None]
        texts = [str(self.texts[place]) for place in places]
        if isinstance(scorer, Translator):
            assert self.sources is not None
            sources = [str(self.sources[place]) for place in places]
            return scorer.score_pairs(sources, texts, keep_tokens=keep_tokens, report=report)
        return scorer.score_texts(texts, keep_tokens=keep_tokens, report=report)


class ScoreProcessor(Processor):
    """A loaded scorer."""

    def __init__(self, work: ScoreWork, scorer: AnyScorer, hardware: str) -> None:
        self._work, self._scorer, self.hardware = work, scorer, hardware

    def release_memory(self) -> None:
        release_cached_memory()

    def process(self, table: pa.Table, rows: npt.NDArray[np.int64]) -> Processed:  # noqa: ARG002 - a score has no randomness
        given = self._work.rows_of(table)
        keep_tokens = self._work.token_logprobs or self._work.words
        scores = given.scores(self._scorer, keep_tokens=keep_tokens, report=self.report)
        present = np.array([error is None for error in given.errors], dtype=bool)
        logprob = np.full(len(table), np.nan)
        logprob[present] = scores.logprob
        num_tokens = np.zeros(len(table), dtype=np.int32)
        num_tokens[present] = scores.num_tokens
        num_bytes = np.array([0 if text is None else len(text.encode()) for text in given.texts], dtype=np.float64)
        good = np.isfinite(logprob)
        errors = [None if is_good else error or NON_FINITE for is_good, error in zip(good, given.errors, strict=True)]
        with np.errstate(divide="ignore", invalid="ignore"):
            bits = -logprob / np.log(2.0) / num_bytes
        columns = {
            "logprob": pa.array(logprob, mask=~good),
            "num_tokens": pa.array(num_tokens, mask=~good),
            "bits_per_byte": pa.array(bits, mask=~good | (num_bytes == 0)),
            ERROR: pa.array(errors, pa.string()),
        }
        if scores.token_logprobs is not None:
            tokens = iter(scores.token_logprobs)
            every = [next(tokens) if is_there else None for is_there in present]
            kept = [values if is_good else None for values, is_good in zip(every, good, strict=True)]
            columns |= self._token_columns(given.texts, kept)
        return Processed(columns, int(num_tokens[good].sum()))

    def _token_columns(
        self, texts: Sequence[str | None], token_logprobs: Sequence[npt.NDArray[np.float32] | None]
    ) -> dict[str, pa.Array]:
        """What is asked of the tokens of each row; None for a row without a score."""
        columns = {}
        if self._work.token_logprobs:
            columns["token_logprobs"] = pa.array(token_logprobs, pa.list_(pa.float32()))
        if self._work.words:
            columns["words"] = words_column(texts, token_logprobs, self._scorer.tokenizer)
            ends = [None if values is None else float(values[-1]) for values in token_logprobs]
            columns["end_logprob"] = pa.array(ends, pa.float64())
        return columns


def seconds_per_token(checkpoint: Checkpoint) -> float:
    """Estimated seconds of one core a token: two operations a weight used, the embedding's look-up not counted."""
    sizes = {name: parameter.numel() for name, parameter in checkpoint.model.named_parameters(remove_duplicate=False)}
    weights = sum(size for name, size in sizes.items() if "embedding." not in name)
    return 2.0 * weights / FLOPS_PER_SECOND
