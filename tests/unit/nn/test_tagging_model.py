"""The tagger as a network: padding and neighbours change nothing, the CRF's loss is that of an enumeration, and what is
decoded obeys the scheme."""

import itertools
import math

import numpy as np
import pytest
import torch

from rnnlm.data.labelled import LabelledTable
from rnnlm.data.labelled_stream import LabelledReader
from rnnlm.data.labels.schemes import count_violations
from rnnlm.data.tokenizers.labels import LabelTokenizer
from rnnlm.nn.cells.gru import GRUConfig
from rnnlm.nn.cells.lstm import LSTMConfig
from rnnlm.nn.layers.convolution import ConvolutionConfig
from rnnlm.nn.tagging_model import allowed_by, counted, guess_scheme
from rnnlm.nn.words.characters import ConvolutionalCharactersConfig, RecurrentCharactersConfig
from rnnlm.nn.words.embedding import WordEmbeddingConfig
from rnnlm.tasks.tagging import TaggingConfig

ROUNDING = 1e-5
LABELS = ["B-X", "B-Y", "I-X", "I-Y", "O"]
TOKENIZER = LabelTokenizer(["<unk>", "a", "bb", "cab", "dada"], list("abcdef"), LABELS, lower=False, zero_digits=False)
ROWS = [["a"], ["bb", "cab", "f", "dada", "abcdefabcdef"], ["dada", "a"], ["new", "abcdefabcdefabcdefabcdef", "a"]]
ROW_LABELS = [["O"], ["B-X", "I-X", "O", "B-Y", "I-Y"], ["O", "B-Y"], ["B-X", "O", "O"]]

SMALL_CELL = LSTMConfig(hidden_size=8)
CHARACTERS = {
    "LSTM": RecurrentCharactersConfig(embedding_size=5, cell=LSTMConfig(hidden_size=6)),
    "GRU": RecurrentCharactersConfig(embedding_size=5, cell=GRUConfig(hidden_size=6)),
    "filters": ConvolutionalCharactersConfig(embedding_size=5, num_filters=7),
    "even filters": ConvolutionalCharactersConfig(embedding_size=5, num_filters=7, width=4),
    "one character": ConvolutionalCharactersConfig(embedding_size=5, num_filters=7, width=1),
}
KINDS = {
    **{f"{name}, crf": {"words": [WordEmbeddingConfig(size=6), one]} for name, one in CHARACTERS.items()},
    "softmax": {"words": [WordEmbeddingConfig(size=6), CHARACTERS["LSTM"]], "head": "softmax", "num_layers": 2},
    "characters alone": {"words": [CHARACTERS["filters"]]},
    "convolutions": {"encoder": [ConvolutionConfig(width=3, depthwise=False, size=8, causal=False)]},
}
every_kind = pytest.mark.parametrize("kind", KINDS)
every_reader = pytest.mark.parametrize("characters", CHARACTERS)


def model_of(**fields):
    model = TaggingConfig(**{"cell": SMALL_CELL, **fields}).build(TOKENIZER).eval()
    for parameter in model.parameters():
        parameter.data.mul_(2.0)
    return model


def batch_of(rows=ROWS, labels=ROW_LABELS):
    table = LabelledTable.from_rows(rows, labels, TOKENIZER)
    return LabelledReader(table).read(np.arange(len(rows)))


@every_kind
def test_padding_and_neighbours_change_nothing(kind):
    model, together = model_of(**KINDS[kind]), batch_of()
    with torch.inference_mode():
        emissions, (labels, confidences) = model.emissions(together), model.decode(together)
        losses = 0.0
        for row, (words, named) in enumerate(zip(ROWS, ROW_LABELS, strict=True)):
            alone, n = batch_of([words], [named]), len(words)
            torch.testing.assert_close(emissions[row, :n], model.emissions(alone)[0], rtol=0, atol=ROUNDING)
            tagged = model.decode(alone)
            assert (labels[row, :n] == tagged.labels[0]).all()
            torch.testing.assert_close(confidences[row, :n], tagged.confidences[0], rtol=0, atol=ROUNDING)
            assert (labels[row, n:] == 0).all()
            assert (confidences[row, n:] == 0).all()
            losses += model.loss(alone).item()
        assert model.loss(together).item() == pytest.approx(losses, abs=1e-4)


@every_reader
def test_equal_spellings_have_equal_vectors_whatever_their_word(characters):
    feature = CHARACTERS[characters].build(TOKENIZER)
    found = feature(batch_of([["a", "unseen", "bb", "unseen"], ["unseen"]], None))
    assert found.shape == (2, 4, CHARACTERS[characters].output_size)
    assert (found[0, 1] == found[0, 3]).all()
    assert (found[0, 1] == found[1, 0]).all()
    assert not torch.allclose(found[0, 1], found[0, 2])


def test_filters_are_those_of_a_convolution_over_the_characters():
    feature = CHARACTERS["filters"].build(TOKENIZER)
    batch = batch_of()
    for row in range(len(batch.spellings)):
        n = int(batch.spelling_lengths[row])
        ids = torch.cat([torch.zeros(1).long(), batch.spellings[row, :n], torch.zeros(1).long()])
        expected = feature.filters(feature.embedding(ids).t().unsqueeze(0)).amax(2).squeeze(0)
        found = feature.spelled(batch.spellings, batch.spelling_lengths)[row]
        torch.testing.assert_close(found, expected, rtol=0, atol=ROUNDING)


def test_the_ends_of_cells_are_their_last_outputs_in_both_directions():
    feature = CHARACTERS["GRU"].build(TOKENIZER)
    batch = batch_of()
    found = feature.spelled(batch.spellings, batch.spelling_lengths)
    for row in range(len(batch.spellings)):
        ids = batch.spellings[row, : batch.spelling_lengths[row]].unsqueeze(0)
        ends = []
        for layer, read in ((feature.ahead, ids), (feature.back, ids.flip(1))):
            ends.append(layer(feature.embedding(read), layer.initial_state(1))[0][0, -1])
        torch.testing.assert_close(found[row], torch.cat(ends), rtol=0, atol=ROUNDING)


def test_the_loss_of_the_crf_is_that_of_an_enumeration():
    model, batch = model_of(scheme="none"), batch_of([ROWS[2]], [ROW_LABELS[2]])
    first, second = model.emissions(batch)[0].tolist()
    crf = {name: value.tolist() for name, value in model.crf.named_parameters()}
    weights = {
        (a, b): math.exp(crf["start"][a] + first[a] + crf["transitions"][a][b] + second[b] + crf["end"][b])
        for a, b in itertools.product(range(5), repeat=2)
    }
    target = tuple(TOKENIZER.label_ids(ROW_LABELS[2]).tolist())
    expected = -math.log(weights[target] / sum(weights.values()))
    assert model.loss(batch).item() == pytest.approx(expected, rel=1e-5)
    tagged = model.decode(batch)
    best = max(weights, key=weights.get)
    assert tuple(tagged.labels[0].tolist()) == best
    for place in range(2):
        share = sum(value for labels, value in weights.items() if labels[place] == best[place])
        assert tagged.confidences[0, place].item() == pytest.approx(share / sum(weights.values()), rel=1e-4)


def test_the_loss_of_the_softmax_is_a_sum_over_words():
    model, batch = model_of(head="softmax"), batch_of()
    logprobs = model.emissions(batch).log_softmax(2)
    expected = -sum(
        logprobs[row, place, TOKENIZER.labels.index(label)].item()
        for row, labels in enumerate(ROW_LABELS)
        for place, label in enumerate(labels)
    )
    assert model.loss(batch).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("head", ["softmax", "crf"])
def test_what_has_an_unknown_label_is_left_out(head):
    model = model_of(head=head)
    batch = batch_of([*ROWS, ["a", "bb"]], [*ROW_LABELS, ["O", "never seen"]])
    known = batch_of()
    words = int(counted(batch, whole_rows=head == "crf").sum())
    assert words == int(known.mask.sum()) + (head == "softmax")
    if head == "crf":
        assert model.loss(batch).item() == pytest.approx(model.loss(known).item(), rel=1e-5)
    else:
        alone = batch_of([["a", "bb"]], [["O", "never seen"]])
        expected = model.loss(known).item() + model.loss(alone).item()
        assert model.loss(batch).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("head", ["softmax", "crf"])
@pytest.mark.parametrize("rows", [[[]], [["a", "bb"]]])
def test_a_batch_without_labels_has_no_loss_but_a_gradient_for_every_parameter(head, rows):
    # Ranks add up their gradients: each must have one of everything, even from an empty row.
    model = model_of(head=head).train()
    loss = model.loss(batch_of(rows, None))
    loss.backward()
    assert loss.item() == 0.0
    for parameter in model.parameters():
        assert parameter.grad is not None
        assert (parameter.grad == 0).all()


def test_the_crf_decodes_what_the_scheme_allows_even_untrained():
    drawn = np.random.default_rng(0)
    rows = [list(drawn.choice(TOKENIZER.words[1:], size=drawn.integers(1, 9))) for _ in range(40)]
    broken = 0
    for scheme in ("auto", "none"):
        found = model_of(scheme=scheme).decode(batch_of(rows, None)).labels
        named = [[LABELS[one] for one in found[row, : len(words)].tolist()] for row, words in enumerate(rows)]
        broken = sum(count_violations(labels, "iob2") for labels in named)
        if scheme == "auto":
            assert broken == 0
    assert broken > 0


@pytest.mark.parametrize(
    ("labels", "scheme"),
    [
        (LABELS, "iob2"),
        (["B-X", "O"], "iob2"),
        (["I-X", "O"], None),  # iob1 or io
        (["B-X", "I-X", "I-Y", "O"], None),  # iob1
        (["B-X", "E-X", "I-X", "O", "S-X"], "iobes"),
        (["B-X", "L-X", "O", "U-X"], "bilou"),
        (["B", "I", "O"], "iob2"),
        (["B", "E", "M", "S"], None),
        (["NOUN", "VERB"], None),
        (["B-X", "I-X"], None),
        (["", "O"], None),
    ],
)
def test_a_scheme_is_known_by_its_labels(labels, scheme):
    assert guess_scheme(labels) == scheme


def test_what_may_follow_is_what_the_scheme_says():
    allowed = allowed_by(LABELS, "iob2")
    assert allowed.start.tolist() == [True, True, False, False, True]
    assert allowed.end.all()
    for before, label in itertools.product(range(5), repeat=2):
        assert bool(allowed.transitions[before, label]) == (
            not LABELS[label].startswith("I") or LABELS[before][1:] == LABELS[label][1:]
        )


def test_singletons_are_taken_for_unknown_words_in_training_alone():
    feature = WordEmbeddingConfig(size=3, unknown_singletons=1.0).build(TOKENIZER)
    feature.prepare(np.array([0, 1, 5, 1, 2]), TOKENIZER)
    batch = batch_of([["a", "bb", "cab", "dada"]], None)
    trained, vectors = feature.train()(batch)[0], feature.embedding.weight
    assert (trained == vectors[[0, 2, 0, 4]]).all()
    assert (feature.eval()(batch)[0] == vectors[[1, 2, 3, 4]]).all()
    assert feature.state_dict()["unknown"].tolist() == [0.0, 1.0, 0.0, 1.0, 0.0]
