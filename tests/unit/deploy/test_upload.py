"""What `ray job submit --working-dir .` uploads: the code, in a few megabytes, and nothing that was made with it."""

import shutil
from zipfile import ZipFile

import pytest
import yaml
from ray._private.runtime_env.packaging import create_package
from ray.runtime_env import RuntimeEnv

from tests.unit.deploy.manifests import DEPLOY, ROOT

MAX_BYTES = 4_000_000
MADE = [
    "outputs/model/weights.safetensors",
    ".venv/bin/python",
    ".git/config",
    ".mypy_cache/x.json",
    "data/corpus.parquet",
]
NOT_NEEDED = ["tests/cells.py", "docs/images/report.png", "deploy/Dockerfile", "benchmarks/check.py", ".ci/run"]
NEEDED = ["jobs/score.py", "rnnlm/data/listing.py", "rnnlm/native/products.c", "conf/score.yaml", "pyproject.toml"]


def packed(folder, target):
    create_package(str(folder), target, include_gitignore=True, logger=None)
    with ZipFile(target) as package:
        return set(package.namelist())


def test_the_checkout_packs_small(tmp_path):
    names = packed(ROOT, tmp_path / "package.zip")
    assert (tmp_path / "package.zip").stat().st_size < MAX_BYTES
    assert set(NEEDED) <= names
    assert not {name for name in names if name.startswith(("outputs/", ".venv/", ".git/", "tests/", ".mypy_cache/"))}


@pytest.fixture
def checkout(tmp_path):
    """A checkout in which everything there may be is there."""
    folder = tmp_path / "checkout"
    for name in [*MADE, *NOT_NEEDED, *NEEDED]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    for name in (".gitignore", ".rayignore"):
        shutil.copy(ROOT / name, folder)
    return folder


def test_only_what_runs_is_packed(checkout, tmp_path):
    assert packed(checkout, tmp_path / "package.zip") == {*NEEDED, ".gitignore", ".rayignore"}


def test_the_runtime_environment_is_one():
    settings = yaml.safe_load((DEPLOY / "runtime_env.yaml").read_text())
    assert RuntimeEnv(**{**settings, "working_dir": str(ROOT)})["env_vars"] == settings["env_vars"]
    assert (ROOT / settings["working_dir"]).resolve() == ROOT
    assert not any("KEY" in name or "TOKEN" in name for name in settings["env_vars"])
