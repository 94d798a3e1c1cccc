"""Every page: what it links to exists, and every command in it is one that would start."""

import ast
import functools
import itertools
import re

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep

from jobs.app import compose_job, conf_dir
from jobs.reference import job_names, reference, schema_of
from rnnlm.config import field_docs
from rnnlm.errors import ConfigError
from tests.pages import PAGES, ROOT, TUTORIALS, anchors, commands, inline_code, links, name_of, script

TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
FOLDERS = ("benchmarks", "conf", "deploy", "docs", "jobs", "rnnlm", "tests")
FLAGS = {"-m": 1, "--cfg": 2, "--config-dir": 2}
"Words of Hydra's own, and how many belong together."
ELSEWHERE = "experiment=best/train"  # what jobs.tune writes


def page(path):
    return path.read_text(encoding="utf-8")


every_page = pytest.mark.parametrize("path", PAGES, ids=name_of)


@every_page
def test_every_link_and_anchor_leads_somewhere(path):
    broken = []
    for link in links(page(path)):
        target, _, anchor = link.partition("#")
        if "://" in target:
            continue
        there = (path.parent / target).resolve() if target else path
        if not there.exists() or (anchor and anchor not in anchors(page(there))):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("path", [path for path in PAGES if path.parent.name != "results"], ids=name_of)
def test_every_command_is_one_that_would_start(path, tmp_path):
    for program, *words in commands(script(page(path)), tmp_path):
        if program == "make":
            assert set(words) <= TARGETS, words
        elif words[0] == "-":
            ast.parse(words[1])
        else:
            check_module(words)


@every_page
def test_every_file_it_names_is_there(path):
    named = [code for code in inline_code(page(path)) if re.fullmatch(rf"(?:{'|'.join(FOLDERS)})/[\w./*-]*", code)]
    bases = (ROOT, path.parent, path.parent / "kuberay")  # deploy/README.md talks of what lies there
    assert [code for code in named if not any(any(base.glob(code.rstrip("/"))) for base in bases)] == []


@every_page
def test_every_job_it_names_is_there(path):
    named = set(re.findall(r"\bjobs\.([a-z_]+)\b", page(path)))
    assert {name for name in named if not (ROOT / "jobs" / name).with_suffix(".py").exists()} <= {"distributed"}


def check_module(words):
    """`python -m something ...`: the module is there, and a job's configuration is valid."""
    flag, module, *rest = words
    assert flag == "-m", words
    package, _, name = module.partition(".")
    places = (ROOT / package / f"{name}.py", ROOT / package / "__main__.py")
    assert any(place.exists() for place in places), module
    if package == "jobs" and rest and "--help" not in rest:  # without a word behind it it is a name
        elided = "..." in rest or ELSEWHERE in rest
        for overrides in trials([word for word in rest if word != "..."]):
            check_configuration(name, overrides, elided=elided)


def check_configuration(name, overrides, *, elided):
    """Of a command with `...` in it only what is left out may be missing."""
    found = problems(name, tuple(map(without_path, overrides)))
    assert [one for one in found if not (elided and "required, but missing" in one)] == [], f"jobs.{name} {overrides}"


@functools.cache
def problems(name, overrides):
    try:
        compose_job(name, schema_of(name), overrides)
    except ConfigError as error:
        return error.problems
    return []


def without_path(override):
    """The same with any path for a path: it makes no difference, and many commands are one without it."""
    key, _, value = override.partition("=")
    return f"{key}=x" if key != "experiment" and re.fullmatch(r"[\w./:-]*/[\w./-]*", value) else override


def trials(words):
    """The overrides of each run that a command asks for; one unless it sweeps."""
    taken = []
    while words:
        count = FLAGS.get(words[0], 0)
        if not count and words[0] != ELSEWHERE:
            taken.append(words[0].replace("...", "x"))
        words = words[max(count, 1) :]
    values = [list(values_of(override)) for override in OverridesParser.create().parse_overrides(taken)]
    return itertools.product(*values)


def values_of(override):
    """One override for each value that is swept; of an interval one for its lower end."""
    key = override.input_line.partition("=")[0]
    if not override.is_sweep_override():
        return [override.input_line]
    swept = override.value()
    return [
        f"{key}={one}"
        for one in ([swept.start] if isinstance(swept, IntervalSweep) else override.sweep_string_iterator())
    ]


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (
            "for s in a b; do python -m jobs.x path=$s; done",
            [["python", "-m", "jobs.x", "path=a"], ["python", "-m", "jobs.x", "path=b"]],
        ),
        ("T='a b'\npython -m m \"x=[$T]\" &\nkill -9 $!", [["python", "-m", "m", "x=[a b]"]]),
        ("ray job submit -- python -m m; kubectl x | make demo", [["python", "-m", "m"], ["make", "demo"]]),
        ("python - <<'END'\nprint('$x')\nEND", [["python", "-", "print('$x')\n"]]),
    ],
)
def test_commands_are_read_as_a_shell_reads_them(typed, expected, tmp_path):
    assert commands(typed, tmp_path) == expected


def test_a_wrong_command_is_found():
    check_module(["-m", "jobs.verify", "output=x"])
    for words in (
        ["jobs.verify", "sample=1"],
        ["jobs.verify", "output=x", "sampel=1"],
        ["jobs.verify", "...", "sample=x"],
        ["jobs.nothing"],
    ):
        with pytest.raises(AssertionError):
            check_module(["-m", *words])


def test_there_is_a_tutorial_for_each_kind_of_user():
    assert len(TUTORIALS) == 3
    assert all("python -m jobs." in script(page(path)) for path in TUTORIALS)


def test_the_reference_has_every_job_and_field():
    pages = reference(conf_dir())
    for name in job_names(conf_dir()):
        text = pages[f"jobs/{name}.md"]
        groups = {line.split("]")[0].removeprefix("| [") for line in text.splitlines() if line.startswith("| [")}
        for field, meaning in field_docs(schema_of(name)).items():
            assert field in groups or f"| `{field}` |" in text, (name, field)
            assert meaning
    assert "| `num_layers` | integer | `1` | at least 1, at most 1000 |" in pages["groups/task.md"]
    assert "`auto`, `group`" not in pages["jobs/score.md"]


def test_all_results_are_listed():
    results = ROOT / "benchmarks" / "results"
    listed = set(links(page(results / "README.md")))
    assert {path.name for path in results.glob("2*.md")} <= listed
