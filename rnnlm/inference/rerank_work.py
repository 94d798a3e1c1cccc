"""Re-ranking as bulk work: the hypotheses of each row in the order of a weighted sum, what a language model says of
them included (the re-ranking form of shallow fusion, Gulcehre et al. 2015, section 4.1).

    score = logprob + lm_weight log P_lm(text) + length_weight (number of tokens, the end included)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from pydantic import Field

from rnnlm.bulk.plan import CostModel
from rnnlm.bulk.work import ERROR, Device, Processed, Processor, WorkConfig
from rnnlm.checkpoint import loaded
from rnnlm.config import config
from rnnlm.errors import ConfigError, DataError
from rnnlm.inference.devices import cpu_name, put_on_device, release_cached_memory
from rnnlm.inference.hypothesis_columns import ALIGNMENT_FIELDS
from rnnlm.inference.packed import Report, ignore
from rnnlm.inference.precision import Products
from rnnlm.inference.score import Scorer
from rnnlm.inference.score_work import seconds_per_token
from rnnlm.nn.language_model import LanguageModel

COLUMN = "hypotheses"
NEEDED = ("text", "tokens", "logprob", "finish_reason")
TOKENS_PER_ROW = 100  # of all hypotheses, for estimates
RERANKED = pa.list_(
    pa.struct(
        [
            pa.field("text", pa.string()),
            pa.field("tokens", pa.list_(pa.int32())),
            pa.field("logprob", pa.float64()),
            pa.field("finish_reason", pa.string()),
            pa.field("lm_logprob", pa.float64()),
            pa.field("score", pa.float64()),
        ]
    )
)

Hypotheses = list[dict[str, Any]]


@dataclass(frozen=True)
class Features:
    """Of all hypotheses of all rows, one after another; row r has those from `starts[r]` to `starts[r + 1]`."""

    logprob: npt.NDArray[np.float64]
    lm_logprob: npt.NDArray[np.float64]
    num_tokens: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]

    def scores(self, lm_weight: float, length_weight: float) -> npt.NDArray[np.float64]:
        """The weighted sum of each hypothesis."""
        return self.logprob + lm_weight * self.lm_logprob + length_weight * self.num_tokens


def features_of(rows: Sequence[Hypotheses], scorer: Scorer | None, report: Report = ignore) -> Features:
    """What hypotheses are ranked by; without a language model its part is 0."""
    flat = [hypothesis for row in rows for hypothesis in row]
    lm_logprob = np.zeros(len(flat))
    if scorer is not None and flat:
        lm_logprob = scorer.score_texts([one["text"] for one in flat], report=report).logprob
    return Features(
        logprob=np.array([one["logprob"] for one in flat], dtype=np.float64),
        lm_logprob=lm_logprob,
        num_tokens=np.array([len(one["tokens"]) + (one["finish_reason"] == "end") for one in flat], dtype=np.int64),
        starts=np.cumsum([0, *map(len, rows)]),
    )


@config
class RerankWork(WorkConfig):
    """Puts the hypotheses of each row into another order."""

    language_model: str | None = None
    "Checkpoint of a language model of the targets; null for none."
    lm_weight: float = 0.0
    "Weight of its log-probability."
    length_weight: float = 0.0
    "What each token adds; above 0 favours long texts."
    threads: int = Field(default=1, ge=1)
    "Threads of a worker."
    products: Products = Field(default_factory=Products)
    "How the language model computes."

    @property
    def job(self) -> str:
        return "rerank"

    @property
    def needs_text(self) -> bool:
        return False

    def needed_columns(self) -> list[str]:
        return [COLUMN]

    def kept_columns(self, names: Sequence[str]) -> list[str]:
        # Written anew, or about the hypothesis that was the best before.
        replaced = {COLUMN, ERROR, *(field.name for field in ALIGNMENT_FIELDS)}
        return [name for name in names if name not in replaced]

    def new_fields(self) -> list[pa.Field]:
        return [pa.field(COLUMN, RERANKED), pa.field(ERROR, pa.string())]

    def cost(self) -> CostModel:
        per_token = 0.0 if self.language_model is None else seconds_per_token(loaded(self.language_model))
        return CostModel(seconds_per_row=1e-5 + TOKENS_PER_ROW * per_token, seconds_per_byte=1e-8)

    def identity(self) -> dict[str, Any]:
        return {
            "language_model": self.language_model and loaded(self.language_model).fingerprint,
            "lm_weight": self.lm_weight,
            "length_weight": self.length_weight,
            "threads": self.threads,
            "products": self.products.card(),
            "torch": torch.__version__,
        }

    def scorer(self, device: Device = "auto") -> tuple[Scorer | None, str]:
        """The language model ready to score, if there is one, and the name of what computes."""
        torch.set_num_threads(self.threads)
        if self.language_model is None:
            return None, cpu_name()
        checkpoint = loaded(self.language_model)
        if not isinstance(checkpoint.model, LanguageModel):
            raise ConfigError("language_model: the checkpoint is no language model")
        hardware = put_on_device(checkpoint, device)
        return Scorer(checkpoint, products=self.products), hardware

    def build(self, device: Device) -> "RerankProcessor":
        return RerankProcessor(self, *self.scorer(device))


class RerankProcessor(Processor):
    """A loaded language model, or none."""

    def __init__(self, work: RerankWork, scorer: Scorer | None, hardware: str) -> None:
        self._work, self._scorer, self.hardware = work, scorer, hardware

    def release_memory(self) -> None:
        release_cached_memory()

    def process(self, table: pa.Table, rows: npt.NDArray[np.int64]) -> Processed:  # noqa: ARG002 - no randomness
        given = read_hypotheses(table)
        features = features_of([row or [] for row in given], self._scorer, self.report)
        scores = features.scores(self._work.lm_weight, self._work.length_weight)
        ranked: list[Hypotheses | None] = []
        for row, start in zip(given, features.starts[:-1], strict=True):
            if row is None:
                ranked.append(None)
                continue
            order = np.argsort(-scores[start : start + len(row)], kind="stable")
            ranked.append(
                [
                    {
                        **{name: row[place][name] for name in NEEDED},
                        "lm_logprob": None if self._scorer is None else float(features.lm_logprob[start + place]),
                        "score": float(scores[start + place]),
                    }
                    for place in order.tolist()
                ]
            )
        errors = (
            table.column(ERROR).cast(pa.string()) if ERROR in table.column_names else pa.nulls(len(table), pa.string())
        )
        return Processed({COLUMN: pa.array(ranked, RERANKED), ERROR: errors}, int(features.num_tokens.sum()))


def read_hypotheses(table: pa.Table) -> list[Hypotheses | None]:
    """The column `hypotheses` of jobs.generate. Raises DataError if it is none."""
    column = table.column(COLUMN)
    kind = column.type
    inner = kind.value_type if pa.types.is_list(kind) or pa.types.is_large_list(kind) else pa.null()
    names = {inner.field(index).name for index in range(inner.num_fields)} if pa.types.is_struct(inner) else set()
    missing = [name for name in NEEDED if name not in names]
    if missing:
        raise DataError(
            f"the column '{COLUMN}' is {kind} and lacks {', '.join(missing)}", todo="give the output of jobs.generate"
        )
    found: list[Hypotheses | None] = column.to_pylist()
    return found
