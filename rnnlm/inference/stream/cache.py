"""The continuous cache (Grave, Joulin & Usunier 2017, "Improving neural language models with a continuous cache").

With h_i the state that the token w_i was predicted from, and the last `size` such pairs kept:

    p_cache(w | h_t) ~ sum over i with w_i = w of exp(flatness h_t . h_i)          (equation 3)
    p(w | h_t) = (1 - weight) p_model(w | h_t) + weight p_cache(w | h_t)

A position sees pairs strictly before it. Only the probability of the target is wanted, so no distribution over the
vocabulary is made: a window of positions meets the kept states in one product. With nothing kept yet the model's own
probability stands.
"""

from abc import abstractmethod

import torch
from pydantic import Field
from torch import Tensor

from rnnlm.config import config
from rnnlm.types import PackedHidden, PackedLogprobs, PackedTargets


@config
class CacheConfig:
    """Base of the configs in conf/cache."""

    @abstractmethod
    def open(self) -> "Cache | None":
        """An empty cache, or None for none."""


@config
class NoCacheConfig(CacheConfig):
    """No cache."""

    def open(self) -> None:
        return None


@config
class ContinuousCacheConfig(CacheConfig):
    """A cache of states and the tokens that followed them. The best values depend on the model: fit them on held-out
    text (`fit.py`)."""

    size: int = Field(default=2000, ge=1)
    "Pairs that are kept."
    flatness: float = Field(default=1.0, ge=0.0)
    "How much more similar states count (the paper's theta); 0 is a plain unigram cache."
    weight: float = Field(default=0.1, ge=0.0, le=1.0)
    "Share of the cache in the mixture (the paper's lambda)."

    def open(self) -> "Cache":
        return Cache(self.size, self.flatness, self.weight)


class Cache:
    """The last `size` states and the tokens that followed them, in the order of the text."""

    def __init__(self, size: int, flatness: float, weight: float) -> None:
        self.size, self.flatness, self.weight = size, flatness, weight
        self.states: Tensor | None = None
        self.tokens = torch.zeros(0, dtype=torch.int64)

    def mix(self, hidden: PackedHidden, targets: PackedTargets, logprobs: PackedLogprobs) -> PackedLogprobs:
        """The mixture's log-probabilities of the next positions in the text, which are then kept."""
        found = self.look_up(hidden, targets).to(logprobs.dtype)
        weight = torch.tensor(self.weight, dtype=logprobs.dtype, device=logprobs.device)
        mixed = torch.logaddexp(torch.log1p(-weight) + logprobs, weight.log() + found)
        return torch.where(found.isnan(), logprobs, mixed)

    def look_up(self, hidden: PackedHidden, targets: PackedTargets) -> PackedLogprobs:
        """log p_cache of the next positions in the text, which are then kept; NaN where nothing was kept before."""
        before = 0 if self.states is None else len(self.states)
        states = hidden if self.states is None else torch.cat([self.states, hidden])
        tokens = torch.cat([self.tokens.to(targets.device), targets])
        own = before + torch.arange(len(hidden), device=hidden.device).unsqueeze(1)  # each position's own place
        place = torch.arange(len(states), device=hidden.device)
        seen = (place < own) & (place >= own - self.size)
        scores = (self.flatness * (hidden @ states.t())).masked_fill(~seen, -torch.inf)
        same = tokens == targets.unsqueeze(1)
        self.states, self.tokens = states[-self.size :].clone(), tokens[-self.size :].clone()
        return scores.masked_fill(~same, -torch.inf).logsumexp(1) - scores.logsumexp(1)
