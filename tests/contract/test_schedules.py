"""The contract of every schedule in conf/schedule: a pure function of the step that rises to 1 and falls from there."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from rnnlm.config import from_dict
from rnnlm.training.schedules import ScheduleConfig, WarmupConfig

CONF = Path(__file__).resolve().parents[2] / "conf" / "schedule"
SCHEDULES = {path.stem: yaml.safe_load(path.read_text()) for path in sorted(CONF.glob("*.yaml"))}
SCHEDULES["warmup_stable_decay-sqrt"] = {**SCHEDULES["warmup_stable_decay"], "shape": "sqrt"}
WARMUPS = [name for name, data in SCHEDULES.items() if "warmup_steps" in data]
FLOAT = 1e-12  # float64 arithmetic of a few operations

LENGTHS = st.integers(1, 700)


@pytest.mark.parametrize("name", SCHEDULES)
@given(total=LENGTHS, data=st.data())
def test_a_factor_depends_on_the_step_alone_and_stays_in_bounds(name, total, data):
    config = from_dict(ScheduleConfig, SCHEDULES[name])
    step = data.draw(st.integers(0, total - 1))
    factor = config.factor(step, total)
    config.factor(0, 7)
    assert config.factor(step, total) == factor
    assert 0 < factor <= 1


@pytest.mark.parametrize("name", SCHEDULES)
@given(total=LENGTHS)
def test_the_rate_rises_to_its_peak_and_never_rises_again(name, total):
    config = from_dict(ScheduleConfig, SCHEDULES[name])
    factors = [config.factor(step, total) for step in range(total)]
    peak = factors.index(max(factors))
    assert factors[peak] == pytest.approx(1, abs=FLOAT)
    assert factors[: peak + 1] == sorted(factors[: peak + 1])
    assert all(later <= earlier + FLOAT for earlier, later in zip(factors[peak:], factors[peak + 1 :], strict=False))


@pytest.mark.parametrize("name", WARMUPS)
@given(total=LENGTHS, warmup=st.integers(0, 500))
def test_warm_up_is_a_line(name, total, warmup):
    config = from_dict(WarmupConfig, {**SCHEDULES[name], "warmup_steps": warmup})
    rise = min(warmup, total // 10)  # a short run warms up over a tenth of its steps
    for step in range(rise + 1):
        assert config.factor(step, total) == pytest.approx((step + 1) / (rise + 1), abs=FLOAT)
