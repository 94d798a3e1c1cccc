"""The manifests for KubeRay: valid by its and Kubernetes' own schemas, true to the code, and locked down."""

import copy
import re
import shlex

import jsonschema
import kubernetes_validate
import pytest

from jobs.schemas import ClusterConfig
from rnnlm.config import from_dict
from tests.contract.test_conf import composed, schema_of
from tests.unit.deploy.manifests import (
    DEPLOY,
    JOBS,
    ROOT,
    VERSION,
    crd_validator,
    expanded,
    groups,
    pod_templates,
    raycluster,
    rayjob,
    render,
    setup_object,
)

KUBERNETES = "1.34"
GRACE_SECONDS = ClusterConfig().grace_seconds


def overrides_of(job):
    """Job and overrides of an entrypoint `python -m jobs.<job> ...`."""
    python, dash_m, module, *overrides = shlex.split(expanded(job["spec"]["entrypoint"]))
    assert (python, dash_m) == ("python", "-m")
    assert (ROOT / "jobs" / f"{module.removeprefix('jobs.')}.py").is_file()
    return module.removeprefix("jobs."), overrides


def config_of(job):
    name, overrides = overrides_of(job)
    return from_dict(schema_of(name), composed(name, *overrides))


def containers(template):
    return template["spec"]["containers"]


# ----- schemas


@pytest.mark.parametrize("name", JOBS)
def test_a_job_fits_the_schema_of_kuberay(name):
    crd_validator("RayJob").validate(rayjob(name))


def test_the_cluster_fits_the_schema_of_kuberay():
    crd_validator("RayCluster").validate(raycluster())


@pytest.mark.parametrize(("path", "value"), [
    (("spec", "backofLimit"), 3),
    (("spec", "ttlSecondsAfterFinished"), "600"),
    (("spec", "rayClusterSpec", "authOptions", "mode"), "open"),
    (("spec", "rayClusterSpec", "headGroupSpec", "template", "spec", "serviceAcount"), "rnnlm"),
])  # fmt: skip
def test_what_is_misspelt_does_not_fit(path, value):
    job = copy.deepcopy(rayjob("score"))
    *above, last = path
    inner = job
    for part in above:
        inner = inner[part]
    inner[last] = value
    with pytest.raises(jsonschema.ValidationError):
        crd_validator("RayJob").validate(job)


@pytest.mark.parametrize("folder", ["setup", "cluster"])
def test_objects_of_kubernetes_itself_fit_its_schemas(folder):
    own = [one for one in render(folder) if not one["apiVersion"].startswith("ray.io/")]
    assert own
    for one in own:
        kubernetes_validate.validate(one, KUBERNETES, strict=True)


def test_every_pod_is_one():
    for name, template in pod_templates():
        pod = {"apiVersion": "v1", "kind": "Pod", **template, "metadata": {"name": "pod", **template["metadata"]}}
        assert kubernetes_validate.validate(pod, KUBERNETES, strict=True), name


# ----- true to the code


@pytest.mark.parametrize("name", JOBS)
def test_an_entrypoint_is_a_valid_command(name):
    assert config_of(rayjob(name))


@pytest.mark.parametrize("name", JOBS)
def test_an_entrypoint_is_one_line_that_reads_and_writes_below_the_storage(name):
    entrypoint = rayjob(name)["spec"]["entrypoint"]
    assert "\n" not in entrypoint
    assert not set("'\"`;&|<>()[]{}") & set(entrypoint)  # it goes through two shells
    _, overrides = overrides_of(rayjob(name))
    storage = setup_object("ConfigMap")["data"]["STORAGE"]
    paths = [value for _, _, value in (one.partition("=") for one in overrides) if "/" in value]
    assert len(paths) >= 2
    assert all(path.startswith(f"{storage}/") for path in paths)


def test_a_job_reads_what_another_writes_or_the_corpus():
    storage = setup_object("ConfigMap")["data"]["STORAGE"]
    made, read = {f"{storage}/tagger"}, set()  # a tagger is trained by other recipes
    for name in JOBS:
        pairs = [one.partition("=") for one in overrides_of(rayjob(name))[1]]
        made |= {value for key, _, value in pairs if key == "output"}
        read |= {value.removesuffix("/data") for key, _, value in pairs if key != "output" and "/" in value}
    assert {path for path in read if not path.startswith(f"{storage}/corpus/")} <= made


@pytest.mark.parametrize("name", JOBS)
def test_the_workers_a_job_asks_for_fit_the_cluster(name):
    job = rayjob(name)
    config, spec = config_of(job), job["spec"]["rayClusterSpec"]
    cpu, gpu = spec["workerGroupSpecs"]
    (worker,) = containers(cpu["template"])
    cpus = int(worker["resources"]["limits"]["cpu"])
    if name == "train":  # Ray Train wants all of them when it starts
        assert cpu["replicas"] == cpu["minReplicas"] == config.workers
        assert cpu["rayStartParams"] == {"num-cpus": "1"}
        assert config.threads == cpus
    elif job["spec"].get("entrypointNumCpus"):  # the driver works, on a worker of its own
        group = gpu if job["spec"].get("entrypointNumGpus") else cpu
        assert int(containers(group["template"])[0]["resources"]["limits"]["cpu"]) == job["spec"]["entrypointNumCpus"]
        assert getattr(config, "workers", 1) == 1
    else:
        assert config.cluster.autoscaling
        assert config.cluster.workers <= cpu["maxReplicas"] * cpus


def test_the_gpu_job_is_put_where_the_gpu_is():
    job = rayjob("train-gpu")
    assert config_of(job).device == "cuda"
    (worker,) = containers(groups(job["spec"]["rayClusterSpec"])["gpu"])
    assert worker["resources"]["limits"]["nvidia.com/gpu"] == job["spec"]["entrypointNumGpus"]
    assert worker["image"].endswith("-gpu")


def test_a_queued_job_has_a_fixed_size():
    job, cluster = rayjob("score-queued"), rayjob("score-queued")["spec"]["rayClusterSpec"]
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "rnnlm"
    assert not cluster["enableInTreeAutoscaling"]
    assert "autoscalerOptions" not in cluster
    cpu = cluster["workerGroupSpecs"][0]
    assert cpu["replicas"] == cpu["minReplicas"] == cpu["maxReplicas"]
    assert config_of(job).cluster.workers == cpu["replicas"] * int(
        containers(cpu["template"])[0]["resources"]["limits"]["cpu"]
    )


@pytest.mark.parametrize("name", JOBS)
def test_a_retried_job_goes_on_where_it_stopped(name):
    spec = rayjob(name)["spec"]
    assert spec["backoffLimit"] > 0
    assert spec["shutdownAfterJobFinishes"]
    assert overrides_of(rayjob(name))[1].count(f"output={config_of(rayjob(name)).output}") == 1
    if name.startswith("train") and name != "train-tokenizer":
        assert config_of(rayjob(name)).loop.save_every_steps


def test_versions_are_those_of_the_constraints_and_images_those_of_the_dockerfile():
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    targets = re.findall(r"^FROM runtime AS (\w+)$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    assert raycluster()["spec"]["rayVersion"] == pins["ray"]
    for name, template in pod_templates():
        image, _, tag = containers(template)[0]["image"].rpartition(":")
        assert image.endswith("/rnnlm"), name
        assert tag in {f"{VERSION}-{target}" for target in targets}, name


# ----- what a stop leaves time for


def test_a_stop_leaves_time_to_save():
    for name, template in pod_templates():
        if name.endswith("/submitter"):
            continue
        env = {one["name"]: one["value"] for one in containers(template)[0]["env"]}
        assert (
            GRACE_SECONDS < float(env["RAY_JOB_STOP_WAIT_TIME_S"]) < template["spec"]["terminationGracePeriodSeconds"]
        )


def test_the_hook_before_a_stop_finds_the_driver_and_nothing_else():
    for _, template in pod_templates():
        hook = containers(template)[0].get("lifecycle")
        if hook is None:
            continue
        *_, script = hook["preStop"]["exec"]["command"]
        patterns = set(re.findall(r"--full '([^']+)'", script))
        (pattern,) = patterns
        assert all(re.search(pattern, rayjob(name)["spec"]["entrypoint"]) for name in JOBS)
        assert not re.search(pattern, f"bash -c {script}")
        assert not re.search(pattern, f"/bin/sh -c {rayjob('score')['spec']['entrypoint']}")
    assert "procps" in (DEPLOY / "Dockerfile").read_text()


# ----- locked down


def test_pods_meet_the_restricted_standard_with_a_root_that_is_read_only():
    for name, template in pod_templates():
        pod = template["spec"]
        assert pod["securityContext"]["runAsNonRoot"], name
        assert pod["securityContext"]["runAsUser"] == 1000, name  # that of the Dockerfile
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert pod["restartPolicy"] == "Never", name
        for container in containers(template):
            assert_locked(container)
    autoscaler = raycluster()["spec"]["autoscalerOptions"]
    assert_locked(autoscaler)
    assert "USER 1000" in (DEPLOY / "Dockerfile").read_text()


def assert_locked(container):
    context = container["securityContext"]
    assert context["allowPrivilegeEscalation"] is False
    assert context["readOnlyRootFilesystem"] is True
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert container["resources"]["limits"] == container["resources"]["requests"]
    assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}


def test_only_the_autoscaler_has_a_token_for_the_api_server():
    for name, template in pod_templates():
        assert template["spec"]["automountServiceAccountToken"] is False, name
        mounts = [mount["name"] for container in containers(template) for mount in container["volumeMounts"]]
        assert "api-token" not in mounts, name
    cluster = raycluster()["spec"]
    volumes = {volume["name"] for volume in cluster["headGroupSpec"]["template"]["spec"]["volumes"]}
    assert {mount["name"] for mount in cluster["autoscalerOptions"]["volumeMounts"]} <= volumes


def test_secrets_are_referred_to_and_never_written():
    readme = (DEPLOY / "README.md").read_text()
    for _, template in pod_templates():
        for source in containers(template)[0]["envFrom"]:
            if "configMapRef" in source:
                assert source["configMapRef"]["name"] == setup_object("ConfigMap")["metadata"]["name"]
            else:
                assert f"create secret generic {source['secretRef']['name']}" in readme
    assert "Secret" not in {one["kind"] for folder in ("setup", "cluster") for one in render(folder)}
    assert not any("KEY" in name or "TOKEN" in name for name in setup_object("ConfigMap")["data"])


@pytest.mark.parametrize("name", JOBS)
def test_clusters_of_jobs_ask_for_a_token(name):
    assert rayjob(name)["spec"]["rayClusterSpec"]["authOptions"] == {"mode": "token"}


def test_what_pods_refer_to_is_set_up_in_their_namespace():
    account, policy = setup_object("ServiceAccount"), setup_object("NetworkPolicy")
    namespace = setup_object("Namespace")["metadata"]["name"]
    objects = [*render("cluster"), account, policy, *(rayjob(name) for name in JOBS)]
    assert {one["metadata"]["namespace"] for one in objects} == {namespace}
    for name, template in pod_templates():
        assert template["spec"]["serviceAccountName"] == account["metadata"]["name"], name
        assert policy["spec"]["podSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items(), name


def test_the_budget_protects_the_head_of_the_cluster():
    budget = next(one for one in render("cluster") if one["kind"] == "PodDisruptionBudget")
    assert budget["spec"]["selector"]["matchLabels"]["ray.io/cluster"] == raycluster()["metadata"]["name"]
