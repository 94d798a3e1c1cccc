"""The only part of the project that knows Ray: cluster, shard pool, training workers.

What Ray reads from the environment it reads when it is first imported, so that is settled here, before any import.
"""

import os
from pathlib import Path


def _choose_authentication() -> None:
    """Ray's clients send a token only when told to: told so if there is one, left alone if the user has decided."""
    token = Path(os.environ.get("RAY_AUTH_TOKEN_PATH", str(Path.home() / ".ray" / "auth_token")))
    if "RAY_AUTH_TOKEN" in os.environ or token.is_file():
        os.environ.setdefault("RAY_AUTH_MODE", "token")


_choose_authentication()
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
