"""Which cluster a command joins when none is named: that of `ray start` on this machine, if it is still there."""

import socket

import pytest
import ray

from jobs.distributed import cluster
from rnnlm.errors import EnvironmentFailure


@pytest.fixture
def joined(monkeypatch):
    """Addresses that Ray was given, and that a token was made."""
    addresses = []
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "init", lambda address, **options: addresses.append(address))
    monkeypatch.setattr(cluster, "ensure_token", lambda: addresses.append("token"))
    return addresses


@pytest.fixture
def recorded(monkeypatch):
    """The address of a socket that listens, on record as that of a cluster."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setattr(cluster, "read_ray_address", lambda folder: address)
        yield address


def test_a_cluster_on_record_is_joined(joined, recorded):
    cluster.connect()
    assert joined == [recorded]


def test_another_one_goes_before(joined, recorded, monkeypatch):
    cluster.connect("10.0.0.1:6379")
    monkeypatch.setenv("RAY_ADDRESS", "local")
    cluster.connect()
    assert joined == ["10.0.0.1:6379", "token", "local"]


@pytest.mark.parametrize("record", [None, "", "no address", "127.0.0.1:99999", "no.such.host.invalid:6379"])
def test_without_a_record_that_leads_anywhere_one_is_started(joined, monkeypatch, record):
    monkeypatch.setattr(cluster, "read_ray_address", lambda folder: record)
    cluster.connect()
    assert joined == ["token", "local"]


def test_one_that_was_killed_is_not_waited_for(joined, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    monkeypatch.setattr(cluster, "read_ray_address", lambda folder: address)
    cluster.connect()
    assert joined == ["token", "local"]


def test_one_that_does_not_let_the_user_in_is_named(joined, recorded, monkeypatch):
    def refuse(**options):
        raise ConnectionError("Failed to connect to Ray cluster")

    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(EnvironmentFailure, match=rf"{recorded}: Failed.*RAY_ADDRESS=local starts a cluster here"):
        cluster.connect()
