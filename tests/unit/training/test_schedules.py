"""Learning rate schedules and optimizers: pure functions of the step, and torch's own updates."""

import math
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from rnnlm.config import from_dict
from rnnlm.training.optimizers import AdamWConfig, OptimizerConfig, SGDConfig
from rnnlm.training.schedules import ConstantConfig, CosineConfig, ScheduleConfig
from tests.corpora import tiny_task

CONF = Path(__file__).resolve().parents[3] / "conf"
SCHEDULES = {path.stem: yaml.safe_load(path.read_text()) for path in sorted((CONF / "schedule").glob("*.yaml"))}
OPTIMIZERS = {path.stem: yaml.safe_load(path.read_text()) for path in sorted((CONF / "optimizer").glob("*.yaml"))}
FLOAT = 1e-12  # float64 arithmetic of a few operations

LENGTHS = st.integers(1, 3000)


@pytest.mark.parametrize("name", SCHEDULES)
@given(total=LENGTHS, warmup=st.integers(0, 500), data=st.data())
def test_a_factor_depends_on_the_step_alone_and_stays_in_bounds(name, total, warmup, data):
    config = from_dict(ScheduleConfig, {**SCHEDULES[name], "warmup_steps": warmup})
    step = data.draw(st.integers(0, total - 1))
    factor = config.factor(step, total)
    config.factor(0, 7)
    assert config.factor(step, total) == factor
    assert 0 < factor <= 1
    peak = max(config.factor(one, total) for one in range(min(total, 400)))
    assert peak == pytest.approx(1, abs=FLOAT) or total > 400


@pytest.mark.parametrize("name", SCHEDULES)
@given(total=LENGTHS, warmup=st.integers(0, 500))
def test_the_rate_rises_in_a_line_and_never_rises_again(name, total, warmup):
    config = from_dict(ScheduleConfig, {**SCHEDULES[name], "warmup_steps": warmup})
    rise = min(warmup, total // 10)  # a short run warms up over a tenth of its steps
    factors = [config.factor(step, total) for step in range(total)]
    for step in range(rise):
        assert factors[step] == pytest.approx((step + 1) / (rise + 1), abs=FLOAT)
    assert factors[rise] == pytest.approx(1, abs=FLOAT)
    assert all(later <= earlier + FLOAT for earlier, later in zip(factors[rise:], factors[rise + 1 :], strict=False))


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


# ----- optimizers


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("tied", [True, False])
def test_every_parameter_is_optimized_once_and_only_matrices_decay(name, tied):
    model = tiny_task(tied=tied).build_model(10)
    optimizer = from_dict(OptimizerConfig, {**OPTIMIZERS[name], "weight_decay": 0.25}).build(model)
    held = [p for group in optimizer.param_groups for p in group["params"]]
    assert len({id(p) for p in held}) == len(held) == len(list(model.parameters()))
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert all(decays[id(p)] == (0.25 if p.dim() > 1 else 0.0) for p in model.parameters())
    assert {group["lr"] for group in optimizer.param_groups} == {OPTIMIZERS[name]["learning_rate"]}


@pytest.mark.parametrize(
    ("config", "plain"),
    [
        (
            AdamWConfig(learning_rate=0.1, beta1=0.8, beta2=0.9, epsilon=1e-3),
            lambda p: torch.optim.AdamW(p, lr=0.1, betas=(0.8, 0.9), eps=1e-3, weight_decay=0.0, foreach=False),
        ),
        (
            SGDConfig(learning_rate=0.1, momentum=0.7),
            lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.7, foreach=False),
        ),
    ],
)
def test_the_fused_update_is_the_plain_one(config, plain):
    def trained(build):
        torch.manual_seed(3)
        model = tiny_task().build_model(10).double()
        optimizer = build(model)
        for step in range(4):
            optimizer.zero_grad()
            hidden, _ = model(torch.tensor([[1, 2, step]]), model.initial_state(1))
            model.softmax.objective(hidden[0], torch.tensor([2, 3, 4])).backward()
            optimizer.step()
        return list(model.parameters())

    for one, other in zip(trained(config.build), trained(lambda m: plain(m.parameters())), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=FLOAT)
