"""A pool of Ray actors that pull shards: the same `run_shard` as in one process, on any number of workers.

A worker that dies is replaced and its shard tried again; a shard that kills `max_attempts` workers is set aside and
named, and the others go on.
"""

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from typing import Any

import ray
from ray.exceptions import RayActorError

from rnnlm.bulk.engine import BulkRun, Failure, Outcome, run_shard
from rnnlm.bulk.plan import Shard
from rnnlm.errors import EnvironmentFailure

POLL_SECONDS = 1.0


class ShardWorker:
    """One worker: loads the model once, then does shard after shard."""

    def __init__(self, run: BulkRun, name: str) -> None:
        self._run, self._name = run, name
        self._processor = run.work.build()

    def process(self, shard: Shard) -> Outcome:
        return run_shard(self._run, shard, self._processor, worker=self._name)


def run_on_ray(run: BulkRun, shards: Sequence[Shard], *, workers: int, max_attempts: int) -> Iterator[Outcome]:
    """Outcomes in the order in which they come. The costliest shards start first, so that none is left to the end."""
    pool = _Pool(run, max_attempts)
    pool.queue.extend(sorted(shards, key=lambda shard: -shard.seconds))
    try:
        for _ in range(min(workers, len(shards))):
            pool.hire()
        while pool.busy:
            yield from pool.collect()
    finally:
        pool.dismiss()


class _Pool:
    """Which worker is at which shard, and what is still to be done."""

    def __init__(self, run: BulkRun, max_attempts: int) -> None:
        self._run = ray.put(run)
        self._fail = run.folder().fail
        self._max_attempts = max_attempts
        self._worker_class = ray.remote(num_cpus=1, max_restarts=0)(ShardWorker)
        self._hired = 0
        self._deaths: Counter[int] = Counter()
        self.queue: deque[Shard] = deque()
        self.busy: dict[Any, tuple[Any, Shard]] = {}

    def hire(self) -> None:
        """A new worker, at once given a shard."""
        if self.queue:
            self._hired += 1
            self._give(self._worker_class.remote(self._run, f"worker-{self._hired}"))

    def collect(self) -> Iterator[Outcome]:
        """Wait a moment; outcomes of what has finished."""
        finished, _ = ray.wait(list(self.busy), timeout=POLL_SECONDS)
        for reference in finished:
            worker, shard = self.busy.pop(reference)
            try:
                outcome: Outcome = ray.get(reference)
            except RayActorError as error:
                yield from self._lost(shard, error)
                self.hire()
            except ray.exceptions.RayTaskError as error:
                raise _unwrapped(error) from error
            else:
                self._give(worker)
                yield outcome

    def dismiss(self) -> None:
        """End the workers that are left, for instance after an error of the driver's."""
        for worker, _ in self.busy.values():
            ray.kill(worker)

    def _give(self, worker: Any) -> None:
        if self.queue:
            shard = self.queue.popleft()
            self.busy[worker.process.remote(shard)] = (worker, shard)

    def _lost(self, shard: Shard, error: RayActorError) -> Iterator[Outcome]:
        cause = getattr(error, "cause", None)
        if cause is not None and not isinstance(cause, RayActorError):
            raise _unwrapped(error) from error  # the worker could not be built: every other would fail alike
        self._deaths[shard.index] += 1
        if self._deaths[shard.index] < self._max_attempts:
            self.queue.appendleft(shard)
            return
        message = f"shard {shard.index} (rows from {shard.first_row}) ended {self._max_attempts} workers"
        self._fail(shard, message, str(error))
        yield Failure(shard.index, message)


def _unwrapped(error: Exception) -> Exception:
    """The error a worker raised, without Ray's wrapping, as the user should see it."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, Exception):
        return cause
    return EnvironmentFailure(f"a worker failed: {str(error).splitlines()[-1]}")
