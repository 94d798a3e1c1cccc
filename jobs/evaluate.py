"""A report with plots: perplexity and bits per byte over scored data or a token stream; BLEU, chrF, error rates and the
like of outputs that have right answers; accuracy and F1 of predicted labels and spans.

python -m jobs.evaluate scored=outputs/scored run=outputs/model group_by=kind output=outputs/report
python -m jobs.evaluate checkpoint=outputs/model tokens=outputs/tokens/test output=outputs/report
python -m jobs.evaluate hypotheses=outputs/translated reference_column=en source_column=de output=outputs/report
python -m jobs.evaluate hypotheses=outputs/spoken reference_column=pronunciations unit=phonemes output=outputs/report
python -m jobs.evaluate predictions=outputs/tagged reference_column=labels output=outputs/report
python -m jobs.evaluate predictions=outputs/tagged against=[outputs/hmm,outputs/most_frequent] reference_column=labels \
    train_tokens=outputs/tokens/train output=outputs/report
python -m jobs.evaluate predictions=outputs/emotions reference_column=labels labels_of=rows output=outputs/report
python -m jobs.evaluate predictions=outputs/intents reference_column=labels intent_column=label output=outputs/report
"""

import dataclasses
import os
import platform
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import sentencepiece
import torch

import rnnlm
from jobs.app import run_job
from jobs.schemas import EvaluateJob
from jobs.strengthen import strengthen
from rnnlm.checkpoint import load_checkpoint
from rnnlm.data.files import expand_paths
from rnnlm.errors import DataError, Place
from rnnlm.evaluation.baselines import measure_baselines
from rnnlm.evaluation.hypotheses import OutputColumns
from rnnlm.evaluation.judged import Judged, judge
from rnnlm.evaluation.judged_report import baseline_sentence, comparison_sentences, judged_sentence, signatures
from rnnlm.evaluation.labelled.columns import LabelColumns
from rnnlm.evaluation.labelled.report import systems_sentences, write_labelled
from rnnlm.evaluation.labelled.systems import evaluate_systems, named_paths
from rnnlm.evaluation.labelled.words import read_known_words
from rnnlm.evaluation.metric_names import USUAL
from rnnlm.evaluation.perplexity import evaluate_scored
from rnnlm.evaluation.plots import check_installed
from rnnlm.evaluation.report import ReportInputs, Sample, write_report
from rnnlm.evaluation.scored import ScoredColumns, has_words, open_scored
from rnnlm.evaluation.stream import StreamResult, evaluate_stream
from rnnlm.evaluation.surprisal import measure_surprisal
from rnnlm.storage import open_location
from rnnlm.training.metrics import METRICS, read_metrics

MAX_SAMPLES = 12


def evaluate(job: EvaluateJob) -> None:
    """Measure, write the report, and say the figures."""
    check_installed()
    if job.predictions is not None and job.reference_column is not None:
        _evaluate_labels(job, job.predictions, job.reference_column)
        return
    inputs = ReportInputs(
        title=job.title if job.title is not None else _usual_title(job),
        **_scored(job),
        judged=_judged(job),
        stream=_stream(job) if job.tokens is not None and job.checkpoint is not None else None,
        **_training(job),
        samples=_samples(job.samples) if job.samples else [],
        versions=_versions(),
    )
    write_report(inputs, open_location(job.output))
    if inputs.judged is not None:
        _say_judged(inputs.judged)
    if inputs.evaluation is not None:
        total = inputs.evaluation.total
        print(
            f"evaluate: {total.rows:,} rows ({total.errors:,} with an error), {total.tokens:,} tokens, "
            f"perplexity {_figure(total.token_perplexity, 2)} a token, {_figure(total.word_perplexity, 2)} a word, "
            f"{_figure(total.bits_per_byte, 4)} bits per byte, {_figure(total.bits_per_char, 4)} bits per character"
        )
    if inputs.stream is not None:
        stream, total = inputs.stream, inputs.stream.totals
        print(
            f"evaluate: stream of {total.tokens:,} targets, {stream.nll:.4f} nats each, "
            f"perplexity {stream.perplexity:.2f} a token, {_figure(total.word_perplexity, 2)} a word, "
            f"{_figure(total.bits_per_byte, 4)} bits per byte, {_figure(total.bits_per_char, 4)} bits per character"
        )
        if stream.strengthened is not None:
            print(f"evaluate: {stream.strengthened.sentence()}")
    print(f"output: {job.output}/report.html")


def _usual_title(job: EvaluateJob) -> str:
    """What is reported."""
    return "Generated text" if job.scored is None and job.tokens is None else "Recurrent language model"


def _evaluate_labels(job: EvaluateJob, predictions: str, reference: str) -> None:
    columns = LabelColumns(reference, job.prefix, job.words_column, job.text_column, job.labels_of, job.intent_column)
    systems = evaluate_systems(
        named_paths([predictions, *job.all_against]),
        columns,
        scheme=job.scheme,
        draws=job.bootstrap_draws,
        known=read_known_words(job.train_tokens) if job.train_tokens is not None else None,
    )
    write_labelled(systems, job.title, _versions(), open_location(job.output))
    for line in systems_sentences(systems):
        print(f"evaluate: {line}")
    print(f"output: {job.output}/report.html")


def _scored(job: EvaluateJob) -> dict[str, Any]:
    if job.scored is None:
        return {}
    columns = ScoredColumns(text=job.text_column, group=job.group_by, id=job.id_column)
    files, needs = open_scored(job.scored, columns)
    with_words = job.text_column is not None and has_words(files[0])
    report = open_location(job.scored).join("_run/report.json")
    return {
        "evaluation": evaluate_scored(job.scored, columns),
        "baselines": measure_baselines(files, job.text_column) if job.text_column else None,
        "surprisal": measure_surprisal(files, needs, columns) if with_words else None,
        "scoring": report.read_json() if report.exists() else None,
    }


def _judged(job: EvaluateJob) -> Judged | None:
    if job.hypotheses is None or job.reference_column is None:
        return None
    return judge(
        job.hypotheses,
        OutputColumns(job.reference_column, job.source_column, job.baseline_column),
        job.metrics or USUAL[job.unit],
        job.unit,
        against=next(iter(job.all_against), None),
        draws=job.bootstrap_draws,
    )


def _say_judged(judged: Judged) -> None:
    print(f"evaluate: {judged_sentence(judged)}")
    for signature in signatures(judged.figures):
        print(f"evaluate: {signature}")
    if judged.baseline:
        print(f"evaluate: {baseline_sentence(judged)}")
    for comparison in comparison_sentences(judged):
        print(f"evaluate: {comparison}")


def _training(job: EvaluateJob) -> dict[str, Any]:
    if job.run is None:
        return {}
    folder = open_location(job.run)
    if not folder.join(METRICS).exists():
        raise DataError(f"{job.run} is not the output of jobs.train (no {METRICS})", todo="check run=...")
    settings = folder.join("settings.json")
    return {
        "metrics": read_metrics(folder.join(METRICS)),
        "settings": settings.read_json() if settings.exists() else {},
    }


def _stream(job: EvaluateJob) -> StreamResult:
    """The perplexity of a token table read as one stream, as word-level benchmarks define it."""
    assert job.checkpoint is not None
    assert job.tokens is not None
    torch.set_num_threads(os.cpu_count() or 1)
    plain = evaluate_stream(load_checkpoint(job.checkpoint), job.tokens, lanes=job.lanes)
    return dataclasses.replace(plain, strengthened=strengthen(job)) if job.strengthened else plain


def _samples(path: str) -> list[Sample]:
    samples: list[Sample] = []
    for file in expand_paths(path, (".parquet",)):
        location = open_location(file)
        table = pq.read_table(location.path, filesystem=location.filesystem)
        if "hypotheses" not in table.schema.names:
            raise DataError(
                "there is no column 'hypotheses'", where=Place(file), todo="give the output of jobs.generate"
            )
        prompts = next((name for name in table.schema.names if name != "hypotheses"), None)
        for row in table.to_pylist():
            for found in row["hypotheses"] or []:
                samples.append(
                    Sample(
                        prompt=str(row[prompts] or "") if prompts else "",
                        text=found["text"],
                        logprob=found["logprob"],
                        num_tokens=len(found["tokens"]),
                        finish_reason=found["finish_reason"],
                    )
                )
                if len(samples) == MAX_SAMPLES:
                    return samples
    return samples


def _versions() -> dict[str, str]:
    return {
        "rnnlm": rnnlm.__version__,
        "Python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "pyarrow": pa.__version__,
        "sentencepiece": sentencepiece.__version__,
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
    }


def _figure(value: float | None, digits: int) -> str:
    return "unknown" if value is None else f"{value:.{digits}f}"


if __name__ == "__main__":
    run_job("evaluate", EvaluateJob, evaluate)
