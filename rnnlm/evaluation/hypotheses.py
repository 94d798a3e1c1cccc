"""Reading outputs that have a right answer: the columns of jobs.generate, or of anyone who writes the same.

    hypotheses   list of structs with `text`; the first is the best, and the one that is judged. Of its other fields
                 `finish_reason` is counted, and `alignment` drawn, if they are there
    reference    text, or a list of texts that all count as right
    error        optional: the text of what went wrong in a row

A row with an error, with no hypothesis or with a null for one counts as a row whose output is empty. None is left out,
or a system would gain by failing where it is hard. All rows are kept in memory: test sets, not corpora.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rnnlm.data.files import expand_paths
from rnnlm.errors import DataError, Place
from rnnlm.evaluation.scored import ERROR, Need, read_batches, text_need
from rnnlm.storage import open_location

HYPOTHESES = "hypotheses"
ALIGNMENT, SOURCE_PIECES, TARGET_PIECES = "alignment", "source_pieces", "target_pieces"
END = "</s>"  # what a row of an alignment behind the last piece is about


@dataclass(frozen=True)
class OutputColumns:
    """Names of the columns that are looked at; null for what is not there."""

    reference: str
    source: str | None = None
    baseline: str | None = None


@dataclass(frozen=True)
class Outputs:
    """The rows of an output, in order; every list has one entry a row."""

    path: str
    texts: list[str] = field(default_factory=list)
    references: list[list[str]] = field(default_factory=list)
    sources: list[str] | None = None
    baselines: list[str] | None = None  # a column that is judged as if it were the output
    errors: int = 0  # rows that name an error
    missing: int = 0  # rows without an output, those with an error among them
    finish_reasons: Counter[str] = field(default_factory=Counter)

    @property
    def rows(self) -> int:
        return len(self.texts)


@dataclass(frozen=True)
class Attention:
    """Where the decoder looked while it wrote: `weights[t][s]`, a row a target token, a column a source token."""

    row: int
    weights: list[list[float]]
    source: list[str]
    target: list[str]


def read_outputs(path: str, columns: OutputColumns) -> Outputs:
    """Read and check. Raises DataError if a column is missing or unfit, a row lacks a reference, or no row is there."""
    files = expand_paths(path, (".parquet",))
    optional = {name: value for name, value in (("source", columns.source), ("baseline", columns.baseline)) if value}
    needs = {
        HYPOTHESES: Need("a list of structs with a text", _is_hypotheses, "give the output of jobs.generate"),
        columns.reference: Need("text or a list of texts", _is_reference, "set reference_column"),
        **{name: text_need(f"set {key}_column, or null to do without") for key, name in optional.items()},
    }
    found = Outputs(path, sources=[] if columns.source else None, baselines=[] if columns.baseline else None)
    errors = missing = 0
    for batch in read_batches(files, needs):
        _add_references(batch, columns.reference, found, path)
        for names, values in ((columns.source, found.sources), (columns.baseline, found.baselines)):
            if names is not None and values is not None:
                values.extend(text or "" for text in batch.column(names).to_pylist())
        failed = batch.column(ERROR).to_pylist() if ERROR in batch.schema.names else [None] * batch.num_rows
        for text, reason, error in zip(_best(batch, "text"), _best(batch, "finish_reason"), failed, strict=True):
            is_there = text is not None and error is None
            found.texts.append(text if text is not None and is_there else "")
            errors += error is not None
            missing += not is_there
            if is_there and reason is not None:
                found.finish_reasons[reason] += 1
    if not found.rows:
        raise DataError("there are no rows to judge", where=Place(path), todo="check hypotheses=...")
    return replace(found, errors=errors, missing=missing)


def check_pair(first: Outputs, second: Outputs) -> None:
    """Refuse to compare outputs that are not about the same rows."""
    if first.rows != second.rows:
        raise DataError(
            f"{first.path} has {first.rows:,} rows, {second.path} has {second.rows:,}",
            todo="compare outputs of the same corpus",
        )
    for row, (ours, theirs) in enumerate(zip(first.references, second.references, strict=True)):
        if ours != theirs:
            raise DataError(
                f"the references differ: {ours[0][:60]!r} in {first.path}, {theirs[0][:60]!r} here",
                where=Place(second.path, row=row),
                todo="compare outputs of the same corpus in the same order",
            )


def read_attention(path: str, rows: Sequence[int]) -> list[Attention]:
    """The alignments of some rows, in the order of `rows`; a row that has none, or one that is no matrix, is left out.

    They are columns of the table or fields of the best hypothesis, as are the pieces that name tokens; where there are
    no pieces, tokens are numbered.
    """
    wanted, found, first = set(rows), {}, 0
    for file in expand_paths(path, (".parquet",)):
        location = open_location(file)
        with location.open_input() as stream:
            parquet = pq.ParquetFile(stream)
            columns, fields = _attention_columns(parquet.schema_arrow)
            if not columns and ALIGNMENT not in fields:
                first += parquet.metadata.num_rows
                continue
            names = [*columns, *([HYPOTHESES] if fields else [])]
            for batch in parquet.iter_batches(batch_size=256, columns=names):
                for row in sorted(wanted & set(range(first, first + batch.num_rows))):
                    values = batch.slice(row - first, 1).to_pylist()[0]
                    if (attention := _attention(row, values)) is not None:
                        found[row] = attention
                first += batch.num_rows
    return [found[row] for row in rows if row in found]


def has_attention(path: str) -> bool:
    """Whether the first file holds alignments."""
    location = open_location(expand_paths(path, (".parquet",))[0])
    with location.open_input() as stream:
        columns, fields = _attention_columns(pq.read_schema(stream))
    return ALIGNMENT in (*columns, *fields)


def _attention_columns(schema: pa.Schema) -> tuple[list[str], list[str]]:
    """The names about alignments among the columns, and among the fields of a hypothesis."""
    about = (ALIGNMENT, SOURCE_PIECES, TARGET_PIECES)
    hypotheses = schema.field(HYPOTHESES).type if HYPOTHESES in schema.names else None
    inner = [one.name for one in hypotheses.value_type] if hypotheses is not None and _is_hypotheses(hypotheses) else []
    return [name for name in about if name in schema.names], [name for name in about if name in inner]


def _attention(row: int, values: dict[str, Any]) -> Attention | None:
    best = next(iter(values.pop(HYPOTHESES, None) or []), None) or {}
    alignment, source, target = (
        best.get(name) if values.get(name) is None else values[name]
        for name in (ALIGNMENT, SOURCE_PIECES, TARGET_PIECES)
    )
    if not alignment or any(not weights or len(weights) != len(alignment[0]) for weights in alignment):
        return None
    return Attention(
        row,
        [[float(weight or 0.0) for weight in weights] for weights in alignment],
        _named(source, len(alignment[0])),
        _named(target, len(alignment)),
    )


def _named(pieces: list[str] | None, count: int) -> list[str]:
    """A name for each token: its piece, `</s>` for one more than there are pieces, otherwise its number."""
    pieces = list(pieces or [])[:count]
    if pieces and len(pieces) == count - 1:
        return [*pieces, END]
    return [*pieces, *(str(number + 1) for number in range(len(pieces), count))]


def _best(batch: pa.RecordBatch, name: str) -> list[str | None]:
    """A field of the first hypothesis of each row; null where there is no such row, hypothesis or field."""
    column = batch.column(HYPOTHESES)
    if column.type.value_type.get_field_index(name) < 0:
        return [None] * batch.num_rows
    empty = pc.fill_null(pc.equal(pc.list_value_length(column), 0), True).to_numpy(zero_copy_only=False)
    first = pa.array(column.offsets.to_numpy()[:-1], mask=empty)
    found: list[str | None] = pc.struct_field(column.values, name).take(first).to_pylist()
    return found


def _add_references(batch: pa.RecordBatch, name: str, found: Outputs, path: str) -> None:
    for value in batch.column(name).to_pylist():
        texts = [value] if isinstance(value, str) else [text for text in value or [] if text is not None]
        if not texts:
            raise DataError(
                "the row has no reference",
                where=Place(path, row=len(found.references), column=name),
                todo="leave such rows out when the output is made: corpus.where",
            )
        found.references.append(texts)


def _is_hypotheses(found: pa.DataType) -> bool:
    is_list = pa.types.is_list(found) or pa.types.is_large_list(found)
    if not is_list or not pa.types.is_struct(found.value_type):
        return False
    names = [one.name for one in found.value_type]
    return "text" in names and text_need("").fits(found.value_type.field("text").type)


def _is_reference(found: pa.DataType) -> bool:
    fits = text_need("").fits
    is_list = pa.types.is_list(found) or pa.types.is_large_list(found)
    return fits(found) or (is_list and fits(found.value_type))
