"""Small Delta and Iceberg tables."""

import uuid
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable, write_deltalake
from pyiceberg.catalog.noop import NoopCatalog
from pyiceberg.io import load_file_io
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat, ManifestContent
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.serializers import FromInputFile, ToOutputFile
from pyiceberg.table import CommitTableResponse, Table
from pyiceberg.table.metadata import new_table_metadata
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER
from pyiceberg.table.update import update_table_metadata
from pyiceberg.transforms import IdentityTransform
from pyiceberg.typedef import Record


def write_delta(folder, rows, **options):
    """Append rows; the version this makes."""
    write_deltalake(str(folder), rows, **{"mode": "append", **options})
    return DeltaTable(str(folder)).version()


class FolderCatalog(NoopCatalog):
    """Commits by writing the next metadata file; what a real catalog does, without its database."""

    def commit_table(self, table, requirements, updates):
        metadata = update_table_metadata(table.metadata, updates, enforce_validation=False)
        return CommitTableResponse(metadata=metadata, metadata_location=write_metadata(table.location(), metadata))


def write_metadata(folder, metadata):
    (Path(folder) / "metadata").mkdir(parents=True, exist_ok=True)
    number = len(list((Path(folder) / "metadata").glob("*.metadata.json")))
    file = f"{folder}/metadata/{number:05d}-{uuid.uuid4()}.metadata.json"
    ToOutputFile.table_metadata(metadata, load_file_io(location=file).new_output(file))
    return file


class IcebergTable:
    """A table in a folder; `append` gives the snapshot it makes."""

    def __init__(self, folder, schema, partition_by=()):
        from pyiceberg.io.pyarrow import _ConvertToIcebergWithoutIDs, visit_pyarrow
        from pyiceberg.schema import assign_fresh_schema_ids

        fields = assign_fresh_schema_ids(visit_pyarrow(schema, _ConvertToIcebergWithoutIDs()))
        spec = PartitionSpec(
            *(
                PartitionField(fields.find_field(name).field_id, 1000 + index, IdentityTransform(), name)
                for index, name in enumerate(partition_by)
            )
        )
        self._open(str(folder), new_table_metadata(fields, spec, UNSORTED_SORT_ORDER, str(folder)))
        self.metadata_file = write_metadata(folder, self._table.metadata)

    def _open(self, folder, metadata):
        io = load_file_io(location=folder)
        self._table = Table(("table",), metadata, folder, io, FolderCatalog("folder"))

    @classmethod
    def load(cls, folder):
        """The newest version of the table in a folder."""
        self = cls.__new__(cls)
        self.metadata_file = str(max((folder / "metadata").glob("*.metadata.json")))
        source = load_file_io(location=str(folder)).new_input(self.metadata_file)
        self._open(str(folder), FromInputFile.table_metadata(source))
        return self

    def append(self, rows):
        self._table.append(rows)
        return self._committed()

    def add_file(self, *paths):
        self._table.add_files(list(paths))
        return self._committed()

    def evolve(self, change):
        with self._table.update_schema(allow_incompatible_changes=True) as update:
            change(update)
        self.metadata_file = self._table.metadata_location

    def add_delete_file(self):
        """Say that a row of some file no longer counts."""
        deletes = f"{self._table.location()}/deletes.parquet"
        pq.write_table(pa.table({"file_path": ["x"], "pos": [0]}), deletes)
        file = DataFile.from_args(
            content=DataFileContent.POSITION_DELETES,
            file_path=deletes,
            file_format=FileFormat.PARQUET,
            partition=Record(),
            record_count=1,
            file_size_in_bytes=Path(deletes).stat().st_size,
        )
        file.spec_id = 0
        with self._table.transaction() as transaction, transaction.update_snapshot().fast_append() as update:
            original = update.new_manifest_writer

            def of_deletes(spec):
                writer = original(spec)
                writer.content = lambda: ManifestContent.DELETES
                finish = writer.to_manifest_file

                def finished():
                    manifest = finish()
                    manifest[3] = ManifestContent.DELETES
                    return manifest

                writer.to_manifest_file = finished
                return writer

            update.new_manifest_writer = of_deletes
            update.append_data_file(file)
        self._committed()

    def _committed(self):
        self.metadata_file = self._table.metadata_location
        return self._table.current_snapshot().snapshot_id
