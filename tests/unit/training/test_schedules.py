"""What each learning rate schedule is after warm-up."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnnlm.training.schedules import (
    ConstantConfig,
    CosineConfig,
    InverseSqrtConfig,
    LinearConfig,
    OneCycleConfig,
    WarmupStableDecayConfig,
)

FLOAT = 1e-12  # float64 arithmetic of a few operations


@given(total=st.integers(10, 3000), final=st.floats(0, 1))
def test_a_cosine_passes_its_middle_and_ends_where_it_says(total, final):
    config = CosineConfig(warmup_steps=0, final_factor=final)
    assert config.decay(0.5) == pytest.approx((1 + final) / 2, abs=FLOAT)
    assert config.decay(1.0) == pytest.approx(final, abs=FLOAT)
    assert config.factor(total, total) == pytest.approx(final, abs=FLOAT)
    assert config.factor(total // 4, total) == pytest.approx(
        final + (1 - final) * (1 + math.cos(math.pi * (total // 4) / total)) / 2, abs=FLOAT
    )


def test_constant_is_constant():
    assert {ConstantConfig(warmup_steps=0).factor(step, 50) for step in range(50)} == {1.0}


@given(total=st.integers(10, 700), warmup=st.integers(0, 300), final=st.floats(0, 1))
def test_linear_takes_equal_steps_to_where_it_ends(total, warmup, final):
    config = LinearConfig(warmup_steps=warmup, final_factor=final)
    start = min(warmup, total // 10)
    down = (1 - final) / (total - start)
    for step in range(start, total):
        assert config.factor(step, total) == pytest.approx(1 - down * (step - start), abs=FLOAT)
    assert config.factor(total, total) == pytest.approx(final, abs=FLOAT)
    assert config.factor(total + 9, total) == pytest.approx(final, abs=FLOAT)


@pytest.mark.parametrize("shape", ["linear", "sqrt"])
def test_warmup_stable_decay_is_level_until_its_last_share(shape):
    config = WarmupStableDecayConfig(warmup_steps=20, decay_share=0.25, shape=shape, final_factor=0.2)
    factors = [config.factor(step, 220) for step in range(221)]
    assert factors[20:171] == [1.0] * 151
    fallen = [(step - 170) / 50 for step in range(170, 221)]
    expected = [1 - 0.8 * (math.sqrt(x) if shape == "sqrt" else x) for x in fallen]
    assert factors[170:] == pytest.approx(expected, abs=FLOAT)


def test_warmup_stable_decay_does_not_know_how_long_it_will_be_until_it_falls():
    config = WarmupStableDecayConfig(warmup_steps=20)
    assert [config.factor(step, 1000) for step in range(800)] == [config.factor(step, 5000) for step in range(800)]


@given(warmup=st.integers(0, 400), step=st.integers(0, 9000))
def test_inverse_sqrt_is_that_of_the_paper(warmup, step):
    # Equation 3 counts steps from 1; divided by its peak at step warmup + 1.
    def paper(number):
        return min(number**-0.5, number * (warmup + 1) ** -1.5)

    found = InverseSqrtConfig(warmup_steps=warmup).factor(step, 10_000)
    assert found == pytest.approx(paper(step + 1) / paper(warmup + 1), abs=FLOAT)


def test_one_cycle_goes_up_and_down_in_lines_and_then_out():
    config = OneCycleConfig(initial_factor=0.1, cycle_share=0.8, final_factor=0.01)
    factors = [config.factor(step, 100) for step in range(101)]
    assert factors[:41] == pytest.approx([0.1 + 0.9 * step / 40 for step in range(41)], abs=FLOAT)
    assert factors[40:81] == pytest.approx([1 - 0.9 * step / 40 for step in range(41)], abs=FLOAT)
    assert factors[80:] == pytest.approx([0.1 - 0.09 * step / 20 for step in range(21)], abs=FLOAT)
