"""The bookkeeping of beam search: R beams of k hypotheses, what each wrote, and the best that have ended.

All hypotheses of a beam have the same length. What they wrote is kept as a token and a parent for each (slot, step),
so that growing copies no text; a text is read backwards from its end when its beam is done. No step looks at single
hypotheses.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rnnlm.decoding.stepper import Hypothesis
from rnnlm.decoding.waiting import Entrants, put_context
from rnnlm.types import State

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


class Candidates(NamedTuple):
    """For each of N hypotheses its C best continuations by one token: R x k x C."""

    tokens: Integers
    gains: Floats  # what is added to the hypothesis's rank: log-probability with what the rules did to it
    logprobs: Floats  # the model's own


class Settings(NamedTuple):
    """What a beam search is asked for."""

    width: int  # k
    num_best: int  # hypotheses that are given
    max_tokens: int
    length_penalty: float
    early_stopping: bool
    eos_id: int


class Ended(NamedTuple):
    """The best ended hypotheses of each beam, best first, R x num_best; those not there yet score -inf."""

    score: Floats
    logprob: Floats
    slot: Integers  # where the last token stands,
    length: Integers  # and how many tokens there are
    by_eos: npt.NDArray[np.bool_]

    def best(self, others: "Ended") -> "Ended":
        """The best of both; what was there first goes before its equals."""
        both = [np.concatenate(pair, axis=1) for pair in zip(self, others, strict=True)]
        order = np.argsort(-both[0], axis=1, kind="stable")[:, : self.score.shape[1]]
        return Ended._make(np.take_along_axis(one, order, axis=1) for one in both)

    @classmethod
    def none(cls, rows: int, count: int) -> "Ended":
        """No hypotheses."""
        floats, integers = np.full((rows, count), -np.inf), np.zeros((rows, count), dtype=np.int64)
        return cls(floats, floats.copy(), integers, integers.copy(), np.zeros((rows, count), dtype=np.bool_))


def length_normaliser(length: npt.ArrayLike, alpha: float) -> Floats:
    """((5 + n) / 6)^alpha, by which the log-probability of n tokens (eos is one) is divided (Wu et al. 2016, equation
    14)."""
    return np.asarray(((5.0 + np.asarray(length)) / 6.0) ** alpha)


class Beams:
    """R beams: what their R k rows read next (`tokens`), the state before that, and what the beams look at."""

    def __init__(self, entrants: Entrants, settings: Settings) -> None:
        self._settings = settings
        self.rows = entrants.rows
        self.tokens, self.state, self.context = _spread(entrants, settings.width)
        count, width = len(self.rows), settings.width
        self._lengths = np.zeros(count, dtype=np.int64)
        self._ranks, self._logprobs = _first_ranks(count, width), np.zeros((count, width))
        self._written = np.zeros((count, width, settings.max_tokens), dtype=np.int64)
        self._parents = np.zeros((count, width, settings.max_tokens), dtype=np.int32)
        self._ended = Ended.none(count, settings.num_best)

    def grow(self, candidates: Candidates, state: State) -> npt.NDArray[np.intp]:
        """Let each beam go on with the best k of its k C candidates that are no ends; gives the beams that are done.
        `state` is that after the last tokens; `self.state` becomes that of the new hypotheses."""
        count, width = self._ranks.shape
        size = candidates.tokens.shape[2]
        totals = (self._ranks[:, :, None] + candidates.gains).reshape(count, -1)
        # Each hypothesis has one end, so the best 2 k hold at least k that go on.
        order = np.argsort(-totals, axis=1, kind="stable")[:, : 2 * width]
        ranks, slots = np.take_along_axis(totals, order, axis=1), order // size
        tokens = np.take_along_axis(candidates.tokens.reshape(count, -1), order, axis=1)
        logprobs = np.take_along_axis(
            (self._logprobs[:, :, None] + candidates.logprobs).reshape(count, -1), order, axis=1
        )
        ends = tokens == self._settings.eos_id
        self._note_ends(ranks[:, :width], logprobs[:, :width], slots[:, :width], ends[:, :width])
        going_on = np.argsort(ends, axis=1, kind="stable")[:, :width]
        self._ranks, self._logprobs, tokens, slots = (
            np.take_along_axis(one, going_on, axis=1) for one in (ranks, logprobs, tokens, slots)
        )
        beams = np.arange(count)
        self._written[beams, :, self._lengths], self._parents[beams, :, self._lengths] = tokens, slots
        self._lengths += 1
        device = self.tokens.device
        places = torch.from_numpy((beams[:, None] * width + slots).reshape(-1)).to(device)
        self.tokens = torch.from_numpy(tokens.reshape(-1)).to(device)
        self.state = tuple(tensor[places] for tensor in state)
        return self._done()

    def _note_ends(self, ranks: Floats, logprobs: Floats, slots: Integers, ends: npt.NDArray[np.bool_]) -> None:
        """Keep hypotheses that end with eos and are among the k best candidates."""
        if not ends.any():
            return
        normaliser = length_normaliser(self._lengths + 1, self._settings.length_penalty)
        score = np.where(ends, ranks / normaliser[:, None], -np.inf)
        lengths = np.broadcast_to(self._lengths[:, None], score.shape)
        self._ended = self._ended.best(Ended(score, logprobs, slots, lengths, ends))

    def _done(self) -> npt.NDArray[np.intp]:
        """Beams at the limit, whose hypotheses are then kept as they are; without one that goes on; or, as ranks only
        fall, without one that could still be among the best."""
        settings = self._settings
        at_limit = self._lengths == settings.max_tokens
        longest = float(length_normaliser(settings.max_tokens, settings.length_penalty))
        if at_limit.any():
            score = np.where(at_limit[:, None], self._ranks / longest, -np.inf)
            slots = np.broadcast_to(np.arange(settings.width), score.shape)
            lengths = np.broadcast_to(self._lengths[:, None], score.shape)
            cut = Ended(score, self._logprobs, slots, lengths, np.zeros(score.shape, dtype=np.bool_))
            self._ended = self._ended.best(cut)
        best = self._ranks.max(axis=1)
        done = at_limit | (best == -np.inf)
        if settings.early_stopping:
            worst = self._ended.score[:, -1]
            done |= (worst > -np.inf) & (best / longest <= worst)
        return np.flatnonzero(done)

    def take(self, beam: int) -> list[Hypothesis]:
        """The best of a beam that is done, best first."""
        score, logprob, slot, length, by_eos = (one[beam] for one in self._ended)
        texts = np.zeros((len(score), self._settings.max_tokens), dtype=np.int64)
        for place in range(int(length.max()) - 1, -1, -1):
            has = place < length
            texts[has, place] = self._written[beam, slot[has], place]
            slot = np.where(has, self._parents[beam, slot, place], slot)
        return [
            Hypothesis(texts[one, : length[one]].tolist(), float(logprob[one]), "end" if by_eos[one] else "length")
            for one in np.flatnonzero(score > -np.inf).tolist()
        ]

    def refill(self, beams: npt.NDArray[np.intp], entrants: Entrants) -> None:
        """Let prompts take beams, one each."""
        width = self._settings.width
        tokens, state, context = _spread(entrants, width)
        rows = torch.from_numpy((beams[:, None] * width + np.arange(width)).reshape(-1)).to(self.tokens.device)
        self.tokens[rows] = tokens
        for tensor, fresh in zip(self.state, state, strict=True):
            tensor[rows] = fresh
        self.context = put_context(self.context, torch.from_numpy(beams).to(self.tokens.device), context)
        self.rows[beams] = entrants.rows
        self._lengths[beams] = 0
        self._ranks[beams], self._logprobs[beams] = _first_ranks(len(beams), width), 0.0
        for mine, empty in zip(self._ended, Ended.none(len(beams), self._settings.num_best), strict=True):
            mine[beams] = empty

    def close(self, beams: npt.NDArray[np.intp]) -> None:
        """Go on without these beams."""
        kept = np.delete(np.arange(len(self.rows)), beams)
        width = self._settings.width
        rows = torch.from_numpy((kept[:, None] * width + np.arange(width)).reshape(-1)).to(self.tokens.device)
        self.tokens, self.state = self.tokens[rows], tuple(tensor[rows] for tensor in self.state)
        places = torch.from_numpy(kept).to(self.tokens.device)
        self.context = tuple(tensor[places] for tensor in self.context)
        self.rows, self._lengths = self.rows[kept], self._lengths[kept]
        self._ranks, self._logprobs = self._ranks[kept], self._logprobs[kept]
        self._written, self._parents = self._written[kept], self._parents[kept]
        self._ended = Ended._make(one[kept] for one in self._ended)


def _first_ranks(count: int, width: int) -> Floats:
    """A beam begins with one hypothesis; the others are not there."""
    ranks = np.full((count, width), -math.inf)
    ranks[:, 0] = 0.0
    return ranks


def _spread(entrants: Entrants, width: int) -> tuple[Tensor, State, State]:
    """Tokens and state of prompts, `width` times each, and their context."""
    tokens = entrants.tokens.repeat_interleave(width, 0)
    return tokens, tuple(one.repeat_interleave(width, 0) for one in entrants.state), entrants.context
