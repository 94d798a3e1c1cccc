import builtins
import json
import math
import re
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rnnlm.errors import EnvironmentFailure
from rnnlm.evaluation.baselines import Baselines
from rnnlm.evaluation.perplexity import HISTOGRAM_EDGES, Evaluation, Totals, evaluate_scored
from rnnlm.evaluation.plots import thin
from rnnlm.evaluation.report import ReportInputs, Sample, write_report
from rnnlm.evaluation.scored import ScoredColumns
from rnnlm.evaluation.stream import StreamResult
from rnnlm.storage import open_location

MAX_BYTES = 3_000_000  # small enough to send around
STREAM = Totals(rows=34, logprob=-4.0 * 1234, tokens=1234, num_bytes=5000, chars=4000, words=800)
EVIL = "<script>alert('x')</script> & more " * 4


@pytest.fixture
def full(tmp_path):
    rows = 300
    table = pa.table(
        {
            "id": [f"row {i}" for i in range(rows)],
            "kind": ["code" if i % 3 else "prose" for i in range(rows)],
            "text": [EVIL + "x" * i for i in range(rows)],
            "logprob": [-40.0 - i for i in range(rows)],
            "num_tokens": pa.array([20] * rows, pa.int32()),
        }
    )
    (tmp_path / "data").mkdir()
    pq.write_table(table, tmp_path / "data" / "part-000000.parquet")
    steps = range(20, 400, 20)
    train = [
        {
            "kind": "train",
            "step": s,
            "tokens": s * 100,
            "wall_seconds": s / 10,
            "nll": 9 - s / 100,
            "tokens_per_second": 1e4,
        }
        for s in steps
    ]
    valid = [
        {"kind": "valid", "step": s, "tokens": s * 100, "wall_seconds": s / 10, "nll": 9 - s / 110} for s in (200, 380)
    ]
    return ReportInputs(
        title="A <b>title</b>",
        evaluation=evaluate_scored(str(tmp_path), ScoredColumns(group="kind", id="id")),
        baselines=Baselines(order0=4.5, gzip=2.5, xz=2.25),
        stream=StreamResult("tokens/test", 1, STREAM),
        metrics=[*train, *valid],
        scoring={
            "tokens": 6000,
            "shards": 1,
            "wall_seconds": 1.5,
            "workers": 0,
            "estimate": {"wall_seconds": {"estimated": 2.0, "true": 1.5, "ratio": 1.3}},
            "tokens_per_second": 4000.0,
            "rows": {"planned": 300, "skipped": 0, "rows": 300, "ok": 297, "null": 2, "error": 1},
            "corpus": {"rows": {"dropped": {"near duplicate": 78}}},
        },
        samples=[Sample("def ", EVIL, -9.0, 3, "length"), Sample("", "empty", 0.0, 0, "end")],
        settings={"task": {"_target_": "rnnlm.x", "num_layers": 2}},
        versions={"torch": "2.13.0"},
    )


def pages(inputs, folder):
    write_report(inputs, open_location(str(folder)))
    return [(folder / name).read_text() for name in ("report.html", "report.md", "report.json")]


def test_the_page_is_self_contained_and_escaped(full, tmp_path):
    html, _, _ = pages(full, tmp_path / "report")
    assert len(html) < MAX_BYTES
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert "A &lt;b&gt;title" in html
    # xlink and xmlns name vocabularies; nothing is ever fetched from them.
    assert not re.search(r"(src|href)=[\"'](?!#)", html)
    assert "@import" not in html
    assert not re.search(r"url\((?!#)", html)
    assert html.count("<svg") == 8  # four plots, wide and narrow


def test_drawings_share_no_names(full, tmp_path):
    html, _, _ = pages(full, tmp_path / "report")
    names = re.findall(r'\sid="([^"]+)"', html)
    assert len(names) == len(set(names))
    assert set(re.findall(r"(?:href=\"|url\()#([^\")]+)", html)) <= set(names)


def test_the_same_inputs_give_the_same_bytes(full, tmp_path):
    assert pages(full, tmp_path / "one") == pages(full, tmp_path / "two")


def test_the_three_files_say_the_same(full, tmp_path):
    html, markdown, content = pages(full, tmp_path / "report")
    data = json.loads(content)
    bits = data["total"]["bits_per_byte"]
    assert data["settings"] == {"task.num_layers": 2}
    for text in (html, markdown):
        assert f"{bits:.3f}" in text
        assert "54.60" in text
        assert "Perplexity a word 371.84 over 800 white-space words and 34 ends of documents" in text
        assert "1.4242 bits per byte of 5,000; 1.7803 bits per character of 4,000." in text
        assert "prose" in text
    assert "near duplicate" in html
    assert "78" in html
    assert "297 ok + 2 null + 1 with an error = 300" in html
    assert "(estimated beforehand: 2.0 s)" in html


def test_a_stream_says_what_it_cannot_say(tmp_path):
    stream = StreamResult("tokens/test", 1, replace(STREAM, num_bytes=0, chars=0))
    html, markdown, content = pages(ReportInputs(title="Words", stream=stream), tmp_path / "report")
    assert json.loads(content)["stream"]["bits_per_byte"] is None
    for text in (html, markdown):
        assert "ends of documents; characters are unknown, since the tokens do not hold the text to the byte." in text


def test_what_is_missing_is_left_out(tmp_path):
    html, markdown, _ = pages(ReportInputs(title="Nothing yet"), tmp_path / "report")
    assert "Nothing yet" in html
    assert "Nothing yet" in markdown
    for heading in ("Learning curve", "Samples", "Throughput", "How good is it?", "<svg"):
        assert heading not in html
    for text in (html, markdown):
        assert "Not given, so not shown: scored data, a training run, samples." in text


@pytest.mark.parametrize(
    "part",
    [
        {"scoring": {}},
        {"scoring": {"tokens": 1234}},
        {"scoring": {"rows": {"ok": 3}}},
        {"metrics": [{"kind": "valid", "step": 1, "tokens": 50, "wall_seconds": 1.0, "nll": 2.0}]},
        {"evaluation": Evaluation()},
        {"baselines": Baselines(4.0, 3.0, 2.0)},
        {"notes": ["1 < 2"]},
    ],
)
def test_any_part_alone_makes_a_page(tmp_path, part):
    html, markdown, _ = pages(ReportInputs(title="Part", **part), tmp_path / "report")
    assert "</html>" in html
    assert markdown.startswith("# Part\n")
    for name in ("1,234 tokens", "1 < 2"):
        assert (name in markdown) == (name.replace("<", "&lt;") in html)


def test_groups_may_have_any_name_and_number(tmp_path):
    names = ["all", "a|b", "<i>", "$x$", "_hidden", "two\nlines", "\u6f22"] + [f"group {i}" for i in range(60)]
    groups = {name: Totals(rows=100 - i, tokens=9, logprob=-9.0) for i, name in enumerate(names)}
    counts = np.zeros(len(HISTOGRAM_EDGES) - 1, np.int64)
    counts[40] = 30
    evaluation = Evaluation(Totals(rows=9), groups, dict.fromkeys(names, counts))
    html, markdown, content = pages(ReportInputs(title="Names", evaluation=evaluation), tmp_path / "report")
    assert len(json.loads(content)["groups"]) == len(names)
    assert "27 smaller groups only in report.json" in html
    assert "and 51 more" in html
    assert "<i>" not in html
    table = [line for line in markdown.splitlines() if line.startswith("|")]
    assert len(table) == 2 + len(names) + 1
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in table} == {10}
    assert "| all | 100 |" in markdown
    assert "| **all** | 9 |" in markdown


def test_long_runs_and_long_texts_keep_the_page_small(full, tmp_path):
    metrics = [{**full.metrics[0], "step": s, "tokens": s, "nll": 5 + math.sin(s)} for s in range(1, 100_000)]
    samples = [Sample("p", "w" * 100_000, -1.0, 1, "end")] * 100
    html, _, _ = pages(replace(full, metrics=metrics, samples=samples), tmp_path / "report")
    assert len(html) < MAX_BYTES / 3


def test_thinning_keeps_the_mean_and_the_end():
    rows = [{"nll": float(i), "tokens_per_second": 2.0 * i, "step": i} for i in range(1000)]
    thinned = thin(rows, 100)
    assert len(thinned) == 100
    assert thinned[-1] == {"nll": 994.5, "tokens_per_second": 1989.0, "step": 999}
    assert thin(rows[:100], 100) == rows[:100]


def test_a_missing_extra_is_named_before_anything_is_written(full, tmp_path, monkeypatch):
    real = builtins.__import__

    def without_jinja(name, *args, **kwargs):
        if name == "jinja2":
            raise ImportError("No module named 'jinja2'", name="jinja2")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_jinja)
    with pytest.raises(EnvironmentFailure, match=r"rnnlm\[report\]"):
        write_report(full, open_location(str(tmp_path / "report")))
    assert not (tmp_path / "report").exists()
