"""Classifying in bulk: rows in any order and company, the columns of one class and of several, what is refused."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from rnnlm.checkpoint import load_checkpoint, save_checkpoint
from rnnlm.data.labelled import LabelledTable
from rnnlm.data.labelled_stream import LabelledReader
from rnnlm.data.tokenizers.labels import LabelsConfig
from rnnlm.errors import CheckpointError, ConfigError
from rnnlm.inference import spelled
from rnnlm.inference.classify import Classifier, fitted_temperature
from rnnlm.inference.predict.calibration import Calibration
from rnnlm.inference.predict.classes import PROBABILITIES
from rnnlm.inference.predict_work import PredictWork
from rnnlm.nn.cells.lstm import LSTMConfig
from rnnlm.nn.words.characters import RecurrentCharactersConfig
from rnnlm.nn.words.embedding import WordEmbeddingConfig
from rnnlm.storage import open_location
from rnnlm.tasks.classification import ClassificationConfig
from rnnlm.tasks.tagging import TaggingConfig

WORDS = ["good", "bad", "film", "Zoë", "日本", "x1", "."]
CLASSES = ["neg", "neutral", "pos"]
FEATURES = [WordEmbeddingConfig(size=6), RecurrentCharactersConfig(embedding_size=4, cell=LSTMConfig(hidden_size=3))]
LISTS = pa.list_(pa.string())


def save(folder, kind=ClassificationConfig, **fields):
    """A model with random weights, far enough from uniform that all classes come up."""
    task = kind(**{"cell": LSTMConfig(hidden_size=8), "words": FEATURES, **fields})
    tokenizer = LabelsConfig().train_labelled([(WORDS[:5], CLASSES)])
    torch.manual_seed(3)
    model = task.build(tokenizer)
    for parameter in model.parameters():
        parameter.data.mul_(3.0)
    save_checkpoint(open_location(str(folder)), task=task, model=model, tokenizer=tokenizer, trained={})
    return load_checkpoint(str(folder))


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    return save(tmp_path_factory.mktemp("one"), pooling="attention")


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    return save(tmp_path_factory.mktemp("several"), multi_label=True)


def path(checkpoint):
    return str(checkpoint.location.path)


def random_rows(count, *, longest=12, seed=0):
    random = np.random.default_rng(seed)
    return [list(random.choice(WORDS, size=random.integers(0, longest))) for _ in range(count)]


def processed(work, **columns):
    table = pa.table(columns)
    found = work.build("cpu").process(table, np.arange(table.num_rows))
    assert set(found.columns) == {field.name for field in work.new_fields()}
    for field in work.new_fields():
        assert found.columns[field.name].type == field.type
        found.columns[field.name].validate(full=True)
    return {name: column.to_pylist() for name, column in found.columns.items()}


@pytest.mark.parametrize("kind", ["one", "several"])
def test_a_row_is_classified_as_if_it_were_alone(kind, request, monkeypatch):
    monkeypatch.setattr(spelled, "BATCH_WORDS", 40)
    monkeypatch.setattr(spelled, "POOL_WORDS", 150)
    checkpoint, shares = request.getfixturevalue(kind), []
    classifier = Classifier(checkpoint)
    rows = [*random_rows(60), WORDS * 20, []]  # one is longer than a batch
    found = classifier.classify(rows, report=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    for row, probabilities in zip(rows, found, strict=True):
        if not row:
            assert np.isnan(probabilities).all()
            continue
        alone = LabelledReader(LabelledTable.from_rows([row], None, checkpoint.tokenizer)).read(np.arange(1))
        np.testing.assert_allclose(probabilities, checkpoint.model.probabilities(alone)[0].detach(), atol=1e-5)
    assert classifier.classify([]).shape == (0, 3)
    assert np.isnan(classifier.classify([[], []])).all()


def test_a_row_has_its_class_and_on_demand_all_probabilities(one):
    rows = [row for row in random_rows(40) if row]
    columns = processed(PredictWork(checkpoint=path(one), probabilities=True, prefix="p_"), words=rows)
    assert list(columns) == ["error", "p_label", "p_confidence", "p_probabilities"]
    found = Classifier(one).classify(rows)
    assert len(set(columns["p_label"])) > 1
    for row, probabilities in enumerate(found):
        assert columns["p_label"][row] == CLASSES[probabilities.argmax()]
        assert columns["p_confidence"][row] == probabilities.max()
        given = columns["p_probabilities"][row]
        assert [each["probability"] for each in given] == sorted(probabilities.tolist(), reverse=True)
        assert {each["label"]: each["probability"] for each in given} == dict(
            zip(CLASSES, probabilities.tolist(), strict=True)
        )
        assert sum(probabilities) == pytest.approx(1.0, abs=1e-6)


def test_of_several_those_above_the_threshold_are_given(several):
    rows = [row for row in random_rows(40) if row]
    found = Classifier(several).classify(rows)
    counts = set()
    for threshold in (0.5, 0.8):
        columns = processed(PredictWork(checkpoint=path(several), threshold=threshold), words=rows)
        for row, probabilities in enumerate(found):
            there = [place for place in range(3) if probabilities[place] >= threshold]
            assert columns["labels"][row] == [CLASSES[place] for place in there]
            assert columns["confidence"][row] == probabilities[there].tolist()
            counts.add(len(there))
    assert 0 in counts
    assert len(counts) > 2


def test_a_temperature_changes_how_sure_it_is_and_nothing_else(one):
    rows = [row for row in random_rows(40) if row]
    plain, hot = (processed(PredictWork(checkpoint=path(one), temperature=t), words=rows) for t in (1.0, 5.0))
    assert plain["label"] == hot["label"]
    assert all(a > b for a, b in zip(plain["confidence"], hot["confidence"], strict=True))


@pytest.mark.parametrize("kind", ["one", "several"])
def test_the_temperature_that_is_fitted_has_the_least_loss(kind, request):
    checkpoint = request.getfixturevalue(kind)
    rows, random = [row for row in random_rows(80) if row], np.random.default_rng(1)
    hot = Classifier(checkpoint, temperature=3.0).classify(rows)  # what is right is drawn from these
    if checkpoint.model.multi_label:
        right = random.random(hot.shape) < hot
    else:
        right = np.eye(3, dtype=bool)[[random.choice(3, p=one / one.sum()) for one in hot.astype(np.float64)]]
    classes = [[name for name, there in zip(CLASSES, row, strict=True) if there] for row in right]
    table = LabelledTable.from_rows(
        [*rows, [], ["good"]], [*classes, ["pos"], ["new"]], checkpoint.tokenizer, of_rows=True
    )
    if checkpoint.model.multi_label:  # a row of an unknown class alone is one without a class
        rows, right = [*rows, ["good"]], np.concatenate([right, np.zeros((1, 3), dtype=bool)])

    def nll(temperature):
        found = Classifier(checkpoint, temperature=temperature).classify(rows).astype(np.float64)
        if not checkpoint.model.multi_label:
            return -np.log(found[right]).sum()
        return -np.log(np.where(right, found, 1 - found)).sum()

    best = fitted_temperature(checkpoint, table)
    assert 1.5 < best < 6.0
    assert nll(best) < min(nll(best * 0.9), nll(best * 1.1))


@pytest.mark.parametrize("kind", ["one", "several"])
def test_rows_that_cannot_be_classified_say_why(kind, request):
    work = PredictWork(checkpoint=path(request.getfixturevalue(kind)), max_words=3, probabilities=True)
    rows = pa.array([None, [], ["good", None], ["good", ""], ["good"] * 4, ["good"] * 3], LISTS)
    columns = processed(work, words=rows)
    codes = [error and error.split(":")[0] for error in columns["error"]]
    assert codes == ["null_text", "no_words", "null_word", "empty_word", "long_row", None]
    for name in set(columns) - {"error"}:
        assert [value is not None for value in columns[name]] == [False] * 5 + [True]
    assert processed(work, words=pa.nulls(2, LISTS))["probabilities"] == [None, None]
    assert processed(work, words=pa.nulls(0, LISTS))["probabilities"] == []


def test_texts_are_split(one):
    columns = processed(PredictWork(checkpoint=path(one), words_column="text", splits=True), text=["good film.", None])
    assert columns["confidence"][0] == Classifier(one).classify([["good", "film", "."]]).max()
    assert columns["label"][1] is None


def test_probabilities_that_are_not_finite_are_an_error_of_their_row(one, monkeypatch):
    whole = Classifier.classify

    def broken(self, rows, **options):
        found = whole(self, rows, **options)
        found[1] = np.nan
        return found

    monkeypatch.setattr(Classifier, "classify", broken)
    columns = processed(PredictWork(checkpoint=path(one)), words=[["good"], ["bad"]])
    assert columns["error"][0] is None
    assert columns["error"][1].startswith("non_finite")
    assert columns["label"][1] is columns["confidence"][1] is None


# ----- calibration


def save_calibration(folder, checkpoint, **fitted):
    Calibration(model=checkpoint.fingerprint, trained={}, **fitted).save(open_location(str(folder)))
    return str(folder)


def test_a_calibration_gives_temperature_and_thresholds(one, several, tmp_path):
    rows = [row for row in random_rows(40) if row]
    calibration = save_calibration(tmp_path / "one", one, temperature=3.0)
    found = processed(PredictWork(checkpoint=path(one), calibration=calibration), words=rows)
    assert found == processed(PredictWork(checkpoint=path(one), temperature=3.0), words=rows)
    thresholds = {"neg": 0.2, "neutral": 0.9, "pos": 0.5}
    calibration = save_calibration(tmp_path / "several", several, temperature=2.0, thresholds=thresholds)
    found = processed(PredictWork(checkpoint=path(several), calibration=calibration), words=rows)
    for labels, one_row in zip(found["labels"], Classifier(several, temperature=2.0).classify(rows), strict=True):
        sure = dict(zip(CLASSES, one_row.tolist(), strict=True))
        assert labels == [name for name in CLASSES if sure[name] >= thresholds[name]]


def test_a_calibration_belongs_to_the_identity_and_to_its_model(one, several, tmp_path):
    cold, hot = (save_calibration(tmp_path / str(t), one, temperature=t) for t in (0.5, 2.0))
    works = [PredictWork(checkpoint=path(one), calibration=calibration) for calibration in (cold, hot, None)]
    assert len({str(work.identity()) for work in works}) == 3
    for fields, error, problem in (
        ({"checkpoint": path(several)}, ConfigError, "calibration: .* is that of model"),
        ({"temperature": 2.0}, ConfigError, "temperature: it is part of the calibration"),
        ({"calibration": str(tmp_path)}, CheckpointError, r"no calibration\.json"),
    ):
        with pytest.raises(error, match=problem):
            PredictWork(**{"checkpoint": path(one), "calibration": hot, **fields}).check_model()
    open_location(hot).join("calibration.json").write_json(
        {"model": one.fingerprint, "temperature": -1.0, "trained": {}}
    )
    with pytest.raises(CheckpointError, match="is no calibration: temperature"):
        PredictWork(checkpoint=path(one), calibration=hot).check_model()


def test_options_that_the_model_has_no_use_for_are_refused(one, several, tmp_path):
    tagger = save(tmp_path / "tagger", TaggingConfig, head="softmax")
    for checkpoint, fields, problem in (
        (one, {"entities": True}, "entities: it is about labels of words"),
        (one, {"window": 5}, "window: it is about labels of words"),
        (one, {"k_best": 5}, "k_best: it is about labels of words"),
        (one, {"threshold": 0.7}, "threshold: it is about rows of several"),
        (tagger, {"probabilities": True}, "probabilities: it is about classes"),
        (tagger, {"temperature": 2.0}, "temperature: it is about classes"),
        (tagger, {"calibration": "there"}, "calibration: it is about classes"),
    ):
        with pytest.raises(ConfigError, match=problem):
            PredictWork(checkpoint=path(checkpoint), **fields).check_model()
    PredictWork(checkpoint=path(several), threshold=0.7, probabilities=True, temperature=2.0).check_model()
    names = [field.name for field in PredictWork(checkpoint=path(several), probabilities=True).new_fields()]
    assert names == ["labels", "confidence", "probabilities", "error"]
    assert PROBABILITIES.value_type.field(0).name == "label"


def test_identity_names_what_decides_the_output(several):
    plain = PredictWork(checkpoint=path(several))
    for changed in ({"probabilities": True}, {"threshold": 0.7}, {"temperature": 2.0}):
        assert PredictWork(checkpoint=path(several), **changed).identity() != plain.identity(), changed
