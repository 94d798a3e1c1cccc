"""Several systems over the same rows: their figures side by side, and whether the first is better than each other.

The tests are paired: the same draws of rows for both (see bootstrap). The p-values are of each test alone; of many
systems, one in twenty seems to differ from an equal one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import pyarrow as pa

from rnnlm.data.labels.schemes import Scheme
from rnnlm.errors import ConfigError, DataError, Place
from rnnlm.evaluation.label_metrics import ClassScores
from rnnlm.evaluation.labelled.bootstrap import Estimate, paired_difference
from rnnlm.evaluation.labelled.columns import LabelColumns
from rnnlm.evaluation.labelled.evaluate import Labelled, Rows, evaluate_rows


@dataclass(frozen=True)
class Difference:
    """A figure of the first system less that of another."""

    figure: str
    against: str
    difference: Estimate
    p_value: float

    def verdict(self) -> str:
        """In words, of the first system."""
        if self.p_value >= 0.05:
            return "no significant difference"
        return "better" if self.difference.value > 0 else "worse"


@dataclass(frozen=True)
class Systems:
    """By name, the first against each other."""

    labelled: dict[str, Labelled]
    differences: list[Difference]

    @property
    def first(self) -> Labelled:
        """That of `predictions`."""
        return next(iter(self.labelled.values()))

    def figures(self) -> list[str]:
        """The names of all figures of any system, in order."""
        return list(dict.fromkeys(name for one in self.labelled.values() for name in one.figures()))

    def chief_classes(self) -> tuple[str, dict[str, ClassScores]]:
        """What the chief classes of the first system are of, and the scores of all systems that have such."""
        found = {name: one.chief_classes() for name, one in self.labelled.items()}
        what = self.first.chief_classes()[0]
        return what, {name: scores for name, (unit, scores) in found.items() if unit == what}


def named_paths(entries: Sequence[str], option: str = "against") -> dict[str, str]:
    """By name: entries are `name=path`, or a path whose last folder is its name.

    Raises ConfigError if two have one name; `option` is what the user set them with.
    """
    found: dict[str, str] = {}
    for entry in entries:
        name, equals, path = entry.partition("=")
        if not equals or "/" in name:  # a folder of a path may hold = too
            name, path = PurePosixPath(entry).name.removesuffix(".parquet"), entry
        if name in found:
            raise ConfigError(f"{option}: two systems are called '{name}'; name one: '{option}=[\"{name}_2={path}\"]'")
        found[name] = path
    return found


def evaluate_systems(
    paths: Mapping[str, str],
    columns: LabelColumns,
    *,
    scheme: Scheme | None = None,
    draws: int = 1000,
    known: pa.Array | None = None,
) -> Systems:
    """Read each of them, and compare the first with the others.

    Raises DataError for what is of no use, and if an output is not about the same rows as the first.
    """
    labelled: dict[str, Labelled] = {}
    differences: list[Difference] = []
    first: tuple[Labelled, Rows] | None = None
    for name, path in paths.items():
        found = evaluate_rows(path, columns, scheme=scheme, draws=draws, known=known, keep_rows=len(paths) > 1)
        labelled[name] = found[0]
        if first is None:
            first = found
            continue
        _check_same(first, found)
        ours, theirs = first[1].ratios, found[1].ratios
        differences += [
            Difference(figure, name, *paired_difference(ours[figure], theirs[figure], draws))
            for figure in ours
            if figure in theirs
        ]
    return Systems(labelled, differences)


def _check_same(first: tuple[Labelled, Rows], other: tuple[Labelled, Rows]) -> None:
    """Refuse outputs that have other references."""
    todo = "compare outputs of the same corpus in the same order"
    ours, theirs = (pa.chunked_array(one[1].references) for one in (first, other))
    if len(ours) != len(theirs):
        raise DataError(
            f"{first[0].path} has {len(ours):,} rows, {other[0].path} has {len(theirs):,}",
            todo=todo,
        )
    if ours.equals(theirs):
        return
    for row, (our, their) in enumerate(zip(ours.to_pylist(), theirs.to_pylist(), strict=True)):
        if our != their:
            raise DataError(
                f"the references differ: {str(our)[:60]} in {first[0].path}, {str(their)[:60]} here",
                where=Place(other[0].path, row=row, column=other[0].reference_column),
                todo=todo,
            )
