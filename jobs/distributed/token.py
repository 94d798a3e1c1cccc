"""The token that opens a Ray cluster: whoever can reach a cluster without one can run any code on it.

Ray looks for it in RAY_AUTH_TOKEN, in the file that RAY_AUTH_TOKEN_PATH names, and in ~/.ray/auth_token. Ray would make
the last of these itself, but readable for every user of the machine.
"""

import os
import secrets
from pathlib import Path

MODE = "RAY_AUTH_MODE"
DEFAULT_FILE = Path(".ray") / "auth_token"  # below the home folder


def ask_for_token() -> None:
    """Token authentication unless the user has decided otherwise; before Ray is first imported, which reads it then."""
    os.environ.setdefault(MODE, "token")


def ensure_token() -> None:
    """Make a token for this user if authentication is on and there is none anywhere."""
    if os.environ.get(MODE) != "token" or os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return
    file = Path.home() / DEFAULT_FILE
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    with os.fdopen(descriptor, "w") as stream:
        stream.write(secrets.token_hex(32))
