"""Runs side by side: names, kinds, settings, rows read in step, and what the page says."""

import itertools
import json
import math
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.numpy

from jobs.compare import compare
from jobs.schemas import CompareJob
from rnnlm.config import from_dict
from rnnlm.errors import ConfigError, DataError
from rnnlm.evaluation.comparison import paired_rows
from rnnlm.evaluation.comparison.blocks import Blocks
from rnnlm.evaluation.comparison.measures import Measure, best, measure
from rnnlm.evaluation.comparison.plots import plot_cost
from rnnlm.evaluation.comparison.report import Comparison, comparison_data
from rnnlm.evaluation.comparison.runs import Run, name_paths
from rnnlm.evaluation.comparison.scored_runs import compare_scored
from rnnlm.evaluation.comparison.settings import differing
from rnnlm.evaluation.comparison.training_runs import training_run
from rnnlm.evaluation.leaderboard_plots import plot_curves
from rnnlm.evaluation.perplexity import evaluate_scored
from rnnlm.evaluation.scored import ScoredColumns
from rnnlm.storage import open_location
from rnnlm.training.metrics import METRICS, read_metrics

RANDOM = np.random.default_rng(11)
TEXTS = ["", "words of a row " * 8, *(f"row {k} " + "é" * int(RANDOM.integers(1, 90)) for k in range(198))]
LOGPROBS = [-1.5 * len(text.encode()) ** 0.9 - 2.0 for text in TEXTS]


def write_json(file: Path, content):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))


def save_scored(folder: Path, logprobs=LOGPROBS, *, texts=TEXTS, errors=None, parts=1, job="score", **work):
    """What jobs.score leaves, in so many part files."""
    columns = {
        "id": [f"id{k}" for k in range(len(texts))],
        "text": texts,
        "logprob": pa.array(logprobs, pa.float64()),
        "num_tokens": pa.array([len(text) // 3 + 1 for text in texts], pa.int32()),
        "error": pa.array(errors or [None] * len(texts), pa.string()),
    }
    table = pa.table(columns)
    (folder / "data").mkdir(parents=True)
    ends = np.linspace(0, len(texts), parts + 1).astype(int)
    for number, (start, end) in enumerate(itertools.pairwise(ends)):
        pq.write_table(table.slice(start, end - start), folder / f"data/part-{number:06d}.parquet", row_group_size=37)
    recipe = {"work": {"text_column": "text", "target_column": None, **work}, "corpus": {"path": "c.parquet"}}
    identity = {"job": job, "work": {"model": folder.name, "torch": "2"}, "pyarrow": "1"}
    write_json(folder / "_run/plan.json", {"identity": identity, "recipe": recipe})
    record = {"rows": {"rows": len(texts)}, "wall_seconds": 2.0, "seconds": 3.0, "workers": 2, "tokens_per_second": 10}
    write_json(folder / "_run/report.json", record)
    write_json(folder / "_SUCCESS", {})
    return str(folder)


def save_trained(folder: Path, losses=(3.0, 2.0, 2.5), *, tokenizer="t", **settings):
    """What jobs.train leaves, as far as it is compared."""
    rows = []
    for step, loss in enumerate(losses, 1):
        common = {"step": step, "tokens": 100 * step, "wall_seconds": 1.5 * step}
        rows.append({"kind": "train", **common, "nll": loss + 0.1, "tokens_per_second": 60.0 + step})
        rows.append({"kind": "valid", **common, "nll": loss})
    checkpoint = folder / "checkpoints/step-1"
    write_json(folder / "checkpoints/index.json", {"best": "step-1", "last": "step-1"})
    write_json(checkpoint / "config.json", {"weights_sha256": "w"})
    weights = {"a": np.zeros((3, 5), np.float32), "b": np.zeros(7, np.float32)}
    (checkpoint / "weights.safetensors").write_bytes(safetensors.numpy.save(weights, {"made": "here"}))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_json(folder / "run.json", {"tokenizer": tokenizer, "train_tokens": "1", "valid_tokens": "2"})
    write_json(folder / "settings.json", {"output": str(folder), "workers": 1, "seed": 1, **settings})
    return str(folder)


def run(tmp_path, *runs, **given):
    """The command, in this process; its report."""
    compare(from_dict(CompareJob, {"runs": list(runs), "output": str(tmp_path / "out"), "draws": 500, **given}))
    return json.loads((tmp_path / "out/report.json").read_text())


def paired_report(*paths, baseline=None, id_column=None):
    """What report.json says of scored runs, without the page."""
    named = name_paths(paths)
    baseline = baseline or next(iter(named))
    runs, scored = compare_scored(named, baseline, id_column=id_column, draws=200)
    return comparison_data(Comparison("title", "score", runs, baseline, scored))


# ----- names, figures, settings


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["s3://key:secret@a/run", "s3://key:secret@b/run"], ["a", "b"]),
        (["out/lstm", "out/gru/"], ["lstm", "gru"]),
        (["novels/lstm/model", "novels/gru/model"], ["lstm", "gru"]),
        (["a/x/1", "b/x/1", "b/y/1"], ["a/x", "b/x", "b/y"]),
        (["demo/model", "wt2/model", "wt2/two_hours"], ["demo/model", "wt2/model", "wt2/two_hours"]),
        (["s3://key:secret@bucket/a?region=x", "s3://key:secret@bucket/b"], ["a", "b"]),
    ],
)
def test_names_are_what_tells_the_paths_apart(paths, names):
    assert list(name_paths(paths)) == names


def test_names_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match="out/a is given twice"):
        name_paths(["out/a", "out/a"])
    with pytest.raises(ConfigError, match="there are 2 runs and 1 names"):
        name_paths(["a", "b"], ["x"])
    with pytest.raises(ConfigError, match="x, x are not distinct"):
        name_paths(["a", "b"], ["x", "x"])


def test_the_best_follows_the_direction_of_the_measure():
    runs = [Run(name, name, {"m": value}, {}) for name, value in (("a", 2.0), ("b", 1.0), ("c", None), ("d", 1.0))]
    assert best(Measure("m", "m", less_is_better=True), runs) == ["b", "d"]
    assert best(Measure("m", "m", less_is_better=False), runs) == ["a"]
    assert best(Measure("m", "m"), runs) == []
    assert best(Measure("m", "m", less_is_better=True), runs[1::2]) == []


def test_only_settings_that_differ_are_told_exactly():
    runs = [
        Run("a", "a", {}, {"same": 1, "x": 1, "y": [1, 2], "only": None, "layers": [{"size": 1, "same": 2}]}),
        Run("b", "b", {}, {"same": 1, "x": 1.0, "y": [2, 1], "layers": [{"size": 2, "same": 2}, {"size": 3}]}),
    ]
    assert differing(runs) == {
        "layers.0.size": {"a": 1, "b": 2},
        "layers.1.size": {"b": 3},
        "only": {"a": None},
        "x": {"a": 1, "b": 1.0},
        "y": {"a": [1, 2], "b": [2, 1]},
    }


@pytest.mark.parametrize("rows", [0, 5, 8, 9, 100])
def test_blocks_hold_the_sums_of_neighbours_and_no_more_than_their_limit(rows):
    values = RANDOM.integers(-9, 9, (3, rows)).astype(float)
    blocks = Blocks(3, limit=8)
    for start in range(0, rows, 7):
        blocks.add(values[:, start : start + 7])
    sums = blocks.sums()
    assert sums.shape[1] == -(-rows // blocks.size) <= 8
    for place in range(sums.shape[1]):
        expected = values[:, place * blocks.size : (place + 1) * blocks.size].sum(1)
        assert sums[:, place].tolist() == expected.tolist()


# ----- scored runs


def test_figures_are_those_of_an_evaluation_however_the_rows_are_stored(tmp_path):
    a = save_scored(tmp_path / "a")
    b = save_scored(tmp_path / "b", [one * 1.1 for one in LOGPROBS], parts=7)
    report = paired_report(a, b)
    for name, path in (("a", a), ("b", b)):
        expected, found = evaluate_scored(path, ScoredColumns()).total, report["runs"][name]["figures"]
        for key in ("bits_per_byte", "token_perplexity", "word_perplexity"):
            assert found[key] == pytest.approx(getattr(expected, key), rel=1e-12)
        assert found["tokens"] == expected.tokens
    assert report["best"]["bits_per_byte"] == ["a"]
    found = {name: report["runs"][name]["figures"]["bits_per_byte"] for name in "ab"}
    assert report["significance"]["differences"]["b"]["value"] == pytest.approx(found["b"] - found["a"])


def test_a_run_against_itself_differs_by_nothing(tmp_path, capsys):
    a = save_scored(tmp_path / "a")
    report = run(tmp_path, a, a, names=["one", "two"])
    found = report["significance"]["differences"]["two"]
    assert (found["value"], found["interval"], found["p_value"]) == (0.0, [0.0, 0.0], 1.0)
    assert (found["verdict"], found["better_rows"], found["worse_rows"]) == ("no significant difference", [], [])
    assert report["settings"] == {}
    assert "two against one: +0.0000 bits per byte" in capsys.readouterr().out
    assert "No row differs." in (tmp_path / "out/report.html").read_text()


def test_rows_that_differ_by_less_than_can_be_drawn_do_differ(tmp_path):
    slightly = [one - 0.001 * len(text.encode()) for one, text in zip(LOGPROBS, TEXTS, strict=True)]
    report = run(tmp_path, save_scored(tmp_path / "a"), save_scored(tmp_path / "b", slightly))
    assert report["significance"]["differences"]["b"]["verdict"] == "worse"
    page = (tmp_path / "out/report.html").read_text()
    assert "No row differs" not in page
    assert "The differences of nearly all rows lie within 0.008 bits per byte of one another." in page


@pytest.mark.parametrize(("share", "verdict"), [(1e-8, "no difference but rounding"), (1e-5, "worse")])
def test_the_same_model_on_another_processor_is_not_better_for_its_rounding(share, verdict, tmp_path):
    moved = [one * (1.0 + share) for one in LOGPROBS]
    report = paired_report(save_scored(tmp_path / "a"), save_scored(tmp_path / "b", moved))
    found = report["significance"]["differences"]["b"]
    assert found["adjusted_p_value"] < 0.05
    assert found["verdict"] == verdict


def test_where_nothing_can_be_tested_that_is_said(tmp_path, capsys):
    halves = [[None if k % 2 == odd else one for k, one in enumerate(LOGPROBS)] for odd in (0, 1)]
    run(tmp_path, *(save_scored(tmp_path / name, one) for name, one in zip("ab", halves, strict=True)))
    assert "compare: no row with a text has a score in every run" in capsys.readouterr().out
    for name in ("report.html", "report.md"):
        assert "o row with a text has a score in every run" in (tmp_path / "out" / name).read_text()


def test_names_and_texts_are_no_html_and_no_two_plots_share_an_id(tmp_path):
    texts = ["<script>x()</script> & more of it " * 2] * len(TEXTS)
    noise = [one + k % 7 - 4.0 for k, one in enumerate(LOGPROBS)]
    paths = [
        save_scored(tmp_path / name, one, texts=texts) for name, one in (("a", LOGPROBS), ("b", noise), ("c", noise))
    ]
    run(tmp_path, *paths, names=['"><script>', "+", "-"], title="<script>")
    page = (tmp_path / "out/report.html").read_text()
    assert "<script" not in page
    found = re.findall(r'<svg [^>]*aria-label="([^"]*)"', page)
    assert "Rows by difference, + less &quot;&gt;&lt;script&gt;" in found
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(set(ids)) == len(ids)


def test_the_clock_of_a_run_that_was_resumed_is_not_known(tmp_path):
    a, b = save_scored(tmp_path / "a"), save_scored(tmp_path / "b")
    record = json.loads((tmp_path / "b/_run/report.json").read_text())
    write_json(tmp_path / "b/_run/report.json", {**record, "wall_seconds": 0.1, "resumed_shards": 1})
    found = paired_report(a, b)["runs"]
    assert [found[name]["figures"]["wall_seconds"] for name in "ab"] == [2.0, None]


def test_a_constant_shift_is_found_in_both_directions_and_adjusted(tmp_path):
    shift = 0.05 * math.log(2.0)  # bits a byte
    sizes = [len(text.encode()) for text in TEXTS]
    paths = [
        save_scored(tmp_path / name, [one - sign * shift * size for one, size in zip(LOGPROBS, sizes, strict=True)])
        for name, sign in (("same", 0), ("worse", 1), ("better", -1))
    ]
    found = paired_report(*paths)["significance"]["differences"]
    for name, value in (("worse", 0.05), ("better", -0.05)):
        assert found[name]["value"] == pytest.approx(value)
        assert found[name]["interval"] == pytest.approx([value, value])
        assert (found[name]["p_value"], found[name]["adjusted_p_value"]) == pytest.approx((1 / 201, 2 / 201))
        assert found[name]["verdict"] == name
    again = paired_report(*paths, baseline="worse")["significance"]["differences"]
    assert {name: one["value"] for name, one in again.items()} == pytest.approx({"same": -0.05, "better": -0.1})


def test_rows_that_differ_most_are_shown_in_both_directions(tmp_path):
    changed = list(LOGPROBS)
    changed[1] += 40.0
    place = next(k for k in range(2, 200) if len(TEXTS[k].encode()) > 100)
    changed[place] -= 40.0
    report = paired_report(save_scored(tmp_path / "a"), save_scored(tmp_path / "b", changed), id_column="id")
    found = report["significance"]["differences"]["b"]
    for rows, row, sign in ((found["better_rows"], 1, -1), (found["worse_rows"], place, 1)):
        expected = sign * 40.0 / math.log(2.0) / len(TEXTS[row].encode())
        assert rows == [{"difference": pytest.approx(expected), "row": row, "id": f"id{row}", "excerpt": TEXTS[row]}]


def test_rows_without_a_score_in_one_run_count_in_none(tmp_path):
    broken = [None if k == 3 else math.nan if k == 4 else one for k, one in enumerate(LOGPROBS)]
    errors = ["too long" if k in {3, 5} else None for k in range(len(TEXTS))]
    report = paired_report(save_scored(tmp_path / "a"), save_scored(tmp_path / "b", broken, errors=errors))
    assert report["significance"]["common_rows"] == len(TEXTS) - 3
    assert {name: one["figures"]["errors"] for name, one in report["runs"].items()} == {"a": 0, "b": 3}
    assert report["significance"]["differences"]["b"]["value"] == 0.0


def test_blocks_of_rows_change_no_figure(tmp_path, monkeypatch):
    noise = [one + k % 7 - 3.0 for k, one in enumerate(LOGPROBS)]
    paths = [save_scored(tmp_path / "a"), save_scored(tmp_path / "b", noise)]
    exact = paired_report(*paths)["significance"]
    monkeypatch.setattr(paired_rows, "Blocks", lambda columns: Blocks(columns, limit=64))
    found = paired_report(*paths)["significance"]
    assert (exact["rows_a_block"], found["rows_a_block"]) == (1, 4)
    assert found["differences"]["b"]["value"] == pytest.approx(exact["differences"]["b"]["value"], rel=1e-9)


def test_other_rows_are_refused_with_the_first_that_differs(tmp_path):
    a = save_scored(tmp_path / "a")
    other = [*TEXTS[:150], "another text", *TEXTS[151:]]
    with pytest.raises(DataError, match=r"'another text' here at .*/b, row 150, column 'text'"):
        paired_report(a, save_scored(tmp_path / "b", texts=other))
    with pytest.raises(DataError, match=r"/a has 200 rows, .*/c has more at .*/c, row 200; compare runs that"):
        paired_report(a, save_scored(tmp_path / "c", [*LOGPROBS, -1.0], texts=[*TEXTS, "more"]))


def test_without_the_text_rows_are_told_by_an_id(tmp_path):
    paths = [save_scored(tmp_path / "a", text_column="gone"), save_scored(tmp_path / "b", [x - 1 for x in LOGPROBS])]
    with pytest.raises(ConfigError, match=r"id_column: the output of a has no column 'gone'"):
        paired_report(*paths)
    report = paired_report(*paths, id_column="id")
    assert report["runs"]["a"]["figures"]["bits_per_byte"] is None
    found = report["significance"]
    assert (found["unit"], found["differences"]["b"]["value"]) == ("nats a row", pytest.approx(1.0))


# ----- other kinds


def test_trained_runs_and_what_differs_in_them(tmp_path):
    paths = [save_trained(tmp_path / "a"), save_trained(tmp_path / "b", (3.0, 1.5), seed=2, task={"size": 4})]
    report = run(tmp_path, *paths)
    figures = report["runs"]["a"]["figures"]
    assert {key: figures[key] for key in ("best_valid_nll", "steps", "targets", "parameters", "seconds_to_best")} == {
        "best_valid_nll": 2.0,
        "steps": 3,
        "targets": 300,
        "parameters": 22,
        "seconds_to_best": 3.0,
    }
    assert figures["valid_perplexity"] == pytest.approx(math.exp(2.0))
    assert (figures["worker_seconds"], figures["tokens_per_second"]) == (4.5, 62.0)
    assert report["settings"] == {"seed": {"a": 1, "b": 2}, "task.size": {"b": 4}}
    assert report["best"]["best_valid_nll"] == ["b"]
    page = (tmp_path / "out/report.html").read_text()
    for curve in ("Validation", "Training"):
        for clock in ("targets seen", "seconds on the clock"):
            assert f'aria-label="{curve} loss of the runs over {clock}"' in page
    for outside in ("<script", 'src="', "url(http", "<link"):
        assert outside not in page


def test_losses_of_other_tokenizers_have_no_best(tmp_path):
    paths = {"a": save_trained(tmp_path / "a"), "b": save_trained(tmp_path / "b", (1.0,), tokenizer="other")}
    runs = [training_run(name, path, read_metrics(open_location(f"{path}/{METRICS}"))) for name, path in paths.items()]
    report = comparison_data(Comparison("title", "train", runs, "a"))
    assert "best_valid_nll" not in report["best"]
    assert "wall_seconds" in report["best"]
    assert "different tokenizers" in report["notes"][0]


def test_reports_of_an_evaluation(tmp_path):
    for name, value in (("a", 20.0), ("b", 30.0)):
        metrics = {"bleu": {"name": "BLEU", "value": value}, "error_rate": {"name": "error", "value": value}}
        write_json(tmp_path / name / "report.json", {"hypotheses": {"metrics": metrics, "rows": 5, "errors": 0}})
    report = run(tmp_path, str(tmp_path / "a"), str(tmp_path / "b"))
    assert report["best"] == {"bleu": ["b"], "error_rate": ["a"]}


def test_reports_about_other_tokens_and_of_other_work_mark_no_best_of_them(tmp_path):
    for name, tokens in (("a", 10), ("b", 20)):
        total = {
            "rows": 5,
            "num_bytes": 90,
            "tokens": tokens,
            "token_perplexity": 9.0 * tokens,
            "bits_per_byte": tokens,
        }
        stream = {"targets": tokens, "perplexity": 8.0 * tokens}
        work = {"training": {"targets_per_second": 7.0}} if name == "a" else {}
        content = {"total": total, "stream": stream, "scoring": {"tokens_per_second": 100.0 * tokens}, **work}
        write_json(tmp_path / name / "report.json", content)
    report = run(tmp_path, str(tmp_path / "a"), str(tmp_path / "b"))
    assert report["best"] == {"bits_per_byte": ["a"], "scored_per_second": ["b"]}
    assert "different numbers of tokens" in report["notes"][0]
    assert report["runs"]["b"]["figures"]["tokens_per_second"] is None


def test_a_run_that_ended_with_a_loss_that_is_no_number_is_compared_by_the_others(tmp_path):
    paths = [save_trained(tmp_path / "a"), save_trained(tmp_path / "b", (math.nan, 2.5, math.inf))]
    report = run(tmp_path, *paths)
    assert report["runs"]["b"]["figures"]["best_valid_nll"] == 2.5
    assert report["best"]["best_valid_nll"] == ["a"]


def test_runs_of_different_kinds_and_what_is_no_run_are_refused(tmp_path):
    trained, scored = save_trained(tmp_path / "trained"), save_scored(tmp_path / "scored")
    with pytest.raises(DataError, match=r"trained is the output of jobs\.train, scored is the output of jobs\.score"):
        run(tmp_path, trained, scored)
    with pytest.raises(DataError, match=r"labelled is the output of jobs\.predict.*predictions=.*labelled 'against=\["):
        run(tmp_path, save_scored(tmp_path / "labelled", job="predict"), scored)
    with pytest.raises(DataError, match=r"no run \(no checkpoints/index\.json"):
        run(tmp_path, scored, str(tmp_path))
    (tmp_path / "scored/_SUCCESS").unlink()
    with pytest.raises(DataError, match="scored is not finished"):
        run(tmp_path, scored, trained)


def test_options_that_do_not_fit_are_refused(tmp_path):
    paths = [save_trained(tmp_path / "a"), save_trained(tmp_path / "b")]
    with pytest.raises(ConfigError, match="baseline_run: there is no run 'c' among a, b"):
        run(tmp_path, *paths, baseline_run="c")
    with pytest.raises(ConfigError, match="baseline_run is about outputs"):
        run(tmp_path, *paths, baseline_run="b")
    with pytest.raises(ConfigError, match="id_column is about outputs"):
        run(tmp_path, *paths, id_column="id")
    with pytest.raises(ConfigError, match="runs"):
        run(tmp_path, paths[0])


def test_costs_far_apart_stand_on_a_logarithmic_axis_and_one_run_has_no_plot():
    quality = {"a": (2.0, 9.0), "b": (900.0, 5.0), "c": (950.0, 6.0)}
    runs = [Run(name, name, {"wall_seconds": x, "bits_per_byte": y}, {}) for name, (x, y) in quality.items()]
    drawing = plot_cost(runs, measure("wall_seconds"), measure("bits_per_byte"))
    for svg in (drawing.wide, drawing.narrow):
        ticks = [tick for tick in ("1", "10", "100", "1 k") if f">{tick}</text>" in svg]
        assert ticks == ["10", "100", "1 k"]  # the powers of ten between 2 / 1.3 and 950 x 1.3
    assert plot_cost(runs[:1], measure("wall_seconds"), measure("bits_per_byte")) is None


def test_curves_of_runs_of_very_different_length_are_drawn_from_the_first_moment():
    rows = {
        name: [{"kind": "valid", "wall_seconds": t, "nll": 2.0} for t in (0.0, end)]
        for name, end in (("a", 2.0), ("b", 500.0))
    }
    drawing = plot_curves(rows, clock="wall_seconds", of="runs")
    assert all(">100</text>" in svg for svg in (drawing.wide, drawing.narrow))
