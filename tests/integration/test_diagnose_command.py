"""A diagnosis by command, of trained and fresh models together; what a user can get wrong."""

import json

import pytest

from jobs.diagnose import diagnose_models
from jobs.schemas import DiagnoseJob
from rnnlm.checkpoint import load_checkpoint
from rnnlm.config import from_dict, to_dict
from rnnlm.errors import ConfigError
from tests.corpora import save_tiny, save_tiny_translation, tiny_task
from tests.integration.pipeline import pipeline, run_well

SMALL = {"passages": 6, "max_lag": 4, "threads": 1}


def job_of(**given):
    return from_dict(DiagnoseJob, {"task": to_dict(tiny_task()), **SMALL, **given})


def test_models_are_compared_and_the_report_depends_on_the_seed_alone(tmp_path):
    made = pipeline()
    arguments = [
        f'checkpoint="trained={made.model}"',
        "cells=[elman,min_gru]",
        "cell.hidden_size=16",
        "task.embedding_size=16",
        f"tokens={made.tokens}",
        *(f"{name}={value}" for name, value in SMALL.items()),
    ]
    said = run_well(
        "diagnose",
        *arguments,
        f"output={tmp_path / 'a'}",
    )
    lines = said.splitlines()
    assert [line.split(":")[1].strip() for line in lines[:-1]] == ["trained", "elman (fresh)", "min_gru (fresh)"]
    assert lines[-1] == f"output: {tmp_path / 'a'}/report.html"
    found = json.loads((tmp_path / "a/diagnosis.json").read_text())
    trained, elman, min_gru = found["models"].values()
    assert [len(one["gradients"][0]["mean"]) for one in (trained, elman, min_gru)] == [5, 5, 5]
    assert trained["context"]["perplexity"][-1] < elman["context"]["perplexity"][-1]
    assert ([gate["gate"] for gate in trained["gates"]], elman["gates"]) == (["forget", "input", "output"], [])
    assert (len(trained["matrices"]), len(elman["matrices"]), len(min_gru["matrices"])) == (4, 1, 0)
    page = (tmp_path / "a/report.html").read_text()
    assert page.count("<svg") == 8
    assert len(page) < 3_000_000
    assert "| elman (fresh) | " in (tmp_path / "a/diagnosis.md").read_text()
    for output, seed in (("b", 1), ("c", 2)):
        diagnose_models(
            job_of(
                checkpoint=f"trained={made.model}", tokens=str(made.tokens), output=str(tmp_path / output), seed=seed
            )
        )
    again, other = (json.loads((tmp_path / name / "diagnosis.json").read_text()) for name in ("b", "c"))
    assert again["models"]["trained"] == trained
    assert other["models"]["trained"]["context"] != trained["context"]


def test_a_fresh_model_alone(tmp_path, capsys):
    made = pipeline()
    diagnose_models(job_of(tokenizer_path=str(made.tokenizer), tokens=str(made.tokens), output=str(tmp_path / "out")))
    assert capsys.readouterr().out.startswith("diagnose: fresh: perplexity ")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "give checkpoint=... .* or tokenizer_path"),
        (
            {
                "checkpoint": "x",
                "cells": ["lstm"],
                "task": {"layers": [{"_target_": "rnnlm.nn.cells.gru.GRUConfig", "hidden_size": 8}]},
            },
            "task.layers has none",
        ),
        ({"checkpoint": "x", "max_lag": 1}, "max_lag"),
        ({"checkpoint": "x", "passages": 1}, "passages"),
    ],
)
def test_options_that_do_not_belong_together_are_refused(given, said):
    task = {**to_dict(tiny_task()), **given.pop("task", {})}
    with pytest.raises(ConfigError, match=said):
        job_of(tokens="t", output="o", **{"task": task, **given})


def test_models_that_cannot_be_compared_are_refused(tmp_path):
    made = pipeline()
    save_tiny(tmp_path / "tiny")
    save_tiny_translation(tmp_path / "pairs")
    given = {"tokens": str(made.tokens), "output": str(tmp_path / "out")}
    with pytest.raises(ConfigError, match=r"checkpoint: the tokenizer of 'tiny' is .* that of the others"):
        diagnose_models(job_of(checkpoint=[str(made.model), str(tmp_path / "tiny")], **given))
    with pytest.raises(ConfigError, match="checkpoint: TranslationModel is not a language model"):
        diagnose_models(job_of(checkpoint=str(tmp_path / "pairs"), **given))
    with pytest.raises(ConfigError, match="cells: there is no cell 'lstn'; choose of elman"):
        diagnose_models(job_of(checkpoint=str(made.model), cells=["lstn"], **given))
    with pytest.raises(ConfigError, match="checkpoint: two systems are called 'model'"):
        diagnose_models(job_of(checkpoint=[str(made.model), str(made.model)], **given))
    translation = to_dict(load_checkpoint(str(tmp_path / "pairs")).task)
    with pytest.raises(ConfigError, match="task: cells are those of a language model"):
        diagnose_models(job_of(checkpoint=str(made.model), cells=["lstm"], **{**given, "task": translation}))
    assert not (tmp_path / "out").exists()
