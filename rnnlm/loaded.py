"""A trained model as one object: rows in, the same rows with new columns out.

    model = rnnlm.load("outputs/model")
    model.score(["The cat sat."])       [{"text": "The cat sat.", "logprob": -9.1, "num_tokens": 5, ..., "error": None}]

    score       language model, encoder-decoder       logprob, num_tokens, bits_per_byte
    generate    language model, encoder-decoder       hypotheses
    predict     tagger, classifier, ..., baseline     labels, entities, classes, intents
    embed       any network                           vector

Rows are a list, an Arrow table, a pandas or a polars frame (`rnnlm.data.frames`), and come back as what they were. The
work is that of the bulk jobs (`rnnlm.inference.*_work`): same columns, same options, same numbers; a row that cannot be
used has an `error`.
"""

from dataclasses import is_dataclass
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from rnnlm.bulk.rows import RowGuard
from rnnlm.bulk.work import Device, Processor, WorkConfig
from rnnlm.checkpoint import Checkpoint
from rnnlm.config import from_dict, to_dict
from rnnlm.data.column_types import is_text, plain
from rnnlm.data.frames import Rows, rows_of
from rnnlm.data.tokenizers import Tokenizer
from rnnlm.decoding.sampling import SamplingConfig
from rnnlm.errors import ConfigError, DataError
from rnnlm.hub import local_folder
from rnnlm.inference.embed_work import EmbedWork, reads_words
from rnnlm.inference.generate_work import GenerateWork
from rnnlm.inference.predict.model import Predictor, loaded_predictor
from rnnlm.inference.predict_work import PredictWork, reads
from rnnlm.inference.score_work import ScoreWork
from rnnlm.nn.language_model import LanguageModel
from rnnlm.nn.translation_model import TranslationModel
from rnnlm.storage import open_location

TEXT, WORDS = "text", "words"  # columns that are read unless others are named

AnyWork = ScoreWork | GenerateWork | PredictWork | EmbedWork
Work = TypeVar("Work", ScoreWork, GenerateWork, PredictWork, EmbedWork)


def load(path: str, *, device: Device = "auto") -> "LoadedModel":
    """The model of a run (its best checkpoint), checkpoint, baseline or Hugging Face folder: a path, a URI or
    hf://owner/name. `auto` takes a GPU if there is one. Raises CheckpointError or EnvironmentFailure with the cure."""
    return LoadedModel(open_location(local_folder(path)).address, path, device)


class LoadedModel:
    """What `load` gives. Whatever its first call prepares is kept for the next one with the same options."""

    def __init__(self, folder: str, name: str, device: Device) -> None:
        """`name` is for messages."""
        self._folder, self._name, self._device = folder, name, device
        self._predictor: Predictor = loaded_predictor(folder)
        self._ready: dict[str, tuple[WorkConfig, Processor]] = {}

    @property
    def model(self) -> Any:
        """The network, or the baseline."""
        return self._predictor.model

    @property
    def fingerprint(self) -> str:
        """SHA-256 over all that decides what the model does."""
        return self._predictor.fingerprint

    @property
    def checkpoint(self) -> Checkpoint:
        """Task, network and tokenizer, for `rnnlm.Scorer` and the like. Raises ConfigError for a baseline."""
        if not isinstance(self._predictor, Checkpoint):
            raise ConfigError(f"{self._name} is a baseline, which has no network")
        return self._predictor

    @property
    def tokenizer(self) -> Tokenizer:
        return self.checkpoint.tokenizer

    @property
    def abilities(self) -> tuple[str, ...]:
        """The methods that this kind of model has."""
        if isinstance(self.model, (LanguageModel, TranslationModel)):
            return ("score", "generate", "embed")
        return ("predict", "embed") if isinstance(self.model, nn.Module) else ("predict",)

    def __repr__(self) -> str:
        return f"<{type(self.model).__name__} of {self._name}: {', '.join(self.abilities)}>"

    def score(self, rows: Any, **options: Any) -> Any:
        """log P of each text, or of each target given its source (`target_column`); with `words=True` also of each
        word. Options: fields of `ScoreWork`."""
        self._check("score")
        given = rows_of(rows, options.get("text_column", TEXT), WORDS)
        return self._run(self._work(ScoreWork, options), given)

    def generate(self, rows: Any, **options: Any) -> Any:
        """Continuations of prompts, or targets for sources. Options: fields of `GenerateWork`; `decoding` is drawing
        from the model's own distribution if nothing is said."""
        self._check("generate")
        given = rows_of(rows, options.get("text_column", TEXT), WORDS)
        return self._run(self._work(GenerateWork, {"decoding": SamplingConfig(), **options}), given)

    def predict(self, rows: Any, **options: Any) -> Any:
        """What a tagger, classifier or the like says of words, which are given, or split from a text. Options: fields
        of `PredictWork`; `words_column` is "words", or "text" if there is none."""
        self._check("predict")
        given = rows_of(rows, options.get("words_column", TEXT), options.get("words_column", WORDS))
        words_column = options.get("words_column") or _words_column(given)
        text_column = options.pop("text_column", TEXT)
        columns = [words_column, *({text_column} & set(given.names))]
        splits, text_column = reads(given.table(columns).schema, words_column, text_column)
        own = {"words_column": words_column, "splits": splits, "text_column": text_column}
        return self._run(self._work(PredictWork, {**options, **own}), given)

    def embed(self, rows: Any, **options: Any) -> Any:
        """A vector of each row: hidden states, pooled. Options: fields of `EmbedWork`."""
        self._check("embed")
        if not reads_words(self.checkpoint):
            return self._run(self._work(EmbedWork, options), rows_of(rows, options.get("text_column", TEXT), WORDS))
        given = rows_of(rows, options.get("words_column", TEXT), options.get("words_column", WORDS))
        words_column = options.get("words_column") or _words_column(given)
        reads(given.table([words_column]).schema, words_column, TEXT)
        return self._run(self._work(EmbedWork, {**options, "words_column": words_column}), given)

    def _check(self, ability: str) -> None:
        if ability not in self.abilities:
            raise ConfigError(
                f"{ability}: {self._name} holds a {type(self.model).__name__}, which can {', '.join(self.abilities)}"
            )

    def _work(self, kind: type[Work], options: dict[str, Any]) -> Work:
        """The work with these options, as many threads as torch has. Raises ConfigError that lists all problems."""
        given = {"threads": torch.get_num_threads(), **options}
        plain = {name: to_dict(value) if is_dataclass(value) else value for name, value in given.items()}
        work = from_dict(kind, {**plain, "checkpoint": self._folder})
        work.check_model()
        return work

    def _run(self, work: AnyWork, rows: Rows) -> Any:
        fields = work.new_fields()
        rows.check_free([field.name for field in fields])
        table = rows.table([*([work.text_column or TEXT] if work.needs_text else []), *work.needed_columns()])
        for field in table.schema:
            # What a column of words may hold was looked at when it was chosen.
            if field.name != getattr(work, "words_column", None) and not is_text(plain(field.type)):
                raise DataError(f"the column '{field.name}' has type {field.type}; text is needed")
        if table.num_rows == 0:
            return rows.followed_by(pa.schema(fields).empty_table())
        found = RowGuard(self._processor(work), fields).process(table, np.arange(table.num_rows))
        return rows.followed_by(pa.table([found.columns[field.name] for field in fields], schema=pa.schema(fields)))

    def _processor(self, work: WorkConfig) -> Processor:
        """The processor of the last call of this kind, if it was for the same work."""
        before = self._ready.get(work.job)
        if before is None or before[0] != work:
            before = self._ready[work.job] = (work, work.build(self._device))
        return before[1]


def _words_column(rows: Rows) -> str:
    """The column of words that is read if none is named."""
    return WORDS if WORDS in rows.names else TEXT
