"""Fit to held-out rows how sure a model may be, and from when on it gives an answer.

python -m jobs.calibrate checkpoint=outputs/sentiment/model tokens=outputs/sentiment/valid output=outputs/calibration
python -m jobs.predict checkpoint=outputs/sentiment/model calibration=outputs/calibration ...

A classifier gets a temperature, by the nll; one of several classes a row also a threshold for each class, by the F1 of
that class; a model of nested spans a threshold, by the F1 of all spans.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from torch import nn

from jobs.app import run_job
from jobs.same_model import refuse_another
from jobs.schemas import CalibrateJob
from rnnlm.baselines.stored import is_baseline
from rnnlm.checkpoint import Checkpoint, load_checkpoint, resolve_checkpoint
from rnnlm.data.labelled import LabelledTable
from rnnlm.data.span_table import SpanTable
from rnnlm.data.tokenizers.labels import LabelTokenizer
from rnnlm.errors import ConfigError, NonFiniteError
from rnnlm.evaluation.calibration import Figures, class_figures, class_set_figures, span_figures
from rnnlm.inference.classify import held_out
from rnnlm.inference.find_spans import LEAST, candidates
from rnnlm.inference.predict.calibration import CALIBRATION, Calibration
from rnnlm.inference.thresholds import USUAL, best_threshold
from rnnlm.nn.calibration import fit_temperature
from rnnlm.nn.classification_model import ClassificationModel
from rnnlm.nn.span_model import SpanModel
from rnnlm.storage import open_location
from rnnlm.tasks.word_encoder import WordEncoderConfig


def calibrate(job: CalibrateJob) -> None:
    """Fit, save, and say what it changes on the rows that it was fitted to."""
    folder = open_location(job.output)
    if is_baseline(resolve_checkpoint(job.checkpoint)):
        raise ConfigError("checkpoint: it is a baseline; only networks can be calibrated")
    checkpoint = load_checkpoint(job.checkpoint)
    fit = next((fit for kind, fit in FITS.items() if isinstance(checkpoint.model, kind)), None)
    if fit is None:
        raise ConfigError(
            "checkpoint: it has nothing to calibrate; a classifier (task=classification) or a model of nested spans "
            "(task=entities) is needed"
        )
    assert isinstance(checkpoint.task, WordEncoderConfig)
    table = checkpoint.task.read_table(job.tokens, checkpoint.tokenizer, for_training=False)
    assert isinstance(table, LabelledTable)
    identity = {"model": checkpoint.fingerprint, "tokens": table.fingerprint}
    refuse_another(folder, CALIBRATION, identity, begun=(), what="a calibration")
    found, before, after = fit(checkpoint, table)
    trained = {"identity": identity, "rows": table.num_rows, "before": before, "after": after}
    replace(found, trained=trained).save(folder)
    _say(found, trained)
    print(f"output: {job.output}")


def fit_classes(checkpoint: Checkpoint, table: LabelledTable) -> tuple[Calibration, Figures, Figures]:
    """Of a classifier, and what it changes: figures before and after."""
    assert isinstance(checkpoint.model, ClassificationModel)
    assert isinstance(checkpoint.tokenizer, LabelTokenizer)
    logits, targets = held_out(checkpoint, table)
    if not logits.isfinite().all():
        raise NonFiniteError("the model gives logits that are not finite numbers", todo="train it again")
    temperature = fit_temperature(logits, targets)
    found = Calibration(model=checkpoint.fingerprint, temperature=temperature, trained={})
    plain, scaled = logits.double(), logits.double() / temperature
    if not checkpoint.model.multi_label:
        before, after = (class_figures(one.softmax(1).numpy(), targets.numpy()) for one in (plain, scaled))
        return found, before, after
    names, right = checkpoint.tokenizer.labels, targets.numpy() > 0.5
    calibrated = scaled.sigmoid().numpy()
    thresholds = [
        best_threshold(calibrated[:, place], right[:, place], int(right[:, place].sum())) for place in range(len(names))
    ]
    found = replace(found, thresholds=dict(zip(names, thresholds, strict=True)))
    before = class_set_figures(plain.sigmoid().numpy(), right, np.full(len(names), USUAL), names)
    return found, before, class_set_figures(calibrated, right, np.array(thresholds), names)


def fit_spans(checkpoint: Checkpoint, table: LabelledTable) -> tuple[Calibration, Figures, Figures]:
    """The same of a model of nested spans."""
    assert isinstance(table, SpanTable)
    spans = candidates(checkpoint, table)
    threshold = best_threshold(*spans, floor=LEAST)
    before, after = (span_figures(*spans, one) for one in (USUAL, threshold))
    return Calibration(model=checkpoint.fingerprint, threshold=threshold, trained={}), before, after


FITS: dict[type[nn.Module], Callable[[Checkpoint, LabelledTable], tuple[Calibration, Figures, Figures]]] = {
    ClassificationModel: fit_classes,
    SpanModel: fit_spans,
}


def _say(found: Calibration, trained: dict[str, Any]) -> None:
    fitted = []
    if found.temperature is not None:
        fitted.append(f"temperature {found.temperature:.3f}")
    if found.threshold is not None:
        fitted.append(f"threshold {found.threshold:.3f}")
    if found.thresholds is not None:
        fitted.append(f"thresholds {min(found.thresholds.values()):.3f} to {max(found.thresholds.values()):.3f}")
    changes = [f"{name} {value:.4f} -> {trained['after'][name]:.4f}" for name, value in trained["before"].items()]
    print(f"calibrate: {', '.join(fitted)} from {trained['rows']:,} rows; on these {', '.join(changes)}")


if __name__ == "__main__":
    run_job("calibrate", CalibrateJob, calibrate)
