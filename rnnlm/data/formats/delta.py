"""Delta Lake: one version of a table, read as the Parquet files it consists of."""

from typing import Any

import pyarrow as pa
from pydantic import Field

from rnnlm.config import config
from rnnlm.data.formats.snapshot import Snapshot, SnapshotCorpus, log_path
from rnnlm.errors import DataError, EnvironmentFailure, Place
from rnnlm.storage import open_location

COLUMN_MAPPING = "delta.columnMapping.mode"


@config
class DeltaCorpus(SnapshotCorpus):
    """A Delta table by path or URI."""

    version: int | None = Field(default=None, ge=0)
    "Which version; null is the newest when the job begins, and noted: a rerun after another commit is refused."

    def load_snapshot(self) -> Snapshot:
        try:
            from deltalake import DeltaTable  # noqa: PLC0415 - an extra
            from deltalake.exceptions import DeltaError  # noqa: PLC0415
        except ImportError as error:
            raise EnvironmentFailure("a Delta table needs deltalake", todo="pip install rnnlm[delta]") from error
        location = open_location(self.path)
        place = Place(self.path)
        try:
            table = DeltaTable(location.address, version=self.version)
            _check(table, place)
            actions = pa.table(table.get_add_actions(flatten=False))
            schema = pa.schema(table.schema().to_arrow())
        except (DeltaError, OSError) as error:
            version = "" if self.version is None else f", version {self.version}"
            raise DataError(
                f"cannot read the Delta table{version}: {_short(error)}", where=place, todo="check corpus.path"
            ) from error
        # A path in the log is percent-encoded, and relative to the table unless it is a URI.
        root = location.address.rstrip("/")
        paths = [
            log_path(path if "://" in path or path.startswith("/") else f"{root}/{path}", quoted=True)
            for path in actions.column("path").to_pylist()
        ]
        partitions = (
            actions.column("partition").to_pylist() if "partition" in actions.column_names else [{}] * len(paths)
        )
        files: dict[str, Any] = dict(zip(paths, partitions, strict=True))
        return Snapshot(table.version(), schema.serialize().to_pybytes(), files)


def _check(table: Any, place: Place) -> None:
    """Refuse what a list of Parquet files cannot say."""
    mapping = table.metadata().configuration.get(COLUMN_MAPPING, "none")
    if mapping != "none":
        raise DataError(
            f"the Delta table has column mapping ({COLUMN_MAPPING}={mapping}), its files have other column names",
            where=place,
            todo="copy the table to one without column mapping",
        )
    if "deletionVectors" in (table.protocol().reader_features or []):
        deleted = next(
            (batch for batch in pa.RecordBatchReader.from_stream(table.deletion_vectors()) if batch.num_rows), None
        )
        if deleted is not None:
            raise DataError(
                "files of the Delta table have deletion vectors: rows that no longer count",
                where=Place(deleted.column("filepath")[0].as_py()),
                todo="rewrite them with REORG TABLE ... APPLY (PURGE)",
            )


def _short(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
