"""What a bulk output or a data set is, told from records and footers alone."""

import time
from dataclasses import asdict
from typing import Any

from rnnlm.bulk.engine import add_up
from rnnlm.bulk.output import DRIVER, OutputFolder
from rnnlm.data.formats.parquet import ParquetCorpus
from rnnlm.errors import DataError
from rnnlm.storage import open_location

MAX_FAILURES = 20


def inspect_output(path: str) -> dict[str, Any] | None:
    """The state of a bulk output, finished or not; None if `path` is none."""
    folder = OutputFolder(open_location(path))
    if not folder.started:
        return None
    plan, done, success = folder.plan(), folder.done(), folder.success()
    identity = plan["identity"]
    shards = int(identity["plan"].partition(" ")[0])
    state: dict[str, Any] = {
        "job": identity["job"],
        "state": "finished" if success is not None else "unfinished",
        "shards": shards,
        "done": len(done),
        "totals": asdict(add_up(identity["job"], done.values())),
        "work": identity["work"],
        "corpus": {name: value for name, value in identity["corpus"].items() if name != "files"},
        "files": len(identity["corpus"]["files"]),
        "failures": [
            {name: failure[name] for name in ("shard", "first_row", "rows", "error")} for failure in folder.failures()
        ],
    }
    driver = folder.folder.join(DRIVER)
    if success is None and driver.exists():
        noted = driver.read_json()
        state["driver"] = {**noted, "seconds_ago": round(time.time() - noted.pop("time"), 1)}
    return state


def inspect_data(path: str) -> dict[str, Any]:
    """Files, row groups, rows, bytes and columns of Parquet. Raises DataError if there is nothing to read."""
    location = open_location(path)
    inside = location.join("data")
    listing = ParquetCorpus(path=inside.address if inside.is_dir() else path).list_units()
    if not listing.files:
        raise DataError(f"{path} holds no Parquet", todo="check the path")
    sizes = sorted(file.size for file in listing.files)
    rows = [unit.rows for unit in listing.units]
    return {
        "files": len(listing.files),
        "row_groups": len(listing.units),
        "rows": listing.rows,
        "bytes": sum(sizes),
        "file_bytes": {"smallest": sizes[0], "median": sizes[len(sizes) // 2], "largest": sizes[-1]},
        "rows_of_a_row_group": {"fewest": min(rows, default=0), "most": max(rows, default=0)},
        "columns": {field.name: str(field.type) for field in listing.schema},
    }
