"""`--help` of a job: what it does, which groups it is made of, and every field with its default and meaning."""

import dataclasses
import inspect
import json
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hydra
from omegaconf import OmegaConf

from rnnlm.config import MISSING, TARGET, field_docs


@dataclasses.dataclass(frozen=True)
class Entry:
    """A field as a job composes it."""

    path: str
    "Dotted path from the job."
    owner: type[Any]
    "The config class that has the field."
    value: Any
    "What it is unless it is given; MISSING where it has to be."
    meaning: str
    "What it means; of a chosen config, what that is."
    inner: type[Any] | None
    "The config class that it holds; null for a plain value."

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition(".")[2]


def show_help(name: str, schema: type[Any], conf: Path) -> None:
    """Print it."""
    data, choices = composed_defaults(name, conf)
    lines = [inspect.cleandoc(schema.__doc__ or ""), "", "Groups (choose with group=name):"]
    for group, choice in choices.items():
        lines.append(f"  {group:<12} {' | '.join(options_of(group, conf))}   (now: {choice})")
    lines += ["", "Fields (set with field=value):", *map(_line, entries(schema, data))]
    lines += [
        "",
        "A sweep: add -m and give several values, as in cell=lstm,gru. See the result without running: --cfg job.",
        "Exit codes: 0 ok, 1 bug, 2 refused, 3 finished with failures, 4 environment, 5 stalled, 143 terminated.",
    ]
    print("\n".join(lines))


def composed_defaults(name: str, conf: Path) -> tuple[dict[Any, Any], dict[str, str | None]]:
    """What a job is made of if nothing is said, and the choice of each of its groups."""
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(conf)):
        composed = hydra.compose(config_name=name, return_hydra_config=True)
    chosen = composed.hydra.runtime.choices
    own = OmegaConf.masked_copy(composed, [key for key in composed if key != "hydra"])
    data = OmegaConf.to_container(own, resolve=True, throw_on_missing=False)
    assert isinstance(data, dict)
    groups = sorted(key for key in chosen if not key.startswith("hydra") and options_of(key, conf))
    return data, {group: chosen[group] for group in groups}


def options_of(group: str, conf: Path) -> list[str]:
    """The choices of a group."""
    return sorted(path.stem for path in (conf / group).glob("*.yaml"))


def entries(schema: type[Any], data: dict[Any, Any], prefix: str = "") -> Iterator[Entry]:
    """Every field from the top down; behind one that holds a config those of that config."""
    docs = field_docs(schema)
    hints = typing.get_type_hints(schema)
    for field in dataclasses.fields(schema):
        value, path = data.get(field.name), f"{prefix}{field.name}"
        inner, meaning = None, docs.get(field.name, "")
        if isinstance(value, dict) and TARGET in value:
            inner = import_target(value[TARGET])
            meaning = (inspect.getdoc(inner) or "").splitlines()[0]
        elif isinstance(value, dict) and dataclasses.is_dataclass(hints[field.name]):
            inner = typing.cast(type[Any], hints[field.name])
        yield Entry(path, schema, value, meaning, inner)
        if inner is not None:
            assert isinstance(value, dict)
            yield from entries(inner, value, f"{path}.")


def import_target(target: str) -> type[Any]:
    """The class that a `_target_` of our own YAML names."""
    module, _, cls = target.rpartition(".")
    return typing.cast(type[Any], getattr(__import__(module, fromlist=[cls]), cls))


def shown(value: Any) -> str:
    """A value as it is typed in a configuration."""
    return "required" if value == MISSING else value if isinstance(value, str) else json.dumps(value)


def _line(entry: Entry) -> str:
    if entry.inner is not None:
        return f"  {entry.path}: {entry.meaning}"
    return f"  {entry.path + '=' + shown(entry.value):<40} {entry.meaning}"
