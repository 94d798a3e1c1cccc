"""Three nodes with addresses and network interfaces of their own, whose link is cut for a while.

Each node lives in a network namespace of Linux, joined to the others by a bridge; the disk is shared, as a network disk
would be. Needs root and `ip` (iproute2).
"""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from tests.cluster.commands import children
from tests.integration.pipeline import TIMEOUT_SECONDS, part_bytes

pytestmark = [pytest.mark.ray, pytest.mark.cluster, pytest.mark.timeout(900)]

CUT_SECONDS = 6.0  # less than Ray takes to give a node up
PORT = 6379  # of the head; every namespace has all ports to itself
STARTED = "Ray runtime started"  # said by a node that has joined
RAY = str(Path(sys.executable).parent / "ray")


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True, timeout=TIMEOUT_SECONDS)


def inside(namespace: str) -> tuple[str, ...]:
    """What runs a command in a namespace."""
    return ("ip", "netns", "exec", namespace)


class Network:
    """Namespaces node-0, node-1, ... with the addresses 10.213.0.1, 10.213.0.2, ... on one bridge."""

    def __init__(self, nodes: int, stack: ExitStack) -> None:
        name = f"r{secrets.token_hex(2)}"  # an interface has at most 15 letters
        self.namespaces = [f"{name}-node-{number}" for number in range(nodes)]
        self.addresses = [f"10.213.0.{number + 1}" for number in range(nodes)]
        self._links = [f"{name}-{number}" for number in range(nodes)]
        bridge = f"{name}-bridge"
        ip("link", "add", bridge, "type", "bridge")
        stack.callback(ip, "link", "delete", bridge)
        ip("link", "set", bridge, "up")
        for namespace, address, link in zip(self.namespaces, self.addresses, self._links, strict=True):
            ip("netns", "add", namespace)
            stack.callback(ip, "netns", "delete", namespace)  # and its end of the link, and so the link
            ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", namespace)
            ip("link", "set", link, "master", bridge, "up")
            for command in (("addr", "add", f"{address}/24", "dev", "eth0"), ("link", "set", "eth0", "up"), ("link", "set", "lo", "up")):  # fmt: skip
                ip("-netns", namespace, *command)

    def cut(self, node: int) -> None:
        """Nothing goes to a node or comes from it; its connections stay open."""
        ip("link", "set", self._links[node], "down")

    def mend(self, node: int) -> None:
        ip("link", "set", self._links[node], "up")


@pytest.fixture
def network():
    """Three namespaces; the test is skipped where there can be none."""
    with ExitStack() as stack:
        try:
            made = Network(3, stack)
        except (OSError, subprocess.CalledProcessError) as error:
            why = getattr(error, "stderr", None) or str(error)
            pytest.skip(f"network namespaces cannot be made here, which needs root and iproute2: {why.strip()}")
        yield made


@contextmanager
def ray_node(network: Network, number: int, folder: Path) -> Iterator[subprocess.Popen]:
    """Ray in a namespace; the first one is the head, without room for work."""
    temporary = f"/tmp/rnnlm-{secrets.token_hex(4)}"  # holds sockets, whose paths must stay short
    role = ["--head", f"--port={PORT}", "--include-dashboard=false", "--num-cpus=0"]
    if number:
        role = [f"--address={network.addresses[0]}:{PORT}", "--num-cpus=1"]
    command = [
        *inside(network.namespaces[number]), RAY, "start", "--block", *role, f"--temp-dir={temporary}",
        f"--node-ip-address={network.addresses[number]}", f"--object-store-memory={80 * 2**20}",
    ]  # fmt: skip
    with (folder / f"node-{number}.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        while STARTED not in (folder / f"node-{number}.log").read_text():
            assert process.poll() is None, (folder / f"node-{number}.log").read_text()
            time.sleep(0.2)
        yield process
    finally:
        for pid in processes_in(network.namespaces[number]):  # all of it: Ray's processes leave their session
            with suppress(ProcessLookupError):  # it has ended meanwhile
                os.kill(pid, signal.SIGKILL)
        process.wait()
        shutil.rmtree(temporary, ignore_errors=True)


def processes_in(namespace: str) -> list[int]:
    done = subprocess.run(["ip", "netns", "pids", namespace], check=True, capture_output=True, text=True)
    return [int(pid) for pid in done.stdout.split()]


def scorers(namespace: str) -> list[int]:
    """Workers in a namespace."""
    return [pid for parent in processes_in(namespace) for pid in children(parent, "ray::ShardWorker")]


def done_shards(output: Path) -> int:
    return len(list((output / "_run/done").glob("*.json")))


def test_a_link_is_cut_for_some_seconds_while_rows_are_scored(commands, network, scored, tmp_path):
    arguments, expected = scored
    output = tmp_path / "out"
    with ExitStack() as stack:
        for number in range(3):
            stack.enter_context(ray_node(network, number, tmp_path))
        command = commands(
            tmp_path / "log", "score", *arguments, f"cluster.address={network.addresses[0]}:{PORT}",
            "cluster.workers=2", f"output={output}", prefix=inside(network.namespaces[0]),
        )  # fmt: skip
        command.wait_until(lambda: done_shards(output) and all(map(scorers, network.namespaces[1:])))
        network.cut(2)
        before = done_shards(output)
        time.sleep(CUT_SECONDS)
        network.mend(2)
        assert command.end() == 0, command.said()
    assert before < len(expected) - 1, "it was done before the link was cut"
    assert part_bytes(output) == expected
