"""Figures of outputs with right answers: against sacrebleu itself, and against counts made by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu import corpus_bleu, corpus_chrf, sentence_chrf

from rnnlm.evaluation.hypotheses import Outputs
from rnnlm.evaluation.metric_names import METRICS, USUAL, check_metrics
from rnnlm.evaluation.sequence_metrics import count_rows, measure
from rnnlm.evaluation.sequence_metrics import sentence_chrf as chrf_of_rows
from rnnlm.evaluation.significance import MAX_CORPUS_ROWS, compare, untested

TEXTS = ["the cat sat on a mat", "two dogs run", "", "there is a tree ."]
REFERENCES = [["the cat sat on the mat"], ["two dogs ran", "two dogs run"], ["a boy"], ["there is a tall tree ."]]
PHONES = st.lists(st.sampled_from(["AH", "B", "K", "IY"]), max_size=6).map(" ".join)


def figures(texts, references, unit="words", metrics=METRICS):
    counts = count_rows(texts, references, unit)
    return {one.metric: one.value for one in measure(metrics, texts, references, counts, unit)}


def test_bleu_and_chrf_are_those_of_sacrebleu():
    single = [[right[0]] for right in REFERENCES]
    found = figures(TEXTS, single)
    streams = [[right[0] for right in single]]
    assert found["bleu"] == pytest.approx(corpus_bleu(TEXTS, streams).score, abs=1e-9)
    assert found["chrf"] == pytest.approx(corpus_chrf(TEXTS, streams).score, abs=1e-9)
    rows = [sentence_chrf(text, right).score for text, right in zip(TEXTS, single, strict=True)]
    assert chrf_of_rows(TEXTS, single) == pytest.approx(rows)


def test_several_references_are_given_to_sacrebleu_as_it_takes_them():
    streams = [[right[0] for right in REFERENCES], [right[1] if len(right) > 1 else None for right in REFERENCES]]
    assert figures(TEXTS, REFERENCES)["bleu"] == pytest.approx(corpus_bleu(TEXTS, streams).score, abs=1e-9)


def test_the_signature_says_how():
    counts = count_rows(TEXTS, REFERENCES, "words")
    bleu, chrf, exact = measure(["bleu", "chrf", "exact_match"], TEXTS, REFERENCES, counts, "words")
    assert bleu.signature.startswith("nrefs:var|case:mixed|eff:no|tok:13a|smooth:exp|version:2.")
    assert "nc:6" in chrf.signature
    assert exact.signature == ""
    assert (bleu.said(), exact.said()) == (f"{bleu.value:.2f}", "25.00 %")


@pytest.mark.parametrize(
    ("text", "references", "edits", "length", "matched"),
    [
        ("K AE T", ["K AE T"], 0, 3, True),
        ("K  AE T ", ["K AE T"], 0, 3, True),  # blanks do not count
        ("K AH T", ["K AE T"], 1, 3, False),
        ("R EH D", ["R IY D", "R EH D"], 0, 3, True),  # any pronunciation is right
        ("T AH M AA", ["T AH M EY T OW", "T AH M AA T OW"], 2, 6, False),
        ("A", ["A B", "B"], 1, 2, False),  # one edit from either: the first of equals
        ("", ["K AE T"], 3, 3, False),
        ("K AE T S", ["K"], 3, 1, False),  # more than its length
        ("", [""], 0, 0, True),
    ],
)
def test_edits_are_to_the_closest_reference(text, references, edits, length, matched):
    counts = count_rows([text], [references], "phonemes")
    assert (counts.edits[0], counts.length[0], bool(counts.matched[0])) == (edits, length, matched)


def test_phoneme_and_word_error_rates_by_hand():
    texts = ["K AE T", "D AO", "R EH D", "B"]
    references = [["K AE T"], ["D AO G", "D AA G"], ["R IY D", "R EH D"], ["B IY"]]
    found = figures(texts, references, "phonemes")
    assert found["error_rate"] == pytest.approx(100.0 * (0 + 1 + 0 + 1) / (3 + 3 + 3 + 2))
    assert found["miss_rate"] == 50.0
    assert found["exact_match"] == 50.0


def test_words_in_place_are_counted_in_the_longer_of_the_two():
    assert figures(["a b c"], [["a x c d"]])["token_accuracy"] == 50.0
    assert figures(["a b c d e f"], [["a b c"]])["token_accuracy"] == 50.0
    assert figures(["b c"], [["a b c"]])["token_accuracy"] == 0.0  # shifted: nothing is in its place
    assert figures([""], [[""]])["token_accuracy"] == 0.0


def test_characters_are_counted_with_single_blanks():
    assert figures(["ab  cd"], [["ab cx"]], "chars")["error_rate"] == 20.0


@given(text=PHONES, references=st.lists(PHONES, min_size=1, max_size=3))
def test_edits_are_those_of_the_slow_truth(text, references):
    def slow(ours, theirs):
        row = list(range(len(theirs) + 1))
        for i, left in enumerate(ours, start=1):
            row, above = [i], row
            for j, right in enumerate(theirs, start=1):
                row.append(min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (left != right)))
        return row[-1]

    distances = [slow(text.split(), one.split()) for one in references]
    counts = count_rows([text], [references], "words")
    assert counts.edits[0] == min(distances)
    assert counts.length[0] == len(references[distances.index(min(distances))].split())
    assert bool(counts.matched[0]) == (min(distances) == 0)


@pytest.mark.parametrize("bad", [["blue"], [], ["bleu", "bleu"]])
def test_metrics_are_checked_by_name(bad):
    with pytest.raises(ValueError, match="choose of bleu, chrf"):
        check_metrics(bad)
    for usual in USUAL.values():
        check_metrics(usual)


# ----- the paired bootstrap


def outputs_of(random, rows, chance):
    """Outputs of which each word is wrong by `chance`, and their references."""
    references = [[" ".join(random.choice(["a", "b", "c", "d"], size=8))] for _ in range(rows)]
    texts = [" ".join("x" if random.random() < chance else word for word in right.split()) for (right,) in references]
    return Outputs("out", texts, references)


def compared(ours, theirs, metrics=("bleu", "chrf", "error_rate", "exact_match"), draws=300):
    counts = tuple(count_rows(one.texts, one.references, "words") for one in (ours, theirs))
    return {one.metric: one for one in compare(metrics, ours, theirs, counts, "words", draws)}


def test_a_clearly_better_output_is_found_better_and_the_other_worse():
    good = outputs_of(np.random.default_rng(0), 300, 0.1)
    random = np.random.default_rng(1)
    bad = Outputs(
        "bad",
        [" ".join("x" if random.random() < 0.4 else w for w in right.split()) for (right,) in good.references],
        good.references,
    )
    forth, back = compared(good, bad), compared(bad, good)
    for metric, one in forth.items():
        assert one.significant
        assert (one.verdict(), back[metric].verdict()) == ("better", "worse")
        assert one.difference == pytest.approx(-back[metric].difference)
    assert forth["error_rate"].difference < 0 < forth["bleu"].difference
    assert "bs:300" in forth["bleu"].signature
    assert "seed:12345" in forth["bleu"].signature


def test_equal_outputs_do_not_differ():
    same = outputs_of(np.random.default_rng(0), 50, 0.3)
    for one in compared(same, same).values():
        assert (one.difference, one.p_value, one.verdict()) == (0.0, 1.0, "no significant difference")


def test_outputs_of_equal_quality_are_called_different_rarely():
    """The share of false alarms is about the 5 % it is meant to be: 5.0 % and two standard deviations of 200 tries."""
    alarms, tries = 0, 200
    for number in range(tries):
        random = np.random.default_rng(number)
        references = [["a b c d"]] * 100
        ours, theirs = (
            Outputs("o", ["a b c d" if random.random() < 0.5 else "a b" for _ in references], references)
            for _ in range(2)
        )
        alarms += compared(ours, theirs, ["exact_match"], draws=200)["exact_match"].significant
    assert alarms / tries < 0.05 + 2 * np.sqrt(0.05 * 0.95 / tries)


def test_the_interval_is_that_of_a_mean():
    references = [["a b c d"]] * 400
    ours = Outputs("o", ["a b c d" if row % 2 else "a" for row in range(400)], references)
    found = compared(ours, ours, ["exact_match"], draws=2000)["exact_match"]
    assert found.ours_interval == pytest.approx(1.96 * 100 * np.sqrt(0.25 / 400), rel=0.1)


def test_what_is_not_tested_is_named():
    assert untested(["bleu", "error_rate"], MAX_CORPUS_ROWS) == []
    assert untested(["bleu", "error_rate"], MAX_CORPUS_ROWS + 1) == ["bleu"]
