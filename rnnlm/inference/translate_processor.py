"""The processor of `jobs.generate` for an encoder-decoder: a column of sources plus `hypotheses` and `error`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rnnlm.bulk.work import ERROR, NULL_TEXT, Device, Processed, Processor
from rnnlm.checkpoint import Checkpoint
from rnnlm.decoding.base import Hypothesis
from rnnlm.inference.devices import put_on_device, release_cached_memory
from rnnlm.inference.hypothesis_columns import ALIGNMENT_FIELDS, hypotheses_array
from rnnlm.inference.packed import Ids
from rnnlm.inference.tokenize_work import EMPTY_SOURCE
from rnnlm.inference.translate import Source, Translator

if TYPE_CHECKING:
    from rnnlm.inference.generate_work import GenerateWork


class TranslateProcessor(Processor):
    """A loaded translator."""

    def __init__(self, work: "GenerateWork", checkpoint: Checkpoint, device: Device) -> None:
        self._work = work
        self.hardware = put_on_device(checkpoint, device)
        self._translator = Translator(checkpoint, products=work.products)

    def release_memory(self) -> None:
        release_cached_memory()

    def process(self, table: pa.Table, rows: npt.NDArray[np.int64]) -> Processed:
        work, tokenizer = self._work, self._translator.tokenizer
        texts = table.column(work.text_column).to_pylist()
        prefixes = [""] * len(texts) if work.prefix_column is None else table.column(work.prefix_column).to_pylist()
        encoded = tokenizer.source.encode(["" if text is None else text for text in texts])
        truncated = [work.truncate and self._too_long(tokens) for tokens in encoded]
        errors = [self._error(text, tokens) for text, tokens in zip(texts, encoded, strict=True)]
        kept = [row for row, error in enumerate(errors) if error is None]
        sources = [encoded[row][: work.max_source_tokens] for row in kept]
        before = tokenizer.encode([prefixes[row] or "" for row in kept])
        found = self._translator.decode(
            [Source(source, prefix) for source, prefix in zip(sources, before, strict=True)],
            work.decoding,
            num_hypotheses=work.num_hypotheses,
            seed=work.seed,
            row_ids=[int(rows[row]) for row in kept],
            report=self.report,
        )
        spread: list[list[Hypothesis] | None] = [None] * len(texts)
        for row, hypotheses in zip(kept, found, strict=True):
            spread[row] = hypotheses
        columns = {
            "hypotheses": hypotheses_array(
                spread, lambda row, tokens: self._translator.continuation(prefixes[row] or "", tokens)
            ),
            **self._alignments(len(texts), kept, sources, before, found),
            ERROR: pa.array(errors, pa.string()),
        }
        if work.truncate:
            columns["truncated"] = pa.array(truncated)
        return Processed(columns, sum(len(one.tokens) for hypotheses in found for one in hypotheses))

    def _too_long(self, tokens: Ids) -> bool:
        most = self._work.max_source_tokens
        return most is not None and len(tokens) > most

    def _error(self, text: str | None, tokens: Ids) -> str | None:
        if text is None:
            return NULL_TEXT
        if not text.strip():
            return EMPTY_SOURCE
        if self._too_long(tokens) and not self._work.truncate:
            return f"long_source: {len(tokens):,} tokens, more than max_source_tokens={self._work.max_source_tokens:,}"
        return None

    def _alignments(
        self,
        num_rows: int,
        kept: list[int],
        sources: Sequence[Ids],
        before: Sequence[Ids],
        found: Sequence[list[Hypothesis]],
    ) -> dict[str, pa.Array]:
        """Where the best hypothesis of each row looked, if that is asked for: found by reading it once more."""
        if not self._work.alignment:
            return {}
        tokenizer = self._translator.tokenizer
        best = [
            np.concatenate([prefix, np.array(hypotheses[0].tokens if hypotheses else [], dtype=np.int32)])
            for prefix, hypotheses in zip(before, found, strict=True)
        ]
        weights = self._translator.alignments(sources, best)
        assert weights is not None, "asking is refused where there is no attention"
        filled: list[list[Any]] = [[None] * num_rows for _ in ALIGNMENT_FIELDS]
        for place, row in enumerate(kept):
            filled[0][row] = [line.tolist() for line in weights[place]]
            filled[1][row] = [tokenizer.source.piece(int(one)) for one in sources[place]] + ["</s>"]
            filled[2][row] = [tokenizer.target.piece(int(one)) for one in best[place]] + ["</s>"]
        return {
            field.name: pa.array(values, field.type) for field, values in zip(ALIGNMENT_FIELDS, filled, strict=True)
        }
