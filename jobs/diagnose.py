"""How far back recurrent language models look, and where their gradients vanish: a report that compares them.

python -m jobs.diagnose checkpoint=outputs/model tokens=outputs/tokens/valid output=outputs/diagnosis
python -m jobs.diagnose 'checkpoint=[outputs/elman,outputs/lstm]' tokens=outputs/tokens/valid output=outputs/diagnosis
python -m jobs.diagnose 'cells=[elman,lstm,gru,min_gru]' cell.hidden_size=128 task.embedding_size=128 \
    tokenizer_path=outputs/tokenizer tokens=outputs/tokens/valid output=outputs/diagnosis
"""

import os
import platform
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import nn

import rnnlm
from jobs.app import conf_dir, run_job
from jobs.progress import progress_line
from jobs.schemas import DiagnoseJob
from rnnlm.checkpoint import load_checkpoint
from rnnlm.config import from_dict
from rnnlm.data.tokenizers import Tokenizer, load_tokenizer
from rnnlm.data.tokens import read_token_table
from rnnlm.determinism import seed_torch
from rnnlm.diagnosis.diagnose import diagnose, num_batches, passage_steps
from rnnlm.diagnosis.passages import draw_passages
from rnnlm.diagnosis.report import DiagnosisReport, summary, write_diagnosis
from rnnlm.errors import ConfigError
from rnnlm.evaluation.labelled.systems import named_paths
from rnnlm.evaluation.plots import check_installed
from rnnlm.nn.cells.base import CellConfig
from rnnlm.nn.language_model import LanguageModel
from rnnlm.storage import open_location
from rnnlm.tasks.base import TaskConfig
from rnnlm.tasks.language_model import LanguageModelConfig


def diagnose_models(job: DiagnoseJob) -> None:
    """Measure all models on the same passages, write the report, and say the figures."""
    check_installed()
    torch.set_num_threads(job.threads or os.cpu_count() or 1)
    tokenizer, models = _models(job)
    table = read_token_table(job.tokens, tokenizer)
    passages = draw_passages(table, tokenizer, count=job.passages, steps=passage_steps(job.max_lag), seed=job.seed)
    found, done = {}, 0
    with progress_line("diagnose", len(models) * num_batches(job.passages)) as line:
        for name, model in models.items():

            def on_batch(name: str = name) -> None:
                nonlocal done
                done += 1
                line.update(done, name)

            found[name] = diagnose(model, passages, max_lag=job.max_lag, seed=job.seed, on_batch=on_batch)
    report = DiagnosisReport(job.title, job.tokens, job.passages, job.max_lag, job.seed, found, _versions())
    write_diagnosis(report, open_location(job.output))
    shown = summary(report)
    for name, *figures in shown.rows:
        said = (f"{what} {value}" for what, value in zip(shown.columns[1:], figures, strict=True))
        print(f"diagnose: {name}: {', '.join(said)}")
    print(f"output: {job.output}/report.html")


def _versions() -> dict[str, str]:
    return {"rnnlm": rnnlm.__version__, "Python": platform.python_version(), "torch": torch.__version__}


def _models(job: DiagnoseJob) -> tuple[Tokenizer, dict[str, LanguageModel]]:
    """The tokenizer that all have, and the models by name, trained ones first."""
    loaded = {name: load_checkpoint(path) for name, path in named_paths(job.checkpoints, "checkpoint").items()}
    if job.tokenizer_path is not None:
        tokenizer = load_tokenizer(open_location(job.tokenizer_path))
    else:
        tokenizer = next(iter(loaded.values())).tokenizer
    models = {}
    for name, one in loaded.items():
        if one.tokenizer.fingerprint != tokenizer.fingerprint:
            raise ConfigError(
                f"checkpoint: the tokenizer of '{name}' is {one.tokenizer.fingerprint[:12]}, that of the others "
                f"{tokenizer.fingerprint[:12]}; compare models that were trained with one tokenizer"
            )
        models[name] = _language_model(one.model, "checkpoint")
    if not loaded or job.cells is not None:
        for name, task in _fresh_tasks(job):
            seed_torch(job.seed, "diagnosed weights", name)
            shown = f"{name} (fresh)" if loaded else name
            models[shown] = _language_model(task.build(tokenizer).eval(), "task")
    return tokenizer, models


def _fresh_tasks(job: DiagnoseJob) -> Iterator[tuple[str, TaskConfig]]:
    """A task a cell, by its name; without cells the task as it is."""
    if job.cells is None:
        yield "fresh", job.task
        return
    if not isinstance(job.task, LanguageModelConfig):
        raise ConfigError("task: cells are those of a language model; set task=language_model")
    for name in job.cells:
        cell = from_dict(CellConfig, {**_cell_choice(name), "hidden_size": job.task.cell.hidden_size})
        yield name, replace(job.task, cell=cell)


def _cell_choice(name: str) -> dict[str, Any]:
    """The content of conf/cell/<name>.yaml."""
    files = {path.stem: path for path in (conf_dir() / "cell").glob("*.yaml")}
    if name not in files:
        raise ConfigError(f"cells: there is no cell '{name}'; choose of {', '.join(sorted(files))}")
    found = OmegaConf.to_container(OmegaConf.load(files[name]))
    assert isinstance(found, dict)
    return {str(key): value for key, value in found.items()}


def _language_model(model: nn.Module, where: str) -> LanguageModel:
    if not isinstance(model, LanguageModel):
        raise ConfigError(f"{where}: {type(model).__name__} is not a language model, which is what is diagnosed")
    return model


if __name__ == "__main__":
    run_job("diagnose", DiagnoseJob, diagnose_models)
