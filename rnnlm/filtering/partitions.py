"""Scores to partitions, as CCNet does with perplexities: the most fluent third of each language is its head.

Wenzek et al., "CCNet: Extracting high quality monolingual datasets from web crawl data", LREC 2020: documents are
scored by a language model and split by the terciles of their language. **Head is the lowest score**, that of the text
the model expects most; for scores where more is better, such as a log-probability, name the partitions the other way.

A value equal to a threshold belongs to the lower partition. A row whose score is null or not finite is in no partition.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rnnlm.errors import ConfigError, DataError
from rnnlm.filtering.groups import GroupedSketch, encode_groups, scores_of

QUANTILES = (1 / 3, 2 / 3)
NAMES = ("head", "middle", "tail")
FOLDER_NAME = re.compile(r"[\w.+-]*")  # an empty name is refused for another reason
MIN_GROUP_ROWS = 100  # with fewer, a tercile is a matter of luck


@dataclass(frozen=True)
class Cuts:
    """Where the groups are split; `for_group` and `assign` use it.

    The thresholds of a group are one fewer than `names`, ascending, in the unit of the scores; where they were given
    rather than found, `quantiles` is None. A group that is not in `own` has the `common` ones.
    """

    names: tuple[str, ...]
    common: tuple[float, ...]
    own: Mapping[str, tuple[float, ...]]
    quantiles: tuple[float, ...] | None = None
    min_group_rows: int = MIN_GROUP_ROWS

    def for_group(self, group: str) -> tuple[float, ...]:
        """The thresholds that rows of `group` meet; also of a group that was not there when they were made."""
        return self.own.get(group, self.common)

    def assign(
        self, values: pa.Array | pa.ChunkedArray, groups: pa.Array | pa.ChunkedArray | None = None
    ) -> pa.DictionaryArray:
        """The partition of each row by name, null where there is no score; the dictionary is `names`, in order."""
        scores = scores_of(values)
        names, codes = encode_groups(groups, len(scores))
        thresholds = np.array([self.for_group(name) for name in names]).reshape(len(names), len(self.common))
        places = np.zeros(len(scores), np.int32)
        for cut in range(len(self.common)):
            places += scores > thresholds[codes, cut]
        return pa.DictionaryArray.from_arrays(pa.array(places, mask=np.isnan(scores)), pa.array(self.names))

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "names": list(self.names),
            "common": list(self.common),
            "own": {name: list(thresholds) for name, thresholds in self.own.items()},
            "quantiles": None if self.quantiles is None else list(self.quantiles),
            "min_group_rows": self.min_group_rows,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Cuts":
        """The inverse of `to_dict`. Raises DataError if `data` did not come from there."""
        try:
            return cls(
                names=tuple(data["names"]),
                common=tuple(data["common"]),
                own={name: tuple(thresholds) for name, thresholds in data["own"].items()},
                quantiles=None if data["quantiles"] is None else tuple(data["quantiles"]),
                min_group_rows=data["min_group_rows"],
            )
        except (AttributeError, KeyError, TypeError) as error:
            raise DataError(f"these are not cuts: {error!r}", todo="count the scores again") from error


def cut_at_quantiles(
    grouped: GroupedSketch,
    quantiles: Sequence[float] = QUANTILES,
    names: Sequence[str] = NAMES,
    min_group_rows: int = MIN_GROUP_ROWS,
) -> Cuts:
    """Cuts at the quantiles of each group; a group with fewer than `min_group_rows` scores takes those of all rows.

    A partition below the quantile q holds at least the share q of a group with cuts of its own, and more where many
    rows have the very same score. Raises ConfigError for quantiles that do not ascend between 0 and 1 or names that
    do not fit, DataError if no row has a score.
    """
    check_cuts(quantiles=quantiles, thresholds=None, names=names)
    total = grouped.total()
    if not total.count:
        raise DataError("no row has a score, so there is nothing to split", todo="check the name of the score column")
    own = {
        name: tuple(sketch.quantiles(quantiles))
        for name, sketch in grouped.sketches.items()
        if sketch.count >= max(1, min_group_rows)
    }
    return Cuts(tuple(names), tuple(total.quantiles(quantiles)), own, tuple(quantiles), min_group_rows)


def cut_at_thresholds(thresholds: Sequence[float], names: Sequence[str] = NAMES) -> Cuts:
    """The same fixed cuts for all groups, in the unit of the scores. Raises ConfigError as `check_cuts` does."""
    check_cuts(quantiles=None, thresholds=thresholds, names=names)
    return Cuts(tuple(names), tuple(thresholds), {}, None)


def check_cuts(*, quantiles: Sequence[float] | None, thresholds: Sequence[float] | None, names: Sequence[str]) -> None:
    """Raise one ConfigError for all that is wrong: before the first pass, which may take hours."""
    if (quantiles is None) == (thresholds is None):
        raise ConfigError("quantiles: give either quantiles or thresholds")
    field, cuts = ("quantiles", quantiles or ()) if thresholds is None else ("thresholds", thresholds)
    problems = []
    if not cuts:
        problems.append(f"{field}: at least one is needed")
    if not all(math.isfinite(cut) for cut in cuts) or any(low >= high for low, high in pairwise(cuts)):
        problems.append(f"{field}: must be finite and ascend, not {list(cuts)}")
    elif quantiles is not None and not all(0.0 < q < 1.0 for q in quantiles):
        problems.append(f"quantiles: must lie between 0 and 1, not {list(quantiles)}")
    if len(names) != len(cuts) + 1:
        problems.append(f"names: {len(cuts)} cuts make {len(cuts) + 1} partitions, but {len(names)} names are given")
    if len(set(names)) != len(names) or not all(names):
        problems.append(f"names: must differ and not be empty, not {list(names)}")
    problems += [f"names: '{name}' cannot be the name of a folder" for name in names if not FOLDER_NAME.fullmatch(name)]
    if problems:
        raise ConfigError(problems)


class PartitionCounts:
    """How many rows of each group went where; what the report adds up."""

    def __init__(self, names: Sequence[str] = NAMES) -> None:
        self.names = tuple(names)
        self._groups: dict[str, npt.NDArray[np.int64]] = {}  # a count a partition, then those in none

    def add(self, partitions: pa.DictionaryArray, groups: pa.Array | pa.ChunkedArray | None = None) -> None:
        """Count what `Cuts.assign` gave for a batch of rows. Raises ValueError if its partitions are others."""
        if tuple(partitions.dictionary.to_pylist()) != self.names:
            raise ValueError(f"partitions {partitions.dictionary.to_pylist()} are counted as {self.names}")
        found, codes = encode_groups(groups, len(partitions))
        width = len(self.names) + 1
        places = partitions.indices.fill_null(width - 1).to_numpy(zero_copy_only=False)
        counts = np.bincount(codes * width + places, minlength=len(found) * width).reshape(len(found), width)
        for name, row in zip(found, counts, strict=True):
            self._groups[name] = self._groups.get(name, 0) + row

    def merge(self, *others: "PartitionCounts") -> None:
        """Count what the others have counted. Raises ValueError if their partitions are others."""
        for other in others:
            if other.names != self.names:
                raise ValueError(f"partitions {other.names} are counted as {self.names}")
            for name, row in other._groups.items():
                self._groups[name] = self._groups.get(name, 0) + row

    def groups(self) -> Iterator[tuple[str, dict[str, int], int]]:
        """Of each group, sorted: its name, rows by partition, rows without a score."""
        for name, row in sorted(self._groups.items()):
            yield name, dict(zip(self.names, row.tolist(), strict=False)), int(row[-1])

    def total(self) -> tuple[dict[str, int], int]:
        """Of all rows: by partition, and without a score."""
        row = sum(self._groups.values(), np.zeros(len(self.names) + 1, np.int64))
        return dict(zip(self.names, row.tolist(), strict=False)), int(row[-1])

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"names": list(self.names), "groups": {name: row.tolist() for name, row in sorted(self._groups.items())}}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "PartitionCounts":
        """The inverse of `to_dict`. Raises DataError if `data` did not come from there."""
        try:
            counts = cls(data["names"])
            counts._groups = {name: np.array(row, np.int64) for name, row in data["groups"].items()}
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise DataError(f"these are not counts of partitions: {error!r}", todo="assign the rows again") from error
        if any(row.shape != (len(counts.names) + 1,) for row in counts._groups.values()):
            raise DataError("these counts are of other partitions", todo="assign the rows again")
        return counts
