"""Four real processes with gloo: a run goes on with 1, 2 and 4 of them, with the optimizer's state divided or not.

The processes are started once; they run every scenario and leave its outcome in a folder, where the tests look.
"""

import datetime as dt
import os
from dataclasses import dataclass

import pytest
import safetensors.torch
import torch
import torch.distributed as dist
import torch.multiprocessing

from rnnlm.checkpoint import resolve_checkpoint
from rnnlm.errors import ConfigError, TerminatedError
from rnnlm.storage import open_location
from rnnlm.tasks.batching import LanesConfig
from rnnlm.tasks.language_model import LanguageModelConfig
from rnnlm.training.loop import train
from rnnlm.training.metrics import METRICS, read_metrics
from rnnlm.training.optimizers.adamw import AdamWConfig
from rnnlm.training.optimizers.muon import MuonConfig
from rnnlm.training.optimizers.sgd import SGDConfig
from rnnlm.training.settings import Hooks, LoopConfig, TrainingConfig, TrainingData
from rnnlm.world import TorchWorld
from tests.corpora import CELLS, DoubleTask, sentences, token_table, words_tokenizer

STEPS = 12
FLOAT64_RUN = 1e-10  # twelve steps in which gradients are added up in another order
BFLOAT16_LOSS = 0.01  # nats a target after twelve steps whose gradients were rounded to 8 bits, each rank's for itself
LANES = LanesConfig(num_lanes=4, window=5)


@dataclass(frozen=True)
class Part:
    """What some of the processes do together: a run, or a part of one."""

    folder: str
    processes: int
    settings: TrainingConfig
    divided: bool = False
    until: int = STEPS


def settings_of(task=DoubleTask, optimizer=None, batching=LANES, **loop):
    return TrainingConfig(
        task=task(cell=CELLS["lstm"](hidden_size=9), embedding_size=9),
        batching=batching,
        optimizer=optimizer or AdamWConfig(learning_rate=0.02, weight_decay=0.1),
        loop=LoopConfig(max_steps=STEPS, valid_every_steps=6, log_every_steps=4, valid_lanes=4, **loop),
        seed=6,
    )


RUNS = {
    "plain": settings_of(),
    "accumulated": settings_of(accumulate=2, batching=LanesConfig(num_lanes=4, window=5, jitter=2.0)),
    "adamw": settings_of(LanguageModelConfig),
    "sgd": settings_of(LanguageModelConfig, SGDConfig(learning_rate=0.2, momentum=0.8)),
    "bfloat16": settings_of(LanguageModelConfig, precision="bfloat16"),
}
PARTS = [
    Part("grows", 1, RUNS["plain"], until=4),
    Part("grows", 2, RUNS["plain"], until=8, divided=True),
    Part("grows", 4, RUNS["plain"], divided=True),
    Part("shrinks", 4, RUNS["accumulated"], until=4, divided=True),
    Part("shrinks", 2, RUNS["accumulated"], until=8),
    Part("shrinks", 1, RUNS["accumulated"], divided=True),
    *(
        Part(f"{name}-{size}-{kind}", size, RUNS[name], divided=kind == "divided")
        for name in ("adamw", "sgd", "bfloat16")
        for size in (1, 2)
        for kind in ("divided", "whole")
    ),
]


def data_of():
    return TrainingData(token_table(sentences(20)), token_table(sentences(7, seed=1)), words_tokenizer())


def run(folder, part, world=None):
    """Train from where the run stands."""
    asked = iter(range(steps_done(folder) + 1, STEPS + 1))
    hooks = Hooks(should_stop=lambda: next(asked) == part.until < STEPS)
    try:
        train(part.settings, data_of(), str(folder), world=world, hooks=hooks, optimizer_sharding=part.divided)
    except TerminatedError:
        assert steps_done(folder) == part.until


def steps_done(folder):
    if not (folder / METRICS).exists():
        return 0
    return resolve_checkpoint(str(folder), "last").join("config.json").read_json()["trained"]["step"]


def one_process(rank, folder):
    """What each of the processes does: its share of the parts, each in a process group of the part's own."""
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    for number, part in enumerate(PARTS):
        if rank < part.processes:
            dist.init_process_group(
                "gloo",
                init_method=f"file://{folder}/meeting-{number}",
                rank=rank,
                world_size=part.processes,
                timeout=dt.timedelta(seconds=60),
            )
            run(folder / part.folder, part, TorchWorld())
            dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world-sizes")
    torch.multiprocessing.spawn(one_process, args=(folder,), nprocs=4)
    for name, settings in RUNS.items():
        run(folder / f"{name}-alone", Part(name, 1, settings))
    return folder


def checkpoint(folder, file="weights"):
    return safetensors.torch.load_file(f"{resolve_checkpoint(str(folder), 'last').address}/{file}.safetensors")


def rows_of(folder):
    return read_metrics(open_location(str(folder / METRICS)))


@pytest.mark.parametrize(("changing", "steady"), [("grows", "plain"), ("shrinks", "accumulated")])
def test_a_run_goes_on_with_1_2_and_4_processes(folder, changing, steady):
    found, expected = checkpoint(folder / changing), checkpoint(folder / f"{steady}-alone")
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=FLOAT64_RUN)
    rows, others = rows_of(folder / changing), rows_of(folder / f"{steady}-alone")
    assert [(row["kind"], row["step"], row["tokens"]) for row in rows] == [
        (row["kind"], row["step"], row["tokens"]) for row in others
    ]
    assert [row["nll"] for row in rows] == pytest.approx([row["nll"] for row in others], abs=FLOAT64_RUN)


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("name", ["adamw", "sgd", "bfloat16"])
def test_dividing_the_optimizer_changes_not_one_bit(folder, name, size):
    for file in ("weights", "training"):  # the moments too
        found, expected = (checkpoint(folder / f"{name}-{size}-{kind}", file) for kind in ("divided", "whole"))
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_two_processes_in_bfloat16_come_near_one(folder):
    two, one = rows_of(folder / "bfloat16-2-whole"), rows_of(folder / "bfloat16-alone")
    assert two[-1]["kind"] == one[-1]["kind"] == "valid"
    assert two[-1]["nll"] == pytest.approx(one[-1]["nll"], abs=BFLOAT16_LOSS)
    assert one[-1]["nll"] != rows_of(folder / "adamw-1-whole")[-1]["nll"]  # it was in bfloat16


def test_an_optimizer_of_whole_matrices_is_not_divided(tmp_path):
    with pytest.raises(ConfigError, match="optimizer_sharding: Muon needs whole matrices"):
        train(settings_of(optimizer=MuonConfig()), data_of(), str(tmp_path / "run"), optimizer_sharding=True)
    assert not (tmp_path / "run").exists()
