"""The bookkeeping of decoding: which prompt each lane continues, and what was generated there.

A lane is a row of the batch that is stepped. Its text lies in a ring of `max_tokens` places that all lanes turn in
step: at step n every lane writes to place n mod max_tokens, whenever its own text began. So no step looks at single
lanes; only an end does.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rnnlm.decoding.waiting import Entrants, put_context
from rnnlm.determinism import numpy_generator
from rnnlm.types import State, StepTokens


class Ended(NamedTuple):
    """What a lane generated, its sum of log-probabilities, and whether its last token is eos (and not in `tokens`)."""

    row: int
    tokens: list[int]
    logprob: float
    by_eos: bool


class Lanes:
    """B lanes: what each reads next (`tokens`), the state before that (`state`), what it looks at (`context`), and the
    records of its text."""

    def __init__(
        self, entrants: Entrants, *, row_ids: Sequence[int], seed: int, max_tokens: int, draws: bool, eos_id: int
    ) -> None:
        self.rows, self.tokens, self.state, self.context = entrants
        self._row_ids, self._seed, self._draws = row_ids, seed, draws
        self._max_tokens, self._eos_id = max_tokens, eos_id
        self._step = 0
        self._began = np.zeros(len(self.rows), dtype=np.int64)  # step at which a lane's text began
        self._written = np.zeros((len(self.rows), max_tokens), dtype=np.int64)
        self._uniforms = np.zeros((len(self.rows), max_tokens if draws else 1), dtype=np.float32)
        self._logprobs = np.zeros(len(self.rows))
        self._begin(np.arange(len(self.rows)))

    def uniforms(self) -> Tensor:
        """Each lane's own number for this step."""
        place = self._step % self._uniforms.shape[1]
        return torch.from_numpy(self._uniforms[:, place].copy()).to(self.tokens.device)

    def write(self, tokens: StepTokens, logprobs: Tensor, state: State) -> npt.NDArray[np.intp]:
        """Record one token a lane, and its log-probability; gives the lanes whose text has ended."""
        self.tokens, self.state = tokens, state
        chosen = tokens.cpu().numpy()
        self._written[:, self._step % self._max_tokens] = chosen
        self._logprobs += logprobs.cpu().numpy()
        self._step += 1
        return np.flatnonzero((chosen == self._eos_id) | (self._began == self._step - self._max_tokens))

    def take(self, lane: int) -> Ended:
        """The text of a lane that has ended."""
        began = int(self._began[lane])
        places = np.arange(began, self._step) % self._max_tokens
        tokens: list[int] = self._written[lane, places].tolist()
        by_eos = tokens[-1] == self._eos_id
        return Ended(int(self.rows[lane]), tokens[:-1] if by_eos else tokens, float(self._logprobs[lane]), by_eos)

    def refill(self, lanes: npt.NDArray[np.intp], entrants: Entrants) -> None:
        """Let prompts take lanes, one each."""
        places = torch.from_numpy(lanes).to(self.tokens.device)
        self.rows[lanes] = entrants.rows
        self.tokens[places] = entrants.tokens
        for tensor, fresh in zip(self.state, entrants.state, strict=True):
            tensor[places] = fresh
        self.context = put_context(self.context, places, entrants.context)
        self._began[lanes] = self._step
        self._logprobs[lanes] = 0.0
        self._begin(lanes)

    def close(self, lanes: npt.NDArray[np.intp]) -> None:
        """Go on without these lanes."""
        kept = np.delete(np.arange(len(self.rows)), lanes)
        places = torch.from_numpy(kept).to(self.tokens.device)
        self.tokens, self.state = self.tokens[places], tuple(tensor[places] for tensor in self.state)
        self.context = tuple(tensor[places] for tensor in self.context)
        self.rows, self._began, self._logprobs = self.rows[kept], self._began[kept], self._logprobs[kept]
        self._written, self._uniforms = self._written[kept], self._uniforms[kept]

    def _begin(self, lanes: npt.NDArray[np.intp]) -> None:
        """Draw the numbers of the texts that begin in these lanes."""
        if not self._draws:
            return
        for lane in lanes.tolist():
            generator = numpy_generator(self._seed, "decoding", self._row_ids[self.rows[lane]])
            numbers = generator.random(self._max_tokens, dtype=np.float32)
            self._uniforms[lane] = np.roll(numbers, self._step % self._max_tokens)
