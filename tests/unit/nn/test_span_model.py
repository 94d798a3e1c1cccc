"""Scores of spans are those of a loop over the formula, padding and neighbours change nothing, and what is decoded does
not cross."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rnnlm.data.labels.schemes import Span
from rnnlm.data.span_stream import SpanReader
from rnnlm.data.span_table import SpanTable
from rnnlm.data.tokenizers.labels import LabelTokenizer
from rnnlm.nn.cells.lstm import LSTMConfig
from rnnlm.nn.span_model import PRIOR, FoundSpan, without_conflicts
from rnnlm.nn.words.characters import ConvolutionalCharactersConfig
from rnnlm.nn.words.embedding import WordEmbeddingConfig
from rnnlm.tasks.entities import EntitiesConfig

ROUNDING = 1e-5
TYPES = ["LOC", "ORG", "PER"]
TOKENIZER = LabelTokenizer(["<unk>", "a", "bb", "cab"], list("abcdef"), TYPES, lower=False, zero_digits=False)
ROWS = [["a"], ["bb", "cab", "f", "a", "abcdef"], ["cab", "a"], ["new", "a", "bb"]]
SPANS = [
    [Span(0, 1, "PER")],
    [Span(0, 5, "ORG"), Span(0, 5, "PER"), Span(1, 2, "LOC"), Span(1, 4, "LOC")],
    [],
    [Span(1, 3, "PER"), Span(0, 1, "new")],
]


def model_of(**fields):
    torch.manual_seed(1)
    words = [WordEmbeddingConfig(size=6), ConvolutionalCharactersConfig(embedding_size=5, num_filters=4)]
    fields = {"cell": LSTMConfig(hidden_size=8), "words": words, "projection_size": 5, **fields}
    model = EntitiesConfig(**fields).build(TOKENIZER).eval()
    for name, parameter in model.named_parameters():
        if not name.endswith("bias"):
            parameter.data.mul_(2.0)
    return model


def batch_of(rows=ROWS, spans=SPANS):
    table = SpanTable.from_spans(rows, spans, TOKENIZER)
    return SpanReader(table).read(np.arange(len(rows)))


def test_scores_are_those_of_a_loop():
    model, batch = model_of(), batch_of()
    with torch.inference_mode():
        scores, read = model.scores(batch), model.read(batch)
        types, size = len(TYPES), 5
        matrices = model.bilinear.weight.view(types, size, size)
        for row, words in enumerate(ROWS):
            h, e = ((one.linear(read[row])).relu() for one in (model.to_starts, model.to_ends))
            for i, j, c in itertools.product(range(len(words)), range(len(words)), range(types)):
                weights = torch.cat([model.of_starts.weight[c], model.of_ends.weight[c]])
                expected = sum(h[i, k] * matrices[c, m, k] * e[j, m] for k in range(size) for m in range(size))
                expected = expected + weights @ torch.cat([h[i], e[j]]) + model.of_starts.bias[c]
                assert scores[row, i, j, c].item() == pytest.approx(expected.item(), abs=ROUNDING)


@pytest.mark.parametrize("max_width", [None, 2])
def test_the_loss_is_a_sum_over_spans_and_types(max_width):
    model, batch = model_of(max_width=max_width), batch_of()
    with torch.inference_mode():
        probabilities = model.scores(batch).sigmoid()
        expected = 0.0
        for row, words in enumerate(ROWS):
            for i, j in itertools.combinations_with_replacement(range(len(words)), 2):
                if max_width is not None and j - i >= max_width:
                    continue
                for c, kind in enumerate(TYPES):
                    found = probabilities[row, i, j, c].item()
                    expected -= math.log(found if Span(i, j + 1, kind) in SPANS[row] else 1.0 - found)
        assert model.loss(batch).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("flat", [False, True])
def test_padding_and_neighbours_change_nothing(flat):
    model, together = model_of(), batch_of()
    with torch.inference_mode():
        found, losses = model.probabilities(together), 0.0
        decoded = model.decode(together, threshold=0.01, flat=flat)
        for row, (words, spans) in enumerate(zip(ROWS, SPANS, strict=True)):
            alone, n = batch_of([words], [spans]), len(words)
            torch.testing.assert_close(found[row, :n, :n], model.probabilities(alone)[0], rtol=0, atol=ROUNDING)
            assert (found[row, n:] == 0).all()
            assert (found[row, :, n:] == 0).all()
            (own,) = model.decode(alone, threshold=0.01, flat=flat)
            assert [span[:3] for span in own] == [span[:3] for span in decoded[row]]
            losses += model.loss(alone).item()
        assert model.loss(together).item() == pytest.approx(losses, rel=1e-5)
        assert any(decoded)


@pytest.mark.parametrize("rows", [[[]], [[], ["a"]]])
def test_an_empty_row_has_no_spans_but_a_gradient_for_every_parameter(rows):
    # Ranks add up their gradients: each must have one of everything, even from an empty row.
    model = model_of().train()
    loss = model.loss(batch_of(rows, [[] for _ in rows]))
    loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    if rows == [[]]:
        assert loss.item() == 0.0
        assert all((parameter.grad == 0).all() for parameter in model.parameters())
    assert model.eval().decode(batch_of(rows, [[] for _ in rows]), threshold=0.0)[0] == []


def test_before_training_every_span_is_rare():
    model = EntitiesConfig(cell=LSTMConfig(hidden_size=8), projection_size=5).build(TOKENIZER).eval()
    batch = batch_of()
    with torch.inference_mode():
        found = model.probabilities(batch)[model.mask(batch)]
    assert found.mean().item() == pytest.approx(PRIOR, rel=0.5)
    assert model.decode(batch) == [[]] * 4


def test_no_span_is_wider_than_it_may_be():
    model = model_of(max_width=2)
    found = model.decode(batch_of(), threshold=0.0)
    assert {span.end - span.start for row in found for span in row} == {1, 2}


# ----- decoding


def span(start, end, probability, kind=0):
    return FoundSpan(start, end, kind, probability)


def test_nested_spans_are_kept_and_crossing_ones_dropped():
    best, inner, crossing, apart = span(0, 4, 0.9), span(1, 2, 0.6), span(3, 6, 0.8), span(4, 6, 0.7)
    assert without_conflicts([crossing, inner, apart, best]) == [best, inner, apart]
    assert without_conflicts([crossing, inner, apart, best], flat=True) == [best, apart]
    outer = span(0, 6, 0.5)
    assert without_conflicts([inner, outer, best]) == [best, outer, inner]
    assert without_conflicts([span(2, 5, 0.4), span(0, 3, 0.3), span(3, 4, 0.2)]) == [span(2, 5, 0.4), span(3, 4, 0.2)]


def test_one_span_may_have_several_types_unless_spans_are_flat():
    one, other = span(2, 3, 0.6, kind=1), span(2, 3, 0.7, kind=2)
    assert without_conflicts([one, other]) == [one, other]
    assert without_conflicts([one, other], flat=True) == [other]
    assert without_conflicts([]) == []


drawn_spans = st.lists(
    st.builds(
        lambda start, width, kind, probability: span(start, start + width, probability, kind),
        st.integers(0, 8),
        st.integers(1, 8),
        st.integers(0, 1),
        st.sampled_from([0.5, 0.6, 0.7, 0.8]),
    ),
    unique_by=lambda one: one[:3],
)


@given(drawn_spans, st.booleans())
def test_the_spans_taken_are_those_of_a_loop_over_pairs(spans, flat):
    def conflict(one, other):
        if flat:
            return one.start < other.end and other.start < one.end
        return one.start < other.start < one.end < other.end or other.start < one.start < other.end < one.end

    taken = []
    for candidate in sorted(spans, key=lambda one: (-one.probability, one)):
        if not any(conflict(candidate, other) for other in taken):
            taken.append(candidate)
    assert without_conflicts(spans, flat=flat) == sorted(taken)
