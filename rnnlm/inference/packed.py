"""Many sequences through a recurrent stack without computing a single padded position.

Rows are sorted by length, the longest first, and laid out time-major: all rows at step 0, then those still alive at
step 1, and so on. At step t the live rows are the first `alive[t]`, so a step reads and writes one contiguous slice,
and the state shrinks as rows end (`Layer.advance_packed`). What a layer makes of one position alone, such as a cell's
input product, is done for all steps at once; the first layer's depends on the token and is read from a table of V rows.
A layer that `prefers_inputs`, one that cuDNN runs, has the same order of rows and no table. Time is cut into chunks
with carried state, so memory does not grow with the length of a row.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rnnlm.nn.language_model import LanguageModel
from rnnlm.nn.packing import Packing
from rnnlm.types import PackedHidden, PackedTokens, Projected, State, StepOutputs, StepTokens

BLOCK_ROWS = 384  # rows of one product; fewer leave the processor idle at the ends of long rows, more gain nothing
CHUNK_POSITIONS = 768  # positions held at a time; bounds memory
# A GPU needs more at once, and has the memory. Not measured yet.
GPU_BLOCK_ROWS = 4096
GPU_CHUNK_POSITIONS = 65_536
TABLE_BYTES = 1 << 30  # largest table of first-layer products

Ids = npt.NDArray[np.integer]
Report = Callable[[float], None]  # told now and then which share of a long call is done


def ignore(share: float) -> None:
    """The report of a caller who does not ask."""


@dataclass(frozen=True)
class Chunk:
    """N packed positions: row (of the documents given) and time of each, the token to predict there (eos after the
    last), and the top layer's hidden state to predict it from."""

    rows: npt.NDArray[np.int64]
    times: npt.NDArray[np.int64]
    targets: Tensor
    hidden: Tensor


@dataclass(frozen=True)
class Block:
    """Up to BLOCK_ROWS documents (on a GPU GPU_BLOCK_ROWS), longest first; `lengths` count the inputs, bos included."""

    rows: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]


class PackedRunner:
    """Runs the stack of a language model (in evaluation mode) over inputs `bos w1 ... wn`."""

    def __init__(self, model: LanguageModel, *, bos_id: int, eos_id: int) -> None:
        self.model = model
        self.bos_id, self.eos_id = bos_id, eos_id
        self._on_gpu = model.device.type == "cuda"
        self._table = None if model.prefers_inputs else self._first_layer_table()

    def _first_layer_table(self) -> Tensor | None:
        device, vocab_size = self.model.device, self.model.vocab_size
        with torch.inference_mode():
            width = self.model.project_tokens(torch.zeros(1, dtype=torch.int64, device=device)).shape[1]
            if vocab_size * width * 4 > TABLE_BYTES:
                return None
            return self.model.project_tokens(torch.arange(vocab_size, device=device))

    def project(self, tokens: PackedTokens) -> Projected:
        """What the first layer makes of tokens alone."""
        return self.model.project_tokens(tokens) if self._table is None else self._table.index_select(0, tokens)

    def step(self, tokens: StepTokens, state: State) -> tuple[StepOutputs, State]:
        """One step of time for B rows: the top layer's hidden states, and the state."""
        if self._table is None:
            return self.model.stack.advance(self.project(tokens), state)
        return self.model.stack.advance_looked_up(self._table, tokens, Packing([len(tokens)]), state)

    def blocks(self, documents: Sequence[Ids]) -> Iterator[Block]:
        """Cut documents into blocks; the plan depends on their lengths and the device, and nothing else."""
        most = GPU_BLOCK_ROWS if self._on_gpu else BLOCK_ROWS
        lengths = np.array([len(document) + 1 for document in documents], dtype=np.int64)
        order = np.argsort(-lengths, kind="stable")
        for start in range(0, len(order), most):
            rows = order[start : start + most]
            yield Block(rows, lengths[rows])

    def run(self, documents: Sequence[Ids], block: Block, final_state: State | None = None) -> Iterator[Chunk]:
        """All positions of a block, chunk by chunk. `final_state`, if given, receives the state after each row's last
        input at the row's place."""
        # Every document with bos before and eos behind: inputs are all but its last, targets all but its first.
        framed = [np.concatenate([[self.bos_id], documents[row], [self.eos_id]]) for row in block.rows]
        flat = np.concatenate(framed).astype(np.int64)
        starts = np.concatenate([[0], np.cumsum(block.lengths + 1)[:-1]])
        state = self.model.initial_state(len(block.rows))
        most = GPU_CHUNK_POSITIONS if self._on_gpu else CHUNK_POSITIONS
        longest, begin = int(block.lengths[0]), 0
        while begin < longest:
            num_alive = int(np.searchsorted(-block.lengths, -begin))
            end = min(longest, begin + max(1, most // num_alive))
            times = np.arange(begin, end)
            alive = np.searchsorted(-block.lengths, -times)  # rows with length > time: a prefix, as lengths fall
            place = np.concatenate([np.arange(count) for count in alive])
            time = np.repeat(times, alive)
            source = starts[place] + time
            tokens = self._to_device(flat[source])
            hidden, state = self._advance(tokens, Packing(alive.tolist()), state)
            yield Chunk(block.rows[place], time, self._to_device(flat[source + 1]), hidden)
            going_on = int(np.searchsorted(-block.lengths, -end))
            if final_state is not None:
                _keep_final(final_state, state, block.rows[going_on:num_alive], going_on)
            state = tuple(tensor[:going_on] for tensor in state)
            begin = end

    def _advance(self, tokens: PackedTokens, packing: Packing, state: State) -> tuple[PackedHidden, State]:
        if self.model.prefers_inputs:
            return self.model.run_packed(tokens, packing, state)
        if self._table is not None:
            return self.model.stack.advance_looked_up(self._table, tokens, packing, state)
        return self.model.stack.advance_packed(self.project(tokens), packing, state)

    def _to_device(self, ids: npt.NDArray[np.int64]) -> Tensor:
        tensor = torch.from_numpy(ids)
        if self._on_gpu:  # from pinned memory, while the GPU still works on the chunk before
            return tensor.pin_memory().to(self.model.device, non_blocking=True)
        return tensor.to(self.model.device)


def _keep_final(final_state: State, state: State, rows: npt.NDArray[np.int64], first: int) -> None:
    """Copy the state of the rows that ended, those from `first` on, to their places."""
    for whole, part in zip(final_state, state, strict=True):
        whole[torch.from_numpy(rows).to(whole.device)] = part[first:]
