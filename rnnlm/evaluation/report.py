"""The report of a model: report.html for people, report.md for reviews, report.json for programs."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rnnlm.config import TARGET, flatten
from rnnlm.evaluation import beside_ngram_report, plots
from rnnlm.evaluation.baselines import Baselines
from rnnlm.evaluation.beside_ngram import BesideNGram
from rnnlm.evaluation.judged import Judged
from rnnlm.evaluation.judged_report import judged_data, judged_markdown, judged_plots, judged_texts
from rnnlm.evaluation.page import figure, render_page, table_cell
from rnnlm.evaluation.perplexity import Evaluation, Totals
from rnnlm.evaluation.stream import StreamResult
from rnnlm.evaluation.surprisal import Surprisal
from rnnlm.evaluation.surprisal_report import LEGEND, level, surprisal_markdown, surprisal_sentence
from rnnlm.storage import Location

MAX_TABLE_GROUPS = 40  # of the page; report.json has them all
MAX_SAMPLES = 24  # the same


@dataclass(frozen=True)
class Sample:
    """A continuation to show."""

    prompt: str
    text: str
    logprob: float
    num_tokens: int
    finish_reason: str


@dataclass(frozen=True)
class ReportInputs:
    """All that a report can show; what is missing is left out of it, and said to be."""

    title: str
    evaluation: Evaluation | None = None
    baselines: Baselines | None = None
    surprisal: Surprisal | None = None
    stream: StreamResult | None = None
    judged: Judged | None = None
    metrics: list[dict[str, Any]] = field(default_factory=list)  # rows of a run's metrics.jsonl
    scoring: Mapping[str, Any] | None = None  # _run/report.json of the bulk job; no key is sure to be there
    samples: list[Sample] = field(default_factory=list)
    settings: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)  # sentences to show below the headline figures


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
    return {
        "title": inputs.title,
        "notes": list(inputs.notes),
        "total": _figures(evaluation.total) if evaluation else None,
        "groups": {name: _figures(totals) for name, totals in evaluation.groups.items()} if evaluation else {},
        "baselines_bits_per_byte": asdict(inputs.baselines) if inputs.baselines else None,
        "stream": inputs.stream.figures() if inputs.stream else None,
        "hypotheses": judged_data(inputs.judged) if inputs.judged else None,
        "training": _training(inputs.metrics),
        "most_surprising": [asdict(row) for row in evaluation.most_surprising] if evaluation else [],
        "least_surprising": [asdict(row) for row in evaluation.least_surprising] if evaluation else [],
        "surprisal": asdict(inputs.surprisal) if inputs.surprisal else None,
        "samples": [asdict(sample) for sample in inputs.samples],
        "scoring": dict(inputs.scoring) if inputs.scoring else None,
        "corpus": flatten((inputs.scoring or {}).get("corpus") or {}),
        "settings": {k: v for k, v in flatten(inputs.settings).items() if not k.endswith(TARGET)},
        "versions": dict(inputs.versions),
        "not_given": _not_given(inputs),
    }


def _figures(totals: Totals) -> dict[str, Any]:
    return {
        **asdict(totals),
        "nats_per_token": totals.nats_per_token,
        "token_perplexity": totals.token_perplexity,
        "word_perplexity": totals.word_perplexity,
        "bits_per_byte": totals.bits_per_byte,
        "bits_per_char": totals.bits_per_char,
    }


def _training(metrics: list[dict[str, Any]]) -> dict[str, Any] | None:
    if not metrics:
        return None
    speeds = [row["tokens_per_second"] for row in metrics if row["kind"] == "train"]
    last = metrics[-1]
    return {
        "steps": last["step"],
        "targets": last["tokens"],
        "wall_seconds": last["wall_seconds"],
        "targets_per_second": sum(speeds) / len(speeds) if speeds else None,
        "best_valid_nll": min((row["nll"] for row in metrics if row["kind"] == "valid"), default=None),
    }


def _not_given(inputs: ReportInputs) -> list[str]:
    """What the report would have shown, had it been given."""
    texts = inputs.evaluation is None or inputs.evaluation.total.num_bytes > 0
    present = {
        "scored data": inputs.evaluation is not None or inputs.judged is not None,
        "the texts of the scored data": texts,
        "log-probabilities of words": inputs.surprisal is not None or inputs.evaluation is None or not texts,
        "baselines": inputs.baselines is not None or inputs.evaluation is None or not texts,
        "a training run": bool(inputs.metrics),
        "the record of the scoring job": bool(inputs.scoring) or inputs.evaluation is None,
        "samples": bool(inputs.samples) or inputs.judged is not None,
    }
    return [name for name, is_there in present.items() if not is_there]


def _html(inputs: ReportInputs, content: dict[str, Any]) -> str:
    groups = sorted(content["groups"].items(), key=lambda item: -item[1]["rows"])
    return render_page(
        Path(__file__).with_name("report.html.jinja"),
        content=content,
        inputs=inputs,
        plots=_drawn(inputs),
        judged_plots=judged_plots(inputs.judged) if inputs.judged else None,
        judged_text=judged_texts(inputs.judged) if inputs.judged else None,
        undrawn=_undrawn(inputs.evaluation),
        beside=beside_ngram_report.say(beside) if (beside := _beside(inputs)) else None,
        groups=sorted(groups[:MAX_TABLE_GROUPS]),
        more_groups=max(0, len(groups) - MAX_TABLE_GROUPS),
        max_samples=MAX_SAMPLES,
        legend=LEGEND,
        level=level,
        sentences={
            "rows": _rows_sentence(inputs.evaluation.total) if inputs.evaluation else "",
            "surprisal": surprisal_sentence(inputs.surprisal) if inputs.surprisal else "",
            "comparable": _comparable_sentence(inputs.stream.totals) if inputs.stream else "",
            "training": _training_sentence(content["training"]),
            "scoring": _scoring_sentence(inputs.scoring or {}),
        },
    )


def _drawn(inputs: ReportInputs) -> dict[str, plots.Drawing | None]:
    evaluation, kinds = inputs.evaluation, {row["kind"] for row in inputs.metrics}
    bits = evaluation.total.bits_per_byte if evaluation else None
    return {
        "baselines": plots.plot_baselines(bits, inputs.baselines) if bits is not None and inputs.baselines else None,
        "learning": plots.plot_learning(inputs.metrics) if kinds & {"train", "valid"} else None,
        "speed": plots.plot_speed(inputs.metrics) if "train" in kinds else None,
        "mixture": beside_ngram_report.plot_curve(beside) if (beside := _beside(inputs)) else None,
        "distribution": plots.plot_distribution(evaluation) if evaluation and evaluation.histograms else None,
    }


def _beside(inputs: ReportInputs) -> BesideNGram | None:
    found = inputs.stream.strengthened if inputs.stream else None
    return found.beside_ngram if found else None


def _undrawn(evaluation: Evaluation | None) -> list[str]:
    """The groups with scored texts that the plot of the distribution leaves out."""
    return sorted(set(evaluation.histograms) - set(plots.drawn_groups(evaluation))) if evaluation else []


def _rows_sentence(totals: Totals) -> str:
    parts = [f"{totals.scored_rows:,} scored", f"{totals.errors - totals.nulls:,} with an error"]
    if totals.nulls:
        parts.append(f"{totals.nulls:,} without a score and without a reason")
    return f"Rows: {' + '.join(parts)} = {totals.rows:,}."


def _comparable_sentence(totals: Totals) -> str:
    """The figures that compare models with different tokenizers."""
    if totals.word_perplexity is None:
        return ""
    text = f"Perplexity a word {figure(totals.word_perplexity)} over {totals.words:,} white-space words and "
    text += f"{totals.scored_rows:,} ends of documents"
    if totals.bits_per_byte is not None:
        text += f"; {totals.bits_per_byte:.4f} bits per byte of {totals.num_bytes:,}"
    if totals.bits_per_char is not None:
        return f"{text}; {totals.bits_per_char:.4f} bits per character of {totals.chars:,}."
    return f"{text}; characters are unknown, since the tokens do not hold the text to the byte."


def _training_sentence(training: Mapping[str, Any] | None) -> str:
    if training is None:
        return ""
    speed, best = training["targets_per_second"], training["best_valid_nll"]
    text = f"{training['steps']:,} steps over {training['targets']:,} targets in {training['wall_seconds']:,.0f} s"
    text += ", validation included" if best is not None else ""
    text += f"; {speed:,.0f} targets a second in training." if speed is not None else "."
    return text if best is None else f"{text} Best validation: {best:.4f} nats a target."


def _scoring_sentence(scoring: Mapping[str, Any]) -> str:
    """What the record of a bulk job says, of which any part may be missing."""
    parts = []
    if (tokens := scoring.get("tokens")) is not None:
        parts.append(f"{tokens:,} tokens")
    if (shards := scoring.get("shards")) is not None:
        parts.append(f"in {shards:,} shard{'' if shards == 1 else 's'}")
    if (seconds := scoring.get("wall_seconds")) is not None:
        parts.append(f"in {seconds:,.1f} s on the clock")
    if (workers := scoring.get("workers")) is not None:
        parts.append("by one process" if workers == 0 else f"by {workers:,} Ray worker{'' if workers == 1 else 's'}")
    if (estimate := scoring.get("estimate", {}).get("wall_seconds")) is not None:
        parts.append(f"(estimated beforehand: {estimate['estimated']:,.1f} s)")
    text = f"Scoring: {' '.join(parts)}." if parts else ""
    rows = scoring.get("rows")
    if isinstance(rows, Mapping) and {"ok", "null", "error", "rows"} <= rows.keys():
        text += (
            f" Rows: {rows['ok']:,} ok + {rows['null']:,} null + {rows['error']:,} with an error = {rows['rows']:,}."
        )
    return text.strip()


def _markdown(inputs: ReportInputs, content: dict[str, Any]) -> str:
    paragraphs = [f"# {table_cell(inputs.title)}", *inputs.notes]
    if inputs.judged:
        paragraphs += judged_markdown(inputs.judged)
    if inputs.evaluation:
        paragraphs += [_markdown_table(content), _rows_sentence(inputs.evaluation.total)]
    if inputs.surprisal:
        paragraphs += surprisal_markdown(inputs.surprisal)
    if inputs.baselines:
        base = inputs.baselines
        figures = f"order 0 {base.order0:.3f}, gzip -9 {base.gzip:.3f}, xz {base.xz:.3f}"
        paragraphs.append(f"Baselines, bits per byte: {figures}; flattered, see report.html.")
    if inputs.stream:
        stream = inputs.stream
        figures = f"{stream.totals.tokens:,} targets, {stream.nll:.4f} nats each, {stream.lanes} lane(s)"
        paragraphs.append(f"Stream perplexity of {stream.table}: {stream.perplexity:.2f} ({figures}).")
        if stream.strengthened:
            paragraphs.append(f"{stream.strengthened.sentence()}.")
        if beside := _beside(inputs):
            paragraphs += beside_ngram_report.markdown(beside)
        paragraphs.append(_comparable_sentence(stream.totals))
    if content["training"]:
        paragraphs.append(f"Training: {_training_sentence(content['training'])}")
    paragraphs.append(_scoring_sentence(inputs.scoring or {}))
    if content["not_given"]:
        paragraphs.append(f"Not given, so not shown: {', '.join(content['not_given'])}.")
    paragraphs.append(", ".join(f"{name} {version}" for name, version in inputs.versions.items()))
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph) + "\n"


def _markdown_table(content: dict[str, Any]) -> str:
    columns = {
        "rows": "rows",
        "without a score": "errors",
        "tokens": "tokens",
        "bytes": "num_bytes",
        "perplexity a token": "token_perplexity",
        "a word": "word_perplexity",
        "bits per byte": "bits_per_byte",
        "bits per character": "bits_per_char",
    }
    lines = ["| | " + " | ".join(columns) + " |", "|---|" + "---:|" * len(columns)]
    # Pairs, since a group may well be called "all".
    for name, row in [*content["groups"].items(), ("**all**", content["total"])]:
        cells = [figure(None if key == "num_bytes" and not row[key] else row[key], 3) for key in columns.values()]
        lines.append(f"| {name if row is content['total'] else table_cell(name)} | {' | '.join(cells)} |")
    return "\n".join(lines)
