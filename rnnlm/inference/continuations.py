"""log P of continuations given what stands before them, and whether they are what greedy decoding writes.

    log P(v | u) = sum over t of log P(v_t | bos u v_1 ... v_{t-1})

The end of a text is not counted; with it, and nothing before, the sum is that of `rnnlm.inference.score`. Natural
logarithms, summed in float64.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from rnnlm.checkpoint import Checkpoint
from rnnlm.errors import ConfigError
from rnnlm.inference.packed import Ids, PackedRunner
from rnnlm.inference.precision import Products
from rnnlm.nn.language_model import LanguageModel


@dataclass(frozen=True)
class Continuations:
    """One entry a continuation: its log-probability, and whether each token is the most probable one; true of an empty
    one."""

    logprob: npt.NDArray[np.float64]
    is_greedy: npt.NDArray[np.bool_]


class ContinuationScorer:
    """Scores continuations with a checkpoint's language model; build it once."""

    def __init__(self, checkpoint: Checkpoint, *, products: Products | None = None) -> None:
        """`products` (default: float32) says how the model computes. Raises ConfigError for other kinds of models."""
        if not isinstance(checkpoint.model, LanguageModel):
            raise ConfigError(f"checkpoint: {checkpoint.location.uri} is not a language model")
        self._model = checkpoint.model
        self._weights = (products or Products()).prepare(checkpoint.model.device)
        tokenizer = checkpoint.tokenizer
        self._runner = PackedRunner(checkpoint.model, bos_id=tokenizer.bos_id, eos_id=tokenizer.eos_id)

    def score(self, before: Sequence[Ids], after: Sequence[Ids]) -> Continuations:
        """Token ids without bos and eos, one pair a continuation."""
        documents = [np.concatenate(pair).astype(np.int64) for pair in zip(before, after, strict=True)]
        begins = np.array([len(ids) for ids in before], dtype=np.int64)
        ends = np.array([len(ids) for ids in documents], dtype=np.int64)
        logprob, is_greedy = np.zeros(len(documents)), np.ones(len(documents), dtype=np.bool_)
        with torch.inference_mode(), self._weights.active():
            for block in self._runner.blocks(documents):
                for chunk in self._runner.run(documents, block):
                    asked = np.flatnonzero((chunk.times >= begins[chunk.rows]) & (chunk.times < ends[chunk.rows]))
                    if not len(asked):
                        continue
                    places = torch.from_numpy(asked).to(chunk.hidden.device)
                    hidden, targets, rows = chunk.hidden[places], chunk.targets[places], chunk.rows[asked]
                    found = self._model.softmax.logprobs(hidden, targets).cpu().numpy()
                    logprob += np.bincount(rows, weights=found, minlength=len(documents))
                    best = self._model.softmax.logits(hidden).argmax(1) == targets
                    is_greedy[rows[~best.cpu().numpy()]] = False
        return Continuations(logprob, is_greedy)
