"""The report of a diagnosis: report.html for people, diagnosis.md for reviews, diagnosis.json for programs."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rnnlm.diagnosis import plots
from rnnlm.diagnosis.diagnose import Diagnosis
from rnnlm.diagnosis.gates import HIGH, LOW
from rnnlm.evaluation.page import figure, render_page, table_cell
from rnnlm.evaluation.plots import check_installed
from rnnlm.storage import Location


@dataclass(frozen=True)
class DiagnosisReport:
    """All that a report shows."""

    title: str
    tokens: str  # the token table
    passages: int
    max_lag: int
    seed: int
    models: Mapping[str, Diagnosis]
    versions: Mapping[str, str]


@dataclass(frozen=True)
class Table:
    """A table for page and Markdown: a heading, columns, and rows of text."""

    heading: str
    columns: list[str]
    rows: list[list[str]]


def write_diagnosis(report: DiagnosisReport, folder: Location) -> None:
    """Write the three files; the HTML last, since it is the one that people wait for."""
    check_installed()
    content = {**asdict(report), "models": {name: _data(one) for name, one in report.models.items()}}
    folder.join("diagnosis.json").write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    folder.join("diagnosis.md").write_text(_markdown(report))
    folder.join("report.html").write_text(_html(report))


def _data(one: Diagnosis) -> dict[str, Any]:
    found = asdict(one)
    found["context"]["perplexity"] = one.context.perplexity
    return found


def summary(report: DiagnosisReport) -> Table:
    """A row a model: its perplexity and where gradient, context and a single token end."""
    rows = []
    for name, one in report.models.items():
        top = one.gradients[-1]
        rows.append(
            [
                name,
                figure(one.context.perplexity[-1]),
                _lag(top.horizon, report.max_lag),
                f"{one.context.effective:,}",
                _lag(one.replacement.horizon, report.max_lag),
                f"{one.num_parameters:,}",
            ]
        )
    columns = ["model", "perplexity", "gradient ends", "context ends", "a token ends", "parameters"]
    return Table("In figures", columns, rows)


def _tables(report: DiagnosisReport) -> Iterator[Table]:
    models = report.models.items()
    gates = [
        [name, use.place, use.gate, _percent(use.below), _percent(use.above), f"{use.mean:.2f}"]
        for name, one in models
        for use in one.gates
    ]
    if gates:
        columns = ["model", "layer", "gate", f"below {LOW}", f"above {HIGH}", "mean"]
        yield Table("Gates", columns, gates)
    matrices = [
        [name, one.place, one.matrix, figure(one.spectral_radius), figure(one.largest_singular_value)]
        for name, found in models
        for one in found.matrices
    ]
    if matrices:
        columns = ["model", "layer", "matrix", "spectral radius", "largest singular value"]
        yield Table("Recurrent matrices", columns, matrices)


def _html(report: DiagnosisReport) -> str:
    return render_page(
        Path(__file__).with_name("report.html.jinja"),
        report=report,
        summary=summary(report),
        tables=list(_tables(report)),
        plots={
            "gradients": plots.plot_gradients(report.models),
            "context": plots.plot_context(report.models),
            "replacement": plots.plot_replacement(report.models),
            "gates": plots.plot_gates(report.models),
        },
    )


def _markdown(report: DiagnosisReport) -> str:
    drawn = f"{report.passages:,} passages of {table_cell(report.tokens)}, seed {report.seed}."
    parts = [f"# {table_cell(report.title)}", drawn]
    for table in (summary(report), *_tables(report)):
        lines = [table.columns, ["---", *["---:"] * (len(table.columns) - 1)], *table.rows]
        shown = [f"| {' | '.join(table_cell(cell) for cell in line)} |" for line in lines]
        parts += [f"## {table.heading}", "\n".join(shown)]
    parts.append(", ".join(f"{name} {version}" for name, version in report.versions.items()))
    return "\n\n".join(parts) + "\n"


def _lag(found: int | None, max_lag: int) -> str:
    return f"beyond {max_lag:,}" if found is None else f"{found:,}"


def _percent(share: float) -> str:
    return f"{100.0 * share:.1f} %"
