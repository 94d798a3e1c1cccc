"""How predicted labels are told: labels.json for programs, report.html for people, and lines for the terminal."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rnnlm.evaluation import label_plots, plots
from rnnlm.evaluation.label_metrics import ClassScores, LevelRecall, Reliability
from rnnlm.evaluation.labelled.bootstrap import Estimate
from rnnlm.evaluation.labelled.data import MAX_CONFUSED, systems_data
from rnnlm.evaluation.labelled.evaluate import Labelled
from rnnlm.evaluation.labelled.pairs import STRUCTURE_SEPARATOR
from rnnlm.evaluation.labelled.systems import Systems
from rnnlm.evaluation.page import render_page
from rnnlm.storage import Location

MAX_TABLE_CLASSES = 60  # of the page; labels.json has them all


def write_labelled(systems: Systems, title: str | None, versions: Mapping[str, str], folder: Location) -> None:
    """Write labels.json and report.html; the HTML last, since it is the one that people wait for."""
    plots.check_installed()
    title = title if title is not None else usual_title(systems)
    content = {"title": title, **systems_data(systems), "versions": dict(versions)}
    page = _html(systems, title, versions)
    folder.join("labels.json").write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    folder.join("report.html").write_text(page)


def usual_title(systems: Systems) -> str:
    """What is reported."""
    first = systems.first
    if first.frames is not None:
        what = "Intents and slots"
    elif first.class_sets is not None or first.kind == "label":
        what = "Classes of rows"
    elif first.kind == "entities":
        what = "Spans of words"
    else:
        what = "Labels of words"
    return what if len(systems.labelled) == 1 else f"{what}: {', '.join(systems.labelled)}"


def systems_sentences(systems: Systems) -> list[str]:
    """The figures of each system, and how the first does against each other."""
    several = len(systems.labelled) > 1
    lines = [
        f"{name}: {line}" if several else line
        for name, labelled in systems.labelled.items()
        for line in labelled_sentences(labelled)
    ]
    ours = next(iter(systems.labelled))
    return lines + [
        f"{ours} against {one.against}, {one.figure}: {one.difference.value * 100:+.2f} points "
        f"({one.difference.low * 100:+.2f} to {one.difference.high * 100:+.2f}): {one.verdict()} "
        f"(p = {one.p_value:.3f})"
        for one in systems.differences
    ]


def labelled_sentences(labelled: Labelled) -> list[str]:
    """The figures, one line for frames, one for words (or classes) and one for spans."""
    rows = f"{labelled.rows:,} row{'' if labelled.rows == 1 else 's'} ({labelled.errors:,} without a prediction"
    rows += f", {labelled.without_reference:,} more without a reference)" if labelled.without_reference else ")"
    lines = []
    if labelled.frames is not None:
        lines.append(f"{rows}, frame accuracy {_said(labelled.frames.accuracy)}")
    if labelled.tags is not None:
        lines.append(f"{rows}, {', '.join(_tag_figures(labelled))}")
    if labelled.class_sets is not None:
        lines.append(f"{rows}, {', '.join(_class_set_figures(labelled))}")
    if labelled.spans is not None:
        micro = labelled.spans.classes.micro
        figures = f"{micro.support:,} {labelled.unit}, F1 {_said(labelled.spans.f1)}, "
        figures += f"precision {_percent(micro.precision)}, recall {_percent(micro.recall)}, "
        lines.append(f"{rows}, {figures}macro F1 {_percent(labelled.spans.classes.macro.f1)}")
    return lines


def _tag_figures(labelled: Labelled) -> list[str]:
    tags = labelled.tags
    assert tags is not None
    intent = "intent " if labelled.frames is not None else ""
    figures = [f"{intent}accuracy {_said(tags.accuracy)}", f"macro F1 {_percent(tags.classes.macro.f1)}"]
    if labelled.kind == "labels":
        figures = [f"{tags.words:,} words", *figures, f"sentence accuracy {_percent(tags.sentences)}"]
    if tags.known is not None:
        figures.append(f"known words {_said(tags.known.known)}")
        figures.append(f"{tags.known.num_unknown:,} unknown words {_said(tags.known.unknown)}")
    return figures + _calibration_figure(tags.reliability)


def _class_set_figures(labelled: Labelled) -> list[str]:
    sets = labelled.class_sets
    assert sets is not None
    intent = "intent " if labelled.frames is not None else ""
    figures = [f"{intent}micro F1 {_said(sets.f1)}", f"macro F1 {_percent(sets.classes.macro.f1)}"]
    figures += [f"exact match {_said(sets.exact)}", f"Hamming loss {_percent(sets.hamming_loss)}"]
    if sets.mean_average_precision is not None:
        figures.append(f"mean average precision {_percent(sets.mean_average_precision)}")
    return figures + _calibration_figure(sets.reliability)


def _calibration_figure(bins: Reliability | None) -> list[str]:
    return [f"expected calibration error {_percent(bins.expected_calibration_error)}"] if bins is not None else []


def _html(systems: Systems, title: str, versions: Mapping[str, str]) -> str:
    labelled = systems.first
    tags, spans, sets = labelled.tags, labelled.spans, labelled.class_sets
    what = "intents" if labelled.frames is not None else "words" if labelled.kind == "labels" else "rows"
    return render_page(
        Path(__file__).with_name("page.html.jinja"),
        title=title,
        labelled=labelled,
        systems=systems,
        what=what,
        rows=_rows_sentence(labelled),
        percent=_percent,
        confused=tags.most_confused(MAX_CONFUSED) if tags is not None else [],
        confusion_map=label_plots.map_confusions(tags.pairs, "Confusion matrix") if tags is not None else None,
        tag_bars=label_plots.plot_classes(tags.classes, what) if tags is not None else None,
        reliability=_reliability(tags.reliability, what) if tags is not None else None,
        set_bars=label_plots.plot_classes(sets.classes, what) if sets is not None else None,
        set_reliability=_reliability(sets.reliability, what) if sets is not None else None,
        span_bars=label_plots.plot_classes(spans.classes, labelled.unit) if spans is not None else None,
        span_reliability=_reliability(spans.reliability, labelled.unit) if spans is not None else None,
        largest=_largest,
        levels=_levels(spans.levels) if spans is not None else [],
        **_system_values(systems),
        versions=versions,
    )


def _reliability(bins: Reliability | None, what: str) -> plots.Drawing | None:
    return label_plots.plot_reliability(bins, what) if bins is not None else None


def _largest(scores: ClassScores) -> list[Any]:
    """Name and scores of the classes that the page shows."""
    return sorted(scores.classes.items(), key=lambda one: (-one[1].support, one[0]))[:MAX_TABLE_CLASSES]


def _system_values(systems: Systems) -> dict[str, Any]:
    """The F1 of each class and system, as a plot and as a table: name, how many there are in the references, F1s."""
    what, found = systems.chief_classes()
    rows = [
        (name, scores.support, [one.classes[name].f1 if name in one.classes else None for one in found.values()])
        for name, scores in _largest(next(iter(found.values())))
    ]
    plot = label_plots.plot_systems(found, what) if len(found) > 1 else None
    return {"system_names": list(found), "system_classes": rows, "system_plot": plot}


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
    text += f". The column {labelled.predicted_column} against {labelled.reference_column}"
    if labelled.intent_column is not None:
        text += f", and intents against {labelled.intent_column}"
        text += f" (several joined by {STRUCTURE_SEPARATOR})" if labelled.class_sets is not None else ""
    text += "."
    if labelled.scheme is not None and labelled.spans is not None:
        text += f" Labels are read as spans ({labelled.scheme}) by the rule of conlleval."
    return f"{text} Intervals hold 95 % of {labelled.draws:,} draws of the rows (bootstrap)."


def _said(estimate: Estimate) -> str:
    return f"{_percent(estimate.value)} ({estimate.low * 100:.2f} to {estimate.high * 100:.2f})"


def _percent(value: float) -> str:
    return f"{value * 100:.2f} %"
