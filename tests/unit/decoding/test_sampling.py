"""The choice of one token: exactly the distribution that temperature, top-k and top-p leave, by either path."""

import numpy as np
import pytest
import torch

from rnnlm.decoding import sampling
from rnnlm.decoding.greedy import GreedyConfig
from rnnlm.decoding.sampling import CANDIDATES, SamplingConfig
from tests.reference import kept_distribution

GRID = 6_000  # uniform numbers evenly spread over [0, 1)
OPTIONS = [
    {},
    {"temperature": 0.5},
    {"temperature": 3.0},
    {"top_k": 1},
    {"top_k": 5},
    {"top_k": 10_000},
    {"top_p": 0.9},
    {"top_p": 0.1},
    {"top_p": 1e-6},
    {"temperature": 2.0, "top_k": 7, "top_p": 0.6},
]
VOCABULARIES = {
    "small": (12, 2.0),
    "peaked": (1000, 3.0),  # the best 256 hold nearly all of it
    "flat": (1000, 0.1),  # they hold a third of it
    "wide": (600, 0.0),  # all are equal
}
# A draw lands on the next token where a cumulative sum, added up in float32 from another normaliser, lies beyond a grid
# point: one for the grid itself, one for the rounding.
GRID_SLACK = 2


def logits_of(vocabulary, seed=0):
    size, scale = VOCABULARIES[vocabulary]
    values = np.random.default_rng(seed).normal(size=size).astype(np.float32) * np.float32(scale)
    return values + np.float32(0.01) * np.arange(size, dtype=np.float32) / size  # no ties, so the order is one


def choose(config, logits, uniforms):
    return config.choose(logits, uniforms, logits.logsumexp(1))


def grid_counts(config, logits):
    """How often each token is chosen when the uniform numbers are spread evenly: a draw without chance."""
    uniforms = torch.from_numpy(((np.arange(GRID) + 0.5) / GRID).astype(np.float32))
    counts = np.zeros(len(logits), dtype=np.int64)
    for part in uniforms.split(2000):
        chosen = choose(config, torch.from_numpy(logits).expand(len(part), -1).clone(), part)
        counts += np.bincount(chosen.numpy(), minlength=len(logits))
    return counts


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_evenly_spread_numbers_give_the_exact_distribution(vocabulary, options):
    logits = logits_of(vocabulary)
    full = {"temperature": 1.0, "top_k": None, "top_p": 1.0, **options}
    expected = kept_distribution(logits, **full)
    counts = grid_counts(SamplingConfig(**options), logits)
    assert np.abs(counts - expected * GRID).max() <= GRID_SLACK
    assert not counts[expected == 0].any()


@pytest.mark.parametrize("vocabulary", ["peaked", "flat", "wide"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_number_of_candidates_changes_nothing(vocabulary, options, monkeypatch):
    logits = torch.from_numpy(np.stack([logits_of(vocabulary, seed) for seed in range(40)]))
    uniforms = torch.rand(40)
    found = {}
    for candidates in (1, 16, CANDIDATES, 10_000):
        monkeypatch.setattr(sampling, "CANDIDATES", candidates)
        found[candidates] = choose(SamplingConfig(**options), logits.clone(), uniforms).tolist()
    # At most one row of 40 may fall on a border between two tokens.
    for chosen in found.values():
        assert sum(one != other for one, other in zip(chosen, found[CANDIDATES], strict=True)) <= 1


@pytest.mark.parametrize(
    ("vocabulary", "options", "falls_back"),
    [
        ("small", {}, False),
        ("peaked", {"top_p": 0.5}, False),
        ("peaked", {"top_k": 300, "top_p": 0.5}, False),
        ("flat", {"top_p": 0.9}, True),
        ("flat", {"top_k": 900, "top_p": 0.9}, True),
        ("flat", {}, True),  # for the uniform numbers beyond the candidates' share
        ("flat", {"top_k": 256}, False),
    ],
)
def test_more_is_looked_at_only_where_the_best_few_do_not_decide(vocabulary, options, falls_back, monkeypatch):
    rows = []
    among = SamplingConfig._choose_among

    def watched(self, width, keep, logits, *rest):
        if width > CANDIDATES:
            rows.append(len(logits))
        return among(self, width, keep, logits, *rest)

    monkeypatch.setattr(SamplingConfig, "_choose_among", watched)
    counts = grid_counts(SamplingConfig(**options), logits_of(vocabulary))
    assert counts.sum() == GRID
    assert bool(rows) == falls_back
    if options == {} and falls_back:
        assert 0 < sum(rows) < GRID  # both paths in one batch


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("vocabulary", ["small", "flat"])
def test_the_ends_of_the_interval_choose_kept_tokens(options, vocabulary):
    logits = logits_of(vocabulary)
    logits[3] = -np.inf  # as bos is
    full = {"temperature": 1.0, "top_k": None, "top_p": 1.0, **options}
    kept = np.flatnonzero(kept_distribution(logits, **full))
    ends = torch.tensor([0.0, np.nextafter(np.float32(1), np.float32(0))])
    chosen = choose(SamplingConfig(**options), torch.from_numpy(logits).expand(2, -1).clone(), ends).tolist()
    assert chosen[0] == int(np.argmax(logits))
    assert set(chosen) <= set(kept.tolist())


def test_a_row_alone_chooses_as_in_a_batch():
    logits, uniforms = torch.randn(30, 700), torch.rand(30)
    for options in OPTIONS:
        config = SamplingConfig(**options)
        together = choose(config, logits.clone(), uniforms)
        alone = [choose(config, logits[row : row + 1].clone(), uniforms[row : row + 1]).item() for row in range(30)]
        assert together.tolist() == alone


def test_the_logits_that_were_given_are_left_alone():
    logits = torch.randn(5, 20)
    before = logits.clone()
    for config in (GreedyConfig(), SamplingConfig(temperature=2.0, top_k=3, top_p=0.5)):
        choose(config, logits, torch.rand(5))
        assert torch.equal(logits, before)


def test_greedy_takes_the_first_of_the_best():
    logits = torch.tensor([[0.0, 2.0, 2.0], [3.0, 1.0, 3.0], [-torch.inf, -5.0, -torch.inf]])
    assert choose(GreedyConfig(), logits, torch.rand(3)).tolist() == [1, 0, 1]


@pytest.mark.parametrize("options", [{"top_k": 1}, {"top_p": 1e-9}, {"temperature": 1e-3}])
def test_the_sharpest_sampling_is_greedy(options):
    logits = torch.randn(50, 300)
    assert torch.equal(choose(SamplingConfig(**options), logits, torch.rand(50)), logits.argmax(1))
