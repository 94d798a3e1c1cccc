"""The files for `ray up`: valid by Ray's own schema, and installing what the Dockerfile installs."""

import json
import re
import tomllib
from pathlib import Path

import jsonschema
import pytest
import ray.autoscaler
import yaml

from tests.unit.deploy.manifests import DEPLOY, ROOT

FILES = sorted((DEPLOY / "cluster-launcher").glob("*.yaml"))
SCHEMA = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())


def read(path):
    return yaml.safe_load(path.read_text())


def test_there_is_one_for_each_of_both_clouds():
    assert {path.stem for path in FILES} == {"aws", "gcp"} == {read(path)["provider"]["type"] for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_fits_the_schema_of_ray(path):
    jsonschema.validate(read(path), SCHEMA)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_is_misspelt_does_not_fit(path):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**read(path), "idle_timeout": 5}, SCHEMA)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_installs_the_project_with_its_versions(path):
    config = read(path)
    (install,) = [command for command in config["setup_commands"] if "pip install" in command]
    assert "--constraint ~/rnnlm/constraints.txt" in install
    (extras,) = re.findall(r"~/rnnlm\[(.*)\]", install)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert set(extras.split(",")) <= set(project["project"]["optional-dependencies"])
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {
        "pyproject.toml",
        "constraints.txt",
        project["project"]["readme"],
        *wheel["packages"],
        *wheel["force-include"],
    }
    assert {f"~/rnnlm/{name}": name for name in needed}.items() <= config["file_mounts"].items()
    assert all((ROOT / name).exists() for name in needed)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_nodes_share_a_token_and_nobody_else_reaches_the_dashboard(path):
    config = read(path)
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert any("RAY_AUTH_MODE=token" in command for command in config["setup_commands"])
    assert any("--dashboard-host=127.0.0.1" in command for command in config["head_start_ray_commands"])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_workers_come_from_none_and_the_head_only_coordinates(path):
    types = read(path)["available_node_types"]
    assert types[read(path)["head_node_type"]]["resources"]["CPU"] == 0
    assert types["cpu"]["min_workers"] == 0
    assert types["cpu"]["max_workers"] == read(path)["max_workers"]
