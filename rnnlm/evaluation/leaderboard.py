"""The trials of a sweep side by side, best first: leaderboard.parquet for programs, .md and .html for people.

Parameters are the overrides in which the trials differ.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rnnlm.evaluation import leaderboard_plots
from rnnlm.evaluation.page import cut, figure, render_page, table_cell
from rnnlm.storage import Location

LEADERBOARD = "leaderboard"
MAX_ERROR = 300  # characters of an error in the tables for people


@dataclass(frozen=True)
class Figure:
    """What a trial is judged by."""

    name: str
    value: float
    less_is_better: bool


@dataclass(frozen=True)
class Standing:
    """One trial as the leaderboard shows it."""

    trial: str
    state: str
    parameters: Mapping[str, str]  # override -> value, as typed
    seconds: float | None
    error: str = ""
    figure: Figure | None = None
    metrics: Sequence[Mapping[str, Any]] = field(default_factory=list)  # rows of metrics.jsonl, of a training run


def ranked(standings: Sequence[Standing]) -> list[Standing]:
    """Best first; those without a figure last, by name."""

    def key(one: Standing) -> tuple[bool, float, str]:
        if one.figure is None:
            return True, 0.0, one.trial
        return False, one.figure.value if one.figure.less_is_better else -one.figure.value, one.trial

    return sorted(standings, key=key)


def differing(standings: Sequence[Standing]) -> list[str]:
    """Parameters with more than one value, in the order in which they come; all of them if there is one trial."""
    names = list(dict.fromkeys(name for one in standings for name in one.parameters))
    return [name for name in names if len(standings) == 1 or len({one.parameters.get(name) for one in standings}) > 1]


def write_leaderboard(standings: Sequence[Standing], folder: Location) -> None:
    """leaderboard.parquet and leaderboard.md."""
    rows = ranked(standings)
    sink = pa.BufferOutputStream()
    pq.write_table(_table(rows), sink)
    folder.join(f"{LEADERBOARD}.parquet").write_bytes(sink.getvalue().to_pybytes())
    folder.join(f"{LEADERBOARD}.md").write_text(_markdown(rows))


def write_leaderboard_page(standings: Sequence[Standing], title: str, folder: Location) -> None:
    """leaderboard.html: the table with parallel coordinates and learning curves. Needs the extra `report`."""
    rows = ranked(standings)
    names = differing(rows)
    page = render_page(
        Path(__file__).with_name("leaderboard.html.jinja"),
        title=title,
        figure_name=_figure_name(rows),
        parameters=names,
        rows=rows,
        max_error=MAX_ERROR,
        states=_counted(rows),
        coordinates=leaderboard_plots.plot_coordinates(
            [one.parameters for one in rows if one.figure],
            [one.figure.value for one in rows if one.figure],
            names,
            _figure_name(rows),
        ),
        curves=leaderboard_plots.plot_curves(
            {
                f"{place}: {', '.join(one.parameters.get(name, '') for name in names) or one.trial}": one.metrics
                for place, one in enumerate(rows, 1)
                if one.metrics
            }
        ),
    )
    folder.join(f"{LEADERBOARD}.html").write_text(page)


def _figure_name(rows: Sequence[Standing]) -> str:
    return next((one.figure.name for one in rows if one.figure), "figure")


def _counted(rows: Sequence[Standing]) -> str:
    states = [one.state for one in rows]
    return ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))


def _table(rows: Sequence[Standing]) -> pa.Table:
    columns: dict[str, pa.Array] = {
        "trial": pa.array([one.trial for one in rows], pa.string()),
        "state": pa.array([one.state for one in rows], pa.string()),
        "figure": pa.array([one.figure and one.figure.name for one in rows], pa.string()),
        "value": pa.array([one.figure and one.figure.value for one in rows], pa.float64()),
        "seconds": pa.array([one.seconds for one in rows], pa.float64()),
        "error": pa.array([one.error or None for one in rows], pa.string()),
    }
    for name in differing(rows):
        columns[name] = _parameter_column([one.parameters.get(name) for one in rows])
    return pa.table(columns)


def _parameter_column(values: Sequence[str | None]) -> pa.Array:
    """Numbers if all are, otherwise as they were typed."""
    numbers = [None if value is None else leaderboard_plots.number(value) for value in values]
    if all((number is None) == (value is None) for number, value in zip(numbers, values, strict=True)):
        return pa.array(numbers, pa.float64())
    return pa.array(values, pa.string())


def _markdown(rows: Sequence[Standing]) -> str:
    names = differing(rows)
    header = ["", "trial", *names, _figure_name(rows), "seconds", "state", "error"]
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for place, one in enumerate(rows, 1):
        cells = [
            str(place),
            one.trial,
            *(one.parameters.get(name, "") for name in names),
            figure(one.figure.value if one.figure else None, 4),
            figure(one.seconds, 1),
            one.state,
            cut(one.error, MAX_ERROR),
        ]
        lines.append("| " + " | ".join(table_cell(cell) for cell in cells) + " |")
    return f"{_counted(rows)}\n\n" + "\n".join(lines) + "\n"
