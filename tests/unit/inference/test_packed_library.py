"""The way that packed rows take on a GPU, through torch's own kernel for them, taken here on the processor: the same
outputs, states and scores as step after step."""

import copy

import numpy as np
import pytest
import torch

from rnnlm.inference import packed
from rnnlm.inference.devices import OnItsWay
from rnnlm.inference.packed import PackedRunner
from rnnlm.inference.score import Scorer, one_ahead
from rnnlm.nn.cells.base import FusedCell, _tf32_as_in_products
from rnnlm.nn.cells.elman import ElmanConfig
from rnnlm.nn.cells.gru import GRUConfig
from rnnlm.nn.cells.lstm import LSTMConfig
from rnnlm.nn.dropout import Dropout
from rnnlm.nn.embedding import OneHot
from rnnlm.nn.layer import Layer
from rnnlm.nn.layers.projection import ProjectionConfig
from rnnlm.nn.layers.residual import ResidualConfig
from rnnlm.nn.packing import Packing
from rnnlm.nn.prepared import PreparedWeights
from rnnlm.nn.softmax.full import FullSoftmaxConfig
from rnnlm.nn.stack import build_stack
from rnnlm.tasks.language_model import LanguageModelConfig
from tests.corpora import CELLS, random_documents, save_tiny, tiny_task

SIZE, STEPS, LENGTHS = 16, 9, [9, 9, 6, 5, 5, 2, 1]
TOLERANCE = 1e-5  # two orders of the same sums in float32
CONFIGS = {
    "lstm": LSTMConfig(hidden_size=SIZE),
    "gru": GRUConfig(hidden_size=SIZE),
    "elman": ElmanConfig(hidden_size=SIZE),
    "elman-relu": ElmanConfig(hidden_size=SIZE, nonlinearity="relu"),
}
LAYERS = {
    **{name: [config] for name, config in CONFIGS.items()},
    **{f"two of {name}": [config, config] for name, config in CONFIGS.items()},
    "mixed": [CONFIGS["gru"], CONFIGS["lstm"]],
    "residual": [ResidualConfig(inner=CONFIGS["lstm"]), CONFIGS["gru"]],
    "projection below": [ProjectionConfig(size=SIZE), CONFIGS["lstm"]],
    "narrow LSTM above": [CONFIGS["lstm"], LSTMConfig(hidden_size=SIZE, projection_size=SIZE - 1)],
}


def has_no_projection(cell):
    return not cell.fused.proj_size


def advance_packed(cell, *given):
    assert cell.fused.proj_size, "this cell was to run by the library"
    return Layer.advance_packed(cell, *given)


@pytest.fixture
def by_library(monkeypatch):
    monkeypatch.setattr(FusedCell, "prefers_inputs", property(has_no_projection))


@pytest.fixture(params=LAYERS)
def stack(request):
    return build_stack(LAYERS[request.param], SIZE, Dropout(0.0, variational=False)).eval()


def packing_of(start, stop):
    return Packing([sum(length > time for length in LENGTHS) for time in range(start, stop)])


def run(stack, way, cuts):
    """Outputs, and the state after each row's last step, of rows read chunk by chunk."""
    inputs = torch.randn(len(LENGTHS), STEPS, SIZE, generator=torch.Generator().manual_seed(3))
    state = tuple(torch.full((len(LENGTHS), size), 0.3) for size in stack.state_sizes)
    outputs, final = [], {}
    for start, stop in zip([0, *cuts], [*cuts, STEPS], strict=True):
        packing = packing_of(start, stop)
        chunk = torch.cat([inputs[:count, start + step] for step, count in enumerate(packing.alive)])
        output, state = way(chunk, packing, state)
        outputs.append(output)
        going_on = sum(length > stop for length in LENGTHS)
        for row in range(going_on, packing.rows):
            final[row] = torch.cat([tensor[row] for tensor in state])
        state = tuple(tensor[:going_on] for tensor in state)
    return torch.cat(outputs), torch.stack([final[row] for row in range(len(LENGTHS))])


@pytest.mark.parametrize("cuts", [[], [1], [4, 5]])
def test_all_steps_in_one_call_are_step_after_step(stack, cuts, monkeypatch):
    with torch.inference_mode():
        expected = run(stack, lambda inputs, *rest: stack.advance_packed(stack.project(inputs), *rest), cuts)
        monkeypatch.setattr(FusedCell, "prefers_inputs", property(has_no_projection))
        monkeypatch.setattr(FusedCell, "advance_packed", advance_packed)
        found = run(stack, stack.run_packed, cuts)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=TOLERANCE)


@pytest.mark.usefixtures("by_library")
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_lower_precision_is_close_and_gives_float32(stack, precision):
    tolerance = {"bfloat16": 5e-2, "float16": 5e-3}[precision]
    with torch.inference_mode():
        expected = run(stack, stack.run_packed, [4])
        with PreparedWeights(precision, torch.device("cpu")).active():
            found = run(stack, stack.run_packed, [4])
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.usefixtures("by_library")
def test_weights_are_rounded_once(monkeypatch):
    cell, copies = CONFIGS["lstm"].build(SIZE).eval(), []
    monkeypatch.setattr(copy, "deepcopy", lambda module, made=copy.deepcopy: copies.append(module) or made(module))
    with torch.inference_mode(), PreparedWeights("bfloat16", torch.device("cpu")).active():
        run(cell, cell.run_packed, [2, 4, 6])
    assert copies == [cell.fused]
    assert cell.fused.weight_hh_l0.dtype == torch.float32


def documents_of(lengths, checkpoint):
    return random_documents(lengths, checkpoint.tokenizer.vocab_size)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("positions", "rows"), [(7, 3), (8192, 256)])
def test_scores_and_last_states_are_the_same(tmp_path, cell, positions, rows, monkeypatch):
    monkeypatch.setattr(packed, "CHUNK_POSITIONS", positions)
    monkeypatch.setattr(packed, "BLOCK_ROWS", rows)
    checkpoint = save_tiny(tmp_path / "c", tiny_task(cell, num_layers=2))
    documents = documents_of([0, 5, 40, 2, 9, 0, 13, 1], checkpoint)

    def once():
        scores = Scorer(checkpoint).score_tokens(documents, keep_tokens=True)
        runner = PackedRunner(checkpoint.model, bos_id=1, eos_id=1)
        final = checkpoint.model.initial_state(len(documents))
        with torch.inference_mode():
            for block in runner.blocks(documents):
                for _ in runner.run(documents, block, final):
                    pass
        return np.concatenate(scores.token_logprobs), torch.cat(final, 1).detach().numpy()

    expected = once()
    monkeypatch.setattr(FusedCell, "prefers_inputs", True)
    monkeypatch.setattr(PackedRunner, "_first_layer_table", lambda _: pytest.fail("no table is needed"))
    for one, other in zip(once(), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=TOLERANCE)


@pytest.mark.usefixtures("by_library")
def test_one_hot_inputs_stay_columns_of_the_matrix(tmp_path):
    task = LanguageModelConfig(cell=CONFIGS["lstm"], one_hot_input=True, softmax=FullSoftmaxConfig(tied=False))
    model = save_tiny(tmp_path / "c", task).model
    assert isinstance(model.embedding, OneHot)
    assert model.stack.prefers_inputs
    assert not model.prefers_inputs
    tokens, packing = torch.tensor([2, 3, 4, 5, 2]), Packing([2, 2, 1])
    with torch.inference_mode():
        found, _ = model.run_packed(tokens, packing, model.initial_state(2))
        expected, _ = model.stack.advance_packed(model.project_tokens(tokens), packing, model.initial_state(2))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_tf32_follows_the_setting_of_products():
    products, before = torch.backends.cuda.matmul, torch.backends.cudnn.allow_tf32
    for allowed in (True, False):  # it is False by default
        products.allow_tf32 = allowed
        with _tf32_as_in_products():
            assert torch.backends.cudnn.allow_tf32 == allowed
        assert torch.backends.cudnn.allow_tf32 == before


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_one_ahead_gives_all_in_order_when_the_next_is_made(count):
    made = []

    def items():
        for item in range(count):
            made.append(item)
            yield item

    given = [(item, len(made)) for item in one_ahead(items())]
    assert given == [(item, min(item + 2, count)) for item in range(count)]


def test_scores_one_part_ahead_are_the_same(tiny_checkpoint, monkeypatch):
    documents = documents_of([3, 0, 17, 4], tiny_checkpoint)
    expected = Scorer(tiny_checkpoint).score_tokens(documents).logprob
    parts = Scorer._parts
    monkeypatch.setattr(packed, "CHUNK_POSITIONS", 3)
    monkeypatch.setattr(Scorer, "_parts", lambda *arguments: one_ahead(parts(*arguments)))
    np.testing.assert_allclose(Scorer(tiny_checkpoint).score_tokens(documents).logprob, expected, rtol=0, atol=1e-4)


def test_numbers_that_are_here_have_arrived():
    assert OnItsWay(torch.tensor([1.0, 2.0])).numpy().tolist() == [1.0, 2.0]
