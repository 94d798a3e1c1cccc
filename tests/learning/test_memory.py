"""What a recurrent network can remember, and for how long: the classical experiments.

A symbol is to be repeated after a lag full of others (Hochreiter & Schmidhuber 1997, experiment 2a), and the parity of
a bit string is to be told at its end. Both need a state that lasts: the gradient of an Elman network with respect to an
input `lag` steps back shrinks like a product of `lag` Jacobians (Bengio, Simard & Frasconi 1994), so a long lag is out
of its reach, while a gated cell learns it.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from rnnlm.nn.cells.base import CellConfig
from rnnlm.nn.cells.elman import ElmanConfig
from rnnlm.nn.cells.gru import GRUConfig
from rnnlm.nn.cells.lstm import LSTMConfig

HIDDEN, ROWS, SYMBOLS = 32, 64, 5
LEARNT = 0.99  # of the answers
CHANCE = 0.1  # how far from guessing the share of right answers may lie that 500 or more guesses give

CELLS: dict[str, CellConfig] = {
    "elman": ElmanConfig(hidden_size=HIDDEN),
    "gru": GRUConfig(hidden_size=HIDDEN),
    "lstm": LSTMConfig(hidden_size=HIDDEN),
}


class Reader(nn.Module):
    """Reads a sequence of symbols, one-hot, and answers from its last hidden state."""

    def __init__(self, cell: CellConfig, num_symbols: int, num_answers: int) -> None:
        super().__init__()
        self.cell, self.num_symbols = cell.build(num_symbols), num_symbols
        self.answer = nn.Linear(self.cell.output_size, num_answers)

    def forward(self, symbols: torch.Tensor) -> torch.Tensor:
        outputs, _ = self.cell(F.one_hot(symbols, self.num_symbols).float(), self.cell.initial_state(len(symbols)))
        return self.answer(outputs[:, -1])


def lagged(generator, rows, lag):
    """A symbol, then `lag` others of another kind; the answer is the first."""
    keys = torch.randint(SYMBOLS, (rows, 1), generator=generator)
    noise = torch.randint(SYMBOLS, (rows, lag), generator=generator) + SYMBOLS
    return torch.cat([keys, noise], dim=1), keys[:, 0]


def parity(generator, rows, length):
    bits = torch.randint(2, (rows, length), generator=generator)
    return bits, bits.sum(1) % 2


def share_right(problem, cell, num_symbols, num_answers, *, length, steps, growing=True, seed=0):
    """Train, on lengths that grow to `length` or on that alone, then the share of 1,000 new problems that is solved."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    reader = Reader(cell, num_symbols, num_answers)
    optimizer = torch.optim.Adam(reader.parameters(), lr=0.01)
    for step in range(steps):
        longest = min(length, 2 + step * length // (steps // 2))
        drawn = int(torch.randint(1, longest + 1, (1,), generator=generator)) if growing else length
        symbols, answers = problem(generator, ROWS, drawn)
        loss = F.cross_entropy(reader(symbols), answers)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(reader.parameters(), 1.0)
        optimizer.step()
    symbols, answers = problem(generator, 1000, length)
    with torch.no_grad():
        return (reader(symbols).argmax(1) == answers).float().mean().item()


@pytest.mark.parametrize("lag", [1, 8])
@pytest.mark.parametrize("kind", CELLS)
def test_a_symbol_is_repeated_after_a_short_lag(kind, lag):
    assert share_right(lagged, CELLS[kind], 2 * SYMBOLS, SYMBOLS, length=lag, steps=400) >= LEARNT


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_a_gated_cell_repeats_a_symbol_after_32_others(kind):
    assert share_right(lagged, CELLS[kind], 2 * SYMBOLS, SYMBOLS, length=32, steps=1500) >= LEARNT


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_a_gated_cell_tells_the_parity_of_32_bits(kind):
    assert share_right(parity, CELLS[kind], 2, 2, length=32, steps=2000) >= LEARNT


@pytest.mark.slow
def test_a_lag_of_200_is_out_of_reach_of_an_elman_network_and_not_of_an_lstm():
    # Trained on the long lag alone: short ones first would be a way around the vanishing gradient.
    problem = {"length": 200, "steps": 400, "growing": False}
    long_memory = LSTMConfig(hidden_size=HIDDEN, memory_steps=200)
    assert share_right(lagged, long_memory, 2 * SYMBOLS, SYMBOLS, **problem) >= LEARNT
    guessed = share_right(lagged, CELLS["elman"], 2 * SYMBOLS, SYMBOLS, **problem)
    assert guessed == pytest.approx(1 / SYMBOLS, abs=CHANCE)


def test_the_gradient_of_an_elman_network_vanishes_and_that_of_an_lstm_that_remembers_does_not():
    # d h_T / d x_1 against d h_T / d x_T: what back-propagation through time carries back over 100 steps.
    torch.manual_seed(0)
    length = 100
    cells = {"elman": CELLS["elman"], "lstm": LSTMConfig(hidden_size=HIDDEN, memory_steps=length)}
    share = {}
    for kind, config in cells.items():
        cell = config.build(HIDDEN)
        inputs = torch.randn(8, length, HIDDEN, requires_grad=True)
        outputs, _ = cell(inputs, cell.initial_state(8))
        (gradient,) = torch.autograd.grad(outputs[:, -1].square().sum(), inputs)
        norms = gradient.norm(dim=(0, 2))
        share[kind] = (norms[0] / norms[-1]).item()
    assert share["elman"] < 1e-6
    assert share["lstm"] > 1e-3
