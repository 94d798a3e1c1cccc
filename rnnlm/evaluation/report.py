"""The report of a model: report.html for people, report.md for reviews, report.json for programs."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rnnlm.config import TARGET, flatten
from rnnlm.evaluation import plots
from rnnlm.evaluation.baselines import Baselines
from rnnlm.evaluation.perplexity import Evaluation, Totals
from rnnlm.storage import Location


@dataclass(frozen=True)
class Sample:
    """A continuation to show."""

    prompt: str
    text: str
    logprob: float
    num_tokens: int
    finish_reason: str


@dataclass(frozen=True)
class StreamResult:
    """Perplexity over a token table read as one stream with carried state."""

    table: str
    targets: int
    lanes: int
    nll: float  # nats a target
    perplexity: float


@dataclass(frozen=True)
class ReportInputs:
    """All that a report can show; what is missing is left out of it."""

    title: str
    evaluation: Evaluation | None = None
    baselines: Baselines | None = None
    stream: StreamResult | None = None
    metrics: list[dict[str, Any]] = field(default_factory=list)  # rows of a run's metrics.jsonl
    scoring: Mapping[str, Any] | None = None  # _run/report.json of the bulk job
    samples: list[Sample] = field(default_factory=list)
    settings: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)


def write_report(inputs: ReportInputs, folder: Location) -> None:
    """Write the three files; the HTML last, since it is the one that people wait for."""
    plots.check_installed()
    content = _content(inputs)
    folder.join("report.json").write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    folder.join("report.md").write_text(_markdown(inputs, content))
    folder.join("report.html").write_text(_html(inputs, content))


def _content(inputs: ReportInputs) -> dict[str, Any]:
    """The figures, as plain data."""
    evaluation = inputs.evaluation
    valid = [row for row in inputs.metrics if row["kind"] == "valid"]
    train = [row for row in inputs.metrics if row["kind"] == "train"]
    training = None
    if inputs.metrics:
        last = inputs.metrics[-1]
        training = {
            "steps": last["step"],
            "targets": last["tokens"],
            "wall_seconds": last["wall_seconds"],
            "targets_per_second": sum(row["tokens_per_second"] for row in train) / max(1, len(train)),
            "best_valid_nll": min((row["nll"] for row in valid), default=None),
        }
    return {
        "title": inputs.title,
        "total": _figures(evaluation.total) if evaluation else None,
        "groups": {name: _figures(totals) for name, totals in evaluation.groups.items()} if evaluation else {},
        "baselines_bits_per_byte": asdict(inputs.baselines) if inputs.baselines else None,
        "stream": asdict(inputs.stream) if inputs.stream else None,
        "training": training,
        "scoring": dict(inputs.scoring) if inputs.scoring else None,
        "corpus": flatten((inputs.scoring or {}).get("corpus", {})),
        "settings": {k: v for k, v in flatten(inputs.settings).items() if not k.endswith(TARGET)},
        "versions": dict(inputs.versions),
    }


def _figures(totals: Totals) -> dict[str, Any]:
    return {
        **asdict(totals),
        "token_perplexity": totals.token_perplexity,
        "word_perplexity": totals.word_perplexity,
        "bits_per_byte": totals.bits_per_byte,
        "bits_per_char": totals.bits_per_char,
    }


def _html(inputs: ReportInputs, content: dict[str, Any]) -> str:
    import jinja2  # noqa: PLC0415 - an extra

    source = Path(__file__).with_name("report.html.jinja").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["figure"] = _figure
    evaluation = inputs.evaluation
    bits = evaluation.total.bits_per_byte if evaluation else None
    drawn = {
        "baselines": plots.plot_baselines(bits, inputs.baselines) if bits and inputs.baselines else None,
        "learning": plots.plot_learning(inputs.metrics) if inputs.metrics else None,
        "speed": plots.plot_speed(inputs.metrics) if inputs.metrics else None,
        "distribution": plots.plot_distribution(evaluation) if evaluation and evaluation.histograms else None,
    }
    return environment.from_string(source).render(content=content, inputs=inputs, plots=drawn)


def _figure(value: float | None, digits: int = 2) -> str:
    """A number for people; a dash for what could not be measured."""
    if value is None:
        return "\N{EN DASH}"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.{digits}f}"


def _markdown(inputs: ReportInputs, content: dict[str, Any]) -> str:
    lines = [f"# {inputs.title}", ""]
    if content["total"]:
        lines += ["| | rows | with an error | tokens | perplexity a token | bits per byte | bits per character |"]
        lines += ["|---|---|---|---|---|---|---|"]
        for name, row in {**content["groups"], "all": content["total"]}.items():
            cells = [
                _figure(row[key], 3)
                for key in ("rows", "errors", "tokens", "token_perplexity", "bits_per_byte", "bits_per_char")
            ]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        lines.append("")
    if inputs.baselines:
        base = inputs.baselines
        lines += [f"Baselines, bits per byte: order 0 {base.order0:.3f}, gzip {base.gzip:.3f}, xz {base.xz:.3f}.", ""]
    if inputs.stream:
        stream = inputs.stream
        figures = f"{stream.targets:,} targets, {stream.nll:.4f} nats each, {stream.lanes} lane(s)"
        lines += [f"Stream perplexity of {stream.table}: {stream.perplexity:.2f} ({figures}).", ""]
    if content["training"]:
        run = content["training"]
        speed = f"{run['wall_seconds']:.0f} s ({run['targets_per_second']:,.0f} a second)"
        lines += [f"Training: {run['steps']:,} steps, {run['targets']:,} targets in {speed}.", ""]
    return "\n".join(lines)
