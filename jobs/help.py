"""`--help` of a job: what it does, which groups it is made of, and every field with its default and meaning."""

import dataclasses
import inspect
import typing
from pathlib import Path
from typing import Any

import hydra
from omegaconf import OmegaConf

from rnnlm.config import TARGET, field_docs


def show_help(name: str, schema: type[Any], conf: Path) -> None:
    """Print it."""
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(conf)):
        composed = hydra.compose(config_name=name, return_hydra_config=True)
    choices = composed.hydra.runtime.choices
    own = OmegaConf.masked_copy(composed, [key for key in composed if key != "hydra"])
    data = OmegaConf.to_container(own, resolve=True, throw_on_missing=False)
    assert isinstance(data, dict)
    lines = [inspect.cleandoc(schema.__doc__ or ""), "", "Groups (choose with group=name):"]
    for group in sorted(key for key in choices if not key.startswith("hydra")):
        options = sorted(path.stem for path in (conf / group).glob("*.yaml"))
        if options:
            lines.append(f"  {group:<12} {' | '.join(options)}   (now: {choices[group]})")
    lines += ["", "Fields (set with field=value):", *_fields(schema, data, "")]
    lines += [
        "",
        "A sweep: add -m and give several values, as in cell=lstm,gru. See the result without running: --cfg job.",
        "Exit codes: 0 ok, 1 bug, 2 refused, 3 finished with failures, 4 environment, 5 stalled, 143 terminated.",
    ]
    print("\n".join(lines))


def _fields(schema: type[Any], data: dict[Any, Any], prefix: str) -> list[str]:
    docs = field_docs(schema)
    hints = typing.get_type_hints(schema)
    lines = []
    for field in dataclasses.fields(schema):
        value = data.get(field.name)
        path = f"{prefix}{field.name}"
        if isinstance(value, dict) and TARGET in value:
            target = _import(value[TARGET])
            lines.append(f"  {path}: {(inspect.getdoc(target) or '').splitlines()[0]}")
            lines += _fields(target, value, f"{path}.")
        elif isinstance(value, dict) and dataclasses.is_dataclass(hints[field.name]):
            lines.append(f"  {path}: {docs.get(field.name, '')}")
            lines += _fields(typing.cast(type[Any], hints[field.name]), value, f"{path}.")
        else:
            shown = "required" if value == "???" else "null" if value is None else value
            lines.append(f"  {path + '=' + str(shown):<40} {docs.get(field.name, '')}")
    return lines


def _import(target: str) -> type[Any]:
    module, _, cls = target.rpartition(".")
    return typing.cast(type[Any], getattr(__import__(module, fromlist=[cls]), cls))
