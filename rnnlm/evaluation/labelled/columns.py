"""Which columns hold what is right and what was predicted.

    kind       a row holds
    labels     a list of texts, a label a word
    classes    a list of texts, the classes of the row, in any order; or one text
    label      a text, the class of the row
    entities   a list of structs with start_word, end_word (exclusive), type (or name: those are slots of an intent)

`labels` and `classes` look alike: `labels_of` says which they are. As for jobs.tokenize_corpus, auto takes a list for a
label a word; what shows that it is not, the probabilities of a classifier, is refused rather than guessed about.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from rnnlm.data.column_types import is_list, is_text, plain
from rnnlm.data.labelled import LabelsOf
from rnnlm.errors import DataError, Place
from rnnlm.evaluation.scored import Need, text_need
from rnnlm.storage import open_location

Kind = Literal["labels", "classes", "label", "entities"]
USUAL_PREFIXES = ("predicted_", "")


@dataclass(frozen=True)
class LabelColumns:
    """Names of columns; `prefix` is that of jobs.predict (null: predicted_, else none). `words` and `text` are for
    examples, and may be missing. With `intent`, predicted intents and slots are compared, slots with `reference`."""

    reference: str
    prefix: str | None = None
    words: str | None = "words"
    text: str | None = "text"
    labels_of: LabelsOf = "auto"
    intent: str | None = None


@dataclass(frozen=True)
class PairColumns:
    """A column of references and one of predictions."""

    reference: str
    reference_kind: Kind
    predicted: str
    predicted_kind: Kind
    confidence: str | None = None
    probabilities: str | None = None

    @property
    def kinds(self) -> set[Kind]:
        return {self.reference_kind, self.predicted_kind}


@dataclass(frozen=True)
class Columns:
    """What was found in the first file; the others must have the same."""

    main: PairColumns
    intent: PairColumns | None
    words: str | None
    text: str | None

    def needs(self) -> dict[str, Need]:
        """What is read."""
        needs: dict[str, Need] = {}
        for pair in (self.main, *([self.intent] if self.intent is not None else [])):
            for name, kind in ((pair.reference, pair.reference_kind), (pair.predicted, pair.predicted_kind)):
                what = f"what was found in the first file ({kind})"
                needs[name] = Need(what, _fits(kind), "evaluate one output")
            todo = "give the output of predict"
            if pair.confidence is not None:
                needs[pair.confidence] = Need("numbers", _is_confidence(pair.predicted_kind), todo)
            if pair.probabilities is not None:
                needs[pair.probabilities] = Need("structs of label and probability", _is_probabilities, todo)
        if self.words is not None:
            needs.setdefault(self.words, Need("a list of texts", _fits("labels"), "set words_column"))
        if self.text is not None:
            needs.setdefault(self.text, text_need("set text_column, or null to do without"))
        return needs


def find_columns(file: str, columns: LabelColumns) -> Columns:
    """Look at the schema of a file. Raises DataError if a column is missing or of no use."""
    schema = _schema(file)
    reference_kind = _reference_kind(schema, file, columns)
    if columns.intent is not None:
        prefix, main, intent = _find_intents(schema, file, columns, reference_kind, columns.intent)
    else:
        prefix, main = _find_main(schema, file, columns, reference_kind)
        intent = None
    words = _first(schema, (prefix + "words", columns.words), "labels")
    return Columns(main, intent, words, _first(schema, (columns.text,), "label"))


def _reference_kind(schema: pa.Schema, file: str, columns: LabelColumns) -> Kind:
    name, labels_of = columns.reference, columns.labels_of
    kind = _column_kind(schema, file, name, "reference_column")
    if labels_of == "words" and kind == "label":
        raise DataError(
            "the column holds one label a row, and labels_of=words needs a list of one a word",
            where=Place(file, column=name),
            todo="set labels_of=rows, or reference_column",
        )
    if labels_of == "rows" and (kind == "entities" or columns.intent is not None):
        raise DataError(
            "labels_of=rows is about classes of rows, these are spans of words",
            where=Place(file, column=name),
            todo="leave labels_of out",
        )
    return "classes" if labels_of == "rows" and kind == "labels" else kind


def _column_kind(schema: pa.Schema, file: str, name: str, field: str) -> Kind:
    if name not in schema.names:
        raise DataError(
            f"there is no column '{name}' among {', '.join(schema.names)}", where=Place(file), todo=f"set {field}"
        )
    kind = kind_of(schema.field(name).type)
    if kind is None:
        raise DataError(
            f"the column has type {schema.field(name).type}; labels (a list of texts), entities (a list of structs "
            "with start_word, end_word and type) or a class (text) are needed",
            where=Place(file, column=name),
            todo=f"set {field}",
        )
    return kind


def _find_main(schema: pa.Schema, file: str, columns: LabelColumns, kind: Kind) -> tuple[str, PairColumns]:
    """The prefix, and the prediction that goes with a reference of a kind."""
    endings: list[tuple[str, Kind]]
    if kind in ("labels", "entities"):
        endings = [("labels", "labels"), ("entities", "entities"), ("slots", "entities")]
        endings.sort(key=lambda one: one[1] != kind)
    elif columns.labels_of == "rows":
        endings = [("labels", "classes"), ("label", "label")]
        endings.sort(key=lambda one: one[1] != kind)
    else:
        endings = [("label", "label")]
    prefixes = USUAL_PREFIXES if columns.prefix is None else (columns.prefix,)
    candidates = [
        (prefix, ending, one) for prefix in prefixes for ending, one in endings if prefix + ending != columns.reference
    ]
    for prefix, ending, found in candidates:
        name = prefix + ending
        if name in schema.names and _fits(found)(schema.field(name).type):
            pair = PairColumns(columns.reference, kind, name, found, _confidence(schema, prefix + "confidence", found))
            return prefix, _with_probabilities(schema, file, pair, prefix + "probabilities")
    names = ", ".join(prefix + ending for prefix, ending, _ in candidates)
    raise _no_prediction(schema, file, columns.reference, f"none of {names}")


def _with_probabilities(schema: pa.Schema, file: str, pair: PairColumns, name: str) -> PairColumns:
    if name not in schema.names or not _is_probabilities(schema.field(name).type):
        return pair
    if pair.predicted_kind == "labels":
        raise DataError(
            f"'{pair.predicted}' has classes of rows, not labels of words: there are '{name}' of a classifier",
            where=Place(file),
            todo="set labels_of=rows",
        )
    if pair.kinds == {"label"}:
        return pair
    return replace(pair, probabilities=name)


def _find_intents(
    schema: pa.Schema, file: str, columns: LabelColumns, slots_kind: Kind, intent: str
) -> tuple[str, PairColumns, PairColumns]:
    """The prefix, slots and intents."""
    if slots_kind == "label":
        raise DataError(
            "slots are compared with entities or with a label a word",
            where=Place(file, column=columns.reference),
            todo="set reference_column; the reference of intents is intent_column",
        )
    reference_kind = _column_kind(schema, file, intent, "intent_column")
    intents: tuple[tuple[str, Kind], ...] = (("intents", "classes"), ("intent", "label"))
    for prefix in USUAL_PREFIXES if columns.prefix is None else (columns.prefix,):
        slots = prefix + "slots"
        for ending, kind in intents:
            name = prefix + ending
            if name == intent or not {name, slots} <= set(schema.names):
                continue
            if not _fits(kind)(schema.field(name).type) or kind_of(schema.field(slots).type) != "entities":
                continue
            if reference_kind == "entities" or (kind, reference_kind) == ("label", "labels"):
                raise DataError(
                    f"the column has type {schema.field(intent).type}, '{name}' is to be compared with text",
                    where=Place(file, column=intent),
                    todo="set intent_column",
                )
            confidence = _confidence(schema, prefix + "intent_confidence", kind)
            main = PairColumns(columns.reference, slots_kind, slots, "entities")
            return prefix, main, PairColumns(intent, kind, name, kind, confidence)
    raise _no_prediction(schema, file, intent, "no columns slots and intent (or intents)")


def _no_prediction(schema: pa.Schema, file: str, reference: str, what: str) -> DataError:
    return DataError(
        f"there is no prediction for '{reference}': {what} among {', '.join(schema.names)}",
        where=Place(file),
        todo="give the output of jobs.predict, and its prefix",
    )


def _schema(file: str) -> pa.Schema:
    try:
        with open_location(file).open_input() as stream:
            return pq.read_schema(stream)
    except (pa.ArrowException, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"not readable as Parquet: {reason}", where=Place(file), todo="write the file again") from error


def _first(schema: pa.Schema, names: Sequence[str | None], kind: Kind) -> str | None:
    there = (name for name in names if name in schema.names and kind_of(schema.field(name).type) == kind)
    return next(there, None)


def _confidence(schema: pa.Schema, name: str, kind: Kind) -> str | None:
    return name if name in schema.names and _is_confidence(kind)(schema.field(name).type) else None


def kind_of(found: pa.DataType) -> Kind | None:
    """What a column of a type holds; a list of texts is taken for labels."""
    if is_text(plain(found)):
        return "label"
    if not is_list(found):
        return None
    if is_text(plain(found.value_type)):
        return "labels"
    if not pa.types.is_struct(found.value_type):
        return None
    inner = {one.name: one.type for one in found.value_type}
    places = all(name in inner and pa.types.is_integer(inner[name]) for name in ("start_word", "end_word"))
    name = type_field(found)
    return "entities" if places and name in inner and is_text(plain(inner[name])) else None


def type_field(spans: pa.DataType) -> str:
    """What the field for the types of spans is called: slots have names."""
    return "type" if spans.value_type.get_field_index("type") >= 0 else "name"


def _fits(kind: Kind) -> Callable[[pa.DataType], bool]:
    alike: dict[Kind, tuple[Kind, ...]] = {"classes": ("labels", "label")}
    return lambda found: kind_of(found) in alike.get(kind, (kind,))


def _is_confidence(kind: Kind) -> Callable[[pa.DataType], bool]:
    if kind == "label":
        return lambda found: bool(pa.types.is_floating(found))
    return lambda found: is_list(found) and bool(pa.types.is_floating(found.value_type))


def _is_probabilities(found: pa.DataType) -> bool:
    if not is_list(found) or not pa.types.is_struct(found.value_type):
        return False
    inner = {one.name: one.type for one in found.value_type}
    return {"label", "probability"} <= set(inner) and is_text(plain(inner["label"]))
