"""The job that fits baselines: what it measures, tunes, keeps and refuses."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.schemas import TrainBaselineJob
from jobs.train_baseline import figures, train_baseline
from rnnlm.baselines import BagOfWordsConfig, HMMConfig, MostFrequentConfig, loaded_baseline
from rnnlm.config import from_dict, to_dict
from rnnlm.data.labelled import LabelledRows, labels_metadata
from rnnlm.data.tokenizers.chars import CharsConfig
from rnnlm.data.tokenizers.labels import LabelsConfig
from rnnlm.data.tokens import tokens_metadata
from rnnlm.errors import ConfigError, DataError, RefusedError
from rnnlm.storage import open_location

TAGGED = LabelledRows(
    [["Mary", "saw", "Rome"], ["Zoë", "saw", "Mary"]] * 3, [["B-P", "O", "B-L"], ["B-P", "O", "B-P"]] * 3, False
)
JUDGED = LabelledRows([["good", "film"], ["bad", "film"], ["bad"]] * 3, [["p"], ["n"], ["n"]] * 3, True)
SORTED = JUDGED._replace(labels=[["p", "f"], ["f"], []] * 3)


@pytest.fixture
def job(tmp_path):
    """The fields of a job for rows, with tables and a tokenizer that are made for them."""

    def made(baseline, rows, valid=None, **fields):
        tokenizer = LabelsConfig().train_labelled(zip(rows.words, rows.labels, strict=True))
        tokenizer.save(open_location(str(tmp_path / "tokenizer")))
        for name, one in (("train", rows), ("valid", valid or rows)):
            metadata = {**tokens_metadata(tokenizer), **labels_metadata(of_rows=one.of_rows)}
            table = pa.table({"words": one.words, "labels": pa.array(one.labels, pa.list_(pa.string()))})
            pq.write_table(table.replace_schema_metadata(metadata), tmp_path / f"{name}.parquet")
        paths = {"train_tokens": "train.parquet", "valid_tokens": "valid.parquet", "tokenizer_path": "tokenizer"}
        given = {name: str(tmp_path / path) for name, path in paths.items()}
        return TrainBaselineJob(baseline=baseline, output=str(tmp_path / "model"), **{**given, **fields})

    return made


def card_of(job):
    return open_location(job.output).join("config.json").read_json()


@pytest.mark.parametrize(
    ("baseline", "rows", "multi_label", "names"),
    [
        (HMMConfig(), TAGGED, False, ["accuracy", "span_f1"]),
        (MostFrequentConfig(), TAGGED._replace(labels=[["N", "V", "N"]] * 6), False, ["accuracy"]),
        (MostFrequentConfig(), JUDGED, False, ["accuracy"]),
        (BagOfWordsConfig(), JUDGED, False, ["accuracy"]),
        (BagOfWordsConfig(), SORTED, True, ["exact", "micro_f1"]),
    ],
)
def test_a_model_is_kept_with_what_it_was_made_of_and_how_good_it_is(job, capsys, baseline, rows, multi_label, names):
    asked = job(baseline, rows, multi_label=multi_label)
    train_baseline(asked)
    card = card_of(asked)
    model = loaded_baseline(open_location(asked.output)).model
    assert card["trained"]["valid"] == figures(model, rows)
    assert sorted(card["trained"]["valid"]) == names
    assert card["trained"]["rows"] == len(rows.words)
    assert f"train_baseline: {model.kind} from {len(rows.words)} rows" in capsys.readouterr().out
    settings = json.loads(open_location(asked.output).join("settings.json").read_bytes())
    assert from_dict(TrainBaselineJob, settings) == asked


def test_figures_are_the_ones_of_the_field():
    model = MostFrequentConfig().fit(TAGGED)
    wrong = TAGGED._replace(labels=[["B-P", "O", "B-L"], ["B-P", "O", "B-L"]] * 3)
    assert figures(model, wrong) == pytest.approx({"span_f1": 3 / 4, "accuracy": 5 / 6})
    several = MostFrequentConfig().fit(SORTED, multi_label=True)  # f in two rows of three, p in one
    assert figures(several, SORTED) == pytest.approx({"micro_f1": 2 * 6 / (9 + 9), "exact": 1 / 3})


def test_without_a_held_out_table_nothing_is_measured(job, capsys):
    asked = job(HMMConfig(), TAGGED, valid_tokens=None)
    train_baseline(asked)
    assert "valid" not in card_of(asked)["trained"]
    assert "validation" not in capsys.readouterr().out


def test_tuning_chooses_the_setting_that_is_best_on_the_held_out_table(job, capsys):
    words = ["xing", "bag", "rag", "tag", "lag", "nag"]
    rows = LabelledRows([[word] for word in words], [["V"], ["N"], ["N"], ["N"], ["N"], ["N"]], of_rows=False)
    valid = LabelledRows([["boxing"], ["fixing"], ["hag"]], [["V"], ["V"], ["N"]], of_rows=False)
    found = {theta: figures(HMMConfig(theta=theta).fit(rows), valid)["accuracy"] for theta in HMMConfig.tunable[1]}
    assert min(found.values()) < max(found.values()) == found[0.03]  # one suffix says enough
    asked = job(HMMConfig(theta=10.0), rows, valid, tune=True)
    train_baseline(asked)
    assert loaded_baseline(open_location(asked.output)).model.settings.theta == 0.03
    assert "theta=0.03 is best on valid_tokens (0.03: 1.0000, " in capsys.readouterr().out
    assert card_of(asked)["trained"]["valid"]["accuracy"] == 1.0


def test_what_cannot_be_tuned_is_refused(job):
    with pytest.raises(ConfigError, match="no setting to tune"):
        train_baseline(job(MostFrequentConfig(), TAGGED, tune=True))
    with pytest.raises(ValueError, match="tune needs valid_tokens"):
        job(HMMConfig(), TAGGED, tune=True, valid_tokens=None)


def test_the_same_job_again_writes_the_same_and_another_is_refused(job):
    asked = job(HMMConfig(), TAGGED)
    train_baseline(asked)
    folder = open_location(asked.output)
    before = {name: folder.join(name).read_bytes() for name in folder.list_files()}
    train_baseline(asked)
    assert {name: folder.join(name).read_bytes() for name in folder.list_files()} == before
    with pytest.raises(RefusedError, match=r"max_rare: 10 -> 3"):
        train_baseline(job(HMMConfig(max_rare=3), TAGGED))
    folder.join("config.json").delete()
    train_baseline(asked)  # what was cut short is done again
    folder.join("config.json").delete()
    folder.join("thesis.txt").write_text("years of work")
    with pytest.raises(RefusedError, match=r"holds thesis\.txt and no config\.json"):
        train_baseline(asked)


@pytest.mark.parametrize(
    ("baseline", "rows", "fields", "error", "problem"),
    [
        (HMMConfig(), JUDGED, {}, ConfigError, "hmm labels words"),
        (BagOfWordsConfig(), TAGGED, {}, ConfigError, "bag_of_words labels rows"),
        (HMMConfig(), TAGGED, {"multi_label": True}, ConfigError, "multi_label: it is about classes of rows"),
        (BagOfWordsConfig(), SORTED, {}, DataError, "set multi_label=true"),
        (HMMConfig(), TAGGED, {"valid": JUDGED}, ConfigError, "valid_tokens: one table has labels of words"),
    ],
)
def test_tables_that_do_not_suit_are_refused(job, baseline, rows, fields, error, problem):
    with pytest.raises(error, match=problem):
        train_baseline(job(baseline, rows, **fields))


def test_a_tokenizer_of_text_is_refused(job, tmp_path):
    asked = job(HMMConfig(), TAGGED)
    CharsConfig().train(["abc"]).save(open_location(asked.tokenizer_path))
    with pytest.raises(ConfigError, match="tokenizer_path: the tokenizer is of kind chars"):
        train_baseline(asked)
    assert to_dict(asked)["baseline"] == to_dict(HMMConfig())
