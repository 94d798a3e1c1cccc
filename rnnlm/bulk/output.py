"""The output folder of a bulk job, and the protocol that makes it safe to kill anything at any time.

    data/part-000042.parquet    one shard: input order, input columns untouched, new columns behind
    _run/plan.json              what the run is (its identity, in parts), and its shards
    _run/done/000042.json       the commit of a shard: row counts, tokens, seconds, SHA-256 of its part
    _run/failed/000042.json     why a shard could not be done; removed when it is
    _run/tmp/                   parts that are being written; what a kill left there is removed at the end
    _run/config.yaml, report.json
    _SUCCESS                    written last, when every shard is done

A part is written first, then its record; a part without a record does not count and is written again. Whoever writes a
shard writes the same bytes under the same name, so a worker thought dead or a second driver does no harm.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rnnlm.bulk.plan import Shard
from rnnlm.config import differences
from rnnlm.errors import RefusedError
from rnnlm.storage import Location

PLAN, DONE, FAILED, UNFINISHED, SUCCESS = "_run/plan.json", "_run/done", "_run/failed", "_run/tmp", "_SUCCESS"
ROW_GROUP_ROWS = 1 << 16


@dataclass(frozen=True)
class DoneRecord:
    """The commit of one shard. rows = ok + error."""

    shard: int
    part: str
    rows: int
    ok: int
    error: int
    tokens: int
    num_bytes: int
    seconds: float
    sha256: str
    worker: str


class OutputFolder:
    """One run's output, opened by the driver and by each worker."""

    def __init__(self, folder: Location) -> None:
        self.folder = folder

    def begin(self, identity: dict[str, Any], shards: Sequence[Shard]) -> None:
        """Write the plan, or check that the one there is this run's; RefusedError shows what differs."""
        plan = self.folder.join(PLAN)
        if plan.exists():
            changed = differences(plan.read_json()["identity"], json.loads(json.dumps(identity)))
            if changed:
                raise RefusedError(self.folder.uri, changed)
            return
        foreign = self.folder.list_files()
        if foreign:
            raise RefusedError(self.folder.uri, [f"it holds {', '.join(foreign[:3])} and no {PLAN}"])
        planned = [
            {"shard": shard.index, "first_row": shard.first_row, "rows": shard.rows, "seconds": shard.seconds}
            for shard in shards
        ]
        plan.write_json({"identity": identity, "shards": planned})

    def done(self) -> dict[int, DoneRecord]:
        """The committed shards, from one listing of their records."""
        folder = self.folder.join(DONE)
        records = [folder.join(name).read_json() for name in folder.list_names() if name.endswith(".json")]
        return {record["shard"]: DoneRecord(**record) for record in records}

    def commit(self, shard: Shard, table: pa.Table, provenance: dict[str, str], counts: dict[str, Any]) -> DoneRecord:
        """Write the part, then its record."""
        content = _part_bytes(table, {**provenance, "shard": str(shard.index)})
        self.folder.join("data", shard.part).write_bytes(content, via=self.folder.join(UNFINISHED))
        digest = hashlib.sha256(content).hexdigest()
        record = DoneRecord(shard=shard.index, part=shard.part, rows=shard.rows, sha256=digest, **counts)
        self.folder.join(DONE, f"{shard.index:06d}.json").write_json(asdict(record))
        return record

    def fail(self, shard: Shard, message: str, details: str) -> None:
        """Note why a shard could not be done."""
        record = {"shard": shard.index, "first_row": shard.first_row, "error": message, "details": details}
        self.folder.join(FAILED, f"{shard.index:06d}.json").write_json(record)

    def clear_failures(self) -> None:
        """Forget the failures of an earlier attempt; those shards are tried again."""
        self.folder.join(FAILED).delete_dir()

    def finish(self, totals: dict[str, Any]) -> None:
        """Every shard is done: clear up, write the totals and the mark of success, last."""
        self.folder.join(UNFINISHED).delete_dir()
        self.folder.join(SUCCESS).write_json(totals)

    @property
    def finished(self) -> bool:
        return self.folder.join(SUCCESS).exists()


def _part_bytes(table: pa.Table, provenance: dict[str, str]) -> bytes:
    """A part file's content: no time, no host, nothing else that would differ from attempt to attempt."""
    metadata = dict(table.schema.metadata or {})
    metadata.update({f"rnnlm.{key}".encode(): value.encode() for key, value in sorted(provenance.items())})
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata(metadata), sink, compression="zstd", row_group_size=ROW_GROUP_ROWS)
    return bytes(sink.getvalue())
