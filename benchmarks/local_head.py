"""A Ray cluster of this machine for the time of a block, with ports and a token of its own; others are left alone."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

RAY = str(Path(sys.executable).parent / "ray")
MARK = "RNNLM_LOCAL_HEAD"  # in the environment of all processes of a cluster: the workers', too
START_SECONDS = 120.0


@dataclass(frozen=True)
class Head:
    """How to reach the cluster."""

    environment: dict[str, str]
    address: str  # where commands join
    dashboard: str  # where jobs are submitted
    mark: str

    def processes(self) -> list[int]:
        """All its processes, those of its workers and jobs too."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if f"{MARK}={self.mark}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
            except OSError:
                continue  # it has ended, or is someone else's
        return found


@contextmanager
def local_head(num_cpus: int) -> Iterator[Head]:
    """A head with a dashboard and `num_cpus` CPUs; its processes are gone afterwards."""
    temporary = Path(tempfile.mkdtemp(prefix="rnnlm-", dir="/tmp"))  # holds sockets, whose paths must stay short
    (temporary / "token").write_text(secrets.token_hex(32), encoding="utf-8")
    (temporary / "token").chmod(0o600)
    gcs, dashboard, agent, client = free_ports(4)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(temporary / "token"),
        "RAY_USAGE_STATS_ENABLED": "0",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    head = Head(environment, f"127.0.0.1:{gcs}", f"http://127.0.0.1:{dashboard}", secrets.token_hex(8))
    command = [
        RAY, "start", "--head", "--block", f"--port={gcs}", f"--dashboard-port={dashboard}",
        f"--dashboard-agent-listen-port={agent}", f"--ray-client-server-port={client}", f"--num-cpus={num_cpus}",
        f"--temp-dir={temporary / 'ray'}", "--node-ip-address=127.0.0.1",
    ]  # fmt: skip
    with (temporary / "log").open("w") as log:
        process = subprocess.Popen(command, env={**environment, MARK: head.mark}, stdout=log, stderr=log)
    try:
        _await(process, (gcs, dashboard, agent), temporary / "log")
        yield head
    finally:
        for pid in head.processes():
            with suppress(ProcessLookupError):  # it has ended meanwhile
                os.kill(pid, signal.SIGKILL)
        process.wait()
        shutil.rmtree(temporary, ignore_errors=True)


def free_ports(count: int) -> list[int]:
    """Ports below those that Ray gives to its workers and that the system gives to clients."""
    with ExitStack() as stack:
        found: list[int] = []
        for port in range(20_500, 32_000, 7):
            candidate = stack.enter_context(socket.socket())
            try:
                candidate.bind(("127.0.0.1", port))
            except OSError:
                continue
            found.append(port)
            if len(found) == count:
                return found
    raise RuntimeError("no free port between 20500 and 32000")


def _await(process: subprocess.Popen[bytes], ports: tuple[int, ...], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    for port in ports:
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the head did not start:\n{log.read_text()}")
            time.sleep(0.1)
