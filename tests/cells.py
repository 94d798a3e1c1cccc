"""Every cell of conf/cell, with the choices inside its YAML, small; and how the tests run one."""

from pathlib import Path

import torch
import yaml

from rnnlm.config import DEFAULT_TRUSTED, from_dict
from rnnlm.nn.cells.base import CellConfig, DenseCellConfig
from rnnlm.nn.cells.gated import GatedConfig
from tests.toy_cell import TOY_YAML

CONF = Path(__file__).resolve().parents[1] / "conf" / "cell"
CELLS = {path.stem: yaml.safe_load(path.read_text()) for path in sorted(CONF.glob("*.yaml"))}
ROWS, STEPS, INPUT, HIDDEN = 3, 7, 4, 5

FLOAT32_ROUNDING = 1e-6  # products of other shapes add up in another order; values are below 1
FLOAT64_ROUNDING = 1e-12  # the same

TRUSTED = (*DEFAULT_TRUSTED, "tests.")
# Choices inside a YAML that change the recurrence.
OPTIONS = {
    "elman-relu": {**CELLS["elman"], "nonlinearity": "relu"},
    "jordan-relu-sigmoid": {**CELLS["jordan"], "nonlinearity": "relu", "output_nonlinearity": "sigmoid"},
    "jordan-identity": {**CELLS["jordan"], "output_nonlinearity": "identity"},
    "lstm-peepholes": {**CELLS["lstm"], "peepholes": True},
    "lstm-coupled": {**CELLS["lstm"], "coupled_gates": True},
    "lstm-projection": {**CELLS["lstm"], "projection_size": 3},
    "lstm-all": {**CELLS["lstm"], "peepholes": True, "coupled_gates": True, "projection_size": 3},
    "mogrifier-0": {**CELLS["mogrifier"], "rounds": 0},
    "lstm-memory": {**CELLS["lstm"], "memory_steps": 50},
    "lstm-coupled-memory": {**CELLS["lstm"], "coupled_gates": True, "memory_steps": 50},
    "min_gru-identity": {**CELLS["min_gru"], "candidate": "identity"},
    "min_lstm-identity": {**CELLS["min_lstm"], "candidate": "identity"},
    "mogrifier-rank": {**CELLS["mogrifier"], "rounds": 4, "rank": 2},
    "qrnn-1": {**CELLS["qrnn"], "window": 1},
    "rg_lru-blocks": {**CELLS["rg_lru"], "blocks": HIDDEN},
    "sru-peephole": {**CELLS["sru"], "peephole": True},
}
CASES = {**CELLS, **OPTIONS, "toy": yaml.safe_load(TOY_YAML)}


def config_of(case, **changes):
    return from_dict(CellConfig, {**CASES[case], "hidden_size": HIDDEN, **changes}, trusted=TRUSTED)


DENSE = [case for case in CASES if isinstance(config_of(case), DenseCellConfig)]
GATED = [case for case in CASES if isinstance(config_of(case), GatedConfig)]


def inputs_of(rows=ROWS, steps=STEPS, dtype=torch.float32):
    return torch.randn(rows, steps, INPUT, dtype=dtype)


def random_state(cell, rows=ROWS, dtype=torch.float32):
    return tuple(torch.randn(rows, size, dtype=dtype).tanh() for size in cell.state_sizes)


def stepped(cell, inputs, state):
    outputs = []
    for time in range(inputs.shape[1]):
        output, state = cell.step(inputs[:, time], state)
        outputs.append(output)
    return torch.stack(outputs, dim=1), state


def assert_equal(found, expected, tolerance=FLOAT32_ROUNDING):
    (found_outputs, found_state), (expected_outputs, expected_state) = found, expected
    torch.testing.assert_close(found_outputs, expected_outputs, rtol=0, atol=tolerance)
    assert len(found_state) == len(expected_state)
    for one, other in zip(found_state, expected_state, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=tolerance)
