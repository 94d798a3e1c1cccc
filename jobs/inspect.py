"""The state of a bulk output, finished or not; or what a Parquet data set consists of. Needs no cluster.

python -m jobs.inspect path=outputs/scored
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from jobs.app import run_job
from jobs.schemas import InspectJob
from rnnlm.bulk.inspect import MAX_FAILURES, inspect_data, inspect_output


def inspect(job: InspectJob) -> None:
    """Run it."""
    state = inspect_output(job.path)
    found = state if state is not None else inspect_data(job.path)
    if job.json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return
    print("\n".join(_output_lines(found) if state is not None else _data_lines(found)))


def _output_lines(state: Mapping[str, Any]) -> Iterator[str]:
    totals = state["totals"]
    yield f"{state['job']}, {state['state']}: {state['done']:,} of {state['shards']:,} shards are done"
    skipped = f", {totals['skipped']:,} left out" if totals["skipped"] else ""
    yield (
        f"  rows      {totals['rows']:,} = {totals['ok']:,} ok + {totals['null']:,} null + "
        f"{totals['error']:,} with an error{skipped}"
    )
    for code, count in sorted(totals["errors"].items(), key=lambda item: -item[1]):
        yield f"            {count:,} {code}"
    speed = totals["tokens"] / totals["seconds"] if totals["seconds"] else 0.0
    yield f"  tokens    {totals['tokens']:,}, {speed:,.0f} a second of one worker"
    yield f"  output    {totals['part_bytes'] / 1e6:,.1f} MB from {totals['num_bytes'] / 1e6:,.1f} MB of text"
    yield f"  computed  {', '.join(f'{count:,} shards on {name}' for name, count in totals['hardware'].items())}"
    yield f"  corpus    {state['files']:,} files; {_settings(state['corpus'])}"
    yield f"  work      {_settings(state['work'])}"
    if "driver" in state:
        driver = state["driver"]
        yield f"  driver    process {driver['pid']} on {driver['host']}, seen {driver['seconds_ago']:,.0f} s ago"
    failures = state["failures"]
    for failure in failures[:MAX_FAILURES]:
        where = f"shard {failure['shard']}, {failure['rows']:,} rows from {failure['first_row']:,}"
        yield f"  failed    {where}: {failure['error']}"
    if len(failures) > MAX_FAILURES:
        yield f"            and {len(failures) - MAX_FAILURES:,} more"


def _data_lines(found: Mapping[str, Any]) -> Iterator[str]:
    sizes = found["file_bytes"]
    yield f"{found['files']:,} files, {found['row_groups']:,} row groups, {found['rows']:,} rows"
    yield (
        f"  bytes     {found['bytes'] / 1e6:,.1f} MB; a file {sizes['smallest'] / 1e6:,.2f} to "
        f"{sizes['largest'] / 1e6:,.2f} MB, median {sizes['median'] / 1e6:,.2f}"
    )
    groups = found["rows_of_a_row_group"]
    yield f"  groups    {groups['fewest']:,} to {groups['most']:,} rows"
    for name, kind in found["columns"].items():
        yield f"  column    {name}: {kind}"


def _settings(values: Mapping[str, Any]) -> str:
    """Names and values in a line; of a fingerprint its beginning."""
    shown = {name: str(value) for name, value in values.items() if value is not None}
    return ", ".join(f"{name} {value[:12] if len(value) == 64 else value}" for name, value in shown.items())


if __name__ == "__main__":
    run_job("inspect", InspectJob, inspect)
