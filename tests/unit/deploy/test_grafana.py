"""The dashboard and the table of metrics: they name what the code measures, all of it and nothing else."""

import json
import re
from itertools import combinations
from pathlib import Path

import pytest

from jobs.distributed.meters import METERS

FOLDER = Path(__file__).resolve().parents[3] / "deploy/grafana"
DASHBOARD = json.loads((FOLDER / "rnnlm.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS = [target["expr"] for panel in PANELS for target in panel["targets"]]
LABELS = {"run", "code", "NodeAddress", "WorkerId"}
GRID = 24


def metrics(text: str) -> list[str]:
    return re.findall(r"\bray_(\w+)", text)


def test_every_query_uses_metrics_that_exist_and_every_metric_is_shown():
    assert all(metrics(expression) for expression in EXPRESSIONS)
    assert {name for expression in EXPRESSIONS for name in metrics(expression)} == set(METERS)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_a_query_treats_counters_as_such_and_groups_by_labels_that_exist(expression):
    assert expression.count("(") == expression.count(")")
    rated = set(re.findall(r"rate\(ray_(\w+)", expression))
    assert all(METERS[name].kind == "counter" for name in rated)
    assert all(
        name in rated or re.search(rf"(sum|max) by \([\w, ]+\) \(ray_{name}", expression)
        for name in metrics(expression)
    )
    grouped = {label for labels in re.findall(r"by \(([\w, ]+)\)", expression) for label in labels.split(", ")}
    assert grouped <= LABELS
    assert "code" not in grouped or "code" in METERS[metrics(expression)[0]].labels
    assert all(part == '{run=~"$run"}' for part in re.findall(r"\{[^}]*\}", expression))


def test_a_legend_uses_labels_that_its_query_keeps():
    for panel in PANELS:
        for target in panel["targets"]:
            kept = set(re.split(r", ", re.search(r"by \(([\w, ]+)\)", target["expr"])[1]))
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= kept


def test_grafana_can_show_it():
    assert DASHBOARD["schemaVersion"] >= 36
    assert DASHBOARD["uid"] == "rnnlm"
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    source = {"type": "prometheus", "uid": "${datasource}"}
    for panel in PANELS:
        assert panel["title"]
        assert panel["description"]
        assert panel["fieldConfig"]["defaults"]["unit"] in {"short", "percentunit"}
        assert [target["refId"] for target in panel["targets"]] == ["A", "B"][: len(panel["targets"])]
        assert all(one["datasource"] == source for one in (panel, *panel["targets"]))
    variables = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    assert set(variables) == {"datasource", "run"}
    assert re.search(r"ray_rnnlm_", variables["run"]["query"]["query"])


def test_panels_do_not_overlap():
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    assert all(place["x"] >= 0 and place["x"] + place["w"] <= GRID for place in places)
    for one, other in combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert beside or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]


def test_the_table_of_metrics_is_that_of_the_code():
    rows = re.findall(
        r"^\| `ray_(\w+)` \| (\w+) \| [\w/]+ \| ([^;|]+?)(?:;.*?)? \|$",
        (FOLDER / "README.md").read_text(),
        re.MULTILINE,
    )
    expected = {(name, meter.kind) for name, meter in METERS.items()}
    assert {(name, kind) for name, kind, _ in rows} == expected
    assert len(rows) == len(expected)
