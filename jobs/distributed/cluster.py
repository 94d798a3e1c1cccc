"""Joining a Ray cluster, or starting one on this machine; once a command. What fits into it."""

import os
import re
import socket
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import AuthenticationError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from jobs.distributed.token import ensure_token
from rnnlm.errors import EnvironmentFailure

EPSILON = 1e-6  # resources are fractions that have been added up
LISTEN_SECONDS = 2.0  # for a port of this machine to take a connection


@dataclass(frozen=True)
class Needs:
    """What one worker takes of a node."""

    cpus: float
    gpus: float = 0.0

    def __str__(self) -> str:
        gpus = f" and {self.gpus:g} GPU" if self.gpus else ""
        return f"{self.cpus:g} CPU{gpus}"

    def fits(self, resources: dict[str, float]) -> int:
        """How many such workers have room in `resources`."""
        rooms = [
            int((resources.get(name, 0.0) + EPSILON) // each)
            for name, each in (("CPU", self.cpus), ("GPU", self.gpus))
            if each
        ]
        return min(rooms, default=1)


def connect(address: str | None = None) -> None:
    """Join the cluster at `address`, else the one that runs here, else start one; nothing if already connected.

    Raises EnvironmentFailure if the cluster does not answer, or not to this user.
    """
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
                todo="check address and token (RAY_AUTH_TOKEN_PATH), or leave the address out to start one here",
            ) from error
        if here := _listening(str(error)):
            raise EnvironmentFailure(
                f"the Ray cluster of this machine, {here}, does not answer",
                todo="check the token (RAY_AUTH_TOKEN_PATH); RAY_ADDRESS=local starts another one",
            ) from error
        ensure_token()
        ray.init(include_dashboard=False, **quiet)
    except AuthenticationError as error:
        raise EnvironmentFailure(
            f"the Ray cluster {wanted or 'of this machine'} does not let this user in: {str(error).splitlines()[0]}",
            todo="set RAY_AUTH_TOKEN_PATH to the file with its token, or RAY_AUTH_MODE=disabled if it has none",
        ) from error


def _listening(message: str) -> str | None:
    """The address that Ray could not connect to, if something listens there: not one of a cluster that was killed."""
    found = re.search(r"Ray cluster at (([\w.-]+):(\d+))", message)
    if found is None:
        return None
    with socket.socket() as probe:
        probe.settimeout(LISTEN_SECONDS)
        return found[1] if probe.connect_ex((found[2], int(found[3]))) == 0 else None


def beside_the_driver() -> dict[str, Any]:
    """Options of an actor that costs nothing and lives as long as the driver: no other node takes it along."""
    node = ray.get_runtime_context().get_node_id()
    return {"num_cpus": 0, "scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False)}


def capacity(needs: Needs) -> int:
    """How many such workers fit into the nodes that are alive now, were they empty."""
    return sum(needs.fits(node["Resources"]) for node in ray.nodes() if node["Alive"])


def node_is_alive(node_id: str) -> bool:
    """Whether Ray still counts on a node."""
    return any(node["Alive"] for node in ray.nodes() if node["NodeID"] == node_id)


def check_feasible(workers: int, needs: Needs, *, autoscaling: bool = False) -> None:
    """Refuse at once what the cluster could never run, instead of waiting for ever."""
    room = capacity(needs)
    if workers <= room or (autoscaling and workers):
        return
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cpus, gpus = (sum(node.get(name, 0.0) for node in nodes) for name in ("CPU", "GPU"))
    raise EnvironmentFailure(
        f"{workers} workers with {needs} each were asked for; the cluster has {cpus:g} CPU and {gpus:g} GPU on "
        f"{len(nodes)} nodes, room for {room}",
        todo="ask for fewer or smaller workers, add nodes, or set cluster.autoscaling=true if it grows on demand",
    )
