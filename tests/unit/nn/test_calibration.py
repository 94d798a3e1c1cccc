"""Temperature scaling: the temperature that logits were multiplied by is found again."""

import pytest
import torch
import torch.nn.functional as F

from rnnlm.nn.calibration import LARGEST, SMALLEST, fit_temperature

GENERATOR = torch.Generator().manual_seed(1)
LOGITS = 2.0 * torch.randn(4000, 5, generator=GENERATOR)
CLASSES = torch.multinomial(LOGITS.softmax(1), 1, generator=GENERATOR)[:, 0]
SEVERAL = torch.bernoulli(LOGITS.sigmoid(), generator=GENERATOR)


@pytest.mark.parametrize("factor", [0.2, 1.0, 3.0])
@pytest.mark.parametrize("targets", [CLASSES, SEVERAL], ids=["one", "several"])
def test_a_factor_is_found_again(targets, factor):
    with torch.inference_mode():
        found = fit_temperature(LOGITS * factor, targets)
    assert found == pytest.approx(factor, rel=0.05)


def test_no_temperature_near_it_is_better():
    def nll(temperature):
        return F.cross_entropy(LOGITS.double() * 3.0 / temperature, CLASSES).item()

    best = fit_temperature(LOGITS * 3.0, CLASSES)
    assert nll(best) < min(nll(best * 0.99), nll(best * 1.01))


def test_without_a_minimum_it_stays_a_number():
    right = F.one_hot(CLASSES, 5).float()
    assert SMALLEST <= fit_temperature(right, CLASSES) < 1.0
    assert 1.0 < fit_temperature(-right, CLASSES) <= LARGEST * 1.001
