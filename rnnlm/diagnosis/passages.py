"""Passages of a token stream, drawn at random: what a model is diagnosed on.

The stream is the one that language models are trained and validated on (`rnnlm/data/stream.py`): documents end to end.
Of each passage only the last target is predicted; all that stands before it is context.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch

from rnnlm.data.stream import LaneStream
from rnnlm.data.tokenizers import Tokenizer
from rnnlm.data.tokens import TokenTable
from rnnlm.determinism import numpy_generator
from rnnlm.errors import DataError
from rnnlm.types import StepTokens, TokenIds


class Passages(NamedTuple):
    """Inputs x_1 ... x_T of B passages (B x T), and the target that follows x_T (B)."""

    inputs: TokenIds
    targets: StepTokens

    def batches(self, rows: int) -> Iterator["Passages"]:
        """The same, `rows` passages at a time."""
        for inputs, targets in zip(self.inputs.split(rows), self.targets.split(rows), strict=True):
            yield Passages(inputs, targets)


def draw_passages(table: TokenTable, tokenizer: Tokenizer, *, count: int, steps: int, seed: int) -> Passages:
    """`count` passages of `steps` inputs, which begin anywhere in the stream. Raises DataError if it is shorter."""
    if table.num_targets < steps:
        raise DataError(
            f"tokens: the table has {table.num_targets:,} targets, passages of {steps:,} steps are needed",
            todo="give a larger table or lower max_lag",
        )
    stream = LaneStream(table, num_lanes=1, window=steps, bos_id=tokenizer.bos_id, eos_id=tokenizer.eos_id)
    starts = numpy_generator(seed, "passages").integers(table.num_targets - steps + 1, size=count)
    windows = []
    for start in np.sort(starts).tolist():
        stream.position = start
        windows.append(stream.next())
    return Passages(
        torch.cat([window.inputs for window in windows]), torch.cat([window.targets[:, -1] for window in windows])
    )
