"""Generation as bulk work: a column of prompts plus `hypotheses` and `error`."""

import json
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
from rnnlm.decoding.base import DecodingConfig
from rnnlm.inference.devices import put_on_device, release_cached_memory
from rnnlm.inference.generate import Generator
from rnnlm.inference.precision import Products
from rnnlm.inference.score_work import seconds_per_token

HYPOTHESES = pa.list_(
    pa.struct(
        [
            pa.field("text", pa.string()),
            pa.field("tokens", pa.list_(pa.int32())),
            pa.field("logprob", pa.float64()),
            pa.field("finish_reason", pa.string()),
        ]
    )
)


@config
class GenerateWork(WorkConfig):
    """Continues every prompt with a language model."""

    checkpoint: str
    "Run folder (its best checkpoint is taken) or checkpoint folder."
    decoding: DecodingConfig
    "How tokens are chosen."
    text_column: str = "text"
    "Column of prompts; an empty prompt starts from nothing."
    num_hypotheses: int = Field(default=1, ge=1)
    "Continuations of each prompt: as many draws, or the best that a beam finds; greedy decoding has one."
    seed: int = Field(default=1, ge=0)
    "Root of the randomness; a row's own depends on this and on its number in the corpus alone."
    threads: int = Field(default=1, ge=1)
    "Threads of a worker; the rounding of a product can depend on it, so it belongs to the run's identity."
    products: Products = Field(default_factory=Products)
    "How the model computes."

    def __post_init__(self) -> None:
        self.decoding.check_hypotheses(self.num_hypotheses)

    @property
    def job(self) -> str:
        return "generate"

    def new_fields(self) -> list[pa.Field]:
        return [pa.field("hypotheses", HYPOTHESES), pa.field(ERROR, pa.string())]

    def cost(self) -> CostModel:
        # A generated token costs a few times a scored one: its step is thin, and its distribution has to be searched.
        per_token = seconds_per_token(loaded(self.checkpoint))
        tokens = self.decoding.max_tokens * self.num_hypotheses
        return CostModel(seconds_per_row=3.0 * per_token * tokens, seconds_per_byte=0.3 * per_token)

    def identity(self) -> dict[str, Any]:
        return {
            "model": loaded(self.checkpoint).fingerprint,
            "decoding": to_dict(self.decoding),
            "text_column": self.text_column,
            "num_hypotheses": self.num_hypotheses,
            "seed": self.seed,
            "threads": self.threads,
            "products": self.products.card(),
            "torch": torch.__version__,
        }

    def provenance(self) -> dict[str, str]:
        return {"model": loaded(self.checkpoint).fingerprint, "products": json.dumps(self.products.card())}

    def card(self) -> dict[str, Any]:
        return {"products": self.products.card()}

    def build(self, device: Device) -> "GenerateProcessor":
        torch.set_num_threads(self.threads)
        return GenerateProcessor(self, loaded(self.checkpoint), device)


class GenerateProcessor(Processor):
    """A loaded generator."""

    def __init__(self, work: GenerateWork, checkpoint: Checkpoint, device: Device) -> None:
        self._work = work
        self.hardware = put_on_device(checkpoint, device)
        self._generator = Generator(checkpoint, products=work.products)

    def release_memory(self) -> None:
        release_cached_memory()

    def process(self, table: pa.Table, rows: npt.NDArray[np.int64]) -> Processed:
        work = self._work
        texts = table.column(work.text_column).to_pylist()
        present = [index for index, text in enumerate(texts) if text is not None]
        found = self._generator.generate(
            [texts[index] for index in present],
            work.decoding,
            num_hypotheses=work.num_hypotheses,
            seed=work.seed,
            row_ids=[int(rows[index]) for index in present],
            report=self.report,
        )
        results: list[list[dict[str, Any]] | None] = [None] * len(texts)
        for index, hypotheses in zip(present, found, strict=True):
            results[index] = [
                {
                    "text": self._generator.continuation(texts[index], hypothesis.tokens),
                    "tokens": hypothesis.tokens,
                    "logprob": hypothesis.logprob,
                    "finish_reason": hypothesis.finish_reason,
                }
                for hypothesis in hypotheses
            ]
        errors = [NULL_TEXT if text is None else None for text in texts]
        columns = {"hypotheses": pa.array(results, HYPOTHESES), ERROR: pa.array(errors, pa.string())}
        return Processed(columns, sum(len(hypothesis.tokens) for hypotheses in found for hypothesis in hypotheses))
