"""The only part of the project that knows Ray: cluster, shard pool, training workers, metrics.

What Ray reads from the environment it reads when it is first imported, so that is settled here, before any import.
"""

import os

from jobs.distributed.token import ask_for_token

ask_for_token()
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
