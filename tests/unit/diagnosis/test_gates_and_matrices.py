"""Gates as each cell takes them, held against its equations by moving one gate's bias; radii of U that are known."""

import dataclasses

import pytest
import torch

from rnnlm.diagnosis.gates import GateCounts, count_gates, gates_of
from rnnlm.diagnosis.passages import Passages
from rnnlm.diagnosis.recurrent_matrices import recurrent_matrices
from rnnlm.nn.layers.residual import ResidualConfig
from rnnlm.nn.softmax.full import FullSoftmaxConfig
from tests.cells import CASES, HIDDEN, config_of
from tests.corpora import tiny_task

VOCAB, STEPS = 13, 5
WITHOUT_GATES = {"elman", "elman-relu", "jordan", "jordan-relu-sigmoid", "jordan-identity", "toy"}
OPEN = 30.0  # a bias that opens a gate whatever else is added

# Where the bias of a gate stands: (parameter, block of H rows). minLSTM's share f / (f + i) opens as i is shut.
BIASES = {
    ("lstm", "forget"): ("fused.bias_hh_l0", 1),
    ("lstm", "input"): ("fused.bias_hh_l0", 0),
    ("lstm", "output"): ("fused.bias_hh_l0", 3),
    ("lstm-peepholes", "forget"): ("bias", 1),
    ("lstm-peepholes", "input"): ("bias", 0),
    ("lstm-peepholes", "output"): ("bias", 3),
    ("lstm-coupled", "forget"): ("bias", 0),
    ("lstm-coupled", "output"): ("bias", 2),
    ("layer_norm_lstm", "forget"): ("bias", 1),
    ("layer_norm_lstm", "input"): ("bias", 0),
    ("layer_norm_lstm", "output"): ("bias", 3),
    ("multiplicative_lstm", "forget"): ("bias", 1),
    ("multiplicative_lstm", "input"): ("bias", 0),
    ("multiplicative_lstm", "output"): ("bias", 3),
    ("mogrifier", "forget"): ("bias", 1),
    ("mogrifier", "input"): ("bias", 0),
    ("mogrifier", "output"): ("bias", 3),
    ("gru", "reset"): ("fused.bias_ih_l0", 0),
    ("gru", "update"): ("fused.bias_ih_l0", 1),
    ("min_gru", "update"): ("products.bias", 0),
    ("min_lstm", "forget"): ("products.bias", 1),
    ("qrnn", "forget"): ("bias", 1),
    ("qrnn", "output"): ("bias", 2),
    ("sru", "forget"): ("bias", 0),
    ("sru", "reset"): ("bias", 1),
    ("rg_lru", "recurrence"): ("bias", 0),
    ("rg_lru", "input"): ("bias", 1),
}


def model_of(*layers):
    task = dataclasses.replace(
        tiny_task(tied=False), layers=list(layers), embedding_size=4, softmax=FullSoftmaxConfig(tied=False)
    )
    return task.build_model(VOCAB).eval()


def used(model, rows=3):
    counts, passages = GateCounts(), Passages(torch.randint(VOCAB, (rows, 2 * STEPS)), torch.zeros(rows).long())
    count_gates(model, passages, STEPS, counts)
    return {(use.place, use.gate): use for use in counts.use()}


@pytest.mark.parametrize(("case", "gate"), BIASES)
def test_a_gate_is_what_its_name_says(case, gate):
    model = model_of(config_of(case))
    name, block = BIASES[case, gate]
    before = used(model)
    assert before["0", gate].above < 1.0
    with torch.no_grad():
        bias = next(model.stack.cells()).get_parameter(name)
        bias.reshape(-1, HIDDEN)[block] += -OPEN if case == "min_lstm" else OPEN
    after = used(model)
    assert after.keys() == before.keys()
    assert (after["0", gate].above, after["0", gate].below) == (1.0, 0.0)
    assert after["0", gate].mean == pytest.approx(1.0, abs=1e-6)
    others = [use for key, use in after.items() if key != ("0", gate) and use.gate != "scaling"]
    assert all(use.above < 1.0 for use in others)


def test_every_cell_with_gates_is_known():
    assert {case for case in CASES if not gates_of(config_of(case).build(4))} == WITHOUT_GATES
    families = {type(config_of(case).build(4)) for case, _ in BIASES}
    assert {type(config_of(case).build(4)) for case in CASES if case not in WITHOUT_GATES} == families


def test_cells_inside_other_layers_are_watched_and_left_as_they_were():
    model = model_of(config_of("gru", hidden_size=4), ResidualConfig(inner=config_of("lstm", hidden_size=4)))
    found = used(model)
    assert {place for place, _ in found} == {"0", "1.inner"}
    assert all("advance" not in vars(module) for module in model.modules())
    counts = GateCounts()
    counts.add("0", "forget", torch.tensor([0.05, 0.5, 0.95, 0.99]))
    counts.add("0", "forget", torch.tensor([0.05, 0.5, 0.5, 0.5]))
    (use,) = counts.use()
    assert (use.below, use.above, use.mean) == (pytest.approx(0.25), pytest.approx(0.25), pytest.approx(4.04 / 8))


def test_radii_of_known_matrices():
    model = model_of(config_of("elman"), config_of("lstm"), config_of("sru"), config_of("lstm-projection"))
    elman, lstm, *_ = model.stack.cells()
    with torch.no_grad():
        elman.recurrent_weight().copy_(torch.eye(HIDDEN).roll(1, 0) * 0.7)
        lstm.recurrent_weight().zero_()
        lstm.recurrent_weight()[HIDDEN, 1] = 3.0  # of the forget gate, nilpotent
    found = {(one.place, one.matrix): one for one in recurrent_matrices(model)}
    assert {place for place, _ in found} == {"0", "1", "3"}
    assert found["0", "U"].spectral_radius == pytest.approx(0.7)
    assert found["0", "U"].largest_singular_value == pytest.approx(0.7)
    assert found["1", "U forget"].spectral_radius == 0.0
    assert found["1", "U forget"].largest_singular_value == pytest.approx(3.0)
    assert found["1", "U output"].largest_singular_value == 0.0
    assert found["3", "U input"].spectral_radius is None
    names = [one.matrix for one in recurrent_matrices(model_of(config_of("multiplicative_lstm")))]
    assert names == ["U input", "U forget", "U candidate", "U output", "U_m"]
    names = [one.matrix for one in recurrent_matrices(model_of(config_of("lstm-coupled"), config_of("gru")))]
    assert names == ["U forget", "U candidate", "U output", "U reset", "U update", "U candidate"]
