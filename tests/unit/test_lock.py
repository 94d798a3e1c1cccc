"""requirements.lock: the versions of constraints.txt, each with hashes, and nothing of the machine that wrote it."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCK = (ROOT / "requirements.lock").read_text()
EXTRAS = ("report", "delta", "iceberg", "baselines", "tune")


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(text: str) -> dict[str, str]:
    return {normal(name): version for name, version in re.findall(r"^([\w.-]+)==([\w.!]+)", text, re.MULTILINE)}


def test_every_package_is_pinned_as_in_the_constraints_and_has_hashes():
    constraints = pins((ROOT / "constraints.txt").read_text())
    locked = pins(LOCK)
    assert len(locked) > 80
    assert {name: version for name, version in locked.items() if constraints.get(name, version) != version} == {}
    entries = re.split(r"\n(?=[a-zA-Z])", LOCK.strip())
    assert len(entries) == len(locked)
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}", entry) for entry in entries)


def test_it_has_all_that_the_project_needs():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(one for extra in EXTRAS for one in project["optional-dependencies"][extra])]
    names = {normal(re.match(r"[\w.-]+", one)[0]) for one in wanted}
    assert names <= set(pins(LOCK))


def test_torch_is_the_one_for_cpus():
    assert re.search(r"^torch==[\d.]+\+cpu ", LOCK, re.MULTILINE)
    assert "nvidia" not in LOCK


def test_it_says_nothing_of_where_it_was_written():
    assert not re.search(r"://|/opt/|/home/|index-url|find-links|trusted-host", LOCK)
