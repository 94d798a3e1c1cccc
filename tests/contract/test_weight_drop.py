"""Weight drop in every cell with recurrent matrices: one thinning a window, none in evaluation."""

import copy

import pytest
import torch
import torch.nn.functional as F

from tests.cells import (
    CELLS,
    DENSE,
    FLOAT64_ROUNDING,
    INPUT,
    assert_equal,
    config_of,
    inputs_of,
    random_state,
    stepped,
)

# What stands between h_{t-1} and the gates. The matrices of a Mogrifier only scale what passes through U; what makes an
# output of a hidden state (a Jordan network's V, a projection) is not recurrent.
RECURRENT = {
    "elman": {"fused.weight_hh_l0"},
    "gru": {"fused.weight_hh_l0"},
    "lstm": {"fused.weight_hh_l0"},
    "jordan": {"recurrent_weight"},
    "layer_norm_lstm": {"recurrent_weight"},
    "mogrifier": {"recurrent_weight"},
    "multiplicative_lstm": {"recurrent_weight", "factor_recurrent_weight"},
}


@pytest.fixture(params=DENSE)
def dropping(request):
    """A cell in training that leaves out half of its recurrent weights."""
    return config_of(request.param, weight_drop=0.5).build(INPUT).double()


@pytest.mark.parametrize("name", sorted(RECURRENT))
def test_what_is_thinned_out(name):
    assert name in CELLS
    assert set(config_of(name).build(INPUT).recurrent_names) == RECURRENT[name]


def masks_of(cell, seed):
    """What F.dropout multiplies each recurrent matrix with, drawn in the order of `recurrent_names`."""
    torch.manual_seed(seed)
    return {n: F.dropout(torch.ones_like(cell.get_parameter(n)), cell.weight_drop) for n in cell.recurrent_names}


def thinned_copy(cell, seed):
    """The cell without weight drop, its recurrent matrices thinned out once and for all."""
    thinned = copy.deepcopy(cell).eval()
    with torch.no_grad():
        for name, mask in masks_of(cell, seed).items():
            thinned.get_parameter(name).mul_(mask)
    return thinned


def test_weight_drop_is_one_mask_over_all_steps(dropping):
    inputs, state = inputs_of(dtype=torch.float64), random_state(dropping, dtype=torch.float64)
    torch.manual_seed(5)
    found = dropping(inputs, state)
    assert_equal(found, stepped(thinned_copy(dropping, 5), inputs, state), FLOAT64_ROUNDING)


def test_weight_drop_draws_anew_for_each_window(dropping):
    inputs, state = inputs_of(dtype=torch.float64), random_state(dropping, dtype=torch.float64)
    outputs = [dropping(inputs, state)[0] for _ in range(2)]
    assert not torch.allclose(outputs[0], outputs[1], rtol=0, atol=1e-3)


def test_weight_drop_changes_nothing_in_evaluation(dropping):
    inputs, state = inputs_of(dtype=torch.float64), random_state(dropping, dtype=torch.float64)
    trained, _ = dropping(inputs, state)
    found, _ = dropping.eval()(inputs, state)
    without = copy.deepcopy(dropping).train()
    without.weight_drop = 0.0
    assert torch.equal(found, without(inputs, state)[0])
    assert not torch.allclose(found, trained, rtol=0, atol=1e-3)


def test_gradients_pass_through_kept_weights_alone(dropping):
    inputs, state = inputs_of(dtype=torch.float64), random_state(dropping, dtype=torch.float64)
    torch.manual_seed(5)
    dropping(inputs, state)[0].square().sum().backward()
    thinned = thinned_copy(dropping, 5)
    stepped(thinned, inputs, state)[0].square().sum().backward()
    masks = masks_of(dropping, 5)
    for name, parameter in dropping.named_parameters():
        expected = thinned.get_parameter(name).grad * masks.get(name, 1.0)
        torch.testing.assert_close(parameter.grad, expected, rtol=0, atol=FLOAT64_ROUNDING)
    for name, mask in masks.items():
        gradient = dropping.get_parameter(name).grad
        assert not gradient[mask == 0].any()
        assert gradient[mask > 0].any()
