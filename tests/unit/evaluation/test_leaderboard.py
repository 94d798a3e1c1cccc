import pyarrow.parquet as pq
import pytest

from rnnlm.evaluation.leaderboard import (
    Figure,
    Standing,
    differing,
    ranked,
    write_leaderboard,
    write_leaderboard_page,
)
from rnnlm.evaluation.leaderboard_plots import MAX_AXES, plot_coordinates, plot_curves
from rnnlm.storage import open_location


def standing(name, loss, *, state="finished", error="", less=True, **parameters):
    figure = None if loss is None else Figure("validation loss", loss, less)
    metrics = [] if loss is None else [{"kind": "valid", "tokens": 100 * k, "nll": loss + 1 / k} for k in (1, 2, 3)]
    return Standing(name, state, parameters, 1.5, error, figure, metrics)


TRIALS = [
    standing("b", 2.0, cell="lstm", rate="0.01", depth="2"),
    standing("a", 1.0, cell="gru", rate="1e-3", depth="2"),
    standing("c", None, state="failed", error="DataError: a | b\n<i>no</i>", cell="gru", rate="0.1", depth="2"),
]


def test_the_best_comes_first_and_what_has_no_figure_last():
    assert [one.trial for one in ranked(TRIALS)] == ["a", "b", "c"]
    more_is_better = [standing("slow", 10.0, less=False), standing("fast", 20.0, less=False)]
    assert [one.trial for one in ranked(more_is_better)] == ["fast", "slow"]


def test_only_parameters_that_differ_are_shown():
    assert differing(TRIALS) == ["cell", "rate"]
    assert differing(TRIALS[:1]) == ["cell", "rate", "depth"]
    assert differing([standing("a", 1.0, cell="gru"), standing("b", 1.0, cell="gru", rate="1")]) == ["rate"]


def test_the_table_has_numbers_where_all_values_are_numbers(tmp_path):
    write_leaderboard(TRIALS, open_location(str(tmp_path)))
    rows = pq.read_table(tmp_path / "leaderboard.parquet").to_pylist()
    assert [row["trial"] for row in rows] == ["a", "b", "c"]
    assert [row["rate"] for row in rows] == [0.001, 0.01, 0.1]
    assert [row["cell"] for row in rows] == ["gru", "lstm", "gru"]
    assert rows[2]["value"] is None
    assert rows[2]["error"].startswith("DataError")
    lines = (tmp_path / "leaderboard.md").read_text().splitlines()
    assert lines[0] == "2 finished, 1 failed"
    assert lines[4].startswith("| 1 | a | gru | 1e-3 | 1.0000 | 1.5 | finished |")
    assert "a \\| b &lt;i>no" in lines[6]


def test_the_page_needs_nothing_but_itself_and_takes_no_text_for_html(tmp_path):
    write_leaderboard_page(TRIALS, "A sweep", open_location(str(tmp_path)))
    page = (tmp_path / "leaderboard.html").read_text()
    assert "<i>no</i>" not in page
    assert "<script" not in page
    assert page.count("Parameters and figure of each trial") >= 2
    assert page.count("Validation loss of the trials") >= 2
    for outside in ('src="', "url(http", "<link"):
        assert outside not in page


@pytest.mark.parametrize("count", [1, MAX_AXES, MAX_AXES + 5])
def test_coordinates_have_an_axis_a_parameter_up_to_a_limit(count):
    names = [f"task.size{k}" for k in range(count)]
    parameters = [{name: str(k + 1) for name in names} for k in range(3)]
    drawing = plot_coordinates(parameters, [1.0, 2.0, 3.0], names, "loss")
    shown = {name for name in names if name.removeprefix("task.") in drawing.wide}
    assert len(shown) == min(count, MAX_AXES)


def test_nothing_is_drawn_where_nothing_differs():
    assert plot_coordinates([{"a": "1"}, {"a": "1"}], [1.0, 2.0], ["a"], "loss") is None
    assert plot_curves({"a": [{"kind": "train", "tokens": 1, "nll": 1.0}]}) is None
