"""A pool of Ray actors that pull shards: the same `run_shard` as in one process, on workers that come and go.

A worker is hired (its actor may wait for room: that is what makes a cluster grow), is ready once its model is loaded,
and then always has one shard in work and the next one reserved, which it reads ahead. Of a reserved shard nothing is
done yet, so an idle worker may take it over.

A worker that dies or hangs is replaced and its shard tried again; a shard that has cost `max_attempts` workers is set
aside and named, and the others go on. A worker lost with its node is nobody's fault.
"""

import sys
import time
import traceback
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError, RayTaskError

from jobs.distributed.cluster import Needs, capacity, node_is_alive
from jobs.distributed.meters import MeteredProcessor, Meters
from jobs.schemas import ClusterConfig
from rnnlm.bulk.engine import Outcomes
from rnnlm.bulk.plan import Shard
from rnnlm.bulk.shard import BulkRun, Failure, Outcome, Progress, Reader, run_shard
from rnnlm.bulk.work import Device
from rnnlm.errors import EnvironmentFailure, StalledError, TerminatedError

HUNG = "hung"
WATCH = "watch"  # the concurrency group that answers while a shard is done
WAIT_SECONDS = 0.5  # for something to finish, before looking after the workers
HEALTH_SECONDS = 1.0  # between two looks at a worker; longer with many workers
RESIZE_SECONDS = 10.0  # between two looks at the size of the cluster
STACKS_SECONDS = 5.0  # for a worker to say where it hangs
BACKOFF_SECONDS = (1.0, 2.0, 5.0, 15.0, 30.0)  # before a worker is replaced, while they die one after the other
NODE_SECONDS = 30.0  # until Ray has noticed that a node is gone, if it is
MAX_BARREN_STARTS = 5  # workers in a row that died before they were ready


class ShardWorker:
    """One worker: loads the model once, then does shard after shard. `health` and `stacks` answer at any time."""

    def __init__(self, run: BulkRun, name: str, device: Device) -> None:
        self._run, self._name = run, name
        self._meters = Meters(run.work.job, run.output)
        self._processor = MeteredProcessor(run.work.build(device), self._meters)
        if device == "cuda":
            self._meters.watch_gpu()
        self._reader = Reader(run)
        self._progress: Progress | None = None

    def ready(self) -> str:
        """The node this worker is on."""
        return str(ray.get_runtime_context().get_node_id())

    def process(self, shard: Shard, upcoming: Shard | None) -> Outcome:
        """Do a shard; `upcoming` is read ahead."""
        outcome = run_shard(
            self._run,
            shard,
            self._processor,
            self._reader,
            worker=self._name,
            upcoming=upcoming,
            on_progress=self._note,
        )
        self._meters.errors(outcome)
        return outcome

    @ray.method(concurrency_group=WATCH)  # type: ignore[untyped-decorator]
    def health(self) -> Progress | None:
        """How far it is."""
        return self._progress

    @ray.method(concurrency_group=WATCH)  # type: ignore[untyped-decorator]
    def stacks(self) -> str:
        """Where each of its threads is."""
        return "\n".join("".join(traceback.format_stack(frame)) for frame in sys._current_frames().values())

    def _note(self, progress: Progress) -> None:
        self._progress = progress


@dataclass(frozen=True)
class Kind:
    """Workers of one sort: what each takes, and how many are wanted (None: as many as fit)."""

    needs: Needs
    device: Device
    wanted: int | None


def kinds_of(cluster: ClusterConfig) -> list[Kind]:
    """The workers that a configuration asks for."""
    kinds = []
    if cluster.gpu_workers:
        kinds.append(Kind(Needs(cluster.cpus, cluster.gpus), "cuda", cluster.gpu_workers))
    if cluster.workers or not cluster.gpu_workers:
        kinds.append(Kind(Needs(cluster.cpus), "cpu", cluster.workers))
    return kinds


@dataclass(frozen=True)
class Death:
    """The end of a worker at a shard."""

    node: str
    verb: str
    details: str


@dataclass(eq=False)
class Hired:
    """A worker as the driver sees it."""

    kind: Kind
    name: str
    actor: Any
    moved: float  # when something last changed about it
    node: str | None = None  # known once it is ready
    shard: Shard | None = None
    reserved: Shard | None = None
    waiting_for: Any = None  # reference of what it does now
    health: Any = None  # reference of a question that is under way
    asked: float = 0.0
    progress: Progress | None = None


def run_on_ray(
    run: BulkRun,
    shards: Sequence[Shard],
    cluster: ClusterConfig,
    *,
    on_progress: Callable[[Progress], None],
    say: Callable[[str], None],
) -> Outcomes:
    """Outcomes in the order in which they come. The costliest shards start first, so that none is left to the end."""
    pool = _Pool(run, cluster, on_progress, say)
    pool.queue.extend(sorted(shards, key=lambda shard: (-shard.seconds, shard.index)))
    try:
        while pool.left():
            pool.resize()
            pool.assign()
            yield from pool.meters.shards(pool.collect())
            yield from pool.meters.shards(pool.look_after())
            pool.meters.set("rnnlm_shards_left", pool.left())
    except (TerminatedError, GeneratorExit):
        pool.drain(cluster.grace_seconds)
        raise
    finally:
        pool.dismiss()


@dataclass
class _Pool:
    """Who is at what, and what is still to be done."""

    run: BulkRun
    cluster: ClusterConfig
    on_progress: Callable[[Progress], None]
    say: Callable[[str], None]
    queue: deque[Shard] = field(default_factory=deque)
    workers: list[Hired] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.meters = Meters(self.run.work.job, self.run.output)
        self._run_reference = ray.put(self.run)
        self._class = ray.remote(concurrency_groups={WATCH: 1})(ShardWorker)
        self._kinds = kinds_of(self.cluster)
        self._hired = self._barren_starts = self._deaths_in_a_row = 0
        self._deaths: defaultdict[int, list[Death]] = defaultdict(list)
        self._suspects: list[tuple[float, Shard]] = []  # judged from that time on
        self._room: dict[Kind, int] = {}
        self._sized = -RESIZE_SECONDS
        self._hire_from = 0.0  # not before this time
        self._moved = time.monotonic()
        self._looked = 0.0

    def left(self) -> int:
        """How many shards are not done yet."""
        held = sum((worker.shard is not None) + (worker.reserved is not None) for worker in self.workers)
        return len(self.queue) + len(self._suspects) + held

    def resize(self) -> None:
        """Hire what is missing, up to one worker a shard."""
        now = time.monotonic()
        if now < self._hire_from:
            return
        if now - self._sized > RESIZE_SECONDS:
            self._room = {kind: capacity(kind.needs) for kind in self._kinds}
            self._sized = now
        for kind in self._kinds:
            wanted = self._room[kind] if kind.wanted is None else kind.wanted
            missing = wanted - sum(worker.kind == kind for worker in self.workers)
            jobless = len(self.queue) - sum(worker.shard is None for worker in self.workers)
            for _ in range(min(missing, jobless)):
                self._hire(kind)

    def assign(self) -> None:
        """Give every worker that is ready a shard, and the next one to read ahead."""
        for worker in self.workers:
            if worker.node is None or worker.shard is not None:
                continue
            shard = worker.reserved or self._next_shard()
            worker.reserved = None
            if shard is None:
                continue
            # Only what would not leave another worker without anything to do.
            idle = sum(other.shard is None and other is not worker for other in self.workers)
            worker.shard = shard
            worker.reserved = self.queue.popleft() if len(self.queue) > idle else None
            worker.progress, worker.moved = None, time.monotonic()
            worker.waiting_for = worker.actor.process.remote(shard, worker.reserved)

    def collect(self) -> Iterator[Outcome]:
        """Wait a moment; outcomes of what has finished."""
        by_reference = {worker.waiting_for: worker for worker in self.workers if worker.waiting_for is not None}
        if not by_reference:
            time.sleep(WAIT_SECONDS)
            return
        finished, _ = ray.wait(list(by_reference), num_returns=1, timeout=WAIT_SECONDS)
        if finished:  # and whatever else is there by now
            finished, _ = ray.wait(list(by_reference), num_returns=len(by_reference), timeout=0)
        for reference in finished:
            worker = by_reference[reference]
            if worker not in self.workers:
                continue
            try:
                found = ray.get(reference)
            except RayActorError as error:
                self._lost(worker, error)
            except RayTaskError as error:
                raise _unwrapped(error) from error
            else:
                worker.waiting_for = None
                worker.moved = self._moved = time.monotonic()
                if worker.node is None:
                    worker.node, self._barren_starts = found, 0
                else:
                    worker.shard, self._deaths_in_a_row = None, 0
                    yield found

    def look_after(self) -> Iterator[Outcome]:
        """Ask the workers how far they are; end one that hangs. Now and then: outcomes may come by the hundred."""
        now = time.monotonic()
        if now - self._looked < WAIT_SECONDS:
            return
        self._looked = now
        period = max(HEALTH_SECONDS, len(self.workers) / 100)
        self._listen()
        for worker in [worker for worker in self.workers if worker.shard is not None]:
            if worker.health is None and now - worker.asked > period:
                worker.health, worker.asked = worker.actor.health.remote(), now
            if now - worker.moved > self.cluster.stall_seconds:
                self._hung(worker)
        yield from self._judge()
        idle = not any(worker.shard for worker in self.workers)
        if self.queue and idle and now - self._moved > self.cluster.stall_seconds:
            wanted = " or ".join(str(kind.needs) for kind in self._kinds)
            raise StalledError(
                f"no worker came up for {now - self._moved:.0f} s; each needs {wanted}",
                todo="see `ray status`: another job may hold the cluster, or no node can be had",
            )

    def drain(self, seconds: float) -> None:
        """Let the shards in work finish, for a while: what they commit need not be done again."""
        busy = [worker.waiting_for for worker in self.workers if worker.shard is not None]
        if busy and seconds > 0:
            ray.wait(busy, num_returns=len(busy), timeout=seconds)

    def dismiss(self) -> None:
        """End all workers."""
        for worker in self.workers:
            ray.kill(worker.actor)
        self.workers.clear()

    def _hire(self, kind: Kind) -> None:
        self._hired += 1
        name = f"worker-{self._hired}"
        actor = self._class.options(num_cpus=kind.needs.cpus, num_gpus=kind.needs.gpus, max_restarts=0).remote(
            self._run_reference, name, kind.device
        )
        worker = Hired(kind, name, actor, moved=time.monotonic())
        worker.waiting_for = actor.ready.remote()
        self.workers.append(worker)

    def _next_shard(self) -> Shard | None:
        if self.queue:
            return self.queue.popleft()
        for other in self.workers:  # what another one has only reserved
            if other.reserved is not None and other.shard is not None:
                shard, other.reserved = other.reserved, None
                return shard
        return None

    def _listen(self) -> None:
        """Take the answers to the last questions, as far as they are there."""
        asked = {worker.health: worker for worker in self.workers if worker.health is not None}
        answered = ray.wait(list(asked), num_returns=len(asked), timeout=0)[0] if asked else []
        for reference in answered:
            worker = asked[reference]
            worker.health = None
            try:
                progress = ray.get(reference)
            except RayError:
                continue  # it died: `collect` will see that
            if progress is not None and progress != worker.progress and worker.shard is not None:
                worker.progress = progress
                worker.moved = self._moved = time.monotonic()
                if progress.shard == worker.shard.index:
                    self.on_progress(progress)

    def _hung(self, worker: Hired) -> None:
        assert worker.shard is not None
        try:
            stacks = ray.get(worker.actor.stacks.remote(), timeout=STACKS_SECONDS)
        except (GetTimeoutError, RayError):
            stacks = "it does not answer: it hangs in native code, or its node is out of reach"
        self.say(
            f"{worker.name} has not moved for {self.cluster.stall_seconds:g} s at shard {worker.shard.index}; "
            f"its stacks:\n{stacks}"
        )
        self._blame(worker, HUNG, stacks)

    def _lost(self, worker: Hired, error: RayActorError) -> None:
        cause = getattr(error, "cause", None)
        if isinstance(cause, Exception) and not isinstance(cause, RayActorError):
            raise _unwrapped(error) from error  # the worker could not be built: every other would fail alike
        self._deaths_in_a_row += 1
        pause = BACKOFF_SECONDS[min(self._deaths_in_a_row, len(BACKOFF_SECONDS)) - 1]
        self._hire_from = time.monotonic() + (pause if self._deaths_in_a_row > 1 else 0.0)
        state = "while it started" if worker.node is None else f"at shard {worker.shard.index if worker.shard else '-'}"
        self.say(f"{worker.name} died {state}: {_last_line(error)}")
        if worker.node is None:
            self._forget(worker)
            self._barren_starts += 1
            if self._barren_starts >= MAX_BARREN_STARTS:
                raise EnvironmentFailure(
                    f"{self._barren_starts} workers in a row died while they started; the last: {_last_line(error)}",
                    todo="see the logs of the cluster (`ray logs`); is there memory enough for the model?",
                ) from error
            return
        self._blame(worker, "ended", str(error))

    def _blame(self, worker: Hired, verb: str, details: str) -> None:
        """A worker is gone because of its shard, as far as anyone can tell now."""
        assert worker.node is not None
        shard, worker.shard = worker.shard, None
        self._forget(worker)
        if shard is None:
            return
        self._deaths[shard.index].append(Death(worker.node, verb, details))
        if self._guilt(shard) < self.cluster.max_attempts:
            self.queue.appendleft(shard)
        else:
            self._suspects.append((time.monotonic() + (0.0 if verb == HUNG else NODE_SECONDS), shard))

    def _judge(self) -> Iterator[Outcome]:
        """Set aside the shards that have cost too many workers, unless it was their nodes that died."""
        due = [shard for when, shard in self._suspects if when <= time.monotonic()]
        self._suspects = [(when, shard) for when, shard in self._suspects if when > time.monotonic()]
        for shard in due:
            deaths = self._deaths[shard.index]
            if self._guilt(shard) < self.cluster.max_attempts:
                self.say(f"shard {shard.index} is done again: it was a node that was lost")
                self._moved = time.monotonic()
                self.queue.appendleft(shard)
                continue
            message = f"shard {shard.index} (rows from {shard.first_row}) {deaths[-1].verb} {len(deaths)} workers"
            self.run.folder().fail(shard, message, deaths[-1].details)
            yield Failure(shard.index, message, stalled=deaths[-1].verb == HUNG)

    def _guilt(self, shard: Shard) -> int:
        """How many workers a shard has cost, not counting those that died with their node."""
        return sum(node_is_alive(death.node) for death in self._deaths[shard.index])

    def _forget(self, worker: Hired) -> None:
        """Strike a worker off the list; what it had goes back to the head of the queue. It may only be out of reach."""
        self.meters.add("rnnlm_worker_deaths_total", 1)
        ray.kill(worker.actor)
        self.workers.remove(worker)
        self.queue.extendleft(shard for shard in (worker.reserved, worker.shard) if shard is not None)
        self._moved = time.monotonic()


def _last_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]


def _unwrapped(error: Exception) -> Exception:
    """The error a worker raised, without Ray's wrapping, as the user should see it."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, Exception):
        return cause
    return EnvironmentFailure(f"a worker failed: {_last_line(error)}")
