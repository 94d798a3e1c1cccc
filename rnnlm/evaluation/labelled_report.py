"""How predicted labels are told: labels.json for programs, report.html for people, and lines for the terminal."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rnnlm.evaluation import label_plots, plots
from rnnlm.evaluation.label_metrics import ClassScores, LevelRecall
from rnnlm.evaluation.labelled import Estimate, Labelled, TagScores
from rnnlm.evaluation.page import render_page
from rnnlm.storage import Location

MAX_CONFUSED = 20  # commonest mistakes
MAX_TABLE_CLASSES = 60  # of the page; labels.json has them all


def write_labelled(labelled: Labelled, title: str, versions: Mapping[str, str], folder: Location) -> None:
    """Write labels.json and report.html; the HTML last, since it is the one that people wait for."""
    plots.check_installed()
    content = {"title": title, **labelled_data(labelled), "versions": dict(versions)}
    page = _html(labelled, title, versions)
    folder.join("labels.json").write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    folder.join("report.html").write_text(page)


def labelled_data(labelled: Labelled) -> dict[str, Any]:
    """All figures, as plain data; shares are from 0 to 1."""
    tags, spans = labelled.tags, labelled.spans
    return {
        "predictions": labelled.path,
        "reference_column": labelled.reference_column,
        "predicted_column": labelled.predicted_column,
        "scheme": labelled.scheme,
        "rows": labelled.rows,
        "errors": labelled.errors,
        "without_reference": labelled.without_reference,
        "bootstrap_draws": labelled.draws,
        "tags": _tags_data(tags) if tags is not None else None,
        "spans": {
            "f1": asdict(spans.f1),
            **_classes_data(spans.classes),
            "levels": asdict(spans.levels),
            "missed": [asdict(one) for one in spans.missed],
            "spurious": [asdict(one) for one in spans.spurious],
        }
        if spans is not None
        else None,
    }


def labelled_sentences(labelled: Labelled) -> list[str]:
    """The figures, one line for words (or classes) and one for spans."""
    lines = []
    rows = f"{labelled.rows:,} row{'' if labelled.rows == 1 else 's'} ({labelled.errors:,} without a prediction"
    rows += f", {labelled.without_reference:,} more without a reference)" if labelled.without_reference else ")"
    if labelled.tags is not None:
        tags = labelled.tags
        figures = [f"accuracy {_said(tags.accuracy)}", f"macro F1 {_percent(tags.classes.macro.f1)}"]
        if labelled.kind == "labels":
            figures = [f"{tags.words:,} words", *figures, f"sentence accuracy {_percent(tags.sentences)}"]
        if tags.reliability is not None:
            figures.append(f"expected calibration error {_percent(tags.reliability.expected_calibration_error)}")
        lines.append(f"{rows}, {', '.join(figures)}")
    if labelled.spans is not None:
        micro = labelled.spans.classes.micro
        lines.append(
            f"{rows}, {micro.support:,} spans, F1 {_said(labelled.spans.f1)}, "
            f"precision {_percent(micro.precision)}, recall {_percent(micro.recall)}, "
            f"macro F1 {_percent(labelled.spans.classes.macro.f1)}"
        )
    return lines


def _html(labelled: Labelled, title: str, versions: Mapping[str, str]) -> str:
    tags, spans = labelled.tags, labelled.spans
    what = "rows" if labelled.kind == "label" else "words"
    return render_page(
        Path(__file__).with_name("labelled.html.jinja"),
        title=title,
        labelled=labelled,
        what=what,
        rows=_rows_sentence(labelled),
        percent=_percent,
        confused=tags.most_confused(MAX_CONFUSED) if tags is not None else [],
        confusion_map=label_plots.map_confusions(tags.pairs, "Confusion matrix") if tags is not None else None,
        tag_bars=label_plots.plot_classes(tags.classes, what) if tags is not None else None,
        tag_classes=_largest(tags.classes) if tags is not None else [],
        reliability=label_plots.plot_reliability(tags.reliability)
        if tags is not None and tags.reliability is not None
        else None,
        span_bars=label_plots.plot_classes(spans.classes, "spans") if spans is not None else None,
        span_classes=_largest(spans.classes) if spans is not None else [],
        levels=_levels(spans.levels) if spans is not None else [],
        versions=versions,
    )


def _tags_data(tags: TagScores) -> dict[str, Any]:
    matrix: dict[str, dict[str, int]] = {}
    for (reference, predicted), count in sorted(tags.pairs.items()):
        matrix.setdefault(reference, {})[predicted] = count
    bins = tags.reliability
    return {
        "accuracy": asdict(tags.accuracy),
        "sentence_accuracy": tags.sentences,
        "words": tags.words,
        "words_without_prediction": tags.unpredicted,
        **_classes_data(tags.classes),
        "confusion": matrix,  # reference, predicted: how often
        "most_confused": [
            {"reference": reference, "predicted": predicted, "count": count}
            for reference, predicted, count in tags.most_confused(MAX_CONFUSED)
        ],
        "calibration": {
            "expected_error": bins.expected_calibration_error,
            "maximum_error": bins.maximum_calibration_error,
            "bins": [
                {"from": low, "to": high, "count": count, "confidence": confidence, "accuracy": accuracy}
                for low, high, count, confidence, accuracy in zip(
                    bins.edges[:-1].tolist(),
                    bins.edges[1:].tolist(),
                    bins.counts.tolist(),
                    bins.confidence.tolist(),
                    bins.accuracy.tolist(),
                    strict=True,
                )
            ],
        }
        if bins is not None
        else None,
        "mistakes": [asdict(one) for one in tags.mistakes],
    }


def _classes_data(scores: ClassScores) -> dict[str, Any]:
    return asdict(scores)


def _largest(scores: ClassScores) -> list[Any]:
    """Name and scores of the classes that the page shows."""
    return sorted(scores.classes.items(), key=lambda one: (-one[1].support, one[0]))[:MAX_TABLE_CLASSES]


def _levels(levels: LevelRecall) -> list[tuple[str, float, int]]:
    """Which spans, the recall of them, how many; nothing if no span lies in another."""
    if not levels.num_inner:
        return []
    return [
        ("outermost: in no other", levels.outermost, levels.num_outermost),
        ("innermost: hold no other", levels.innermost, levels.num_innermost),
        ("inner: in another", levels.inner, levels.num_inner),
    ]


def _rows_sentence(labelled: Labelled) -> str:
    text = f"{labelled.rows:,} rows with a reference"
    if labelled.errors:
        text += f", {labelled.errors:,} of them without a prediction, scored as wrong"
    if labelled.without_reference:
        text += f"; {labelled.without_reference:,} more without a reference, left out"
    text += f". The column {labelled.predicted_column} against {labelled.reference_column}."
    if labelled.scheme is not None and labelled.spans is not None:
        text += f" Labels are read as spans ({labelled.scheme}) by the rule of conlleval."
    return f"{text} Intervals hold 95 % of {labelled.draws:,} draws of the rows (bootstrap)."


def _said(estimate: Estimate) -> str:
    return f"{_percent(estimate.value)} ({estimate.low * 100:.2f} to {estimate.high * 100:.2f})"


def _percent(value: float) -> str:
    return f"{value * 100:.2f} %"
