"""Joining a Ray cluster, or starting one on this machine; once a command."""

import os

import ray

from rnnlm.errors import EnvironmentFailure


def connect(address: str | None = None) -> None:
    """Join the cluster at `address`, else the one that runs here, else start one; nothing if already connected."""
    if ray.is_initialized():
        return
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    wanted = address or os.environ.get("RAY_ADDRESS")
    try:
        ray.init(address=wanted or "auto", **quiet)
    except ConnectionError as error:
        if wanted:
            raise EnvironmentFailure(
                f"no Ray cluster answers at {wanted}: {str(error).splitlines()[0]}",
                todo="check the address, or leave it out to start one here",
            ) from error
        ray.init(include_dashboard=False, **quiet)


def cluster_cpus() -> int:
    """CPUs of the whole cluster."""
    return int(ray.cluster_resources().get("CPU", 0))


def check_feasible(num_workers: int, resources: dict[str, float]) -> None:
    """Refuse at once what the cluster could never run, instead of waiting for ever."""
    available = ray.cluster_resources()
    for name, each in resources.items():
        if num_workers * each > available.get(name, 0.0) + 1e-9:
            raise EnvironmentFailure(
                f"{num_workers} workers with {each:g} {name} each need {num_workers * each:g} {name}, "
                f"the cluster has {available.get(name, 0.0):g}",
                todo="ask for fewer workers or add nodes",
            )
