"""Which cluster a command joins when none is named: one that runs here and does not let it in is no reason for another."""

import socket

import pytest
import ray

from jobs.distributed import cluster
from rnnlm.errors import EnvironmentFailure


@pytest.fixture
def started(monkeypatch):
    """Arguments of the clusters that were started; the recorded one, `refused`, cannot be joined."""
    found = []

    def init(address=None, **options):
        if address == "auto":
            raise ConnectionError(f"Failed to connect to Ray cluster at {found_at[0]}")
        found.append(options)

    found_at = [""]
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(cluster, "ensure_token", lambda: None)
    return found, found_at


def test_a_cluster_that_listens_and_does_not_answer_is_named(started):
    made, recorded = started
    with socket.create_server(("127.0.0.1", 0)) as server:
        recorded[0] = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(EnvironmentFailure, match=rf"{recorded[0]}, does not answer; check the token"):
            cluster.connect()
    assert made == []


def test_one_that_was_killed_is_forgotten(started):
    made, recorded = started
    with socket.create_server(("127.0.0.1", 0)) as server:
        recorded[0] = f"127.0.0.1:{server.getsockname()[1]}"
    cluster.connect()
    assert len(made) == 1
