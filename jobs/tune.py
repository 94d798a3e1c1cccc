"""Search for the settings of a training with the best validation loss, by Ray Tune; run again to go on.

    python -m jobs.tune experiment=demo/train 'task.num_layers=choice(1,2)' \
        'optimizer.learning_rate=tag(log,interval(1e-4,1e-2))' tune.trials=30 output=outputs/tuned

Overrides in Hydra's sweep syntax are the space: choice(...) or a,b; range(...); interval(...), tagged `log` for a
logarithmic one, int(interval(...)) for whole numbers. All others are those of jobs.train, the same for every trial.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.errors import HydraException

from jobs.app import compose_job, conf_dir, run_job
from jobs.schemas import TrainJob, TuneJob
from jobs.sweep import SweepFolder
from rnnlm.config import to_dict
from rnnlm.errors import ConfigError, FailuresError
from rnnlm.evaluation.leaderboard import Standing, ranked
from rnnlm.storage import Location, open_location

RECIPE = "best/train"  # below <output>/conf/experiment
PERTURBED = {
    "dropout", "input_dropout", "layer_dropout", "word_dropout", "zoneout", "activation_penalty", "slowness_penalty",
}  # fmt: skip
"Fields, anywhere in a task, that may change between the parts of a run; so may the optimizer's and the schedule's."
PLACE = {"address", "device", "output", "threads"}
"Fields about where trials run: no part of a recipe."
MAY_CHANGE = f"optimizer.*, schedule.*, loop.clip_norm, and of task and cell {', '.join(sorted(PERTURBED))}"


@dataclass(frozen=True)
class Dimension:
    """One parameter of a space: some values, as typed, or numbers between two ends."""

    key: str
    choices: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    scale: Literal["linear", "log"] = "linear"
    whole: bool = False

    def typed(self, value: Any) -> str:
        """A value as it is typed after the key."""
        return str(value) if self.choices or self.whole else f"{value:.4g}"

    def ends(self) -> tuple[str, ...]:
        """Values that must be valid if all are to be."""
        return self.choices or (self.typed(self.low), self.typed(self.high))


def tune(job: TuneJob) -> None:
    """Search, and write the best settings as a recipe."""
    if {"--config-dir", "-cd"} & set(sys.argv):
        raise ConfigError("--config-dir: workers compose their trials without it; put the experiment into conf/")
    space = read_space(job.tune.space)
    base = base_overrides(HydraConfig.get().overrides.task)
    check_space(space, base, job)
    folder = SweepFolder(job.output, "Tuning of jobs.train")
    folder.admit(to_dict(job), [])
    from jobs.distributed.tune import search_on_ray  # noqa: PLC0415 - importing Ray takes seconds

    search_on_ray(job, space, base, folder)
    standings = ranked([folder.standing(name) for name in folder.records])
    _conclude(job, standings, base, folder)


def gathered(arguments: Sequence[str]) -> list[str]:
    """The same arguments, with those that sweep put into tune.space: Hydra takes them for a multirun."""
    parser = OverridesParser.create()
    space: list[str] = []
    rest: list[str] = []
    for argument in arguments:
        try:
            swept = "=" in argument and not argument.startswith("-") and parser.parse_override(argument)
        except HydraException:
            swept = False  # Hydra will say what is wrong with it
        (space if swept and swept.is_sweep_override() else rest).append(argument)
    return [*rest, f"tune.space={json.dumps(space)}"] if space else rest


def read_space(overrides: Sequence[str]) -> list[Dimension]:
    """The dimensions of a space; ConfigError if there are none, or one that cannot be searched."""
    if not overrides:
        raise ConfigError("tune.space: nothing to search; give an override with several values, as in cell=lstm,gru")
    dimensions, problems = [], []
    for text in overrides:
        try:
            dimensions.append(_dimension(OverridesParser.create().parse_override(text)))
        except (HydraException, ValueError) as error:
            problems.append(f"tune.space: {text!r}: {str(error).splitlines()[0]}")
    if problems:
        raise ConfigError(problems)
    return dimensions


def base_overrides(task: Sequence[str]) -> list[str]:
    """What the command line says about every trial."""
    own = [text for text in task if text.lstrip("+").partition("=")[0] not in PLACE]
    return [text for text in own if not text.lstrip("+").startswith("tune.")]


def trial_job(base: Sequence[str], values: Mapping[str, str], output: str) -> TrainJob:
    """What one trial trains."""
    return compose_job(
        "train", TrainJob, [*base, *(f"{key}={value}" for key, value in values.items()), f"output={json.dumps(output)}"]
    )


def check_space(space: Sequence[Dimension], base: Sequence[str], job: TuneJob) -> None:
    """Raise ConfigError unless each end of each dimension is valid, with the first end of the others."""
    problems = [f"{text}: a recipe cannot take a field away" for text in base if text.startswith("~")]
    if job.tune.scheduler == "pbt":
        fixed = [one.key for one in space if not may_be_perturbed(one.key)]
        problems += [f"tune.space: {key} cannot change while a run goes on; pbt takes {MAY_CHANGE}" for key in fixed]
    first = {one.key: one.ends()[0] for one in space}
    for one in space:
        for end in one.ends():
            try:
                trial_job(base, {**first, one.key: end}, job.output)
            except ConfigError as error:
                problems += error.problems
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))


def may_be_perturbed(key: str) -> bool:
    """Whether a run may go on with another value of this field."""
    above, _, name = key.rpartition(".")
    if above in {"optimizer", "schedule"} or key == "loop.clip_norm":
        return True
    return above.partition(".")[0] in {"task", "cell"} and name in PERTURBED


def recipe(base: Sequence[str], values: Mapping[str, str], comment: str) -> str:
    """An experiment of conf/experiment/<name>/train.yaml that says all that the trial had."""
    defaults: list[Any] = []
    fields: dict[str, Any] = {}
    parsed = OverridesParser.create().parse_overrides([*base, *(f"{key}={value}" for key, value in values.items())])
    for override in parsed:
        key, value = override.key_or_group, override.value()
        if key == "experiment":
            defaults.insert(0, f"/experiment/{value}")
        elif (conf_dir() / key).is_dir():
            defaults.append({f"override /{key}": value})
        else:
            *above, last = key.split(".")
            inner = fields
            for part in above:
                inner = inner.setdefault(part, {})
            inner[last] = value
    body = {**({"defaults": [*defaults, "_self_"]} if defaults else {}), **fields}
    return f"# @package _global_\n# {comment}\n{yaml.safe_dump(body, sort_keys=False)}"


def _dimension(override: Override) -> Dimension:
    key, value = override.key_or_group, override.value()
    if not override.is_sweep_override():
        raise ValueError("it has one value; give several, or leave it out of the space")
    if override.is_discrete_sweep():
        return Dimension(key, tuple(override.sweep_string_iterator()))
    assert isinstance(value, IntervalSweep)
    assert value.start is not None
    assert value.end is not None
    log, whole = "log" in value.tags, isinstance(value.start, int) and isinstance(value.end, int)
    if not value.start < value.end:
        raise ValueError("the first end of an interval is the smaller one")
    if log and value.start <= 0:
        raise ValueError("a logarithmic interval begins above 0")
    return Dimension(key, (), value.start, value.end, "log" if log else "linear", whole)


def _conclude(job: TuneJob, standings: Sequence[Standing], base: Sequence[str], folder: SweepFolder) -> None:
    best = standings[0] if standings else None
    if best is None or best.figure is None:
        reason = best.error if best else "none was begun"
        raise FailuresError(f"no trial came as far as a validation: {reason}", todo=f"see {job.output}/leaderboard.md")
    comment = f"The best of {len(standings)} trials of jobs.tune: {best.trial}, {best.figure.value:.4f} nats a target."
    file: Location = open_location(job.output).join("conf", "experiment", *f"{RECIPE}.yaml".split("/"))
    file.write_text(recipe(base, best.parameters, comment))
    print(
        f"tune: {len(standings)} trials; best validation {best.figure.value:.4f} nats a target by {best.trial}: "
        f"{' '.join(f'{key}={value}' for key, value in best.parameters.items())}\n"
        f"output: {job.output}/leaderboard.md\n"
        f"train it: python -m jobs.train --config-dir {job.output}/conf experiment={RECIPE} output=..."
    )
    failed = [one.trial for one in standings if folder.records[one.trial].state == "failed"]
    if failed:
        raise FailuresError(
            f"{len(failed)} of {len(standings)} trials failed: {', '.join(failed[:3])}",
            todo=f"see {job.output}/leaderboard.md; run the same command again to try them again",
        )


if __name__ == "__main__":
    sys.argv[1:] = gathered(sys.argv[1:])
    run_job("tune", TuneJob, tune)
