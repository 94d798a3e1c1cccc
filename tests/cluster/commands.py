"""A command that runs while a test disturbs it, and which processes of a cluster are where."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.integration.pipeline import ROOT

PATIENCE_SECONDS = 400.0
# One thread a process; a cluster of their own unless they name one; nodes that go are noticed at once.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "RAY_ADDRESS": "local", "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "0.2"}


class Command:
    """`python -m jobs.<job> <arguments>` in the background; what it says is in a file."""

    def __init__(self, log: Path, job: str, *arguments: str, prefix: tuple[str, ...] = ()) -> None:
        self._log = log
        with log.open("a") as stream:
            self.process = subprocess.Popen(
                [*prefix, sys.executable, "-m", f"jobs.{job}", *arguments],
                cwd=ROOT,
                env={**os.environ, **ENVIRONMENT},
                stdout=stream,
                stderr=stream,
            )

    def said(self) -> str:
        return self._log.read_text()

    def wait_until(self, reached: Callable[[], object]) -> None:
        """Until something is so, while it runs."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not reached():
            assert self.process.poll() is None, f"it ended too early\n{self.said()}"
            assert time.monotonic() < deadline, f"nothing moves\n{self.said()}"
            time.sleep(0.01)

    def end(self) -> int:
        return self.process.wait(timeout=PATIENCE_SECONDS)


def children(parent: int, title: str) -> list[int]:
    """Processes that `parent` started and whose title begins with `title`."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            above = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if above == parent and (folder / "cmdline").read_bytes().startswith(title.encode()):
                found.append(int(folder.name))
        except OSError:
            continue  # it ended meanwhile
    return found


def raylet(node) -> int:
    """The process of a node that starts its workers."""
    return node.all_processes["raylet"][0].process.pid


def nodes_with(cluster, title: str) -> list:
    """The nodes but the first that have workers with this title."""
    return [node for node in cluster.worker_nodes if children(raylet(node), title)]
