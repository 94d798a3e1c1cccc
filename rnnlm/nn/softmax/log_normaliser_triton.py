"""Log-normalisers and the targets' logits on a GPU in one kernel; what `log_normaliser.py` describes, for reading only.

A program takes BLOCK_M hidden states and one part of the vocabulary. It makes the logits of BLOCK_N outputs at a time,
adding up products of BLOCK_K features, and keeps of each row the largest logit m, the sum of 2^(z - m) (Milakov &
Gimelshein 2018, algorithm 3) and the logit of its target. So no logit is ever written to memory. The vocabulary is cut
into as many parts as keep every multiprocessor busy, and the sums of the parts are joined afterwards:

    log sum_v exp(z_v) = m + log sum over parts p of s_p 2^(m_p - m)          m = max_p m_p (in base 2)

This module imports triton, which only a machine with a GPU needs; `fused.reading_table` imports it there.
"""

from dataclasses import dataclass
from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from rnnlm.nn.softmax.log_normaliser import BELOW_ALL, LOG2_E, KernelTable

PROGRAMS_A_PROCESSOR = 4  # that a launch should have, for each multiprocessor of the GPU
INTERPRETED_PROGRAMS = 8  # the same where triton's interpreter runs the kernel on the processor


@dataclass(frozen=True)
class Blocks:
    """Of one program: rows, outputs and features at a time; its warps, and the loads in flight."""

    rows: int
    outputs: int
    features: int
    warps: int
    stages: int


# As ptxas compiles them for Ampere and Hopper, operands in flight take 64 and 96 KiB, and no register is spilled to
# memory; with 256 outputs some are. In float32 no matrix unit helps: it would round to TF32.
HALF_BLOCKS = Blocks(128, 128, 64, warps=8, stages=3)
FLOAT_BLOCKS = Blocks(64, 64, 32, warps=4, stages=3)


class TritonTable(KernelTable):
    """W (V x H) in the precision of products, b (V) in float32."""

    def __init__(self, weight: Tensor, bias: Tensor | None, precision: torch.dtype) -> None:
        self.weight = weight.detach().to(precision).contiguous()
        self.bias = None if bias is None else bias.detach().float().contiguous()

    def read(self, hidden: Tensor, targets: Tensor, parts: int | None = None) -> tuple[Tensor, Tensor]:
        """Log-normalisers and the targets' logits (n each, float32) of hidden states (n x H), made of the same rounded
        numbers. `parts` of the vocabulary: by default what the device needs."""
        count, (vocab, size) = len(hidden), self.weight.shape
        if count == 0:
            return hidden.new_empty(0), hidden.new_empty(0)
        operand = hidden.to(self.weight.dtype).contiguous()
        blocks = FLOAT_BLOCKS if self.weight.dtype == torch.float32 else HALF_BLOCKS
        row_blocks, tiles = triton.cdiv(count, blocks.rows), triton.cdiv(vocab, blocks.outputs)
        tiles_a_part = triton.cdiv(tiles, min(tiles, parts or triton.cdiv(_programs(hidden.device), row_blocks)))
        parts = triton.cdiv(tiles, tiles_a_part)  # none is empty
        top = torch.empty(parts, count, dtype=torch.float32, device=hidden.device)
        total, found = torch.empty_like(top), torch.empty_like(top)
        _read_part[(row_blocks, parts)](
            operand, self.weight, self.bias, targets.contiguous(), top, total, found, count, vocab, size, tiles_a_part,
            BELOW_ALL=BELOW_ALL, LOG2_E=LOG2_E,
            BLOCK_M=blocks.rows, BLOCK_N=blocks.outputs, BLOCK_K=blocks.features,
            num_warps=blocks.warps, num_stages=blocks.stages,
        )  # fmt: skip
        largest = top.amax(0)
        total = total.mul_(torch.exp2(top - largest)).sum(0)
        return (total.log2() + largest) / LOG2_E, found.sum(0)  # a target is in one part, the others found 0


def _programs(device: torch.device) -> int:
    if device.type != "cuda":
        return INTERPRETED_PROGRAMS
    return PROGRAMS_A_PROCESSOR * torch.cuda.get_device_properties(device).multi_processor_count


@triton.jit
@no_type_check  # triton compiles the source; checks of types at run time would stand in its way
def _read_part(
    hidden, weight, bias, targets, top_of, total_of, found_of, num_rows, vocab_size, size, tiles_a_part,
    BELOW_ALL: tl.constexpr, LOG2_E: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """One program. `hidden` is num_rows x size, `weight` vocab_size x size, `bias` vocab_size or None, `targets` has
    num_rows; `top_of`, `total_of` and `found_of` are parts x num_rows. All are row-major, without gaps."""
    rows = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    part = tl.program_id(1)
    is_row = rows < num_rows
    target = tl.load(targets + rows, mask=is_row, other=-1)
    top = tl.full((BLOCK_M,), BELOW_ALL, tl.float32)
    total = tl.zeros((BLOCK_M,), tl.float32)
    found = tl.zeros((BLOCK_M,), tl.float32)
    # 64 bits: a table of 300,000 tokens by 8,192 features has more than 2^31 numbers.
    row_starts = hidden + rows.to(tl.int64)[:, None] * size
    for tile in range(tiles_a_part):
        outputs = (part * tiles_a_part + tile) * BLOCK_N + tl.arange(0, BLOCK_N)
        is_output = outputs < vocab_size
        output_starts = weight + outputs.to(tl.int64)[None, :] * size
        logits = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
        for begin in range(0, size, BLOCK_K):
            features = begin + tl.arange(0, BLOCK_K)
            is_feature = features < size
            left = tl.load(row_starts + features[None, :], mask=is_row[:, None] & is_feature[None, :], other=0.0)
            right = tl.load(output_starts + features[:, None], mask=is_feature[:, None] & is_output[None, :], other=0.0)
            logits = tl.dot(left, right, logits, input_precision="ieee")
        if bias is not None:
            logits += tl.load(bias + outputs, mask=is_output, other=0.0)[None, :]
        found += tl.sum(tl.where(outputs[None, :] == target[:, None], logits, 0.0), 1)
        logits = tl.where(is_output[None, :], logits * LOG2_E, float("-inf"))
        below = top
        top = tl.maximum(top, tl.max(logits, 1))
        total = total * tl.exp2(below - top) + tl.sum(tl.exp2(logits - top[:, None]), 1)
    places = part.to(tl.int64) * num_rows + rows
    tl.store(top_of + places, top, mask=is_row)
    tl.store(total_of + places, total, mask=is_row)
    tl.store(found_of + places, found, mask=is_row)
