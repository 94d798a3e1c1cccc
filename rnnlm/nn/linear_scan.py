"""The elementwise linear recurrence that all cells without recurrent matrices share.

    c_t = a_t * c_{t-1} + b_t        t = 1 ... T, for each of B x H lanes by itself

`steps` goes through time in a loop, one multiply-add a step: one pass over memory, and T kernels. `chunks` cuts time
into chunks of K steps and goes through all chunks at once, as if each began with zero (Martin & Cundy 2018 scan linear
recurrences with the same algebra; the cutting is that of Blelloch 1990, 1.4):

    l_k = a_k * l_{k-1} + b_k        from l = 0: what the chunk itself puts in
    p_k = a_k * p_{k-1}              from p = 1: what is left of what came in
    c_k = l_k + p_k * c_in           c_in, the end of the chunk before: a recurrence over T / K chunks, solved alike

That is about K log_K T kernels and three times the arithmetic. Neither divides: products p that underflow mean that
nothing is left, which is right. Decays lie between 0 and 1; above 1 the products could overflow where c does not. Both
give the same numbers up to rounding.

The gradient is the same recurrence backwards in time: with g_t = dL/dc_t through all later steps,

    g_t = a_{t+1} * g_{t+1} + dL/dc_t        dL/db_t = g_t        dL/da_t = g_t * c_{t-1}

It is written by hand and has no gradient of its own.
"""

from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from rnnlm.types import LayerOutputs, StepOutputs

Method = Literal["auto", "steps", "chunks"]

CHUNK = 16  # K; 8 and 32 take about as long

# On one thread of a CPU, forward and backward together, `chunks` draws level at 64 steps. At 512 steps it takes a fifth
# of the time of `steps` with 512 lanes, two fifths with 2,048, four fifths with 4,096 and the same with 8,192.
# With more lanes a step keeps the processor busy, and one pass over memory wins.
MANY_STEPS = 64
FEW_LANES = 4096


def linear_scan(decay: LayerOutputs, addend: LayerOutputs, start: StepOutputs, method: Method = "auto") -> LayerOutputs:
    """All c_t, given a = `decay`, b = `addend` and c_0 = `start`; differentiable once."""
    if method == "auto":
        method = choose(decay)
    memory: Tensor = _LinearScan.apply(decay, addend, start, method == "chunks")
    return memory


def choose(decay: LayerOutputs) -> Method:
    """What `auto` takes for a shape and a device."""
    rows, steps, size = decay.shape
    if decay.device.type == "cpu":
        return "chunks" if rows * size <= FEW_LANES and steps >= MANY_STEPS else "steps"
    return "chunks" if steps >= 2 * CHUNK else "steps"  # launches of kernels are what costs; not measured


class _LinearScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, decay: Tensor, addend: Tensor, start: Tensor, chunked: bool) -> Tensor:
        memory = torch.empty_like(addend, memory_format=torch.contiguous_format)
        _scan(decay, addend, start, memory, backwards=False, chunked=chunked)
        ctx.save_for_backward(decay, start, memory)
        ctx.chunked = chunked
        return memory

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        (given,) = grad_outputs
        decay, start, memory = ctx.saved_tensors
        wants_decay, _, wants_start, _ = ctx.needs_input_grad
        flow = flow_back(decay, given, chunked=ctx.chunked)
        decay_grad = None
        if wants_decay:
            decay_grad = torch.empty_like(memory)
            torch.mul(flow[:, 0], start, out=decay_grad[:, 0])
            torch.mul(flow[:, 1:], memory[:, :-1], out=decay_grad[:, 1:])
        return decay_grad, flow, decay[:, 0] * flow[:, 0] if wants_start else None, None


def flow_back(decay: Tensor, given: Tensor, *, chunked: bool) -> Tensor:
    """g of the equations above, for dL/dc_t = `given`."""
    flow = torch.empty_like(decay, memory_format=torch.contiguous_format)
    flow[:, -1] = given[:, -1]
    _scan(decay[:, 1:], given[:, :-1], given[:, -1], flow[:, :-1], backwards=True, chunked=chunked)
    return flow


def _scan(decay: Tensor, addend: Tensor, start: Tensor, out: Tensor, *, backwards: bool, chunked: bool) -> None:
    """Write the recurrence from `start` into `out`, from the last step to the first if `backwards`."""
    if chunked and decay.shape[1] >= 2 * CHUNK:
        _scan_chunks(decay, addend, start, out, backwards=backwards)
        return
    steps = list(zip(decay.unbind(1), addend.unbind(1), out.unbind(1), strict=True))
    for kept, added, result in reversed(steps) if backwards else steps:
        torch.addcmul(added, kept, start, out=result)
        start = result


def _scan_chunks(decay: Tensor, addend: Tensor, start: Tensor, out: Tensor, *, backwards: bool) -> None:
    """The same through all whole chunks at once; steps that fill none come last in the direction of the scan."""
    steps = decay.shape[1]
    count = steps // CHUNK
    cut = steps - count * CHUNK if backwards else count * CHUNK
    whole, rest = (slice(cut, None), slice(cut)) if backwards else (slice(cut), slice(cut, None))
    local = out[:, whole].unflatten(1, (count, CHUNK))
    left = torch.empty_like(local, memory_format=torch.contiguous_format)  # p
    tensors = [decay[:, whole].unflatten(1, (count, CHUNK)), addend[:, whole].unflatten(1, (count, CHUNK)), local, left]
    each_step = list(zip(*(tensor.unbind(2) for tensor in tensors), strict=True))
    if backwards:
        each_step.reverse()
    kept, added, last, last_left = each_step[0]
    last.copy_(added)
    last_left.copy_(kept)
    for kept, added, result, product in each_step[1:]:
        torch.addcmul(added, kept, last, out=result)
        torch.mul(kept, last_left, out=product)
        last, last_left = result, product
    ends = torch.empty_like(last, memory_format=torch.contiguous_format)
    _scan(last_left, last, start, ends, backwards=backwards, chunked=True)
    entering = [ends[:, 1:], start.unsqueeze(1)] if backwards else [start.unsqueeze(1), ends[:, :-1]]
    local.addcmul_(left, torch.cat(entering, dim=1).unsqueeze(2))
    final = ends[:, 0] if backwards else ends[:, -1]
    _scan(decay[:, rest], addend[:, rest], final, out[:, rest], backwards=backwards, chunked=False)
