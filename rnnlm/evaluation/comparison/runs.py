"""What can be compared: output folders of jobs.train, jobs.score or jobs.evaluate, and the names they go by."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from rnnlm.bulk.output import PLAN, OutputFolder
from rnnlm.checkpoint import INDEX
from rnnlm.errors import ConfigError, DataError, without_secrets
from rnnlm.storage import Location, open_location

Kind = Literal["train", "score", "evaluate"]
REPORT = "report.json"
JUDGED_BY = {
    "generate": "hypotheses={first} against={second} reference_column=...",
    "predict": "predictions={first} 'against=[{second}]' reference_column=...",
}
LABELS_TODO = "compare labels by python -m jobs.evaluate predictions=... 'against=[...]' reference_column=..."


@dataclass(frozen=True)
class Run:
    """One run as the comparison shows it; `figures` go by the keys of `measures`, null for what is not known."""

    name: str
    path: str
    figures: Mapping[str, float | int | None]
    settings: Mapping[str, Any]  # by dotted path
    metrics: Sequence[Mapping[str, Any]] = field(default_factory=list)  # rows of metrics.jsonl, of a training run


def name_paths(paths: Sequence[str], names: Sequence[str] | None = None) -> dict[str, str]:
    """Path by name: as given, or what tells the paths apart: their last folders without those that all have in common.

    Raises ConfigError if names do not fit or two are the same.
    """
    if names is None:
        names = _distinct([without_secrets(path).partition("?")[0].rstrip("/").split("/") for path in paths])
        if len(set(names)) < len(paths):
            twice = next(path for place, path in enumerate(paths) if names[place] in names[:place])
            raise ConfigError(f"runs: {twice} is given twice; name each once, or call them by names=[...]")
    if len(names) != len(paths):
        raise ConfigError(f"names: there are {len(paths)} runs and {len(names)} names; give one a run")
    if len(set(names)) < len(names):
        raise ConfigError(f"names: {', '.join(names)} are not distinct; give each run a name of its own")
    return dict(zip(names, paths, strict=True))


def common_kind(paths: Mapping[str, str]) -> Kind:
    """What all runs are outputs of. Raises DataError, saying which is what, if that differs or one is no run."""
    kinds = {name: _kind(path, _another(path, paths)) for name, path in paths.items()}
    if len(set(kinds.values())) > 1:
        said = ", ".join(f"{name} is the output of jobs.{kind}" for name, kind in kinds.items())
        raise DataError(f"the runs are of different kinds: {said}", todo="compare runs of one kind")
    return next(iter(kinds.values()))


def _distinct(paths: Sequence[Sequence[str]]) -> list[str]:
    common = 0
    while all(len(parts) > common + 1 for parts in paths) and len({parts[-1 - common] for parts in paths}) == 1:
        common += 1
    heads = [parts[: len(parts) - common] for parts in paths]
    for depth in range(1, max(map(len, heads)) + 1):
        names = ["/".join(parts[-depth:]) for parts in heads]
        if len(set(names)) == len(names):
            break
    return names


def _another(path: str, paths: Mapping[str, str]) -> str:
    return next((other for other in paths.values() if other != path), "...")


def _kind(path: str, another: str) -> Kind:
    location = open_location(path)
    if location.join(INDEX).exists():
        return "train"
    if location.join(PLAN).exists():
        return _bulk_kind(path, location, another)
    if location.join("labels.json").exists():
        raise DataError(f"{path} is a report about labels", todo=LABELS_TODO)
    if location.join(REPORT).exists():
        return "evaluate"
    what = "is no run" if location.exists() else "does not exist"
    raise DataError(
        f"{path} {what} (no {INDEX}, no {PLAN}, no {REPORT})",
        todo="give output folders of jobs.train, jobs.score or jobs.evaluate",
    )


def _bulk_kind(path: str, location: Location, another: str) -> Kind:
    folder = OutputFolder(location)
    job = folder.plan()["identity"]["job"]
    if job in JUDGED_BY:
        arguments = JUDGED_BY[job].format(first=path, second=another)
        raise DataError(
            f"{path} is the output of jobs.{job}, which is compared by its right answers",
            todo=f"use python -m jobs.evaluate {arguments}",
        )
    if job != "score":
        raise DataError(f"{path} is the output of jobs.{job}", todo="give outputs of jobs.score")
    if folder.success() is None:
        raise DataError(f"{path} is not finished", todo="run jobs.score again with the same arguments")
    return "score"
