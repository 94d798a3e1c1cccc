"""Intents and slots as a task of the loop: a joint model is a tagger and a classifier at once, and learns both."""

import random

import numpy as np
import pyarrow as pa
import pytest
import torch

from rnnlm.checkpoint import load_checkpoint
from rnnlm.data.intent_table import IntentColumns, IntentTable
from rnnlm.data.labelled_stream import LabelledReader
from rnnlm.data.tokenizers.labels import LabelsConfig, LabelTokenizer
from rnnlm.errors import ConfigError, DataError
from rnnlm.inference.understand import Understander
from rnnlm.nn.cells.lstm import LSTMConfig
from rnnlm.nn.words.embedding import WordEmbeddingConfig
from rnnlm.storage import open_location
from rnnlm.tasks.batching import SentencesConfig
from rnnlm.tasks.intents import IntentsConfig
from rnnlm.training.loop import train
from rnnlm.training.optimizers.adamw import AdamWConfig
from rnnlm.training.settings import LoopConfig, TrainingConfig, TrainingData

CITIES = ["rome", "york", "ely"]


def utterances(count, *, seed=0):
    """`fly from rome to york` is a flight, `how much ...` asks a fare, and both may be asked at once."""
    drawn = random.Random(seed)
    words, labels, intents = [], [], []
    for _ in range(count):
        wanted = drawn.choice([["fare"], ["flight"], ["fare", "flight"]])
        begin = {"fare": ["how", "much"], "flight": ["fly"], "fare flight": ["fly", "how", "much"]}[" ".join(wanted)]
        cities = drawn.sample(CITIES, 2)
        words.append([*begin, "from", cities[0], "to", "new", cities[1]])
        labels.append([*("O" for _ in begin), "O", "B-from", "O", "B-to", "I-to"])
        intents.append(wanted)
    return words, labels, intents


WORDS, LABELS, INTENTS = utterances(300)


def vocabulary():
    found = LabelsConfig().train_labelled(zip(WORDS, LABELS, strict=True))
    return found.with_intents(intent for row in INTENTS for intent in row)


VOCABULARY = vocabulary()
TABLE = IntentTable.from_utterances(WORDS, LABELS, INTENTS, VOCABULARY)


def tiny(**fields):
    given = {"cell": LSTMConfig(hidden_size=32), "words": [WordEmbeddingConfig(size=16)], "dropout": 0.0, **fields}
    return IntentsConfig(**given)


def test_a_vocabulary_keeps_its_intents_and_others_stay_what_they_were():
    plain = LabelsConfig().train_labelled(zip(WORDS, LABELS, strict=True))
    assert VOCABULARY.intents == ["fare", "flight"]
    assert LabelTokenizer.from_bytes(VOCABULARY.model_bytes()).intents == VOCABULARY.intents
    assert b"intents" not in plain.model_bytes()
    assert VOCABULARY.fingerprint != plain.fingerprint
    assert VOCABULARY.intent_ids(["flight", "hotel"]).tolist() == [1, -1]


def test_a_batch_holds_labels_of_words_and_intents_of_rows():
    batch = LabelledReader(TABLE).read(np.arange(4))
    for row in range(4):
        words = len(WORDS[row])
        assert [VOCABULARY.labels[label] for label in batch.labels[row, :words]] == LABELS[row]
        assert [VOCABULARY.intents[one] for one in batch.classes[row] if one >= 0] == INTENTS[row]


@pytest.mark.parametrize("multi_intent", [True, False])
def test_the_loss_is_the_tagger_s_and_the_classifier_s(multi_intent):
    table = (
        TABLE if multi_intent else IntentTable.from_utterances(WORDS, LABELS, [row[:1] for row in INTENTS], VOCABULARY)
    )
    torch.manual_seed(1)
    task = tiny(multi_intent=multi_intent, intent_weight=0.25)
    model = task.build(VOCABULARY)
    batch = LabelledReader(table).read(np.arange(7))
    found, _ = task.loss(model, batch, ())
    logits = model.intent_logits(model.read(batch), batch).double()
    nll = 0.0
    for row, wanted in enumerate(batch.classes.tolist()):
        if multi_intent:
            signs = [1.0 if place in wanted else -1.0 for place in range(2)]
            nll -= sum(
                torch.nn.functional.logsigmoid(sign * logit) for sign, logit in zip(signs, logits[row], strict=True)
            )
        else:
            nll -= logits[row].log_softmax(0)[wanted[0]]
    slots = super(type(model), model).loss(batch)
    assert found.nll.item() == pytest.approx((slots + nll).item(), rel=1e-5)
    assert found.objective.item() == pytest.approx((slots + 0.25 * nll).item(), rel=1e-5)
    assert found.num_targets == sum(map(len, WORDS[:7]))


def test_what_is_unknown_is_left_out_by_itself():
    strange = IntentTable.from_utterances(
        [["fly"], ["fly"], ["fly"]], [["B-moon"], ["O"], ["B-moon"]], [["flight"], ["hotel"], ["hotel"]], VOCABULARY
    )
    task = tiny()
    assert strange.num_unknown == 4
    assert task.learnable(strange).tolist() == [0, 1]
    torch.manual_seed(1)
    model = task.build(VOCABULARY)
    losses = [model.losses(LabelledReader(strange).read(np.array([row]))) for row in range(3)]
    assert [loss.slots.item() == 0.0 for loss in losses] == [True, False, True]
    assert [loss.intents.item() == 0.0 for loss in losses] == [False, True, True]


def test_intents_and_slots_are_learnt_and_found(tmp_path):
    config = TrainingConfig(
        task=tiny(multi_intent=True),
        batching=SentencesConfig(words=128),
        optimizer=AdamWConfig(learning_rate=0.02),
        loop=LoopConfig(max_steps=150),
    )
    train(config, TrainingData(TABLE, TABLE, VOCABULARY), open_location(str(tmp_path)))
    understander = Understander(load_checkpoint(str(tmp_path)))
    words, labels, intents = utterances(50, seed=7)
    found = understander.understand([[], *words])
    assert found[0] is None
    for one, row, wanted in zip(found[1:], labels, intents, strict=True):
        assert one.slots.labels == row
        assert [name for name, sure in zip(VOCABULARY.intents, one.intents, strict=True) if sure >= 0.5] == wanted
    alone = understander.understand(words[:1])[0]
    assert np.allclose(alone.intents, found[1].intents, atol=1e-5)


def test_several_intents_need_to_be_asked_for(tmp_path):
    plain = LabelsConfig().train_labelled(zip(WORDS, LABELS, strict=True))
    with pytest.raises(ConfigError, match="has no intents"):
        tiny().build(plain)
    schema = pa.schema([("words", pa.list_(pa.string())), ("labels", pa.list_(pa.string())), ("label", pa.int32())])
    with pytest.raises(DataError, match="'label' has type int32"):
        IntentColumns(schema, "words", "labels", "label")
    with pytest.raises(DataError, match="'intent' is not among"):
        IntentColumns(schema, "words", "labels", "intent")
