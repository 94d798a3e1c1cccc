"""Apache Iceberg: one snapshot of a table, read as the Parquet files it consists of; no catalog is asked."""

import re
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from rnnlm.config import config
from rnnlm.data.formats.snapshot import Snapshot, SnapshotCorpus, log_path
from rnnlm.errors import DataError, EnvironmentFailure, Place
from rnnlm.storage import open_location

ENDING = ".metadata.json"
FIELD_ID = b"PARQUET:field_id"


@config
class IcebergCorpus(SnapshotCorpus):
    """An Iceberg table: its folder (the newest metadata file in it counts) or one metadata file, by path or URI."""

    snapshot: int | None = None
    "Which snapshot; null is the current one when the job begins, and noted: a rerun after another commit is refused."

    def load_snapshot(self) -> Snapshot:
        try:
            from pyiceberg.exceptions import ValidationError  # noqa: PLC0415 - an extra
            from pyiceberg.io.pyarrow import schema_to_pyarrow  # noqa: PLC0415
            from pyiceberg.table import StaticTable  # noqa: PLC0415
        except ImportError as error:
            raise EnvironmentFailure("an Iceberg table needs pyiceberg", todo="pip install rnnlm[iceberg]") from error
        place = Place(self.path)
        try:
            table = StaticTable.from_metadata(_metadata_file(self.path))
            found = table.current_snapshot() if self.snapshot is None else table.snapshot_by_id(self.snapshot)
            if found is None:
                known = ", ".join(str(one.snapshot_id) for one in table.snapshots()[-5:]) or "none"
                raise DataError(
                    f"the Iceberg table has no snapshot {self.snapshot or ''}".rstrip(),
                    where=place,
                    todo=f"set corpus.snapshot to one there is: {known}",
                )
            scan = table.scan(snapshot_id=found.snapshot_id)
            tasks = list(scan.plan_files())
            schema = scan.projection()
            files = {
                log_path(task.file.file_path, quoted=False): _values(task, table.specs(), schema) for task in tasks
            }
        except (ValidationError, ValueError, OSError) as error:
            problem = (str(error).splitlines() or [type(error).__name__])[0]
            raise DataError(
                f"cannot read the Iceberg table: {problem}", where=place, todo="check corpus.path"
            ) from error
        return Snapshot(found.snapshot_id, schema_to_pyarrow(schema).serialize().to_pybytes(), files)

    def check_file(self, path: str, found: pa.Schema) -> None:
        """Columns are known by number in Iceberg; refuse a file whose numbers and names do not go together."""
        table = pa.ipc.read_schema(pa.py_buffer(self.contents.schema))
        names = {_field_id(field): field.name for field in table}
        for field in found:
            number = _field_id(field)
            if number is None:  # a file from elsewhere, added to the table by its names
                continue
            here = names.get(number)
            if (here is not None and here != field.name) or (here is None and field.name in table.names):
                raise DataError(
                    f"the column was renamed or replaced since (it is {here or 'another column'} in the table now)",
                    where=Place(path, column=field.name),
                    todo="rewrite the files of the table",
                )


def _metadata_file(path: str) -> str:
    """The metadata file meant by a path: itself, or the newest below a table's folder."""
    location = open_location(path)
    if path.endswith(ENDING):
        if not location.exists():
            raise DataError(f"there is no file {path}", todo="check corpus.path")
        return location.address
    names = [name for name in location.join("metadata").list_names() if name.endswith(ENDING)]
    if not names:
        raise DataError(f"{path} holds no Iceberg table (no metadata/*{ENDING})", todo="check corpus.path")
    newest = max(names, key=lambda name: (int((re.search(r"\d+", name) or ["-1"])[0]), name))
    return location.join("metadata", newest).address


def _values(task: Any, specs: Mapping[int, Any], schema: Any) -> Mapping[str, Any]:
    """The values of columns that a file may lack; raises DataError for a file that is more than a list of rows."""
    from pyiceberg.transforms import IdentityTransform  # noqa: PLC0415 - an extra

    file = task.file
    if task.delete_files:
        raise DataError(
            "the Iceberg table has delete files: rows that no longer count",
            where=Place(file.file_path),
            todo="compact the table (rewrite_data_files)",
        )
    if file.file_format.name != "PARQUET":
        raise DataError(f"the file is {file.file_format.name}, Parquet is needed", where=Place(file.file_path))
    defaults = {field.name: field.initial_default for field in schema.fields}
    partition = {
        name: file.partition[index]
        for index, field in enumerate(specs[file.spec_id].fields)
        if isinstance(field.transform, IdentityTransform)
        and (name := schema.find_column_name(field.source_id)) is not None
    }
    return {**defaults, **partition}


def _field_id(field: pa.Field) -> int | None:
    found = (field.metadata or {}).get(FIELD_ID)
    return None if found is None else int(found)
