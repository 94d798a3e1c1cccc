"""Token authentication of Ray: on unless switched off, and the token is its owner's alone."""

import os
import stat
import subprocess
import sys

import pytest

from jobs.distributed.token import ask_for_token, ensure_token
from tests.integration.pipeline import ROOT

VARIABLES = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A home without a token, and an environment that says nothing."""
    for name in VARIABLES:
        monkeypatch.setenv(name, "")  # so that what a test sets is taken back
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_a_token_is_made_once_and_for_its_owner_alone(home):
    ask_for_token()
    ensure_token()
    file = home / ".ray/auth_token"
    token = file.read_text()
    assert len(token) == 64
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    ensure_token()
    assert file.read_text() == token


@pytest.mark.parametrize(
    "given", [{"RAY_AUTH_MODE": "disabled"}, {"RAY_AUTH_TOKEN": "t" * 64}, {"RAY_AUTH_TOKEN_PATH": "/run/secrets/ray"}]
)
def test_what_the_user_has_decided_stays(home, monkeypatch, given):
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    ask_for_token()
    ensure_token()
    assert os.environ["RAY_AUTH_MODE"] == given.get("RAY_AUTH_MODE", "token")
    assert not (home / ".ray").exists()


def test_ray_is_told_before_it_is_imported(home):
    script = "import sys, jobs.distributed, os; print('ray' in sys.modules, os.environ['RAY_AUTH_MODE'])"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "token"]
