"""Many sequences through a recurrent stack without computing a single padded position.

Rows are sorted by length, the longest first, and laid out time-major: all rows at step 0, then those still alive at
step 1, and so on. At step t the live rows are the first `alive[t]`, so a step reads and writes one contiguous slice,
and the state shrinks as rows end. Each layer's input product is done for all steps at once; the first layer's, which
depends on the token alone, is read from a table of V rows. Time is cut into chunks with carried state, so memory does
not grow with the length of a row.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rnnlm.nn.language_model import LanguageModel
from rnnlm.types import State

BLOCK_ROWS = 256  # rows of one product; fewer leave the processor idle, many more gain nothing
CHUNK_POSITIONS = 8192  # positions held at a time; bounds memory
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
    """Up to BLOCK_ROWS documents, longest first; `lengths` count the inputs, bos included."""

    rows: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]


class PackedRunner:
    """Runs the stack of a language model (in evaluation mode) over inputs `bos w1 ... wn`."""

    def __init__(self, model: LanguageModel, *, bos_id: int, eos_id: int) -> None:
        self.model = model
        self.bos_id, self.eos_id = bos_id, eos_id
        self._table = self._first_layer_table()

    def _first_layer_table(self) -> Tensor | None:
        first = next(self.model.stack.cells())
        with torch.inference_mode():
            width = first.project(self.model.embedding.weight[:1]).shape[1]
            if self.model.vocab_size * width * 4 > TABLE_BYTES:
                return None
            return first.project(self.model.embedding.weight)

    def blocks(self, documents: Sequence[Ids]) -> Iterator[Block]:
        """Cut documents into blocks; the plan depends on their lengths and nothing else."""
        lengths = np.array([len(document) + 1 for document in documents], dtype=np.int64)
        order = np.argsort(-lengths, kind="stable")
        for start in range(0, len(order), BLOCK_ROWS):
            rows = order[start : start + BLOCK_ROWS]
            yield Block(rows, lengths[rows])

    def run(self, documents: Sequence[Ids], block: Block, final_state: State | None = None) -> Iterator[Chunk]:
        """All positions of a block, chunk by chunk. `final_state`, if given, receives the state after each row's last
        input at the row's place."""
        # Every document with bos before and eos behind: inputs are all but its last, targets all but its first.
        framed = [np.concatenate([[self.bos_id], documents[row], [self.eos_id]]) for row in block.rows]
        flat = np.concatenate(framed).astype(np.int64)
        starts = np.concatenate([[0], np.cumsum(block.lengths + 1)[:-1]])
        state = self.model.initial_state(len(block.rows))
        longest, begin = int(block.lengths[0]), 0
        while begin < longest:
            num_alive = int(np.searchsorted(-block.lengths, -begin))
            end = min(longest, begin + max(1, CHUNK_POSITIONS // num_alive))
            times = np.arange(begin, end)
            alive = np.searchsorted(-block.lengths, -times)  # rows with length > time: a prefix, as lengths fall
            place = np.concatenate([np.arange(count) for count in alive])
            time = np.repeat(times, alive)
            source = starts[place] + time
            hidden, state = self._advance(self._to_device(flat[source]), alive.tolist(), state, block, final_state)
            yield Chunk(block.rows[place], time, self._to_device(flat[source + 1]), hidden)
            begin = end

    def _advance(
        self, tokens: Tensor, alive: list[int], state: State, block: Block, final_state: State | None
    ) -> tuple[Tensor, State]:
        """One chunk through all layers, bottom up."""
        outputs: Tensor | None = None
        new_state: State = ()
        for cell, cell_state in zip(self.model.stack.cells(), self.model.stack.split_state(state), strict=True):
            if outputs is None:
                embed = self.model.embedding
                projected = self._table[tokens] if self._table is not None else cell.project(embed(tokens))
            else:
                projected = cell.project(outputs)
            outputs = projected.new_empty(len(tokens), cell.output_size)
            begin = 0
            for count in alive:
                if count < len(cell_state[0]):
                    _keep_final(final_state, len(new_state), cell_state, count, block)
                    cell_state = tuple(tensor[:count] for tensor in cell_state)
                hidden, cell_state = cell.advance(projected[begin : begin + count], cell_state)
                outputs[begin : begin + count] = hidden
                begin += count
            _keep_final(final_state, len(new_state), cell_state, 0, block)
            new_state += cell_state
        assert outputs is not None
        return outputs, new_state

    def _to_device(self, ids: npt.NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(ids).to(self.model.embedding.weight.device)


def _keep_final(final_state: State | None, offset: int, cell_state: State, alive: int, block: Block) -> None:
    """Copy the state of the rows that end here (those from `alive` on) to their places."""
    if final_state is None:
        return
    rows = torch.from_numpy(block.rows[alive : len(cell_state[0])]).to(cell_state[0].device)
    for index, tensor in enumerate(cell_state):
        final_state[offset + index][rows] = tensor[alive:]
