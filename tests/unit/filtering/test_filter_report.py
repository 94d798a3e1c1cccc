import json
import re

import numpy as np
import pyarrow as pa
import pytest

from rnnlm.errors import DataError
from rnnlm.filtering import plots
from rnnlm.filtering.groups import GroupedSketch
from rnnlm.filtering.partitions import NAMES, PartitionCounts, cut_at_quantiles, cut_at_thresholds
from rnnlm.filtering.quantiles import QuantileSketch
from rnnlm.filtering.report import FilterReport, write_filter_report
from rnnlm.storage import open_location

MAX_BYTES = 1_000_000  # small enough to send around


def report_of(values, groups=None, cuts=None, **kwargs):
    sketches = GroupedSketch()
    sketches.add(values, groups)
    cuts = cuts or cut_at_quantiles(sketches)
    counts = PartitionCounts(cuts.names)
    counts.add(cuts.assign(values, groups), groups)
    return FilterReport("A <b>title</b>", sketches, cuts, counts, **kwargs)


def pages(report, folder):
    write_filter_report(report, open_location(str(folder)))
    return [(folder / name).read_text() for name in ("report.html", "report.md", "report.json")]


@pytest.fixture(scope="module")
def languages():
    generator = np.random.default_rng(6)
    sizes = {"en": 4000, "d|e": 2000, "<i>": 300, "yo": 30, "x": 2}
    values = np.concatenate([generator.lognormal(5.0 + place / 2, 0.8, n) for place, n in enumerate(sizes.values())])
    values[::100] = np.nan
    groups = pa.array([name for name, size in sizes.items() for _ in range(size)])
    settings = {"score_column": "perplexity", "group": {"_target_": "rnnlm.x", "columns": ["language"]}}
    return report_of(pa.array(values, from_pandas=True), groups, settings=settings, versions={"rnnlm": "0.1.0"})


def test_the_page_is_self_contained_and_escaped(languages, tmp_path):
    html, markdown, _ = pages(languages, tmp_path)
    assert len(html) < MAX_BYTES
    assert "A &lt;b&gt;title" in html
    assert "<i>" not in html + markdown
    assert not re.search(r"(src|href)=[\"'](?!#)", html)
    assert not re.search(r"@import|<script|url\((?!#)", html)
    assert html.count("<svg") == 2 + 4  # all rows, wide and narrow; a group of two rows has no shape
    names = re.findall(r'\sid="([^"]+)"', html)
    assert len(names) == len(set(names))
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in markdown.splitlines() if line.startswith("|")} == {9}


def test_the_three_files_say_the_same_and_the_rows_add_up(languages, tmp_path):
    html, markdown, content = pages(languages, tmp_path)
    data = json.loads(content)
    total = data["total"]
    assert total["rows"] == 6332 == sum(total["partitions"].values()) + total["without_score"]
    for row in data["groups"].values():
        assert row["rows"] == sum(row["partitions"].values()) + row["without_score"]
        assert sum(row["shares"].values()) == pytest.approx(1.0)
    assert sum(row["rows"] for row in data["groups"].values()) == 6332
    assert data["groups_with_common_cuts"] == ["x", "yo"]
    assert data["groups"]["yo"]["thresholds"] == total["thresholds"] != data["groups"]["en"]["thresholds"]
    assert data["settings"] == {"score_column": "perplexity", "group.columns": ["language"]}
    for text in (html, markdown):
        assert "64 without a score = 6,332." in text
        assert "having fewer than 100 scores of their own: x, yo." in text
        assert f"{data['groups']['en']['quantiles']['0.5']:.4g}" in text
        assert f"{data['groups']['en']['thresholds'][0]:.4g}" in text


def test_the_same_scores_in_another_order_give_the_same_bytes(languages, tmp_path):
    values, groups = pa.array([3.0, 1.0, 2.0] * 70), pa.array(["b", "a", "b"] * 70)
    there = pages(report_of(values, groups), tmp_path / "one")
    back = pages(report_of(values[::-1], groups[::-1]), tmp_path / "two")
    assert there == back


@pytest.mark.parametrize(
    "values",
    [
        [1.0],
        [0.0] * 5,
        [-1e308, 0.0, 1e308],
        [5e-324, 1e-310, 1e308],
        [1e304] * 3,
        [-2.5, None, float("nan")],
        list(range(-50, 1000)),
        [None, float("inf")],
    ],
)
def test_any_scores_make_a_page(tmp_path, values):
    report = report_of(pa.array(values, pa.float64()), cuts=cut_at_thresholds([0.0, 10.0]))
    html, markdown, _ = pages(report, tmp_path)
    assert html.count("<svg") == (2 if report.sketches.total().count else 0)
    assert "<h2>Partitions</h2>" in html
    assert f"= {len(values):,}." in markdown
    assert "The cuts are fixed" in markdown


def test_more_groups_than_a_table_shows_are_all_in_the_json(tmp_path):
    groups = pa.array([f"group {place // 3}" for place in range(300)])
    html, markdown, content = pages(report_of(pa.array(np.arange(300.0)), groups), tmp_path)
    assert len(json.loads(content)["groups"]) == 100
    assert "60 smaller groups only in report.json" in html
    assert "and 88 more." in markdown
    assert markdown.count("\n| group ") == 200


def test_a_corpus_that_changed_between_the_passes_is_refused_before_anything_is_written(tmp_path):
    report = report_of(pa.array([1.0, 2.0]), pa.array(["a", "b"]))
    report.counts.add(report.cuts.assign(pa.array([None], pa.float64()), pa.array(["b"])), pa.array(["b"]))
    with pytest.raises(DataError, match=r"group 'b'.*1 with and 0 without a score then, 1 with and 1 without.* now"):
        write_filter_report(report, open_location(str(tmp_path / "report")))
    assert not (tmp_path / "report").exists()


def test_the_axis_is_logarithmic_for_positive_scores_over_two_decades():
    def scale(*values):
        sketch = QuantileSketch()
        sketch.add(np.array(values))
        return plots.scale_of(sketch)

    assert scale(1.0, 100.0).log
    assert not scale(1.0, 99.0).log
    assert not scale(0.0, 100.0).log
    assert plots.ticks_of(scale(10.0, 5000.0), 4) == [10.0, 100.0, 1000.0]
    assert plots.ticks_of(scale(10.0, 5000.0), 6) == [10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0]
    assert plots.ticks_of(scale(10.0, 5000.0), 9) == [10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0]
    assert len(plots.ticks_of(scale(1e-200, 1e200), 4)) == 4


def test_the_bins_hold_all_but_the_outermost_rows_each_in_its_partition(languages):
    sketch = languages.sketches.total()
    counts = plots._histogram(sketch, languages.cuts.common, plots.scale_of(sketch))
    expected = np.array([1, 1, 1]) * sketch.count / 3
    # What the plot leaves out, on either side, and what a bucket holds.
    assert np.abs(counts.sum(1) - expected).max() <= 2 * plots.OUTERMOST * sketch.count + 10
    used = [np.flatnonzero(row) for row in counts]
    assert used[0].max() <= used[1].min()
    assert used[1].max() <= used[2].min()


def test_colours_go_from_strong_to_faint():
    assert plots.colours_of(len(NAMES))[0] == plots.STRONG
    assert plots.colours_of(len(NAMES))[-1] == plots.FAINT
    assert len(set(plots.colours_of(6))) == 6
