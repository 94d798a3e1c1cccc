"""Outputs with right answers: what is read, what is refused, and what the report says of them."""

import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rnnlm.errors import DataError
from rnnlm.evaluation.hypotheses import OutputColumns, check_pair, has_attention, read_attention, read_outputs
from rnnlm.evaluation.judged import MAX_MAP_WORDS, judge
from rnnlm.evaluation.judged_report import comparison_sentences, judged_sentence
from rnnlm.evaluation.metric_names import USUAL
from rnnlm.evaluation.report import ReportInputs, write_report
from rnnlm.evaluation.sequence_plots import map_attention
from rnnlm.storage import open_location

HYPOTHESES = pa.list_(
    pa.struct(
        [
            ("text", pa.string()),
            ("tokens", pa.list_(pa.int32())),
            ("logprob", pa.float64()),
            ("finish_reason", pa.string()),
        ]
    )
)
EVIL = "<script>alert('x')</script> & more"


def hypothesis(text, reason="end"):
    return {"text": text, "tokens": [1, 2], "logprob": -1.0, "finish_reason": reason}


def write(folder, hypotheses, kind=HYPOTHESES, parts=1, **columns):
    (folder / "data").mkdir(parents=True)
    table = pa.table({**columns, "hypotheses": pa.array(hypotheses, kind)})
    step = -(-table.num_rows // parts)
    for part in range(parts):
        pq.write_table(table.slice(part * step, step), folder / f"data/part-{part:06d}.parquet")
    return str(folder)


@pytest.fixture
def output(tmp_path):
    """Sixty translations of growing length, some wrong, two without an output, one with markup in it."""
    en = [" ".join(f"word{n}" for n in range(2 + row % 9)) for row in range(60)]
    texts = [text if row % 3 else text.replace("word1", "wrong") for row, text in enumerate(en)]
    hypotheses = [
        [hypothesis(text, "length" if row % 20 == 19 else "end"), hypothesis("second")]
        for row, text in enumerate(texts)
    ]
    hypotheses[7], hypotheses[8], hypotheses[12] = None, [], [hypothesis(EVIL)]
    errors = ["failed: a reason" if row == 7 else None for row in range(60)]
    return write(
        tmp_path / "out",
        hypotheses,
        parts=3,
        id=list(range(60)),
        de=[text.replace("word", "wort") for text in en],
        en=en,
        error=pa.array(errors, pa.string()),
    )


COLUMNS = OutputColumns("en", "de")


# ----- reading


def test_rows_without_an_output_are_counted_and_stay(output):
    found = read_outputs(output, COLUMNS)
    assert (found.rows, found.errors, found.missing) == (60, 1, 2)
    assert found.texts[7] == found.texts[8] == ""
    assert found.texts[1] == found.references[1][0] == "word0 word1 word2"
    assert found.texts[0] == "word0 wrong"
    assert found.sources is not None
    assert found.sources[0] == "wort0 wort1"
    assert found.finish_reasons == {"end": 55, "length": 3}


def test_an_output_beside_an_error_does_not_count(tmp_path):
    path = write(tmp_path / "o", [[hypothesis("a")]] * 2, en=["a", "a"], error=["failed: late", None])
    found = read_outputs(path, OutputColumns("en"))
    assert (found.texts, found.errors, found.missing) == (["", "a"], 1, 1)


def test_lists_of_references_and_the_least_of_hypotheses_are_enough(tmp_path):
    kind = pa.list_(pa.struct([("text", pa.string())]))
    path = write(
        tmp_path / "o",
        [[{"text": "a"}], [{"text": None}], [None]],
        kind,
        spoken=pa.array([["a", None, "b"], ["c"], ["d"]], pa.list_(pa.string())),
    )
    found = read_outputs(path, OutputColumns("spoken"))
    assert found.references == [["a", "b"], ["c"], ["d"]]
    assert (found.texts, found.missing, found.finish_reasons) == (["a", "", ""], 2, {})


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (OutputColumns("fr"), r"there is no column 'fr' among id, de, en.*; set reference_column"),
        (OutputColumns("id"), r"type int64, text or a list of texts is needed at .*column 'id'; set reference_column"),
        (OutputColumns("en", "fr"), r"no column 'fr'.*; set source_column, or null"),
        (OutputColumns("en", None, "id"), r"type int64, text is needed.*; set baseline_column, or null"),
    ],
)
def test_columns_of_no_use_are_named(output, columns, said):
    with pytest.raises(DataError, match=said):
        read_outputs(output, columns)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"en": ["a"]}, "there is no column 'hypotheses' among en.*; give the output of jobs.generate"),
        ({"en": ["a"], "hypotheses": ["b"]}, "type string, a list of structs with a text is needed"),
        ({"en": ["a"], "hypotheses": [[{"tokens": [1]}]]}, "a list of structs with a text is needed"),
        (
            {"en": ["a", None], "hypotheses": pa.array([[hypothesis("a")]] * 2, HYPOTHESES)},
            "the row has no reference at .*row 1, column 'en'; leave such rows out",
        ),
        (
            {"en": pa.array([], pa.string()), "hypotheses": pa.array([], HYPOTHESES)},
            "there are no rows to judge at .*; check hypotheses",
        ),
    ],
)
def test_what_cannot_be_judged_is_refused(tmp_path, table, said):
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=said):
        read_outputs(str(tmp_path), OutputColumns("en"))


def test_outputs_of_other_rows_are_not_compared(tmp_path):
    one = read_outputs(write(tmp_path / "a", [[hypothesis("a")]] * 2, en=["a", "b"]), OutputColumns("en"))
    short = read_outputs(write(tmp_path / "b", [[hypothesis("a")]], en=["a"]), OutputColumns("en"))
    other = read_outputs(write(tmp_path / "c", [[hypothesis("a")]] * 2, en=["a", "c"]), OutputColumns("en"))
    check_pair(one, one)
    with pytest.raises(DataError, match=r"has 2 rows, .*b has 1; compare outputs of the same corpus"):
        check_pair(one, short)
    with pytest.raises(DataError, match=r"the references differ: 'b' in .*a, 'c' here at .*c, row 1; compare"):
        check_pair(one, other)


# ----- attention


def attention_columns(rows):
    return {
        "alignment": pa.array([[[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]]] * rows, pa.list_(pa.list_(pa.float32()))),
        "source_pieces": [["ein", "hund"]] * rows,
        "target_pieces": [["a", "dog"]] * rows,
    }


def test_alignments_are_read_as_columns_or_within_the_hypothesis(tmp_path):
    outside = write(tmp_path / "o", [[hypothesis("a dog")]] * 5, parts=2, en=["a"] * 5, **attention_columns(5))
    kind = pa.list_(pa.struct([("text", pa.string()), ("alignment", pa.list_(pa.list_(pa.float64())))]))
    within = write(tmp_path / "i", [[{"text": "a", "alignment": [[1.0, 0.0]]}], None], kind, en=["a", "b"])
    found = read_attention(outside, [4, 0])
    assert [one.row for one in found] == [4, 0]
    assert (found[0].source, found[0].target) == (["ein", "hund"], ["a", "dog", "</s>"])
    assert found[0].weights[1] == pytest.approx([0.2, 0.8])
    (inner,) = read_attention(within, [0, 1])  # the second has none
    assert (inner.source, inner.target, inner.weights) == (["1", "2"], ["1"], [[1.0, 0.0]])
    assert has_attention(outside)
    assert has_attention(within)


def test_an_alignment_that_is_no_matrix_is_left_out(tmp_path):
    values = pa.array([[[1.0], [0.5, 0.5]], [], None, [[1.0]]], pa.list_(pa.list_(pa.float64())))
    path = write(tmp_path / "o", [[hypothesis("a")]] * 4, en=["a"] * 4, alignment=values)
    assert [one.row for one in read_attention(path, range(4))] == [3]


def test_a_map_names_tokens_and_shades_cells(tmp_path):
    path = write(tmp_path / "o", [[hypothesis("a")]], en=["a"], **attention_columns(1))
    svg = map_attention(read_attention(path, [0])[0], "Attention <0>")
    assert svg.count("<text") == 5
    assert "&lt;/s&gt;" in svg
    assert "Attention &lt;0&gt;" in svg
    assert 'fill-opacity="0.9"' in svg
    assert svg.count("v22h-22z") == 6


# ----- the report


def pages(judged, folder, **fields):
    write_report(ReportInputs(title="Pairs", judged=judged, **fields), open_location(str(folder)))
    return [(folder / name).read_text() for name in ("report.html", "report.md", "report.json")]


def test_the_three_files_say_the_same(output, tmp_path):
    judged = judge(output, OutputColumns("en", "de", "de"), USUAL["words"], "words")
    html, markdown, content = pages(judged, tmp_path / "report")
    data = json.loads(content)["hypotheses"]
    assert (data["rows"], data["errors"], data["without_output"]) == (60, 1, 2)
    for text in (html, markdown):
        assert f"{data['metrics']['bleu']['value']:.2f}" in text
        assert data["metrics"]["chrf"]["signature"] in text
        assert "2 of them without an output, 1 with an error, scored as empty outputs" in text
        assert "the column de as it is" in text
        assert "Finished by: end 55, length 3." in text
    assert sum(group["rows"] for group in data["by_length"]) == 60
    assert data["baseline"]["metrics"]["exact_match"]["value"] == 0.0
    assert data["worst"][0]["row"] == 12  # markup; rows without an output are not shown as the worst
    assert "Not given, so not shown: a training run." in markdown


def test_the_page_is_self_contained_and_escaped(output, tmp_path):
    html, _, _ = pages(judge(output, COLUMNS, USUAL["words"], "words"), tmp_path / "report")
    assert len(html) < 3_000_000
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert not re.search(r"(src|href)=[\"'](?!#)", html)
    names = re.findall(r'\sid="([^"]+)"', html)
    assert len(names) == len(set(names))
    assert html.count("<svg") == 4  # rows by quality and figures by length, wide and narrow


def test_another_output_is_compared_metric_by_metric(output, tmp_path):
    references = [right[0] for right in read_outputs(output, COLUMNS).references]
    other = write(tmp_path / "other", [[hypothesis("word0 nothing like it")]] * 60, en=references)
    judged = judge(output, COLUMNS, USUAL["words"], "words", against=other, draws=200)
    assert [one.verdict() for one in judged.comparisons] == ["better"] * 5
    html, markdown, content = pages(judged, tmp_path / "report")
    assert json.loads(content)["hypotheses"]["comparisons"][0]["signature"].startswith("nrefs:1|bs:200|seed:12345")
    for text in (html, markdown):
        assert "Paired bootstrap over 200 draws" in text
        assert re.search(r"By chrF, \d+ rows are better, \d+ worse, \d+ equal", text)
    assert comparison_sentences(judged)[0].endswith(": better (p = 0.005)")


def test_maps_of_attention_are_of_good_and_bad_rows_that_fit(tmp_path):
    rows = 12
    long = " ".join(["long"] * (MAX_MAP_WORDS + 1))
    texts = [long if row == 3 else "a dog" if row % 2 else "no" for row in range(rows)]
    en = [long if row == 3 else "a dog" for row in range(rows)]
    path = write(tmp_path / "o", [[hypothesis(text)] for text in texts], en=en, **attention_columns(rows))
    judged = judge(path, OutputColumns("en"), ["chrf"], "words")
    drawn = [one.row for one in judged.attention]
    assert len(drawn) == 5
    assert 3 not in drawn
    assert [judged.quality[row] > 99 for row in drawn] == [True, True, True, False, False]
    html, _, _ = pages(judged, tmp_path / "report")
    assert html.count('class="scroll map"') == 5


def test_pronunciations_are_told_by_the_names_of_their_field(tmp_path):
    path = write(
        tmp_path / "o",
        [[hypothesis("K AE T")], [hypothesis("D AO")]],
        word=["cat", "dog"],
        spoken=pa.array([["K AE T"], ["D AO G", "D AA G"]], pa.list_(pa.string())),
    )
    judged = judge(path, OutputColumns("spoken", "word"), USUAL["phonemes"], "phonemes")
    assert judged_sentence(judged) == (
        "2 rows (0 without an output), phoneme error rate 16.67 %, word error rate 50.00 %, exact match 50.00 %"
    )
    assert judged.length_of == "characters of the source"
    html, markdown, _ = pages(judged, tmp_path / "report")
    assert "closeness is 100 less the edits in % of the reference" in markdown
    assert "D AA G" in html


@pytest.mark.parametrize("texts", [[""], ["", ""], ["a"]])
def test_little_is_enough(tmp_path, texts):
    path = write(tmp_path / "o", [[hypothesis(text)] for text in texts], en=["a"] * len(texts))
    judged = judge(path, OutputColumns("en"), USUAL["words"], "words")
    html, _, _ = pages(judged, tmp_path / "report")
    assert "By length" not in html  # one group is the whole
    assert np.isfinite([figure.value for figure in judged.figures]).all()
