"""Which inputs an output depends on, found by the gradient: the check that no layer looks further than it says.

A language model that sees the token it predicts learns to copy it, and its perplexity means nothing. What a layer says
of itself (`sees_future`) is compared here with what it does.
"""

import copy

import torch
from torch import Tensor

from rnnlm.nn.layer import Layer
from rnnlm.types import Dependence, LayerOutputs


def inputs_seen(layer: Layer, *, steps: int = 8, seed: int = 0) -> Dependence:
    """T x T for random sequences of T = `steps`: [t, s] is true if d output_t / d input_s is not zero, by `read` or, if
    the layer has it, by `forward`. Dropout is off; the layer is left as it is."""
    layer = copy.deepcopy(layer).cpu().double().eval()
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(1, steps, layer.input_size, dtype=torch.float64, generator=generator).requires_grad_()
    with torch.enable_grad():
        runs = [layer.read(inputs, torch.tensor([steps]))]
        if not layer.sees_future:
            runs.append(layer(inputs, layer.initial_state(1))[0])
        return torch.stack([_seen(outputs, inputs, generator) for outputs in runs]).any(0)


def later_inputs_seen(layer: Layer, *, steps: int = 8, seed: int = 0) -> list[tuple[int, int]]:
    """(t, s) with s > t where output t depends on input s; empty for a layer that reads from left to right."""
    later = inputs_seen(layer, steps=steps, seed=seed).triu(1)
    return [(int(t), int(s)) for t, s in later.nonzero()]


def _seen(outputs: LayerOutputs, inputs: Tensor, generator: torch.Generator) -> Dependence:
    # A random mixture of an output's features, since their plain sum may be a constant (a normalised output's is).
    mixture = torch.randn(outputs.shape[2], dtype=outputs.dtype, generator=generator)
    rows = []
    for time in range(outputs.shape[1]):
        (gradient,) = torch.autograd.grad(outputs[0, time] @ mixture, inputs, retain_graph=True)
        rows.append((gradient[0] != 0).any(1))
    return torch.stack(rows)
