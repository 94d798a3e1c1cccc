"""How hypotheses stand in a table: the column `hypotheses`, and beside it, if asked, where the best one looked."""

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from rnnlm.decoding.base import Hypothesis

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
ALIGNMENT_FIELDS = [
    pa.field("alignment", pa.list_(pa.list_(pa.float32()))),  # target tokens x source tokens, ends included
    pa.field("source_pieces", pa.list_(pa.string())),
    pa.field("target_pieces", pa.list_(pa.string())),
]


def hypotheses_array(
    found: Sequence[list[Hypothesis] | None], text: Callable[[int, Sequence[int]], str]
) -> pa.ListArray:
    """One list a row, null where nothing was generated; `text(row, tokens)` writes tokens out."""
    rows: list[list[dict[str, Any]] | None] = [
        None
        if hypotheses is None
        else [
            {
                "text": text(row, hypothesis.tokens),
                "tokens": hypothesis.tokens,
                "logprob": hypothesis.logprob,
                "finish_reason": hypothesis.finish_reason,
            }
            for hypothesis in hypotheses
        ]
        for row, hypotheses in enumerate(found)
    ]
    return pa.array(rows, HYPOTHESES)
