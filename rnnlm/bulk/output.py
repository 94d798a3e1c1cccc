"""The output folder of a bulk job, and the protocol that makes it safe to kill anything at any time.

    data/part-000042.parquet    one shard: input order, input columns untouched, new columns behind
    _run/plan.json              what the run is: its identity, in parts; written once
    _run/listing.arrow          the corpus as it was found, so that going on opens no file of it
    _run/done/000042.json       the commit of a shard: row counts, tokens, seconds, SHA-256 of its part
    _run/failed/000042.json     why a shard could not be done; removed when it is
    _run/tmp/                   parts that are being written; what a kill left there is removed at the end
    _run/driver.json            who works on it, and when last; a warning to a second driver, not a lock
    _run/config.yaml, estimate.json, report.json
    _SUCCESS                    written last, when every shard is done, with the totals

A part is written first, then its record; a part without a record does not count and is written again. Whoever writes a
shard writes the same bytes under the same name, so a worker thought dead or a second driver does no harm.
"""

import json
import os
import platform
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa

from rnnlm.bulk.part import Part
from rnnlm.bulk.plan import Shard
from rnnlm.config import differences
from rnnlm.data.listing import Listing
from rnnlm.errors import DataError, RefusedError, without_secrets
from rnnlm.storage import Location

PLAN, LISTING, DRIVER = "_run/plan.json", "_run/listing.arrow", "_run/driver.json"
ESTIMATE, REPORT, CONFIG = "_run/estimate.json", "_run/report.json", "_run/config.yaml"
DONE, FAILED, UNFINISHED, DATA, SUCCESS = "_run/done", "_run/failed", "_run/tmp", "data", "_SUCCESS"
READ_THREADS = 32  # records wait for storage, not for the processor
ALIVE_SECONDS = 90.0  # a driver that has written so recently is taken for alive


@dataclass(frozen=True)
class DoneRecord:
    """The commit of one shard. Of the `planned` rows, `skipped` were not selected; rows = ok + null + error."""

    shard: int
    planned: int
    skipped: int
    rows: int
    ok: int
    null: int
    error: int
    errors: dict[str, int]
    dropped: int
    tokens: int
    num_bytes: int  # of text
    halved: int
    seconds: float
    worker: str
    hardware: str
    parts: list[Part] = field(default_factory=list)

    @staticmethod
    def from_json(data: dict[str, Any]) -> "DoneRecord":
        """From what `asdict` gave."""
        return DoneRecord(**{**data, "parts": [Part(**part) for part in data["parts"]]})


class OutputFolder:
    """One run's output, opened by the driver and by each worker."""

    def __init__(self, folder: Location) -> None:
        self.folder = folder

    def known_listing(self) -> Listing | None:
        """The corpus as an earlier command on this output found it."""
        file = self.folder.join(LISTING)
        if not file.exists():
            return None
        try:
            return Listing.from_bytes(file.read_bytes())
        except (pa.ArrowInvalid, KeyError, DataError):
            return None  # only a saving of time is lost

    def begin(self, identity: dict[str, Any], recipe: dict[str, Any], listing: Listing) -> None:
        """Write the plan, or check that the one there is this run's; RefusedError shows what differs.

        `recipe` is what builds the run again (for `jobs.verify`); it is not compared.
        """
        plan = self.folder.join(PLAN)
        if not plan.exists():
            foreign = [name for name in self.folder.list_files() if name not in {ESTIMATE, LISTING}]
            if foreign:
                raise RefusedError(self.folder.uri, [f"it holds {', '.join(foreign[:3])} and no {PLAN}"])
            self.folder.join(LISTING).write_bytes(listing.to_bytes())
            content = json.dumps({"identity": identity, "recipe": recipe}, indent=2, ensure_ascii=False) + "\n"
            plan.create_bytes(without_secrets(content).encode())
        # Read even if it was just written: of two drivers that start at once, one has written it.
        self.check(identity)

    def check(self, identity: dict[str, Any]) -> None:
        """Raise RefusedError if the plan there is another run's."""
        changed = differences(self.plan()["identity"], json.loads(without_secrets(json.dumps(identity))))
        if changed:
            raise RefusedError(self.folder.uri, changed)

    def plan(self) -> dict[str, Any]:
        """Identity and recipe."""
        found: dict[str, Any] = self.folder.join(PLAN).read_json()
        return found

    @property
    def started(self) -> bool:
        return self.folder.join(PLAN).exists()

    def announce(self) -> str | None:
        """Say that this process works here; what to tell the user if another one seems to."""
        me = {"host": platform.node(), "pid": os.getpid()}
        file = self.folder.join(DRIVER)
        warning = None
        if file.exists():
            other = file.read_json()
            age = time.time() - other.pop("time")
            if age < ALIVE_SECONDS and other != me:
                warning = (
                    f"process {other['pid']} on {other['host']} wrote here {age:.0f} s ago and may still be at work; "
                    f"that does no harm, but both do the same"
                )
        file.write_json({**me, "time": time.time()})
        return warning

    def done(self) -> dict[int, DoneRecord]:
        """The committed shards: one listing, and their records read side by side."""
        folder = self.folder.join(DONE)
        names = [name for name in folder.list_names() if name.endswith(".json")]
        with ThreadPoolExecutor(READ_THREADS) as pool:
            records = pool.map(lambda name: DoneRecord.from_json(folder.join(name).read_json()), names)
            return {record.shard: record for record in records}

    def count_done(self) -> int:
        """How many shards are committed; one listing."""
        return sum(name.endswith(".json") for name in self.folder.join(DONE).list_names())

    def record(self, shard: int) -> DoneRecord:
        """The commit of one shard."""
        return DoneRecord.from_json(self.folder.join(DONE, f"{shard:06d}.json").read_json())

    def part_target(self, name: str) -> Location:
        """Where the part `name` belongs."""
        return self.folder.join(DATA, name)

    @property
    def unfinished(self) -> Location:
        return self.folder.join(UNFINISHED)

    def commit(self, record: DoneRecord) -> None:
        """Write the record of a shard whose parts are in place."""
        content = json.dumps(asdict(record), separators=(",", ":"), ensure_ascii=False)
        self.folder.join(DONE, f"{record.shard:06d}.json").write_text(content + "\n")

    def retract(self, shard: int) -> None:
        """Take a commit back: the shard is to be done again."""
        self.folder.join(DONE, f"{shard:06d}.json").delete()

    def fail(self, shard: Shard, message: str, details: str) -> None:
        """Note why a shard could not be done."""
        record = {
            "shard": shard.index,
            "first_row": shard.first_row,
            "rows": shard.rows,
            "error": message,
            "details": details,
        }
        self.folder.join(FAILED, f"{shard.index:06d}.json").write_json(record)

    def failures(self) -> list[dict[str, Any]]:
        """The noted failures, by shard."""
        folder = self.folder.join(FAILED)
        return [folder.join(name).read_json() for name in folder.list_names() if name.endswith(".json")]

    def clear_failures(self) -> None:
        """Forget the failures of an earlier attempt; those shards are tried again."""
        self.folder.join(FAILED).delete_dir()

    def finish(self, totals: dict[str, Any]) -> None:
        """Every shard is done: clear up, write the totals and the mark of success, last."""
        self.folder.join(UNFINISHED).delete_dir()
        self.folder.join(DRIVER).delete()
        self.folder.join(SUCCESS).write_json(totals)

    def reopen(self) -> None:
        """Take the mark of success away, because something will be done again."""
        self.folder.join(SUCCESS).delete()

    def success(self) -> dict[str, Any] | None:
        """The totals of a finished run, or None."""
        file = self.folder.join(SUCCESS)
        if not file.exists():
            return None
        found: dict[str, Any] = file.read_json()
        return found
