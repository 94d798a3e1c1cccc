"""Two real processes with gloo: what they train is what one process trains, and they stop and go on together.

The processes are started once; they run every scenario and leave its outcome in a folder, where the tests look.
"""

import datetime as dt
import json
import os

import pytest
import safetensors.torch
import torch
import torch.distributed as dist
import torch.multiprocessing

from rnnlm.errors import TerminatedError
from rnnlm.storage import open_location
from rnnlm.tasks.batching import DocumentsConfig, LanesConfig
from rnnlm.tasks.language_model import LanguageModelConfig
from rnnlm.training.loop import train
from rnnlm.training.metrics import METRICS, read_metrics
from rnnlm.training.optimizers.adamw import AdamWConfig
from rnnlm.training.settings import Hooks, LoopConfig, TrainingConfig, TrainingData
from rnnlm.world import TorchWorld
from tests.corpora import CELLS, DoubleTask, sentences, token_table, words_tokenizer

WORLD = 2
STEPS = 14
FLOAT64_RUN = 1e-10  # fourteen steps in which gradients are added up in another order
FLOAT32_RUN = 1e-5  # the same in float32
FLOAT64_MEAN = 1e-14


def settings_of(task=DoubleTask, *, dropout=0.0, batching=None, **loop):
    return TrainingConfig(
        task=task(cell=CELLS["lstm"](hidden_size=6), embedding_size=6, num_layers=2, dropout=dropout),
        batching=batching or LanesConfig(num_lanes=4, window=5),
        optimizer=AdamWConfig(learning_rate=0.02),
        loop=LoopConfig(max_steps=STEPS, valid_every_steps=5, log_every_steps=4, valid_lanes=4, **loop),
        seed=6,
    )


# Steps of several batches, batches of random sizes; documents, of which a rank may have none in the last batch.
LAYOUTS = {
    "accumulated": {"batching": LanesConfig(num_lanes=4, window=5, jitter=2.0), "accumulate": 3},
    "documents": {"batching": DocumentsConfig(num_documents=6, longest=4)},
}


def data_of():
    return TrainingData(token_table(sentences(20)), token_table(sentences(7, seed=1)), words_tokenizer())


def run(folder, settings, *, world=None, steps=None):
    """Train; with `steps`, until somebody asks to stop."""
    asked = iter(range(1, 1000))
    # Only the last rank is asked: one is enough.
    hooks = Hooks(should_stop=lambda: next(asked) == steps and (world is None or world.rank == world.size - 1))
    try:
        train(settings, data_of(), str(folder), world=world, hooks=hooks)
    except TerminatedError:
        assert steps is not None


def scenarios(folder, world):
    run(f"{folder}/double", settings_of(), world=world)
    run(f"{folder}/single", settings_of(LanguageModelConfig), world=world)
    run(f"{folder}/dropout", settings_of(dropout=0.4), world=world)
    run(f"{folder}/stopped", settings_of(dropout=0.4), world=world, steps=6)
    run(f"{folder}/stopped", settings_of(dropout=0.4), world=world)
    for name, layout in LAYOUTS.items():
        run(f"{folder}/{name}", settings_of(**layout), world=world)
    run(f"{folder}/two-then-one", settings_of(), world=world, steps=7)
    run(f"{folder}/one-then-two", settings_of(), world=world)
    return {
        "sum": world.sum(torch.tensor([1.0, 10.0 * world.rank])).tolist(),
        "rows": world.gather_rows(torch.tensor([[world.rank, 7]]).t()).tolist(),
    }


def one_process(rank, folder):
    """What each of the processes does."""
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meeting",
        rank=rank,
        world_size=WORLD,
        timeout=dt.timedelta(seconds=60),
    )
    world = TorchWorld()
    torch.manual_seed(rank)  # whatever a process did before
    open_location(f"{folder}/collectives-{rank}.json").write_json(scenarios(folder, world))
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    run(folder / "one-then-two", settings_of(), steps=7)
    torch.multiprocessing.spawn(one_process, args=(str(folder),), nprocs=WORLD)
    run(folder / "two-then-one", settings_of())
    run(folder / "alone", settings_of())
    for name, layout in LAYOUTS.items():
        run(folder / f"alone-{name}", settings_of(**layout))
    run(folder / "alone-single", settings_of(LanguageModelConfig))
    return folder


def weights(folder, which="last"):
    name = json.loads((folder / "checkpoints/index.json").read_text())[which]
    return safetensors.torch.load_file(folder / "checkpoints" / name / "weights.safetensors")


def rows_of(folder):
    return read_metrics(open_location(str(folder / METRICS)))


def assert_near(found, expected, tolerance):
    assert found.keys() == expected.keys()
    for name in found:
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    ("two", "one", "tolerance"),
    [
        ("double", "alone", FLOAT64_RUN),
        ("single", "alone-single", FLOAT32_RUN),
        ("accumulated", "alone-accumulated", FLOAT64_RUN),
        ("documents", "alone-documents", FLOAT64_RUN),
    ],
)
def test_two_processes_train_what_one_trains(folder, two, one, tolerance):
    assert_near(weights(folder / two), weights(folder / one), tolerance)
    assert_near(weights(folder / two, "best"), weights(folder / one, "best"), tolerance)


def test_their_measurements_are_those_of_one(folder):
    two, one = rows_of(folder / "double"), rows_of(folder / "alone")
    assert [(r["kind"], r["step"], r["tokens"], r["epoch"]) for r in two] == [
        (r["kind"], r["step"], r["tokens"], r["epoch"]) for r in one
    ]
    for found, expected in zip(two, one, strict=True):
        assert found["nll"] == pytest.approx(expected["nll"], abs=FLOAT64_RUN)
        assert found.get("grad_norm") == pytest.approx(expected.get("grad_norm"), abs=FLOAT64_RUN)


def test_stopped_and_started_again_two_processes_end_the_same_to_the_bit(folder):
    found, expected = weights(folder / "stopped"), weights(folder / "dropout")
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    for row, other in zip(rows_of(folder / "stopped"), rows_of(folder / "dropout"), strict=True):
        # A mean across the break adds up the ranks' sums in another order.
        assert row["nll"] == pytest.approx(other["nll"], rel=FLOAT64_MEAN)
        same = {name for name in row if not name.endswith("_share")}
        same -= {"nll", "perplexity", "wall_seconds", "tokens_per_second"}
        assert {name: row[name] for name in same} == {name: other[name] for name in same}


def test_dropout_differs_from_rank_to_rank(folder):
    name = json.loads((folder / "dropout/checkpoints/index.json").read_text())["last"]
    states = safetensors.torch.load_file(folder / "dropout/checkpoints" / name / "training.safetensors")["random.cpu"]
    assert states.shape[0] == WORLD
    assert not torch.equal(states[0], states[1])


@pytest.mark.parametrize("changed", ["two-then-one", "one-then-two"])
def test_a_run_goes_on_with_another_number_of_processes(folder, changed):
    assert_near(weights(folder / changed), weights(folder / "alone"), FLOAT64_RUN)
    found, expected = rows_of(folder / changed), rows_of(folder / "alone")
    assert [(r["kind"], r["step"]) for r in found] == [(r["kind"], r["step"]) for r in expected]
    assert [r["nll"] for r in found] == pytest.approx([r["nll"] for r in expected], abs=FLOAT64_RUN)


def test_collectives(folder):
    for rank in range(WORLD):
        found = json.loads((folder / f"collectives-{rank}.json").read_text())
        assert found == {"sum": [2.0, 10.0], "rows": [[[0], [7]], [[1], [7]]]}
