"""The user's verbs: thin entry points over the library, one a file, each run as `python -m jobs.<name>`."""

import os

# Must be set before torch loads its thread pool. By default an idle thread spins, which costs little on a quiet
# machine and makes everything several times slower as soon as something else wants the core.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
