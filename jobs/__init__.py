"""The user's verbs: thin entry points over the library, one a file, each run as `python -m jobs.<name>`."""

import ctypes
import gc
import os
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def _keep_freed_memory() -> None:
    """Let malloc keep large blocks for the next one who asks, where it is glibc's.

    By default it gives blocks above 32 MB back to the system at once. A training step frees and takes hundreds of
    megabytes, and would touch new pages each time: a quarter of its time on two cores.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # another C library does as it likes
        mallopt(M_MMAP_THRESHOLD, 1 << 30)
        mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)


# While a command imports, nothing is garbage, and looking for some takes a quarter of the time; `jobs.app.run_job` lets
# the collector go on. Only at the start of `python -m jobs.<name>` is the name of the program still `-m`.
if sys.argv[:1] == ["-m"]:
    gc.disable()

# Must be set before torch loads its thread pool. By default an idle thread spins, which costs little on a quiet
# machine and makes everything several times slower as soon as something else wants the core.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
# Before Arrow is imported: an allocator of its own keeps 30 MB beside what malloc keeps.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
_keep_freed_memory()
