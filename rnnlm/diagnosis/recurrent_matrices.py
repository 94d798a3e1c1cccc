"""How far a recurrent matrix U stretches the state.

    spectral radius = max |eigenvalue of U|        largest singular value = max |U x| / |x|

Gradients that pass a tanh network's step are multiplied by diag(1 - h^2) U: with a largest singular value below 1 they
must vanish, and only with one above 1 they can explode (Pascanu, Mikolov & Bengio 2013, section 2.1). In a gated cell
each gate has a block of U of its own, and gradients also pass beside all of them. Cells whose state decays element by
element have no U.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rnnlm.nn.cells.base import DenseCell
from rnnlm.nn.cells.gated import GatedCell
from rnnlm.nn.cells.gru import GRU
from rnnlm.nn.cells.lstm import LSTM, PeepholeLSTM
from rnnlm.nn.language_model import LanguageModel

LETTERS: Mapping[str, str] = {"factor_recurrent_weight": "U_m"}  # all others are U


@dataclass(frozen=True)
class RecurrentMatrix:
    """A matrix, or the block of one gate; the spectral radius is None where it is not square (an LSTM's projection)."""

    place: str  # of the cell in the stack, as in task.layers
    matrix: str
    spectral_radius: float | None
    largest_singular_value: float


def blocks_of(cell: DenseCell, name: str) -> Sequence[str]:
    """What the blocks of rows of a recurrent matrix are for, in their order; no name if there is only one."""
    if name in LETTERS:
        return [""]
    if isinstance(cell, GRU):
        return [" reset", " update", " candidate"]
    if isinstance(cell, PeepholeLSTM) and cell.coupled:
        return [" forget", " candidate", " output"]
    return [" input", " forget", " candidate", " output"] if isinstance(cell, LSTM | GatedCell) else [""]


def recurrent_matrices(model: LanguageModel) -> list[RecurrentMatrix]:
    """Of every cell of the stack that has some."""
    found = []
    for place, cell in model.stack.layers.named_modules():
        if isinstance(cell, DenseCell):
            for name in cell.recurrent_names:
                matrix = cell.get_parameter(name).detach().cpu().double().numpy()
                blocks = blocks_of(cell, name)
                for what, block in zip(blocks, np.split(matrix, len(blocks)), strict=True):
                    square = block.shape[0] == block.shape[1]
                    radius = float(np.abs(np.linalg.eigvals(block)).max()) if square else None
                    singular = float(np.linalg.norm(block, ord=2))
                    found.append(RecurrentMatrix(place, f"{LETTERS.get(name, 'U')}{what}", radius, singular))
    return found
