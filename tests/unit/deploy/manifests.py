"""What `kubectl kustomize` makes of the folders of deploy/kuberay, and the pods and containers in it."""

import functools
import gzip
import json
import os
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

ROOT = Path(__file__).resolve().parents[3]
DEPLOY = ROOT / "deploy"
KUBERAY = DEPLOY / "kuberay"
JOBS = sorted(path.parent.name for path in KUBERAY.glob("jobs/*/kustomization.yaml") if path.parent.name != "base")
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def render(folder):
    """The objects of a folder; a copy of its own for each caller."""
    return json.loads(_rendered(folder))


@functools.cache
def _rendered(folder):
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed; it is what puts the manifests together")
    command = [kubectl, "kustomize", str(KUBERAY / folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.dumps(list(yaml.safe_load_all(done.stdout)))


def rayjob(name):
    """The one object of a job's folder."""
    (job,) = render(f"jobs/{name}")
    assert job["kind"] == "RayJob"
    return job


def raycluster():
    return next(one for one in render("cluster") if one["kind"] == "RayCluster")


def setup_object(kind):
    return next(one for one in render("setup") if one["kind"] == kind)


def groups(cluster):
    """Name and pod template of the head and of each worker group of a cluster's spec."""
    workers = {group["groupName"]: group["template"] for group in cluster["workerGroupSpecs"]}
    return {"head": cluster["headGroupSpec"]["template"], **workers}


def pod_templates():
    """(name, pod template) of everything that runs: of each job head, workers and submitter, and of the cluster."""
    for name in JOBS:
        spec = rayjob(name)["spec"]
        for group, template in groups(spec["rayClusterSpec"]).items():
            yield f"{name}/{group}", template
        yield f"{name}/submitter", spec["submitterPodTemplate"]
    for group, template in groups(raycluster()["spec"]).items():
        yield f"cluster/{group}", template


def expanded(entrypoint):
    """An entrypoint as the shell of the submitter makes it: with the variables of the ConfigMap put in."""
    for name, value in setup_object("ConfigMap")["data"].items():
        entrypoint = entrypoint.replace(f"${name}", value)
    return entrypoint


@functools.cache
def crd_validator(kind):
    """A validator for a custom resource of KubeRay, v1, to which a field that is not there is an error."""
    folder = Path(os.environ.get("KUBERAY_CRDS", ROOT.parent / "shared" / "schemas"))
    file = folder / f"kuberay-{kind.lower()}s.json.gz"
    if not file.is_file():
        pytest.skip(f"no {file.name} in {folder}; set KUBERAY_CRDS to a folder with KubeRay's schemas")
    return Draft202012Validator(strict(json.loads(gzip.decompress(file.read_bytes()))["versions"]["v1"]))


def strict(schema):
    """JSON schema of an OpenAPI one: no unknown fields, and int-or-string as either."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: strict(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        made.setdefault("additionalProperties", False)
    if schema.get("x-kubernetes-int-or-string"):
        made["type"] = ["integer", "string"]
        made.pop("anyOf", None)
    return made
