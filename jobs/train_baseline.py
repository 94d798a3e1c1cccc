"""Fit a classical model to a labelled table: what a network has to beat.

python -m jobs.train_baseline baseline=hmm train_tokens=outputs/ner/train valid_tokens=outputs/ner/valid tune=true \
    tokenizer_path=outputs/ner/tokenizer output=outputs/hmm
python -m jobs.predict checkpoint=outputs/hmm corpus=conll_columns corpus.path=test.txt prefix=predicted_ \
    output=outputs/hmm-tagged

The tables are those of jobs.train. hmm labels words, bag_of_words rows, most_frequent both.
"""

import time
from collections.abc import Mapping
from typing import Any

from jobs.app import run_job
from jobs.same_model import refuse_another
from jobs.schemas import TrainBaselineJob
from rnnlm.baselines.base import Baseline, BaselineClassifier, BaselineTagger, only_labels, text_of
from rnnlm.baselines.store import ARRAYS, CONFIG, STRINGS
from rnnlm.baselines.tuning import tune
from rnnlm.config import to_dict
from rnnlm.data.labelled import LabelledRows, read_labelled_rows
from rnnlm.data.labels.schemes import scheme_of_names
from rnnlm.data.tokenizers import load_tokenizer
from rnnlm.data.tokenizers.labels import LabelTokenizer
from rnnlm.errors import ConfigError
from rnnlm.evaluation.label_metrics import confusion, score_labels, score_multi_label, tagging_accuracy
from rnnlm.storage import open_location

SETTINGS = "settings.json"


def train_baseline(job: TrainBaselineJob) -> None:
    """Fit, save, and say how well it does. The same job again writes the same bytes."""
    folder = open_location(job.output)
    tokenizer = _vocabulary(job.tokenizer_path)
    rows = read_labelled_rows(job.train_tokens, tokenizer)
    valid = None if job.valid_tokens is None else read_labelled_rows(job.valid_tokens, tokenizer)
    _check(job, rows, valid)
    identity = {
        **to_dict(job.baseline),
        "multi_label": job.multi_label,
        "tokenizer": tokenizer.fingerprint,
        "train_tokens": rows.table(tokenizer).fingerprint,
        "tuned_on": None if valid is None or not job.tune else valid.table(tokenizer).fingerprint,
    }
    refuse_another(folder, CONFIG, identity, begun=(ARRAYS, STRINGS, SETTINGS), what="a baseline")
    began = time.perf_counter()
    model = _fitted(job, rows, valid)
    seconds = time.perf_counter() - began
    trained: dict[str, Any] = {"identity": identity, "rows": len(rows.words), "words": sum(map(len, rows.words))}
    if valid is not None:
        trained["valid"] = figures(model, valid)
    folder.make_dir()
    folder.join(SETTINGS).write_json(to_dict(job))
    model.save(folder, trained)
    print(
        f"train_baseline: {model.kind} from {trained['rows']:,} rows of {trained['words']:,} words "
        f"in {seconds:.1f} s{_validation(trained)}"
    )
    print(f"output: {job.output}")


def figures(model: Baseline, rows: LabelledRows) -> dict[str, float]:
    """How right it is, as shares from 0 to 1; the first is what tuning goes by."""
    if isinstance(model, BaselineTagger):
        found = model.tag(rows.words)
        scheme = scheme_of_names({label for labels in [model.tags, *rows.labels] for label in labels})
        spans = {} if scheme is None else {"span_f1": score_labels(rows.labels, found, scheme).micro.f1}
        return {**spans, "accuracy": tagging_accuracy(rows.labels, found).all}
    assert isinstance(model, BaselineClassifier)
    probabilities = model.probabilities([text_of(words) for words in rows.words])
    if model.multi_label:
        chosen = [[model.labels[place] for place in (one >= 0.5).nonzero()[0]] for one in probabilities]
        scores = score_multi_label(rows.labels, chosen)
        return {"micro_f1": scores.scores.micro.f1, "exact": scores.exact}
    best = [model.labels[place] for place in probabilities.argmax(axis=1)]
    return {"accuracy": confusion(only_labels(rows), best).accuracy}


def _vocabulary(path: str) -> LabelTokenizer:
    tokenizer = load_tokenizer(open_location(path))
    if not isinstance(tokenizer, LabelTokenizer):
        raise ConfigError(
            f"tokenizer_path: the tokenizer is of kind {tokenizer.kind}, and a labelled table is made with one of "
            "labels: python -m jobs.train_tokenizer tokenizer=labels labels_column=labels"
        )
    return tokenizer


def _check(job: TrainBaselineJob, rows: LabelledRows, valid: LabelledRows | None) -> None:
    if job.multi_label and not rows.of_rows:
        raise ConfigError("multi_label: it is about classes of rows; train_tokens has labels of words")
    if valid is not None and valid.of_rows != rows.of_rows:
        raise ConfigError("valid_tokens: one table has labels of words, the other those of rows")


def _fitted(job: TrainBaselineJob, rows: LabelledRows, valid: LabelledRows | None) -> Baseline:
    if not job.tune or valid is None:
        return job.baseline.fit(rows, multi_label=job.multi_label)
    held_out = valid

    def measure(model: Baseline) -> float:
        return next(iter(figures(model, held_out).values()))

    found = tune(job.baseline, rows, measure, multi_label=job.multi_label)
    tried = ", ".join(f"{value:g}: {figure:.4f}" for value, figure in found.figures.items())
    print(f"train_baseline: {found.field}={found.value:g} is best on valid_tokens ({tried})")
    return found.model


def _validation(trained: Mapping[str, Any]) -> str:
    found = [f"{name} {value:.4f}" for name, value in trained.get("valid", {}).items()]
    return f"; validation {', '.join(found)}" if found else ""


if __name__ == "__main__":
    run_job("train_baseline", TrainBaselineJob, train_baseline)
