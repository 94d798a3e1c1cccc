"""All steps of an LSTM layer on a CPU, with back-propagation through time written out (Werbos 1990).

torch's own kernel (oneDNN) adds to the gradient of U at every step, which for a wide layer is a matrix larger than the
caches. Here a step only keeps d_t, the loss by the gates before their squashing, and one product
over all steps gives the gradient of U, as it does those of W and of the inputs.

    forward     i, f, g, o = W x_t + U h_{t-1} + b           (sigmoid; sigmoid; tanh; sigmoid)
                c_t = f * c_{t-1} + i * g                    h_t = o * tanh(c_t)
    backward    r_t = dL/dh_t + U^T d_{t+1}                  s_t = r_t * o * tanh'(c_t) + s_{t+1} * f_{t+1}
                d_t = (s_t * g, s_t * c_{t-1}, s_t * i, r_t * tanh(c_t)), each times the slope of its gate
    gradients   dU = sum d_t h_{t-1}^T     dW = sum d_t x_t^T     db = sum d_t     dx_t = W^T d_t

Products are made in the precision of the inputs; gates, memory and their gradients are kept in float32 at least.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from rnnlm.nn.products import times_transposed

sigmoid_backward, tanh_backward = torch.ops.aten.sigmoid_backward, torch.ops.aten.tanh_backward  # of (gradient, output)

LEAST_WORK = 16_384  # rows x hidden size of a step, below which the operations' own overhead is what counts


def pays_off(rows: int, size: int, dtype: torch.dtype) -> bool:
    """Whether steps of so many rows run faster here than in torch's kernel: wide ones in bfloat16 by up to a half, none
    in float32."""
    return dtype == torch.bfloat16 and rows * size >= LEAST_WORK


class LSTMSequence(torch.autograd.Function):
    """T x B x D inputs, B x H states h and c, W, U and b in one precision; gives T x B x H outputs and the last c."""

    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        hidden: Tensor,
        cell: Tensor,
        input_weight: Tensor,
        recurrent_weight: Tensor,
        bias: Tensor,
    ) -> tuple[Tensor, Tensor]:
        steps, rows, _ = inputs.shape
        size = hidden.shape[1]
        exact = torch.promote_types(inputs.dtype, torch.float32)
        projected = times_transposed(inputs.flatten(0, 1), input_weight, bias).view(steps, rows, 4 * size)
        gates = projected if projected.dtype == exact else projected.to(exact)
        hiddens = inputs.new_empty(steps + 1, rows, size)
        cells, squashed = (inputs.new_empty(count, rows, size, dtype=exact) for count in (steps + 1, steps))
        hiddens[0], cells[0] = hidden, cell
        for step in range(steps):
            gate = gates[step].add_(times_transposed(hiddens[step], recurrent_weight).to(exact))
            write, keep, candidate, read = gate.chunk(4, dim=1)
            candidate.mul_(2.0)  # tanh(x) = 2 sigmoid(2 x) - 1: torch's sigmoid takes an eighth of its tanh's time
            gate.sigmoid_()
            candidate.mul_(2.0).sub_(1.0)
            torch.mul(keep, cells[step], out=cells[step + 1]).addcmul_(write, candidate)
            torch.mul(cells[step + 1], 2.0, out=squashed[step]).sigmoid_().mul_(2.0).sub_(1.0)
            torch.mul(read, squashed[step], out=hiddens[step + 1])
        ctx.save_for_backward(inputs, gates, hiddens, cells, squashed, input_weight, recurrent_weight)
        return hiddens[1:], cells[-1].to(cell.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, output_gradient: Tensor, cell_gradient: Tensor) -> tuple[Tensor | None, ...]:
        inputs, gates, hiddens, cells, squashed, input_weight, recurrent_weight = ctx.saved_tensors
        steps, rows, size = squashed.shape
        changes = inputs.new_empty(steps, rows, 4 * size)  # d_t
        transposed = recurrent_weight.t().contiguous()
        later_hidden, later_cell = torch.zeros_like(cells[0]), cell_gradient.to(cells.dtype)
        change = torch.empty_like(gates[0])
        by_write, by_keep, by_candidate, by_read = change.chunk(4, dim=1)
        for step in reversed(range(steps)):
            write, keep, candidate, read = gates[step].chunk(4, dim=1)
            by_hidden = later_hidden + output_gradient[step]  # r_t
            by_cell = tanh_backward(by_hidden * read, squashed[step]).add_(later_cell)  # s_t
            torch.mul(by_cell, candidate, out=by_write)
            torch.mul(by_cell, cells[step], out=by_keep)
            torch.mul(by_cell, write, out=by_candidate)
            torch.mul(by_hidden, squashed[step], out=by_read)
            made = changes[step]
            made[:, : 2 * size] = sigmoid_backward(change[:, : 2 * size], gates[step][:, : 2 * size])
            made[:, 2 * size : 3 * size] = tanh_backward(by_candidate, candidate)
            made[:, 3 * size :] = sigmoid_backward(by_read, read)
            later_hidden = times_transposed(made, transposed).to(cells.dtype)
            later_cell = by_cell.mul_(keep)
        flat = changes.flatten(0, 1)
        across = flat.t()
        return (
            times_transposed(flat, input_weight.t()).view_as(inputs),
            later_hidden,
            later_cell,
            times_transposed(across, inputs.flatten(0, 1).t()),
            times_transposed(across, hiddens[:-1].flatten(0, 1).t()),
            flat.sum(0),
        )
