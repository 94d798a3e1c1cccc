"""The configuration reference of the documentation: Markdown made of the jobs' schemas and of conf/, a page a job, a
page a group. Nothing of it is written by hand, so it cannot say anything else than `--help`.
"""

import dataclasses
import html
import inspect
import itertools
import re
import types
import typing
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

import jobs.schemas
from jobs.help import Entry, composed_defaults, entries, import_target, options_of, shown
from rnnlm.config import TARGET, field_docs

PLAIN = {str: "text", int: "integer", float: "number", bool: "true or false", type(None): "null", Any: "anything"}
BOUNDS = {
    "ge": "at least {}", "gt": "above {}", "le": "at most {}", "lt": "below {}",
    "min_length": "{} or more", "max_length": "{} at most",
}  # fmt: skip
"Names of pydantic's constraints, in words."
OVERRIDE = re.compile(r"override /(\w+)(?:@.*)?")


def reference(conf: Path) -> dict[str, str]:
    """Page -> Markdown: `index.md`, `jobs/<job>.md`, `groups/<group>.md`."""
    used: dict[str, list[str]] = {}
    pages = {}
    for name in job_names(conf):
        data, choices = composed_defaults(name, conf)
        pages[f"jobs/{name}.md"] = _job_page(name, data, choices, conf)
        for group in choices:
            used.setdefault(group, []).append(name)
    for group, names in sorted(used.items()):
        pages[f"groups/{group}.md"] = _group_page(group, names, conf)
    return {"index.md": _index(conf, sorted(used)), **pages}


def job_names(conf: Path) -> list[str]:
    """Every job that has a configuration."""
    return sorted(path.stem for path in conf.glob("*.yaml"))


def schema_of(name: str) -> type[Any]:
    """The config class of a job."""
    schema = getattr(jobs.schemas, "".join(part.capitalize() for part in name.split("_")) + "Job")
    return typing.cast(type[Any], schema)


def type_in_words(hint: Any) -> str:
    """A type hint as Markdown, for people who write YAML."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return ", ".join(f"`{shown(one)}`" for one in arguments)
    if origin in {typing.Union, types.UnionType}:
        return " or ".join(map(type_in_words, arguments))
    if origin in {list, tuple}:
        return f"list of {type_in_words(arguments[0])}"
    if origin is dict:
        return "map of " + " to ".join(map(type_in_words, arguments))
    return PLAIN.get(hint) or f"`{getattr(hint, '__name__', hint)}`"


def range_in_words(owner: type[Any], name: str) -> str:
    """The values that a field may have, where its type does not say it; empty if all."""
    constraints = owner.__pydantic_fields__[name].metadata
    bounds = [(word, getattr(one, sign, None)) for one in constraints for sign, word in BOUNDS.items()]
    return ", ".join(word.format(shown(bound)) for word, bound in bounds if bound is not None)


def _index(conf: Path, groups: list[str]) -> str:
    lines = [
        "# Configuration",
        "",
        "Fields are set by `field=value`. A group, `group=name`, chooses one kind of something with its own fields.",
        "`python -m jobs.train --help` says the same in a terminal.",
        "",
        "## Jobs",
        "",
        *_table(
            ("job", "what it does"), ((f"[{name}](jobs/{name}.md)", _text(_purpose(name))) for name in job_names(conf))
        ),
        "## Groups",
        "",
        *_table(
            ("group", "choices"),
            ((f"[{group}](groups/{group}.md)", _codes(options_of(group, conf))) for group in groups),
        ),
    ]
    return "\n".join(lines)


def _job_page(name: str, data: dict[Any, Any], choices: dict[str, str | None], conf: Path) -> str:
    lines = [f"# jobs.{name}", "", _text(_purpose(name)), "", f"`python -m jobs.{name} field=value group=name ...`", ""]
    if choices:
        rows = (
            (f"[{group}](../groups/{group}.md)", f"`{shown(choice)}`", _codes(options_of(group, conf)))
            for group, choice in choices.items()
        )
        lines += ["## Groups", "", *_table(("group", "default", "choices"), rows)]
    lines += ["## Fields", "", *_fields(_own(entries(schema_of(name), data), choices))]
    recipes = sorted((conf / "experiment").rglob(f"{name}.yaml"))
    if recipes:
        named = ((path.relative_to(conf / "experiment").with_suffix(""), _says(path)) for path in recipes)
        lines += [
            "## Recipes",
            "",
            *_table(("recipe", "what it is"), ((f"`experiment={recipe}`", _text(says)) for recipe, says in named)),
        ]
    return "\n".join(lines)


def _own(found: Iterable[Entry], choices: dict[str, str | None]) -> Iterator[Entry]:
    """The fields that a job has whatever its groups choose: theirs are on the pages of the groups."""
    for entry in found:
        if entry.path.partition(".")[0] not in choices:
            yield entry


def _group_page(group: str, names: list[str], conf: Path) -> str:
    used = ", ".join(f"[{name}](../jobs/{name}.md)" for name in names)
    lines = [f"# {group}", "", f"A group of {used}: `{group}=NAME`, then `{group}.field=value`.", ""]
    for choice in options_of(group, conf):
        path = conf / group / f"{choice}.yaml"
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        cls = import_target(values[TARGET])
        lines += [f"## {choice}", "", _text(_says(path)), ""]
        others = [
            (OVERRIDE.fullmatch(key), value) for entry in values.get("defaults", []) for key, value in entry.items()
        ]
        lines += [f"Chooses `{match[1]}={value}` as well.\n" for match, value in others if match]
        docs = field_docs(cls)
        lines += _fields(
            Entry(name, cls, values[name], docs[name], None)
            for name in (field.name for field in dataclasses.fields(cls))
        )
    return "\n".join(lines)


def _fields(found: Iterable[Entry]) -> list[str]:
    rows = (
        (
            f"`{entry.path}`",
            type_in_words(typing.get_type_hints(entry.owner)[entry.name]),
            "" if entry.inner else _default(entry.value),
            range_in_words(entry.owner, entry.name),
            _text(entry.meaning),
        )
        for entry in found
    )
    return _table(("field", "type", "default", "range", "meaning"), rows)


def _default(value: Any) -> str:
    """A default as Markdown; `${cell}` is what the group `cell` chooses."""
    text = shown(value)
    if text.startswith("${"):
        group = text[2:-1]
        return f"of group [{group}]({group}.md)"
    return text if text == "required" else f"`{text}`" if text.strip() else repr(text)


def _purpose(name: str) -> str:
    said = inspect.cleandoc(schema_of(name).__doc__ or "").removeprefix(f"python -m jobs.{name}: ")
    return said[:1].upper() + said[1:]


def _says(path: Path) -> str:
    """The comment at the top of a YAML file."""
    lines = path.read_text(encoding="utf-8").splitlines()
    comments = itertools.takewhile(lambda line: line.startswith("# "), lines)
    return " ".join(line[2:] for line in comments if not line.startswith("# @package"))


def _codes(names: Iterable[str]) -> str:
    return " ".join(f"`{name}`" for name in names)


def _text(text: str) -> str:
    """Plain text for a cell of a Markdown table; what stands between backticks stays as it is."""
    parts = text.split("`")
    return "`".join(part if place % 2 else _escaped(part) for place, part in enumerate(parts))


def _escaped(text: str) -> str:
    return re.sub(r"([*_\[\]|])", r"\\\1", html.escape(text, quote=False))


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return [f"| {' | '.join(head)} |", "|" + "---|" * len(head), *lines, ""] if lines else []
