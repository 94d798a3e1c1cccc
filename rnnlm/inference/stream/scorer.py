"""log P of every target of a token table read as one stream, as word-level benchmarks define it.

The hidden state is carried from document to document; nothing is ever reset. A continuous cache and dynamic evaluation
may be added (`cache.py`, `adaptation.py`). The model that is given is left as it is: an adapted one is a copy.
"""

import copy
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from rnnlm.checkpoint import Checkpoint
from rnnlm.data.stream import LaneStream, Window
from rnnlm.data.tokenizers import Tokenizer
from rnnlm.data.tokens import TokenTable
from rnnlm.errors import ConfigError
from rnnlm.inference.stream.adaptation import Adaptation, AdaptationConfig, NoAdaptationConfig
from rnnlm.inference.stream.cache import CacheConfig, NoCacheConfig
from rnnlm.nn.language_model import LanguageModel
from rnnlm.tasks.language_model import read_window
from rnnlm.types import PackedHidden, PackedTargets, State

WINDOW = 128  # targets at a time where nothing is learnt in between; the result does not depend on it

Logprobs = npt.NDArray[np.float64]


class StreamScorer:
    """Reads a table in its order, one target after another."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        cache: CacheConfig | None = None,
        adaptation: AdaptationConfig | None = None,
        statistics: TokenTable | None = None,
    ) -> None:
        """`statistics` is a table of training data, on which dynamic evaluation measures its mean squares."""
        if not isinstance(checkpoint.model, LanguageModel):
            raise ConfigError(f"checkpoint: {checkpoint.location.uri} is not a language model, it cannot read a stream")
        self.tokenizer, self.cache = checkpoint.tokenizer, cache or NoCacheConfig()
        self.adaptation, self.statistics = adaptation or NoAdaptationConfig(), statistics
        self.model = checkpoint.model
        if not isinstance(self.adaptation, NoAdaptationConfig):
            self.model = copy.deepcopy(self.model)

    def logprobs(self, table: TokenTable, on_progress: Callable[[int], None] = lambda done: None) -> Logprobs:  # noqa: ARG005
        """Natural logarithms, one number a target. Always from the trained parameters and an empty cache."""
        cache, adaptation = self.cache.open(), self.adaptation.open(self.model)
        segment = WINDOW if adaptation is None else adaptation.settings.segment
        if adaptation is not None and self.statistics is not None:
            self.measure(adaptation, self.statistics)
        result, done = np.empty(table.num_targets), 0
        stream = one_lane(table, self.tokenizer, segment)
        state = self.model.initial_state(1)
        for _ in range(stream.steps_per_epoch):
            hidden, targets, state = self.read(stream.next(), state, learning=adaptation is not None)
            found = self.model.softmax.logprobs(hidden.detach(), targets)
            if cache is not None:
                found = cache.mix(hidden.detach(), targets, found)
            result[done : done + len(targets)] = found.double().cpu().numpy()
            done += len(targets)
            if adaptation is not None:
                (self.model.softmax.objective(hidden, targets).objective / len(targets)).backward()
                adaptation.step()
            on_progress(done)
        if adaptation is not None:
            with torch.no_grad():
                for parameter, trained in zip(adaptation.parameters, adaptation.trained, strict=True):
                    parameter.copy_(trained)
        return result

    def read(self, window: Window, state: State, *, learning: bool) -> tuple[PackedHidden, PackedTargets, State]:
        """Hidden states and targets of a window, and the state after it; with a gradient where `learning`."""
        # cuDNN has no gradient of a recurrence outside of training.
        with torch.set_grad_enabled(learning), torch.backends.cudnn.flags(enabled=not learning):
            raw, targets, state = read_window(self.model, window, state)
        return raw.flatten(0, 1), targets, state

    def measure(self, adaptation: Adaptation, table: TokenTable, segments: int = 500) -> None:
        """Mean squares of gradients over the first segments of training data."""
        stream = one_lane(table, self.tokenizer, adaptation.settings.segment)
        state = self.model.initial_state(1)
        for _ in range(min(segments, stream.steps_per_epoch)):
            hidden, targets, state = self.read(stream.next(), state, learning=True)
            (self.model.softmax.objective(hidden, targets).objective / len(targets)).backward()
            adaptation.observe()
            for parameter in adaptation.parameters:
                parameter.grad = None
        adaptation.fixed = True


def one_lane(table: TokenTable, tokenizer: Tokenizer, window: int) -> LaneStream:
    """All targets in their order."""
    return LaneStream(table, num_lanes=1, window=window, bos_id=tokenizer.bos_id, eos_id=tokenizer.eos_id)
