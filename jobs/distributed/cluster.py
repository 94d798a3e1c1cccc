"""Joining a Ray cluster, or starting one on this machine; once a command. What fits into it."""

import os
import re
import socket
from dataclasses import dataclass
from typing import Any

import ray
from ray._private.utils import read_ray_address
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
    """Join the cluster at `address` or RAY_ADDRESS, else the one of `ray start` on this machine, else start one, as for
    `local`; nothing if already connected. What another command has started for itself is never joined: it ends with it.

    Raises EnvironmentFailure if the cluster does not answer, or not to this user.
    """
    if ray.is_initialized():
        return
    cluster = address or os.environ.get("RAY_ADDRESS") or _started_here() or "local"
    if cluster == "local":
        ensure_token()
    try:
        ray.init(address=cluster, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    except ConnectionError as error:
        raise EnvironmentFailure(
            f"no Ray cluster answers at {cluster}: {str(error).splitlines()[0]}",
            todo="check address and token (RAY_AUTH_TOKEN_PATH); RAY_ADDRESS=local starts a cluster here",
        ) from error
    except AuthenticationError as error:
        raise EnvironmentFailure(
            f"the Ray cluster {cluster} does not let this user in: {str(error).splitlines()[0]}",
            todo="set RAY_AUTH_TOKEN_PATH to the file with its token, or RAY_AUTH_MODE=disabled if it has none",
        ) from error


def _started_here() -> str | None:
    """Address of the last `ray start` on this machine, if something listens there: of one that was killed the record
    stays, and Ray would wait for it for ever."""
    found = re.fullmatch(r"(.+):(\d+)", read_ray_address(None) or "")
    if found is None:
        return None
    try:
        with socket.create_connection((found[1], int(found[2])), timeout=LISTEN_SECONDS):
            return found[0]
    except (OSError, OverflowError):  # nobody there, no such host, no such port
        return None


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
