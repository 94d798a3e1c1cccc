"""Configuration is data: plain dicts to frozen, typed dataclasses and back, with every problem reported at once.

The dicts come from Hydra (`jobs`), from a checkpoint's `config.json` (no Hydra involved) or from a test. A dict may
carry `_target_`, the import path of its config class; that is how one slot takes an LSTM or a GRU. A target is only
accepted below a trusted prefix, when it is a config class, and when it fits the slot. Nothing is built here:
a config's own `build(...)` makes modules later.
"""

import ast
import dataclasses
import difflib
import importlib
import inspect
import itertools
import textwrap
import threading
import types
import typing
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeVar, dataclass_transform

import pydantic
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as pydantic_dataclass
from pydantic.dataclasses import rebuild_dataclass

from rnnlm.errors import ConfigError

TARGET = "_target_"
MISSING = "???"  # how OmegaConf writes a required value that nobody gave
DEFAULT_TRUSTED = ("rnnlm.", "jobs.")
_BUILDING = threading.RLock()

T = TypeVar("T")


class PlacedError(ValueError):
    """What a `__post_init__` raises about something further down: `place` is its dotted path from the config."""

    def __init__(self, place: str, problem: str) -> None:
        self.place, self.problem = place, problem
        super().__init__(f"{place}: {problem}")


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(Field, dataclasses.field))
def config(cls: type[T]) -> type[T]:
    """Class decorator: a frozen dataclass with strict types; a string under a field documents it (see `--help`)."""
    # Validators are built when a class is first used: of two hundred a command needs a few, each takes 2 ms.
    settings = ConfigDict(extra="forbid", strict=True, defer_build=True)
    made: Any = pydantic_dataclass(frozen=True, kw_only=True, config=settings)(cls)
    made.__new__ = staticmethod(_new)
    return typing.cast(type[T], made)


def _new(cls: type[Any], *_: Any, **__: Any) -> Any:
    """An instance to be, of a class whose validator is there. Pydantic would build it without a lock, and takes away
    what another thread has just built."""
    if not cls.__pydantic_complete__:
        with _BUILDING:
            rebuild_dataclass(cls)  # nothing to do if another thread was faster
    return object.__new__(cls)


def from_dict(
    cls: type[T],
    data: Mapping[Any, Any],
    *,
    trusted: tuple[str, ...] = DEFAULT_TRUSTED,
    also_known: Collection[str] = (),
) -> T:
    """Build `cls` from plain data, or raise one ConfigError that lists every problem with its dotted path.

    `also_known` are names a user may write at the top beside the fields of `cls`, for "did you mean".
    """
    problems: list[str] = []
    built = _build(cls, data, "", trusted, problems, also_known)
    if problems:
        raise ConfigError(problems)
    return typing.cast(T, built)


def to_dict(instance: Any) -> dict[str, Any]:
    """The inverse of `from_dict`: plain JSON-ready data in which every dict names its `_target_`."""
    cls = type(instance)
    result: dict[str, Any] = {TARGET: f"{cls.__module__}.{cls.__qualname__}"}
    for field in dataclasses.fields(instance):
        result[field.name] = _plain(getattr(instance, field.name))
    return result


def field_docs(cls: type[Any]) -> dict[str, str]:
    """Field name -> what its docstring says."""
    docs = dict.fromkeys(cls.__pydantic_fields__, "")
    for base in reversed(cls.__mro__):  # a subclass does not repeat what its base says of a field
        if "__pydantic_fields__" in vars(base):
            docs |= {name: text for name, text in _own_field_docs(base).items() if name in docs}
    return docs


def _own_field_docs(cls: type[Any]) -> dict[str, str]:
    """The strings below the fields of a class, from its source."""
    body = typing.cast(ast.ClassDef, ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]).body
    docs = {}
    for field, below in itertools.pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            match below:
                case ast.Expr(ast.Constant(str(text))):
                    docs[field.target.id] = " ".join(text.split())
    return docs


def join_path(*parts: str) -> str:
    """A dotted path of its parts; empty ones fall out."""
    return ".".join(part for part in parts if part)


def flatten(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts to dotted paths, for comparing and for showing."""
    flat: dict[str, Any] = {}
    for key, value in data.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{path}."))
        else:
            flat[path] = value
    return flat


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """`path: old -> new` for each dotted path at which two nested dicts differ."""
    before, after = flatten(old), flatten(new)
    return [
        f"{path}: {before.get(path, 'absent')!r} -> {after.get(path, 'absent')!r}"
        for path in sorted(before.keys() | after.keys())
        if before.get(path) != after.get(path)
    ]


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_dict(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _build(
    cls: type[Any],
    data: Mapping[Any, Any],
    path: str,
    trusted: tuple[str, ...],
    problems: list[str],
    also_known: Collection[str] = (),
) -> Any:
    """The instance, or None after adding to `problems`."""
    if TARGET in data:
        target = _resolve(data[TARGET], cls, join_path(path, TARGET), trusted, problems)
        if target is None:
            return None
        cls = target
    if _is_abstract(cls):
        problems.append(f"{path}: choose one kind of {cls.__name__} (its group, or {TARGET})")
        return None
    hints = typing.get_type_hints(cls, include_extras=False)
    values: dict[str, Any] = {}
    failed: set[str] = set()
    for key, value in data.items():
        name = str(key)
        if name == TARGET or (isinstance(value, str) and value == MISSING):
            continue
        count = len(problems)
        values[name] = _build_value(hints.get(name), value, join_path(path, name), trusted, problems)
        if len(problems) > count:
            failed.add(name)
    return _validate(cls, values, failed, path, problems, also_known)


def _build_value(hint: Any, value: Any, path: str, trusted: tuple[str, ...], problems: list[str]) -> Any:
    if isinstance(value, Mapping):
        slot = _config_class(hint)
        if slot is None and TARGET not in value:
            return dict(value)
        return _build(slot or object, value, path, trusted, problems)
    if isinstance(value, (list, tuple)):
        hint = _sequence_hint(hint)
        arguments = typing.get_args(hint)
        item_hint = arguments[0] if arguments else None
        items = [_build_value(item_hint, item, f"{path}[{i}]", trusted, problems) for i, item in enumerate(value)]
        return tuple(items) if typing.get_origin(hint) is tuple else items
    return value


def _validate(
    cls: type[Any],
    values: dict[str, Any],
    failed: set[str],
    path: str,
    problems: list[str],
    also_known: Collection[str],
) -> Any:
    try:
        return cls(**values)
    except pydantic.ValidationError as error:
        names = [*(field.name for field in dataclasses.fields(cls)), *also_known]
        for detail in error.errors(include_url=False):
            where = detail["loc"]
            if where and where[0] in failed:
                continue  # said already, closer to the cause
            problems.append(_describe(detail, cls, names, join_path(path, *map(str, where))))
        return None


def _describe(detail: Any, cls: type[Any], names: list[str], path: str) -> str:
    kind, given = detail["type"], detail.get("input")
    cause = detail.get("ctx", {}).get("error")
    if isinstance(cause, PlacedError):
        return f"{join_path(path, cause.place)}: {cause.problem}"
    if kind in {"unexpected_keyword_argument", "extra_forbidden"}:
        return _unknown(path, str(detail["loc"][-1]), cls, names)
    if kind in {"missing", "missing_argument", "missing_keyword_only_argument"}:
        return f"{path}: required, but missing; set {path}=..."
    message = detail["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if kind == "value_error":
        return f"{path}: {message}" if path else message
    return f"{path}: {message[0].lower()}{message[1:]}, got {given!r}"


def _unknown(path: str, name: str, cls: type[Any], names: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean '{close[0]}'?" if close else f"it has {', '.join(names)}"
    return f"{path}: unknown field of {cls.__name__}; {hint}"


def _resolve(target: Any, slot: type[Any], path: str, trusted: tuple[str, ...], problems: list[str]) -> Any:
    """The config class a `_target_` names, or None after saying why not. Only trusted modules are ever imported."""
    if not isinstance(target, str) or not target.startswith(trusted):
        problems.append(f"{path}: {target!r} is not below a trusted prefix ({', '.join(trusted)})")
        return None
    module_name, _, class_name = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module_name), class_name, None)
    except (ImportError, ValueError) as error:  # ValueError: a NUL or half a surrogate in the name
        problems.append(f"{path}: cannot import {target!r}: {error}")
        return None
    # A trusted module may hold names from elsewhere, which are not trusted for that.
    ours = str(getattr(found, "__module__", "")).startswith(trusted)
    if not isinstance(found, type) or not hasattr(found, "__pydantic_fields__") or not ours:
        problems.append(f"{path}: {target!r} is not a config class")
        return None
    if not issubclass(found, slot):
        problems.append(f"{path}: {class_name} does not fit here, a {slot.__name__} is needed")
        return None
    return found


def _config_class(hint: Any) -> type[Any] | None:
    """The config class a type hint stands for, looking through `X | None`."""
    if typing.get_origin(hint) in {typing.Union, types.UnionType}:
        found = [c for c in map(_config_class, typing.get_args(hint)) if c is not None]
        return found[0] if len(found) == 1 else None
    return hint if isinstance(hint, type) and hasattr(hint, "__pydantic_fields__") else None


def _sequence_hint(hint: Any) -> Any:
    """The list or tuple a type hint stands for, looking through `X | None`."""
    if typing.get_origin(hint) in {typing.Union, types.UnionType}:
        found = [one for one in typing.get_args(hint) if typing.get_origin(one) in {list, tuple}]
        return found[0] if len(found) == 1 else None
    return hint


def _is_abstract(cls: type[Any]) -> bool:
    """Whether a config class leaves something to its subclasses, so that it is a slot and not a choice."""
    return any(getattr(getattr(cls, name, None), "__isabstractmethod__", False) for name in dir(cls))
