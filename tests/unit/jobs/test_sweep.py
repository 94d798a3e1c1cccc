import json

import pytest

from jobs.sweep import SweepFolder, state_of
from jobs.trial import Trial
from jobs.trial_figure import trial_figure
from rnnlm.errors import RefusedError
from rnnlm.storage import open_location

BASE = {"loop": {"max_steps": 10}, "threads": 1, "output": "x"}


def trial(name, **settings):
    return Trial(name, {"seed": name}, {**BASE, "seed": name, **settings})


def sweep(tmp_path):
    return SweepFolder(str(tmp_path), "A sweep")


def test_records_outlive_the_process(tmp_path):
    first = sweep(tmp_path)
    for _ in range(2):
        first.begin(trial("one"))
        first.end("one", "failed", 1.25, error="DataError: no")
    (tmp_path / "_sweep/trials/.one.json.0123.tmp").write_text("{")  # of a write that was killed
    record = sweep(tmp_path).records["one"]
    assert (record.state, record.attempts, record.seconds, record.error) == ("failed", 2, 1.25, "DataError: no")


def test_another_base_is_refused_by_what_differs(tmp_path):
    sweep(tmp_path).admit(BASE, [])
    sweep(tmp_path).admit({**BASE, "threads": 2, "output": "y"}, [])
    with pytest.raises(RefusedError, match=r"loop\.max_steps: 10 -> 20"):
        sweep(tmp_path).admit({**BASE, "loop": {"max_steps": 20}}, [])


def test_another_trial_of_the_same_name_is_refused_and_new_ones_are_not(tmp_path):
    first = sweep(tmp_path)
    first.admit(BASE, [trial("one")])
    first.begin(trial("one"))
    again = sweep(tmp_path)
    again.admit(BASE, [trial("one", threads=8), trial("two")])
    with pytest.raises(RefusedError, match="one: depth: 'absent' -> 3"):
        again.admit(BASE, [trial("one", depth=3)])


def test_the_leaderboard_follows_the_records(tmp_path):
    folder = sweep(tmp_path)
    folder.begin(trial("one"))
    folder.publish(last=True)
    assert "1 running" in (tmp_path / "leaderboard.md").read_text()
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "metrics.jsonl").write_text(
        "".join(json.dumps({"kind": kind, "step": 1, "tokens": 9, "nll": nll}) + "\n"
                for kind, nll in (("train", 0.5), ("valid", 2.0), ("valid", 1.5), ("valid", 1.75)))
    )  # fmt: skip
    folder.end("one", "finished", 1.0)
    folder.publish(last=True)
    assert "1.5000" in (tmp_path / "leaderboard.md").read_text()
    assert "<svg" in (tmp_path / "leaderboard.html").read_text()


@pytest.mark.parametrize(
    ("code", "state"),
    [(0, "finished"), (1, "failed"), (2, "failed"), (3, "failed"), (130, "interrupted"), (143, "interrupted")],
)
def test_exit_codes_as_states(code, state):
    assert state_of(code) == state


STREAM = {"perplexity": 82.5}
METRIC = {"bleu": {"name": "BLEU", "value": 30.0}}


@pytest.mark.parametrize(
    ("file", "content", "name", "value", "less"),
    [
        ("report.json", {"stream": STREAM, "hypotheses": None, "total": None}, "perplexity of the stream", 82.5, True),
        ("report.json", {"hypotheses": {"metrics": METRIC}, "stream": STREAM}, "BLEU", 30.0, False),
        (
            "report.json",
            {"hypotheses": None, "stream": None, "total": {"bits_per_byte": 1.2}},
            "bits per byte",
            1.2,
            True,
        ),
        ("labels.json", {"tags": {"accuracy": {"value": 0.9}}}, "accuracy", 0.9, False),
        ("_run/report.json", {"tokens_per_second": 10.0}, "tokens a second and worker", 10.0, False),
    ],
)
def test_each_kind_of_output_has_its_figure(tmp_path, file, content, name, value, less):
    open_location(str(tmp_path)).join(*file.split("/")).write_json(content)
    figure, metrics = trial_figure(open_location(str(tmp_path)))
    assert (figure.name, figure.value, figure.less_is_better, metrics) == (name, value, less, [])


def test_a_training_without_a_validation_has_no_figure_yet(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"kind": "train", "step": 1, "tokens": 9, "nll": 1.0}\n')
    figure, metrics = trial_figure(open_location(str(tmp_path)))
    assert figure is None
    assert len(metrics) == 1
