"""The training loop: stopped or killed anywhere it ends as if nothing had happened, and it keeps what it promises."""

import itertools
import json
import math
from pathlib import Path

import pytest
import torch

from rnnlm.checkpoint import load_checkpoint
from rnnlm.determinism import seed_torch
from rnnlm.errors import CheckpointError, ConfigError, NonFiniteError, RefusedError, TerminatedError
from rnnlm.nn.cells.elman import ElmanConfig
from rnnlm.storage import Location, open_location
from rnnlm.tasks.batching import DocumentsConfig, LanesConfig
from rnnlm.tasks.language_model import LanguageModelConfig
from rnnlm.training.loop import train
from rnnlm.training.metrics import METRICS, read_metrics
from rnnlm.training.optimizers.adamw import AdamWConfig
from rnnlm.training.optimizers.sgd import SGDConfig
from rnnlm.training.schedules import ConstantConfig, CosineConfig
from rnnlm.training.settings import Hooks, LoopConfig, TrainingConfig, TrainingData
from rnnlm.world import SingleWorld
from tests.corpora import sentences, tiny_task, token_table, words_tokenizer

STEPS = 23
TIMES = {"wall_seconds", "tokens_per_second"}  # all that may differ between two runs that do the same
OPTIMIZERS = {
    "adamw": AdamWConfig(learning_rate=0.02, weight_decay=0.1),
    "sgd": SGDConfig(learning_rate=0.5, momentum=0.8),
}
FLOAT32_GRADIENT = 1e-6  # one step's; parts are added up in another order
FLOAT32_RUN = 1e-4  # the same over 23 steps of AdamW
FLOAT64_MEAN = 1e-12  # relative; a few sums of float64 numbers in another order


@pytest.fixture(scope="module")
def data():
    return TrainingData(
        train=token_table(sentences(25)), valid=token_table(sentences(9, seed=1)), tokenizer=words_tokenizer()
    )


def settings_of(**changed):
    loop = {"max_steps": STEPS, "log_every_steps": 3, "valid_every_steps": 7, "save_every_steps": 5, "valid_lanes": 2}
    given = {name: changed.pop(name) for name in list(changed) if name in LoopConfig.__pydantic_fields__}
    defaults = {
        "task": tiny_task(num_layers=2, dropout=0.4, layer_dropout=0.3),
        "batching": LanesConfig(num_lanes=4, window=5),
        "optimizer": OPTIMIZERS["adamw"],
        "schedule": CosineConfig(warmup_steps=2),
        "seed": 3,
    }
    return TrainingConfig(**{**defaults, **changed}, loop=LoopConfig(**{**loop, **given}))


def stop_after(steps):
    """Asks to stop after so many steps of this process."""
    asked = iter(range(1, 10_000))
    return Hooks(should_stop=lambda: next(asked) == steps)


class KilledError(BaseException):
    """Stands for a SIGKILL: nothing in the code can catch it, and nothing is written after it."""


@pytest.fixture
def kill_at(monkeypatch):
    """Makes the process die before (or after) it writes its so-manieth file."""

    def arm(number, *, after):
        whole, written = Location.write_bytes, iter(range(10_000))

        def dying(self, content):
            count = next(written)
            if count == number and after:
                whole(self, content)
            elif count == number:  # as a real one leaves it
                unfinished = Path(self.path).with_name(f".{Path(self.path).name}.0123.tmp")
                unfinished.parent.mkdir(parents=True, exist_ok=True)
                unfinished.write_bytes(content[: len(content) // 2])
            if count >= number:
                raise KilledError
            whole(self, content)

        monkeypatch.setattr(Location, "write_bytes", dying)

    yield arm
    monkeypatch.undo()


def outcome(folder):
    """All that a run leaves, times apart: the files of its checkpoints, its pointers and its rows."""
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix != ".tmp" and path.name not in {METRICS, "training.json"}:
            files[str(path.relative_to(folder))] = path.read_bytes()
    states = [json.loads(path.read_text()) for path in sorted(folder.rglob("training.json"))]
    states = [{k: v for k, v in state.items() if not k.endswith("seconds")} for state in states]
    rows = read_metrics(open_location(str(folder / METRICS)))
    return (
        files,
        states,
        [{k: v for k, v in row.items() if k not in TIMES and not k.endswith("_share")} for row in rows],
    )


@pytest.fixture(scope="module", params=OPTIMIZERS)
def undisturbed(request, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    summary = train(settings_of(optimizer=OPTIMIZERS[request.param]), data, str(folder))
    assert summary.steps == STEPS
    return OPTIMIZERS[request.param], outcome(folder)


@pytest.mark.parametrize("stops", [[1], [3], [5], [7], [22], [23], [2, 4, 9], [1] * 8], ids=str)
def test_stopped_and_started_again_it_ends_the_same_to_the_bit(undisturbed, data, tmp_path, stops):
    optimizer, expected = undisturbed
    step = 0
    for steps in stops:
        step += steps
        if step < STEPS:
            with pytest.raises(
                TerminatedError, match=rf"after step {step} of 23; the state is saved; run the same com"
            ):
                train(settings_of(optimizer=optimizer), data, str(tmp_path / "run"), hooks=stop_after(steps))
    torch.manual_seed(99)  # what the process did in between is of no consequence
    train(settings_of(optimizer=optimizer), data, str(tmp_path / "run"))
    assert outcome(tmp_path / "run") == expected


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("write", [0, 1, 4, 7, 8, 15, 23, 39])
def test_killed_at_any_write_and_started_again_it_ends_the_same_to_the_bit(
    undisturbed, data, tmp_path, monkeypatch, kill_at, write, after
):
    optimizer, expected = undisturbed
    kill_at(write, after=after)
    with pytest.raises(KilledError):
        train(settings_of(optimizer=optimizer), data, str(tmp_path / "run"))
    monkeypatch.undo()
    train(settings_of(optimizer=optimizer), data, str(tmp_path / "run"))
    assert outcome(tmp_path / "run")[:2] == expected[:2]


def test_killed_between_a_checkpoint_and_the_log_it_loses_no_row(undisturbed, data, tmp_path, monkeypatch):
    optimizer, expected = undisturbed
    whole = Location.write_bytes

    def dying(self, content):
        if self.path.endswith(METRICS):
            raise KilledError
        whole(self, content)

    monkeypatch.setattr(Location, "write_bytes", dying)
    with pytest.raises(KilledError):
        train(settings_of(optimizer=optimizer), data, str(tmp_path / "run"))
    monkeypatch.undo()
    train(settings_of(optimizer=optimizer), data, str(tmp_path / "run"))
    assert outcome(tmp_path / "run")[2] == expected[2]


def test_every_row_is_there_once_and_in_order(undisturbed):
    _, (_, _, rows) = undisturbed
    found = [(row["kind"], row["step"]) for row in rows]
    assert [step for kind, step in found if kind == "train"] == [3, 6, 9, 12, 15, 18, 21, 23]
    assert [step for kind, step in found if kind == "valid"] == [7, 14, 21, 23]
    assert found == sorted(found, key=lambda one: (one[1], one[0]))
    assert all(row["tokens"] == 20 * row["step"] for row in rows if row["step"] <= 6)


def test_a_finished_run_is_left_as_it_is(data, tmp_path):
    first = train(settings_of(), data, str(tmp_path / "run"))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    again = train(settings_of(), data, str(tmp_path / "run"))
    assert again == first
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_the_same_seed_gives_the_same_run_and_another_another(data, tmp_path):
    outcomes = []
    for name, seed in [("a", 3), ("b", 3), ("c", 4)]:
        train(settings_of(seed=seed), data, str(tmp_path / name))
        outcomes.append(outcome(tmp_path / name))
    assert outcomes[0] == outcomes[1]
    assert outcomes[0][2] != outcomes[2][2]


def test_a_run_of_another_config_is_refused_and_the_field_named(data, tmp_path):
    identity = {"seed": 1, "task": {"num_layers": 1}, "paths": ["a"]}
    train(settings_of(max_steps=1), data, str(tmp_path / "run"), identity=identity)
    train(settings_of(max_steps=1), data, str(tmp_path / "run"), identity=identity)
    with pytest.raises(RefusedError, match=r"run holds another run: task.num_layers: 1 -> 2; choose another output"):
        train(settings_of(), data, str(tmp_path / "run"), identity={**identity, "task": {"num_layers": 2}})


def test_a_folder_of_something_else_is_refused(data, tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(RefusedError, match=r"it holds thesis.tex and no run.json"):
        train(settings_of(), data, str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_lanes_that_cannot_be_dealt_are_refused_before_anything_is_written(data, tmp_path):
    class TwoRanks(SingleWorld):
        size = 2

    with pytest.raises(ConfigError, match="3 lanes cannot be dealt evenly to 2 workers"):
        train(settings_of(batching=LanesConfig(num_lanes=3)), data, str(tmp_path / "run"), world=TwoRanks())
    assert not (tmp_path / "run").exists()


def test_only_the_best_and_the_last_checkpoint_stay(data, tmp_path):
    seen = []

    def look():
        index = tmp_path / "run/checkpoints/index.json"
        if index.exists():
            names = {path.name for path in index.parent.iterdir()} - {"index.json"}
            assert names == set(json.loads(index.read_text()).values())
            seen.append(len(names))
        return False

    train(settings_of(save_every_steps=1), data, str(tmp_path / "run"), hooks=Hooks(should_stop=look))
    assert len(seen) == STEPS - 1
    assert set(seen) == {1, 2}


def test_the_best_checkpoint_is_that_of_the_lowest_validation_loss(data, tmp_path):
    # A rate at which the loss goes up and down.
    settings = settings_of(optimizer=SGDConfig(learning_rate=20.0), valid_every_steps=2, schedule=ConstantConfig())
    summary = train(settings, data, str(tmp_path / "run"))
    rows = [row for row in read_metrics(open_location(str(tmp_path / "run" / METRICS))) if row["kind"] == "valid"]
    best = min(rows, key=lambda row: row["nll"])
    assert (summary.best_step, summary.best_valid_nll) == (best["step"], best["nll"])
    assert best["step"] < STEPS
    checkpoint = load_checkpoint(str(tmp_path / "run"))
    assert checkpoint.location.path.endswith(f"step-{best['step']:08d}")
    assert checkpoint.trained == {"step": best["step"], "tokens": best["tokens"], "best_valid_nll": best["nll"]}
    again = settings.task.validate(checkpoint.model, data.valid, data.tokenizer, num_lanes=2)
    assert again.nll.item() / again.num_targets == best["nll"]
    assert best["perplexity"] == math.exp(best["nll"])


def test_before_the_first_validation_the_last_checkpoint_is_the_best(data, tmp_path):
    with pytest.raises(TerminatedError):
        train(settings_of(), data, str(tmp_path / "run"), hooks=stop_after(4))
    assert load_checkpoint(str(tmp_path / "run")).trained["step"] == 4


def test_a_row_of_the_log_is_the_mean_since_the_row_before(data, tmp_path):
    rows = {}
    for every in (1, 5):
        train(settings_of(log_every_steps=every), data, str(tmp_path / str(every)))
        found = read_metrics(open_location(str(tmp_path / str(every) / METRICS)))
        rows[every] = {row["step"]: row for row in found if row["kind"] == "train"}
    for start, stop in [(0, 5), (5, 10), (15, 20), (20, 23)]:
        window = [rows[1][step] for step in range(start + 1, stop + 1)]
        tokens = [row["tokens"] - (rows[1][row["step"] - 1]["tokens"] if row["step"] > 1 else 0) for row in window]
        mean = sum(row["nll"] * count for row, count in zip(window, tokens, strict=True)) / sum(tokens)
        assert rows[5][stop]["nll"] == pytest.approx(mean, rel=FLOAT64_MEAN)
        assert rows[5][stop]["grad_norm"] == rows[1][stop]["grad_norm"]


@pytest.mark.parametrize(("epochs", "expected"), [(1.0, 1), (2.0, 2), (0.5, 0.5), (1e-9, 0)])
def test_epochs_are_counted_in_steps(data, tmp_path, epochs, expected):
    settings = settings_of(max_steps=None, max_epochs=epochs, valid_every_steps=None, save_every_steps=None)
    per_epoch = math.ceil(math.ceil(data.train.num_targets / 4) / 5)
    summary = train(settings, data, str(tmp_path / "run"))
    assert summary.steps == max(1, round(expected * per_epoch))


def test_a_damaged_checkpoint_is_not_gone_on_with(data, tmp_path):
    with pytest.raises(TerminatedError):
        train(settings_of(), data, str(tmp_path / "run"), hooks=stop_after(4))
    file = tmp_path / "run/checkpoints/step-00000004/weights.safetensors"
    content = bytearray(file.read_bytes())
    content[-7] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(CheckpointError, match="changed or cut short"):
        train(settings_of(), data, str(tmp_path / "run"))


def test_damaged_moments_are_not_gone_on_with(data, tmp_path):
    with pytest.raises(TerminatedError):
        train(settings_of(), data, str(tmp_path / "run"), hooks=stop_after(4))
    file = tmp_path / "run/checkpoints/step-00000004/training.safetensors"
    content = bytearray(file.read_bytes())
    content[-7] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(CheckpointError, match=r"training.safetensors \(\d+ bytes\) is not what was saved"):
        train(settings_of(), data, str(tmp_path / "run"))


def rows_of(folder, kind):
    return [row for row in read_metrics(open_location(str(folder / METRICS))) if row["kind"] == kind]


def test_the_parts_of_the_time_add_up_to_the_whole(data, tmp_path):
    train(settings_of(), data, str(tmp_path / "run"))
    for row in rows_of(tmp_path / "run", "train"):
        shares = {name: value for name, value in row.items() if name.endswith("_share")}
        assert sum(shares.values()) == pytest.approx(1.0, abs=1e-3)  # each is rounded to four places
        assert all(shares[f"{name}_share"] > 0 for name in ("data", "forward", "softmax", "backward", "optimizer"))


# ----- when a run ends


def test_patience_ends_a_run_that_no_longer_gets_better(data, tmp_path):
    worse = SGDConfig(learning_rate=20.0)
    settings = settings_of(optimizer=worse, valid_every_steps=2, patience=2, max_steps=200, schedule=ConstantConfig())
    summary = train(settings, data, str(tmp_path / "run"))
    found = [row["nll"] for row in rows_of(tmp_path / "run", "valid")]
    best = found.index(min(found))
    assert len(found) == best + 3  # the best, and two that are not
    assert summary.steps == 2 * len(found) < 200
    assert summary.best_step == 2 * (best + 1)
    assert train(settings, data, str(tmp_path / "run")) == summary  # over is over


def test_patience_is_counted_across_a_stop(data, tmp_path):
    settings = settings_of(
        optimizer=SGDConfig(learning_rate=20.0),
        valid_every_steps=2,
        patience=2,
        max_steps=200,
        schedule=ConstantConfig(),
    )
    train(settings, data, str(tmp_path / "whole"))
    steps = rows_of(tmp_path / "whole", "valid")[-1]["step"]
    with pytest.raises(TerminatedError):
        train(settings, data, str(tmp_path / "run"), hooks=stop_after(steps - 1))
    train(settings, data, str(tmp_path / "run"))
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")


def test_after_its_minutes_a_run_validates_saves_and_ends(data, tmp_path):
    settings = settings_of(max_minutes=1e-9, max_steps=500)
    summary = train(settings, data, str(tmp_path / "run"))
    assert summary.steps == 2  # one, and the one in which it was noticed
    assert [row["step"] for row in rows_of(tmp_path / "run", "valid")] == [2]
    assert load_checkpoint(str(tmp_path / "run")).trained["step"] == 2
    assert train(settings, data, str(tmp_path / "run")) == summary


# ----- what a step is made of


def one_step_of(data, folder, **changed):
    """Weights before and after one step of plain SGD with the rate 1, without clipping: their difference is the
    gradient."""
    settings = settings_of(
        task=tiny_task(), optimizer=SGDConfig(learning_rate=1.0, momentum=0.0), schedule=ConstantConfig(warmup_steps=0),
        clip_norm=1e9, max_steps=1, **changed,
    )  # fmt: skip
    train(settings, data, str(folder))
    return settings, load_checkpoint(str(folder)).model.state_dict()


def test_accumulated_batches_give_the_gradient_of_their_mean(data, tmp_path):
    settings, found = one_step_of(data, tmp_path / "run", accumulate=3)
    seed_torch(settings.seed, "initial weights")
    model = settings.task.build_model(data.tokenizer.vocab_size)
    settings.task.prepare(model, data.train, data.tokenizer)
    stream = settings.task.open_stream(
        data.train, data.tokenizer, settings.batching, seed=settings.seed, rank=0, world_size=1
    )
    state, total, count = settings.task.initial_state(model, settings.batching, 1), 0.0, 0
    for _ in range(3):
        loss, state = settings.task.loss(model, stream.next(), state)
        total, count = total + loss.nll if loss.objective is None else total + loss.objective, count + loss.num_targets
    (total / count).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.detach() - parameter.grad, found[name], rtol=0, atol=FLOAT32_GRADIENT)


def test_accumulated_batches_make_fewer_steps_of_an_epoch(data, tmp_path):
    settings = settings_of(max_steps=None, max_epochs=1.0, accumulate=4, valid_every_steps=None, save_every_steps=None)
    per_epoch = math.ceil(math.ceil(data.train.num_targets / 4) / 5)
    summary = train(settings, data, str(tmp_path / "run"))
    assert summary.steps == round(per_epoch / 4)
    assert summary.tokens <= 4 * 4 * 5 * summary.steps


LAYOUTS = {
    "accumulate": {"accumulate": 2},
    "jitter": {"batching": LanesConfig(num_lanes=4, window=8, jitter=2.0)},
    "documents": {"batching": DocumentsConfig(num_documents=4, longest=6)},
    "recompute": {"task": tiny_task(num_layers=2, dropout=0.4, recompute_steps=2)},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("stop", [2, 11])
def test_every_layout_of_steps_resumes_to_the_bit(data, tmp_path, layout, stop):
    settings = settings_of(**LAYOUTS[layout])
    train(settings, data, str(tmp_path / "whole"))
    with pytest.raises(TerminatedError):
        train(settings, data, str(tmp_path / "run"), hooks=stop_after(stop))
    train(settings, data, str(tmp_path / "run"))
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")


def test_jitter_shrinks_the_learning_rate_with_the_window(data, tmp_path):
    settings = settings_of(
        batching=LanesConfig(num_lanes=4, window=8, jitter=2.0),
        schedule=ConstantConfig(warmup_steps=0),
        log_every_steps=1,
    )
    train(settings, data, str(tmp_path / "run"))
    rows = rows_of(tmp_path / "run", "train")
    counts = [b["tokens"] - a["tokens"] for a, b in itertools.pairwise(rows)]
    rates = [row["learning_rate"] for row in rows[1:]]
    whole = [(count, rate) for count, rate in zip(counts, rates, strict=True) if count % 4 == 0]
    assert len(set(counts)) > 2
    assert any(rate == pytest.approx(settings.optimizer.learning_rate * count / 32) for count, rate in whole)


@pytest.mark.parametrize("segment", [1, 3, 50])
def test_recomputed_segments_give_the_same_gradient(data, tmp_path, segment):
    found = {}
    for steps in (None, segment):
        settings = settings_of(task=tiny_task(num_layers=2, recompute_steps=steps))
        train(settings, data, str(tmp_path / str(steps)))
        found[steps] = load_checkpoint(str(tmp_path / str(steps))).model.state_dict()
    for name, tensor in found[None].items():
        torch.testing.assert_close(found[segment][name], tensor, rtol=0, atol=FLOAT32_RUN)


@pytest.mark.parametrize(
    ("batching", "said"),
    [
        (LanesConfig(num_lanes=5000), "5,000 lanes are more than the 1[0-9]{2} targets"),
        (DocumentsConfig(num_documents=26), "a batch of 26 is more than the 25 documents"),
    ],
)
def test_a_batch_larger_than_the_corpus_is_refused_before_anything_is_written(data, tmp_path, batching, said):
    with pytest.raises(ConfigError, match=said):
        train(settings_of(batching=batching), data, str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


# ----- numbers that are not finite

# Hidden states of a relu network have no bound: with weights this large they overflow within a few steps.
OVERFLOWING = {
    "task": LanguageModelConfig(cell=ElmanConfig(hidden_size=8, nonlinearity="relu"), embedding_size=8),
    "optimizer": SGDConfig(learning_rate=1e12),
    "schedule": ConstantConfig(warmup_steps=0),
}


def test_a_diverging_run_stops_and_keeps_its_last_good_checkpoint(data, tmp_path):
    settings = settings_of(**OVERFLOWING, save_every_steps=1, valid_every_steps=20)
    said = r"the gradient of step 2 is not finite in [\w., ]+ \(loss .* nats on rank 0\); lower optimizer.learning_rate"
    with pytest.raises(NonFiniteError, match=said):
        train(settings, data, str(tmp_path / "run"))
    checkpoint = load_checkpoint(str(tmp_path / "run"))
    assert checkpoint.trained["step"] == 1
    assert all(torch.isfinite(p).all() for p in checkpoint.model.parameters())
    with pytest.raises(NonFiniteError, match="step 2"):  # and once more, from there
        train(settings, data, str(tmp_path / "run"))


def test_a_validation_that_is_not_finite_stops_the_run_and_saves_nothing_of_it(data, tmp_path):
    settings = settings_of(**OVERFLOWING, valid_every_steps=1)
    with pytest.raises(NonFiniteError, match=r"the validation loss after step 1 is (nan|inf)"):
        train(settings, data, str(tmp_path / "run"))
    assert not (tmp_path / "run/checkpoints").exists()
