"""Layers whose inputs also go round an inner layer: outputs are made of x and f(x), which have the same size."""

from abc import abstractmethod

import torch
from torch import Tensor, nn

from rnnlm.config import config
from rnnlm.nn.layer import Layer, LayerConfig, checked_size
from rnnlm.nn.packing import Packing
from rnnlm.types import (
    Features,
    LayerInputs,
    LayerOutputs,
    Lengths,
    PackedHidden,
    PackedInputs,
    Projected,
    ProjectedSequence,
    ProjectedStep,
    State,
    StepOutputs,
)


@config
class BypassConfig(LayerConfig):
    """Base of residual and highway."""

    inner: LayerConfig
    "The layer f; its outputs have the size of its inputs. For several, a sequence."

    def output_size(self, input_size: int) -> int:
        size = checked_size("inner", self.inner, input_size)
        if size != input_size:
            raise ValueError(
                f"{type(self).__name__} adds x (size {input_size}) and the outputs of inner (size {size}), which must "
                f"be of one size; let {type(self.inner).__name__} give {input_size}, or put a layer of {size} before"
            )
        return size


class Bypass(Layer):
    """Outputs `join(x, f(before(x)))`. What is projected is x, and behind it what f projects."""

    def __init__(self, inner: Layer) -> None:
        super().__init__(inner.input_size, inner.output_size, inner.state_sizes)
        self.inner = inner

    @abstractmethod
    def join(self, inputs: Features, outputs: Features) -> Features:
        """The outputs, of the inputs that went round and the inner outputs."""

    def before(self, inputs: Features) -> Features:
        """What the inner layer reads of the inputs."""
        return inputs

    def project(self, inputs: PackedInputs) -> Projected:
        return torch.cat([inputs, self.inner.project(self.before(inputs))], dim=1)

    def advance(self, projected: ProjectedStep, state: State) -> tuple[StepOutputs, State]:
        inputs, inner = self._parts(projected)
        outputs, state = self.inner.advance(inner, state)
        return self.join(inputs, outputs), state

    def advance_sequence(self, projected: ProjectedSequence, state: State) -> tuple[LayerOutputs, State]:
        inputs, inner = self._parts(projected)
        outputs, state = self.inner.advance_sequence(inner, state)
        return self.join(inputs, outputs), state

    def advance_packed(self, projected: Projected, packing: Packing, state: State) -> tuple[PackedHidden, State]:
        inputs, inner = self._parts(projected)
        outputs, state = self.inner.advance_packed(inner, packing, state)
        return self.join(inputs, outputs), state

    @property
    def prefers_inputs(self) -> bool:
        return self.inner.prefers_inputs

    def run_packed(self, inputs: PackedInputs, packing: Packing, state: State) -> tuple[PackedHidden, State]:
        if not self.prefers_inputs:
            return super().run_packed(inputs, packing, state)
        outputs, state = self.inner.run_packed(self.before(inputs), packing, state)
        return self.join(inputs, outputs), state

    def forward(self, inputs: LayerInputs, state: State) -> tuple[LayerOutputs, State]:
        outputs, state = self.inner(self.before(inputs), state)
        return self.join(inputs, outputs), state

    def read(self, inputs: LayerInputs, lengths: Lengths) -> LayerOutputs:
        return self.join(inputs, self.inner.read(self.before(inputs), lengths))

    def _parts(self, projected: Tensor) -> tuple[Tensor, Tensor]:
        return projected[..., : self.input_size], projected[..., self.input_size :]


def norm_or_nothing(size: int, *, wanted: bool) -> nn.Module:
    """A layer norm, if wanted."""
    return nn.LayerNorm(size) if wanted else nn.Identity()
