"""The vanishing gradient, measured: how much the loss at step t still says about the state k steps before.

    g_k = | d loss_t / d s_{t-k} |        loss_t = -log p(w_{t+1} | w_1 ... w_t)

s_t is all that leaves a layer at step t: its output h_t, and where the layer carries on something else besides, that
too (the c_t of an LSTM), side by side as independent variables. For a network of one tanh layer this is the product of
Jacobians of Bengio, Simard & Frasconi (1994) and Pascanu, Mikolov & Bengio (2013, equation 5),

    d h_t / d h_{t-k} = product over i = t-k+1 ... t of diag(1 - h_i^2) U

which the LSTM's memory goes round (Hochreiter & Schmidhuber 1997, section 3). Nothing is approximated: the layers'
own steps are differentiated, whatever they are, and layers that training computes in parallel go step by step as well.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from rnnlm.diagnosis.passages import Passages
from rnnlm.nn.language_model import LanguageModel
from rnnlm.types import State, StepOutputs

Norms = Float[Tensor, "L B lags"]


def layers_with_memory(model: LanguageModel) -> list[int]:
    """The numbers, from 0, of the stack's layers that carry a state."""
    return [place for place, layer in enumerate(model.stack.cells()) if layer.state_sizes]


def gradient_norms(model: LanguageModel, passages: Passages, max_lag: int) -> Norms:
    """g_0 ... g_{max_lag} of each layer with memory and passage; passages have more than max_lag + 1 inputs, and the
    first ones only bring the state into a usual place."""
    first = passages.inputs.shape[1] - max_lag - 1
    with torch.no_grad():
        _, state = model.run(passages.inputs[:, :first], model.initial_state(len(passages.inputs)))
    with torch.enable_grad():
        hidden, left = _stepped(model, passages.inputs[:, first:], state)
        loss = F.cross_entropy(model.softmax.logits(hidden), passages.targets, reduction="sum")
        flat = [tensor for steps in left for tensors in steps for tensor in tensors]
        gradients = iter(torch.autograd.grad(loss, flat, materialize_grads=True))
    norms = [
        [torch.cat([next(gradients) for _ in tensors], dim=1).double().norm(dim=1) for tensors in steps]
        for steps in left
    ]
    return torch.stack([torch.stack(steps[::-1], dim=1) for steps in norms])


def _stepped(model: LanguageModel, inputs: Tensor, state: State) -> tuple[StepOutputs, list[list[list[Tensor]]]]:
    """The outputs after the last step; and for each layer with memory and each step what leaves it."""
    layers, states = list(model.stack.cells()), model.stack.split_state(state)
    projected = model.project_tokens(inputs.flatten()).unflatten(0, inputs.shape)
    left: list[list[list[Tensor]]] = [[] for _ in layers]
    for step in projected.unbind(1):
        outputs = step
        for place, layer in enumerate(layers):
            advance = layer.step if place else layer.advance  # the first one's inputs are projected already
            outputs, states[place], variables = _separated(*advance(outputs, states[place]))
            left[place].append(variables)
    return outputs, [left[place] for place in layers_with_memory(model)]


def _separated(outputs: StepOutputs, state: State) -> tuple[StepOutputs, State, list[Tensor]]:
    """Outputs and state as variables of their own: a copy of each, so that the gradient of one does not count what
    goes through another; where one tensor is both it stays one variable."""
    copies = {id(tensor): tensor.clone() for tensor in (outputs, *state)}
    return copies[id(outputs)], tuple(copies[id(tensor)] for tensor in state), list(copies.values())
