"""The job that calibrates: what it fits, the figures it keeps, what it refuses."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from jobs.calibrate import calibrate, fit_classes
from jobs.schemas import CalibrateJob
from rnnlm.baselines import HMMConfig
from rnnlm.checkpoint import load_checkpoint, save_checkpoint
from rnnlm.data.labelled import LabelledRows, labels_metadata, read_labelled_table
from rnnlm.data.labels.schemes import Span
from rnnlm.data.span_table import OF_SPANS, SPANS_TYPE
from rnnlm.data.tokenizers.labels import LabelsConfig
from rnnlm.data.tokens import tokens_metadata
from rnnlm.errors import ConfigError, NonFiniteError, RefusedError
from rnnlm.evaluation.label_metrics import score_multi_label, score_spans
from rnnlm.inference.classify import Classifier
from rnnlm.inference.find_spans import SpanFinder
from rnnlm.inference.predict.calibration import read_calibration
from rnnlm.nn.cells.lstm import LSTMConfig
from rnnlm.nn.words.embedding import WordEmbeddingConfig
from rnnlm.storage import open_location
from rnnlm.tasks.classification import ClassificationConfig
from rnnlm.tasks.entities import EntitiesConfig
from rnnlm.tasks.tagging import TaggingConfig

WORDS = ["good", "bad", "film", "plot", "dull", "fine"]
NAMES = ["neg", "neutral", "pos"]


@pytest.fixture
def save(tmp_path):
    """Saves a model with random weights, far from uniform."""

    def saved(kind, **fields):
        task = kind(cell=LSTMConfig(hidden_size=8), words=[WordEmbeddingConfig(size=6)], **fields)
        tokenizer = LabelsConfig().train_labelled([(WORDS, NAMES)])
        torch.manual_seed(5)
        model = task.build(tokenizer)
        for parameter in model.parameters():
            parameter.data.mul_(4.0)
        if kind is EntitiesConfig:
            model.of_starts.bias.data.fill_(-1.0)
        folder = tmp_path / "checkpoint"
        save_checkpoint(open_location(str(folder)), task=task, model=model, tokenizer=tokenizer, trained={})
        return load_checkpoint(str(folder))

    return saved


@pytest.fixture
def job(tmp_path):
    """A job for a checkpoint and a table of columns."""

    def made(checkpoint, columns, metadata):
        found = {**tokens_metadata(checkpoint.tokenizer), **metadata}
        pq.write_table(pa.table(columns).replace_schema_metadata(found), tmp_path / "table.parquet")
        return CalibrateJob(
            checkpoint=str(checkpoint.location.path),
            tokens=str(tmp_path / "table.parquet"),
            output=str(tmp_path / "calibration"),
        )

    return made


def random_rows(count=60):
    random = np.random.default_rng(2)
    return [list(random.choice(WORDS, size=random.integers(1, 8))) for _ in range(count)]


def of_rows(rows, labels):
    return {"words": rows, "labels": pa.array(labels, pa.list_(pa.string()))}, labels_metadata(of_rows=True)


def test_a_classifier_gets_a_temperature(save, job, capsys):
    checkpoint, rows = save(ClassificationConfig), random_rows()
    random = np.random.default_rng(0)
    hot = Classifier(checkpoint, temperature=4.0).classify(rows).astype(np.float64)
    labels = [[NAMES[random.choice(3, p=one / one.sum())]] for one in hot]
    asked = job(checkpoint, *of_rows(rows, labels))
    calibrate(asked)
    found = read_calibration(asked.output)
    assert 2.0 < found.temperature < 8.0
    assert found.thresholds is found.threshold is None
    right = np.array([NAMES.index(label) for (label,) in labels])
    for name, temperature in (("before", 1.0), ("after", found.temperature)):
        sure = Classifier(checkpoint, temperature=temperature).classify(rows)
        figures = found.trained[name]
        assert figures["nll"] == pytest.approx(-np.log(sure[np.arange(len(rows)), right]).mean(), rel=1e-4)
        assert figures["accuracy"] == (sure.argmax(axis=1) == right).mean()
    assert found.trained["after"]["nll"] < found.trained["before"]["nll"]
    assert found.trained["after"]["ece"] < found.trained["before"]["ece"]
    assert found.model == found.trained["identity"]["model"] == checkpoint.fingerprint
    assert f"calibrate: temperature {found.temperature:.3f} from 60 rows; on these nll " in capsys.readouterr().out


def test_several_classes_get_thresholds_by_their_f1(save, job, capsys):
    checkpoint, rows = save(ClassificationConfig, multi_label=True), random_rows()
    random = np.random.default_rng(0)
    hot = Classifier(checkpoint, temperature=2.0).classify(rows)
    labels = [
        [name for name, there in zip(NAMES[:2], one, strict=False) if there]
        for one in random.random(hot.shape) < hot**2
    ]
    asked = job(checkpoint, *of_rows(rows, labels))
    calibrate(asked)
    found = read_calibration(asked.output)
    assert list(found.thresholds) == NAMES
    assert found.thresholds["pos"] == 0.5  # no row has it, so that nothing tells what is best
    sure = Classifier(checkpoint, temperature=found.temperature).classify(rows)

    def scores(thresholds):
        given = [[NAMES[place] for place in np.flatnonzero(one >= thresholds)] for one in sure]
        return score_multi_label(labels, given, NAMES).scores

    best = scores(np.array(list(found.thresholds.values())))
    assert found.trained["after"]["macro_f1"] == pytest.approx(best.macro.f1)
    assert found.trained["after"]["micro_f1"] == pytest.approx(best.micro.f1)
    for one in np.linspace(0.05, 0.95, 19):
        assert all(scores(np.full(3, one)).classes[name].f1 <= best.classes[name].f1 for name in NAMES[:2])
    assert found.trained["after"]["macro_f1"] > found.trained["before"]["macro_f1"]
    assert "thresholds 0." in capsys.readouterr().out


def test_spans_get_the_threshold_of_the_highest_f1(save, job, capsys):
    checkpoint, rows = save(EntitiesConfig, projection_size=6), random_rows()
    random = np.random.default_rng(0)
    sure = [[one for one in row if random.random() < one.probability**3] for row in SpanFinder(checkpoint).find(rows)]
    spans = [[{"start_word": s, "end_word": e, "type": NAMES[k]} for s, e, k, _ in row] for row in sure]
    asked = job(checkpoint, {"words": rows, "spans": pa.array(spans, SPANS_TYPE)}, OF_SPANS)
    calibrate(asked)
    found = read_calibration(asked.output)

    def micro(threshold):
        given = SpanFinder(checkpoint, threshold=threshold).find(rows)
        named = [[{Span(s, e, NAMES[k]) for s, e, k, _ in row} for row in one] for one in (sure, given)]
        return score_spans(*named).micro.f1

    assert found.trained["before"]["f1"] == pytest.approx(micro(0.5))
    assert found.trained["after"]["f1"] == pytest.approx(micro(found.threshold))
    assert max(micro(one) for one in np.linspace(0.02, 0.98, 25)) <= found.trained["after"]["f1"] + 1e-12
    assert found.temperature is None
    assert f"threshold {found.threshold:.3f} from 60 rows; on these precision " in capsys.readouterr().out


def test_another_table_is_refused_and_the_same_writes_the_same(save, job):
    checkpoint, rows = save(ClassificationConfig), random_rows()
    asked = job(checkpoint, *of_rows(rows, [["pos"], ["neg"]] * 30))
    calibrate(asked)
    before = open_location(asked.output).join("calibration.json").read_bytes()
    calibrate(asked)
    assert open_location(asked.output).join("calibration.json").read_bytes() == before
    with pytest.raises(RefusedError, match="tokens: "):
        calibrate(job(checkpoint, *of_rows(rows, [["pos"], ["pos"]] * 30)))


def test_a_broken_model_is_refused(save, job):
    checkpoint = save(ClassificationConfig)
    with torch.no_grad():
        checkpoint.model.to_logits.bias.fill_(torch.nan)
    with pytest.raises(NonFiniteError, match="logits that are not finite"):
        fit_classes(
            checkpoint,
            read_labelled_table(job(checkpoint, *of_rows([["good"]], [["pos"]])).tokens, checkpoint.tokenizer),
        )


def test_what_has_nothing_to_calibrate_is_refused(save, job, tmp_path):
    for head in ("softmax", "crf"):
        asked = job(save(TaggingConfig, head=head), *of_rows([["good"]], [["pos"]]))
        with pytest.raises(ConfigError, match="checkpoint: it has nothing to calibrate; a classifier"):
            calibrate(asked)
    HMMConfig().fit(LabelledRows([["a"]], [["X"]], of_rows=False)).save(open_location(str(tmp_path / "hmm")))
    with pytest.raises(ConfigError, match="checkpoint: it is a baseline"):
        calibrate(CalibrateJob(checkpoint=str(tmp_path / "hmm"), tokens=asked.tokens, output=asked.output))
