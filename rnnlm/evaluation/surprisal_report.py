"""How surprisals are shown: words on backgrounds of six strengths, and sentences and a table for report.md."""

from bisect import bisect_right
from itertools import pairwise

from rnnlm.evaluation.page import cut, figure, table_cell
from rnnlm.evaluation.surprisal import MAX_CHARS, Surprisal

EDGES = (2, 4, 8, 12, 16)  # bits at which the next level begins
LEGEND = [f"under {EDGES[0]}", *(f"{low} to {high}" for low, high in pairwise(EDGES)), f"{EDGES[-1]} or more"]
MARKDOWN_TYPES = 10


def level(bits: float) -> int:
    """Which background a word has: 0 for hardly any surprisal to 5."""
    return bisect_right(EDGES, bits)


def surprisal_sentence(surprisal: Surprisal) -> str:
    """How many words there are, what they cost, and how they were counted."""
    text = (
        f"{surprisal.num_words:,} words of {surprisal.mean_bits:.2f} bits each. The tables are about words of up to "
        f"{MAX_CHARS} characters, those of words about such as were seen {surprisal.min_count:,} times or more"
    )
    if surprisal.missed:
        text += (
            f"; there were too many words to count all, so up to {surprisal.missed:,} occurrences of each are missing"
        )
    return f"{text}."


def surprisal_markdown(surprisal: Surprisal) -> list[str]:
    """The sentence, the most surprising words, and the most surprising occurrences."""
    types = [
        f"| {table_cell(one.word)} | {one.count:,} | {figure(one.mean_bits)} | {figure(one.total_bits, 0)} |"
        for one in surprisal.by_mean[:MARKDOWN_TYPES]
    ]
    occurrences = [
        f"| {table_cell(one.before)} **{table_cell(one.word)}** | {figure(one.bits)} | {table_cell(cut(one.id))} |"
        for one in surprisal.occurrences
    ]
    heads = (
        ["| most surprising words | count | mean bits | bits in all |", "|---|---:|---:|---:|"],
        ["| most surprising occurrences | bits | row |", "|---|---:|---|"],
    )
    tables = ["\n".join(head + rows) for head, rows in zip(heads, (types, occurrences), strict=True) if rows]
    return [f"Surprisal: {surprisal_sentence(surprisal)}", *tables]
