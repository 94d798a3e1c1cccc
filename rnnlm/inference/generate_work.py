"""Generation as bulk work: a column of prompts, or of sources, plus `hypotheses` and `error`."""

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
from rnnlm.decoding.base import DecodingConfig, Hypothesis
from rnnlm.errors import ConfigError
from rnnlm.inference.devices import put_on_device, release_cached_memory
from rnnlm.inference.generate import Generator
from rnnlm.inference.hypothesis_columns import ALIGNMENT_FIELDS, HYPOTHESES, hypotheses_array
from rnnlm.inference.precision import Products
from rnnlm.inference.score_work import BYTES_PER_TOKEN, seconds_per_token
from rnnlm.inference.translate_processor import TranslateProcessor
from rnnlm.nn.translation_model import TranslationModel


@config
class GenerateWork(WorkConfig):
    """Continues every prompt with a language model, or writes a target for every source with an encoder-decoder."""

    checkpoint: str
    "Run folder (its best checkpoint is taken) or checkpoint folder."
    decoding: DecodingConfig
    "How tokens are chosen."
    text_column: str = "text"
    "Column of prompts, of which an empty one starts from nothing; or of sources."
    prefix_column: str | None = None
    "Column of how each target has to begin; null leaves that to the encoder-decoder."
    max_source_tokens: int | None = Field(default=None, ge=1)
    "A longer source is an error row, or is cut with `truncate`; null for no limit."
    truncate: bool = False
    "Cut sources that are too long, and say so in a column `truncated`."
    alignment: bool = False
    "Also write where the best hypothesis looked: `alignment`, `source_pieces`, `target_pieces`."
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
        alignment = ALIGNMENT_FIELDS if self.alignment else []
        truncated = [pa.field("truncated", pa.bool_())] if self.truncate else []
        return [pa.field("hypotheses", HYPOTHESES), *alignment, *truncated, pa.field(ERROR, pa.string())]

    def needed_columns(self) -> list[str]:
        return [] if self.prefix_column is None else [self.prefix_column]

    def check_model(self) -> None:
        """Raise ConfigError if more is asked for than the model has, or its tokens cannot keep the rules."""
        self.decoding.build(loaded(self.checkpoint).tokenizer)
        model = loaded(self.checkpoint).model
        if isinstance(model, TranslationModel):
            if self.alignment and model.attention is None:
                raise ConfigError("alignment: the checkpoint has no attention")
            if self.truncate and self.max_source_tokens is None:
                raise ConfigError("truncate: say from where on, with max_source_tokens=...")
            return
        asked = [name for name, value in self._of_sources().items() if value]
        if asked:
            raise ConfigError(f"{asked[0]}: the checkpoint is a language model, which has prompts and no sources")

    def _of_sources(self) -> dict[str, Any]:
        """What is about sources, as far as it is asked for."""
        names = ("prefix_column", "max_source_tokens", "truncate", "alignment")
        return {name: getattr(self, name) for name in names if getattr(self, name)}

    def cost(self) -> CostModel:
        # A generated token costs a few times a scored one: its step is thin, and its distribution has to be searched.
        per_token = seconds_per_token(loaded(self.checkpoint))
        if isinstance(loaded(self.checkpoint).model, TranslationModel):  # about as long as its source
            rows = self.decoding.most_hypotheses() or self.num_hypotheses
            return CostModel(seconds_per_row=per_token, seconds_per_byte=rows * per_token / BYTES_PER_TOKEN)
        tokens = self.decoding.max_tokens * self.num_hypotheses
        return CostModel(seconds_per_row=3.0 * per_token * tokens, seconds_per_byte=0.3 * per_token)

    def identity(self) -> dict[str, Any]:
        return {
            "model": loaded(self.checkpoint).fingerprint,
            "decoding": {**to_dict(self.decoding), **self.decoding.files()},
            "text_column": self.text_column,
            **self._of_sources(),
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

    def build(self, device: Device) -> "GenerateProcessor | TranslateProcessor":
        torch.set_num_threads(self.threads)
        checkpoint = loaded(self.checkpoint)
        translates = isinstance(checkpoint.model, TranslationModel)
        return (TranslateProcessor if translates else GenerateProcessor)(self, checkpoint, device)


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
        spread: list[list[Hypothesis] | None] = [None] * len(texts)
        for index, hypotheses in zip(present, found, strict=True):
            spread[index] = hypotheses
        errors = [NULL_TEXT if text is None else None for text in texts]
        columns = {
            "hypotheses": hypotheses_array(
                spread, lambda row, tokens: self._generator.continuation(texts[row], tokens)
            ),
            ERROR: pa.array(errors, pa.string()),
        }
        return Processed(columns, sum(len(hypothesis.tokens) for hypotheses in found for hypothesis in hypotheses))
