import pytest
import yaml

from jobs.tune import Dimension, base_overrides, gathered, may_be_perturbed, read_space, recipe
from rnnlm.errors import ConfigError


def test_overrides_that_sweep_become_the_space():
    arguments = [
        "experiment=demo/train", "cell=lstm,gru", "optimizer.learning_rate=tag(log,interval(1e-4,1e-2))", "seed=3",
        "--config-dir", "mine", "train_tokens='a,b'",
    ]  # fmt: skip
    assert gathered(arguments) == [
        "experiment=demo/train", "seed=3", "--config-dir", "mine", "train_tokens='a,b'",
        'tune.space=["cell=lstm,gru", "optimizer.learning_rate=tag(log,interval(1e-4,1e-2))"]',
    ]  # fmt: skip
    assert gathered(["seed=3"]) == ["seed=3"]


def test_a_space_is_read_as_hydra_writes_it():
    read = read_space(
        ["cell=lstm,gru", "a.b=choice(1,2)", "n=range(1,4)", "r=tag(log,interval(1e-4,1e-2))", "k=int(interval(2,9))"]
    )
    assert read == [
        Dimension("cell", ("lstm", "gru")),
        Dimension("a.b", ("1", "2")),
        Dimension("n", ("1", "2", "3")),
        Dimension("r", (), 1e-4, 1e-2, "log"),
        Dimension("k", (), 2, 9, whole=True),
    ]
    assert [one.ends() for one in read[2:]] == [("1", "2", "3"), ("0.0001", "0.01"), ("2", "9")]
    assert read[3].typed(0.00123456) == "0.001235"


@pytest.mark.parametrize(
    ("space", "problem"),
    [
        ([], "nothing to search"),
        (["cell=lstm"], "one value"),
        (["r=interval(2,1)"], "smaller"),
        (["r=tag(log,interval(0,1))"], "above 0"),
        (["r=interval(1"], "interval"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused(space, problem):
    with pytest.raises(ConfigError, match=problem):
        read_space(space)


@pytest.mark.parametrize(
    ("key", "may"),
    [
        ("optimizer.learning_rate", True),
        ("schedule.warmup_steps", True),
        ("loop.clip_norm", True),
        ("task.dropout", True),
        ("cell.zoneout", True),
        ("optimizer", False),
        ("cell.hidden_size", False),
        ("batching.window", False),
        ("loop.max_steps", False),
        ("averaging.dropout", False),
    ],
)
def test_what_pbt_may_perturb(key, may):
    assert may_be_perturbed(key) is may


def test_the_base_leaves_out_what_is_about_the_search_and_the_place():
    task = [
        "++tune.trials=3",
        "++tune.space=[]",
        "experiment=demo/train",
        "++output=x",
        "++threads=1",
        "++loop.max_steps=9",
    ]
    assert base_overrides(task) == ["experiment=demo/train", "++loop.max_steps=9"]


def test_a_recipe_says_all_that_the_trial_had():
    text = recipe(
        ["experiment=demo/train", "++loop.max_steps=9", "++train_tokens=a/b"],
        {"cell": "gru", "cell.hidden_size": "32", "optimizer.learning_rate": "0.001"},
        "The best of 3.",
    )
    assert text.splitlines()[:2] == ["# @package _global_", "# The best of 3."]
    assert yaml.safe_load(text) == {
        "defaults": ["/experiment/demo/train", {"override /cell": "gru"}, "_self_"],
        "loop": {"max_steps": 9},
        "train_tokens": "a/b",
        "cell": {"hidden_size": 32},
        "optimizer": {"learning_rate": 0.001},
    }
