"""The Dockerfile: hadolint has nothing to say, and what it copies is there and reaches the builder."""

import re
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.unit.deploy.manifests import DEPLOY, ROOT

TEXT = (DEPLOY / "Dockerfile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
COPIED = [
    source
    for line in re.findall(r"^COPY (?!--from)(.*)$", TEXT, re.MULTILINE)
    for source in line.split()[:-1]
]  # fmt: skip


def test_hadolint_has_nothing_to_say():
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def sent_to_the_builder(path):
    """Whether .dockerignore lets a file through: the last rule wins that matches it or a folder above it."""
    sent = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line and not line.startswith("#") and matches(line.removeprefix("!"), path.split("/")):
            sent = line.startswith("!")
    return sent


def matches(pattern, parts):
    """A pattern begins at the root, or with `**/` at any depth."""
    wanted = pattern.removeprefix("**/").split("/")
    starts = range(len(parts)) if pattern.startswith("**/") else [0]
    at_starts = (parts[start : start + len(wanted)] for start in starts)
    return any(len(part) == len(wanted) and all(map(fnmatch, part, wanted)) for part in at_starts)


@pytest.mark.parametrize("source", sorted(set(COPIED)))
def test_what_is_copied_is_there_and_sent(source):
    path = ROOT / source
    assert path.exists()
    assert sent_to_the_builder(source if path.is_file() else f"{source}/some/file.py")


@pytest.mark.parametrize(
    "path",
    [
        "outputs/model/weights.safetensors",
        ".venv/bin/python",
        ".git/config",
        "tests/cells.py",
        "rnnlm/__pycache__/a.pyc",
    ],
)
def test_nothing_else_is_sent(path):
    assert not sent_to_the_builder(path)


def test_extras_and_python_are_those_of_the_project():
    (extras,) = re.findall(r"^RUN python - (.*) <<'EOF'", TEXT, re.MULTILINE)
    assert set(extras.split()) <= set(PROJECT["optional-dependencies"])
    (python,) = re.findall(r"^FROM python:(\S+)-slim-", TEXT, re.MULTILINE)
    assert PROJECT["requires-python"] == f">={python}"


def test_all_that_the_wheel_holds_is_copied():
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert {*wheel["packages"], *wheel["force-include"]} <= set(COPIED)


def test_its_own_script_lists_the_requirements():
    (arguments, script) = re.search(
        r"^RUN python - (.*) <<'EOF' > \S+\n(.*?)^EOF$", TEXT, re.MULTILINE | re.DOTALL
    ).groups()
    done = subprocess.run(
        [sys.executable, "-", *arguments.split()], input=script, cwd=ROOT, capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    assert set(PROJECT["dependencies"]) < set(lines)
    assert set(PROJECT["optional-dependencies"]["report"]) < set(lines)
    assert all(re.match(r"^[A-Za-z][\w.-]*(\[.*\])?[<>=]=", line) for line in lines)


def test_its_command_is_a_job():
    (module,) = re.findall(r'^CMD \["python", "-m", "jobs\.(\w+)", "--help"\]$', TEXT, re.MULTILINE)
    assert (ROOT / "jobs" / f"{module}.py").is_file()
