"""deploy/README.md: what its commands name exists, and the jobs in them would start."""

import re
import shlex

import pytest

from rnnlm.config import from_dict
from tests.contract.test_conf import composed, schema_of
from tests.unit.deploy.manifests import DEPLOY, JOBS, KUBERAY, VERSION, raycluster, render

TEXT = (DEPLOY / "README.md").read_text()
BLOCKS = "\n".join(re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)).replace("\\\n", " ")
COMMANDS = [shlex.split(line, comments=True) for line in BLOCKS.splitlines() if line.strip()]


@pytest.mark.parametrize(
    "path", sorted(set(re.findall(r"(?:\bdeploy/|`(?=kuberay/|cluster-launcher/))([\w./-]*\w)", TEXT)))
)
def test_a_path_is_there(path):
    assert (DEPLOY / path).exists()


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\((?!https)([^)#]+)", TEXT))))
def test_a_link_leads_somewhere(link):
    assert (DEPLOY / link).exists()


def test_folders_that_are_applied_make_objects():
    folders = {command[command.index("-k") + 1] for command in COMMANDS if "-k" in command}
    assert len(folders) > 5
    assert all(render(folder.removeprefix("deploy/kuberay/")) for folder in folders)


def test_every_job_is_named():
    assert set(JOBS) <= set(re.findall(r"[\w-]+", TEXT))
    named = re.search(r"\| `kuberay/jobs/\*` \|(.*)\|", TEXT)[1]
    assert sorted(re.findall(r"`([a-z-]+)`", named)) == JOBS


@pytest.mark.parametrize("command", [one for one in COMMANDS if "-m" in one], ids=" ".join)
def test_a_command_is_valid(command):
    module, *arguments = command[command.index("-m") + 1 :]
    job = module.removeprefix("jobs.")
    overrides = [argument for argument in arguments if "=" in argument]
    assert from_dict(schema_of(job), composed(job, *overrides))


def test_versions_are_the_right_ones():
    assert set(re.findall(r"rnnlm:([\d.]+)-(?:cpu|gpu)", TEXT)) == {VERSION}
    assert f"Ray {raycluster()['spec']['rayVersion']}" in TEXT
    assert set(re.findall(r"--target (\w+)", TEXT)) == {"cpu", "gpu"}
    images = (KUBERAY / "images" / "kustomization.yaml").read_text()
    assert all(f"newTag: {VERSION}-{target}" in images for target in ("cpu", "gpu"))


def test_the_size_of_the_queued_job_is_right():
    (job,) = render("jobs/score-queued")
    cluster = job["spec"]["rayClusterSpec"]
    pods = [(1, cluster["headGroupSpec"]["template"]), (1, job["spec"]["submitterPodTemplate"])]
    pods += [(group["replicas"], group["template"]) for group in cluster["workerGroupSpecs"]]
    requests = [(count, template["spec"]["containers"][0]["resources"]["requests"]) for count, template in pods]
    cpus = sum(count * (0.5 if each["cpu"] == "500m" else float(each["cpu"])) for count, each in requests)
    memory = sum(
        count * (0.5 if each["memory"] == "512Mi" else float(each["memory"].removesuffix("Gi")))
        for count, each in requests
    )
    assert f"({cpus:g} CPUs, {memory:g} GiB)" in TEXT
