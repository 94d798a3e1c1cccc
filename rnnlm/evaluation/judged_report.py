"""How judged outputs are told: as plain data, as Markdown, and in sentences for the page."""

from dataclasses import asdict
from typing import Any

from rnnlm.evaluation import sequence_plots
from rnnlm.evaluation.judged import Example, Judged
from rnnlm.evaluation.page import cut, figure, table_cell
from rnnlm.evaluation.sequence_metrics import Figure

SHOWN_EXCERPT = 200  # characters of a text in Markdown


def judged_data(judged: Judged) -> dict[str, Any]:
    """The figures, as plain data."""
    return {
        "output": judged.path,
        "unit": judged.unit,
        "rows": judged.rows,
        "errors": judged.errors,
        "without_output": judged.missing,
        "finish_reasons": dict(judged.finish_reasons),
        "metrics": _figures(judged.figures),
        "length_ratio": judged.length_ratio,
        "quality": {"name": judged.quality_name, "mean": float(judged.quality.mean())},
        "length_of": judged.length_of,
        "by_length": [
            {"length": group.label, "rows": group.rows, "metrics": _figures(group.figures)}
            for group in judged.by_length
        ],
        "baseline": {"column": judged.baseline_column, "metrics": _figures(judged.baseline)}
        if judged.baseline
        else None,
        "against": judged.against,
        "comparisons": [
            {**asdict(one), "difference": one.difference, "verdict": one.verdict()} for one in judged.comparisons
        ],
        "untested": list(judged.untested),
        "worst": [asdict(example) for example in judged.worst],
        "examples": [asdict(example) for example in judged.examples],
    }


def judged_sentence(judged: Judged) -> str:
    """The figures in one line, for the terminal."""
    figures = ", ".join(f"{one.name} {one.said()}" for one in judged.figures)
    rows = f"{judged.rows:,} row{'' if judged.rows == 1 else 's'}"
    return f"{rows} ({judged.missing:,} without an output), {figures}"


def baseline_sentence(judged: Judged) -> str:
    """What the baseline gets."""
    figures = ", ".join(f"{one.name} {one.said()}" for one in judged.baseline)
    return f"the column {judged.baseline_column} as it is: {figures}"


def comparison_sentences(judged: Judged) -> list[str]:
    """What each test says, one line each."""
    return [
        f"{one.name} {one.ours:.2f} \N{PLUS-MINUS SIGN} {one.ours_interval:.2f} against {one.theirs:.2f} "
        f"\N{PLUS-MINUS SIGN} {one.theirs_interval:.2f}: {one.verdict()} (p = {one.p_value:.3f})"
        for one in judged.comparisons
    ]


def judged_texts(judged: Judged) -> dict[str, Any]:
    """Sentences of the page."""
    return {
        "rows": _rows_sentence(judged),
        "signatures": signatures(judged.figures),
        "comparison": _comparison_sentence(judged) if judged.comparisons else "",
    }


def judged_plots(judged: Judged) -> dict[str, Any]:
    """Drawings of the page."""
    maps = [(sequence_plots.map_attention(one, f"Attention of row {one.row}"), one) for one in judged.attention]
    return {
        "quality": sequence_plots.plot_quality(judged),
        "by_length": sequence_plots.plot_by_length(judged),
        "maps": maps,
    }


def signatures(figures: list[Figure]) -> list[str]:
    """What makes the figures comparable with those of others."""
    return [f"{one.name}: {one.signature}" for one in figures if one.signature]


def judged_markdown(judged: Judged) -> list[str]:
    """Paragraphs."""
    rows = [("this output", judged.rows, judged.figures)]
    if judged.baseline:
        rows.append((f"the column {judged.baseline_column} as it is", judged.rows, judged.baseline))
    paragraphs = [_table("", rows, judged.figures), _rows_sentence(judged), *signatures(judged.figures)]
    if judged.comparisons:
        paragraphs += ["## Against the other output", "\n".join(f"- {one}" for one in comparison_sentences(judged))]
        paragraphs.append(_comparison_sentence(judged))
    if len(judged.by_length) > 1:
        groups = [(group.label, group.rows, group.figures) for group in judged.by_length]
        paragraphs += ["## By length", _table(judged.length_of, groups, judged.figures)]
    if judged.worst:
        paragraphs += ["## The worst", "\n".join(_bullet(example, judged.quality_name) for example in judged.worst)]
    paragraphs += ["## Examples", "\n".join(_bullet(example, judged.quality_name) for example in judged.examples)]
    return paragraphs


def _figures(figures: list[Figure]) -> dict[str, Any]:
    return {one.metric: {"name": one.name, "value": one.value, "signature": one.signature} for one in figures}


def _rows_sentence(judged: Judged) -> str:
    parts = [f"{judged.rows:,} rows"]
    if judged.missing:
        parts.append(
            f"{judged.missing:,} of them without an output, {judged.errors:,} with an error, scored as empty outputs"
        )
    text = ", ".join(parts) + "."
    if judged.length_ratio is not None:
        text += f" The outputs have {judged.length_ratio:.3f} times the words of the references."
    if judged.finish_reasons:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in judged.finish_reasons.items())
        text += f" Finished by: {reasons}."
    if judged.quality_name == "closeness":
        text += " Rows are ordered by closeness; closeness is 100 less the edits in % of the reference, at least 0."
    return text


def _comparison_sentence(judged: Judged) -> str:
    text = (
        f"Paired bootstrap over {judged.draws:,} draws of the rows, against {judged.against}. "
        "\N{PLUS-MINUS SIGN} is half of what holds 95 % of the draws; p is the chance of such a difference between "
        "equally good outputs; significant below 0.05."
    )
    if judged.against_quality is not None:
        better, worse = (
            int(count.sum())
            for count in (judged.quality > judged.against_quality, judged.quality < judged.against_quality)
        )
        equal = judged.rows - better - worse
        text += f" By {judged.quality_name}, {better:,} rows are better, {worse:,} worse, {equal:,} equal."
    if judged.untested:
        text += f" Too many rows to test {' and '.join(judged.untested)}."
    return text


def _table(heading: str, rows: list[tuple[str, int, list[Figure]]], figures: list[Figure]) -> str:
    names = [f"{one.name}, %" if one.is_share else one.name for one in figures]
    lines = [f"| {heading} | rows | {' | '.join(names)} |", "|---|---:|" + "---:|" * len(names)]
    for label, count, found in rows:
        lines.append(f"| {table_cell(label)} | {count:,} | {' | '.join(figure(one.value) for one in found)} |")
    return "\n".join(lines)


def _bullet(example: Example, quality_name: str) -> str:
    parts = [("source", example.source), ("output", example.text or "(none)"), ("reference", example.references[0])]
    said = "; ".join(f"{name}: {table_cell(cut(text, SHOWN_EXCERPT))}" for name, text in parts if text is not None)
    return f"- row {example.row:,}, {quality_name} {example.quality:.1f}; {said}"
