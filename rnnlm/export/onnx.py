"""A language model as two ONNX graphs, with batch and length free.

    step.onnx      token (B,), state_0 (B, H_0), ...  ->  logprobs (B, V), new_state_0 (B, H_0), ...
    scorer.onnx    tokens (B, T)                      ->  logprobs (B, T + 1)

The step is what servers want: state in, state out; it starts from zeros and bos. The scorer puts bos before the tokens
and eos behind them, and gives the log-probability of each, eos the last. Shorter rows are padded with eos: the numbers
up to the first eos count. Token ids are int64, all else float32, logarithms natural.

The step is traced by torch's exporter; the scorer is ONNX's `Scan` of that very step over time, so both agree, and
whatever has steps has a scorer. Before anything is written the scorer is run in numpy and held against the model: a
layer whose trace is bound to its batch (attention) is refused. torch's newer exporter (`dynamo=True`) was not fit: it
cannot follow single steps of most cells, and takes ten times as long.
"""

import contextlib
import io
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import TensorProto, checker, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from torch import Tensor, nn
from torch.onnx import register_custom_op_symbolic  # type: ignore[attr-defined]
from torch.onnx.errors import OnnxExporterError

from rnnlm.checkpoint import CONFIG, Checkpoint
from rnnlm.config import to_dict
from rnnlm.errors import ConfigError
from rnnlm.inference.precision import Products
from rnnlm.inference.score import Scorer
from rnnlm.nn.embedding import OneHot
from rnnlm.nn.language_model import LanguageModel
from rnnlm.storage import Location

OPSET = 17
STEP, SCORER = "step.onnx", "scorer.onnx"
FILES = (STEP, SCORER, "tokenizer.model", "tokenizer.json", CONFIG)
LARGEST_BYTES = (1 << 31) - 1  # of a protobuf message
TOLERANCE = 1e-4  # nats a token: float32 sums in another order
PROBE_LENGTHS = (1, 2, 5)  # tokens of the texts on which the graphs are held against the model


class _Step(nn.Module):
    """One step as a function of tensors."""

    def __init__(self, model: LanguageModel) -> None:
        super().__init__()
        self.model = model
        # One-hot vectors would be made for as many rows as are traced: what the first layer makes of each is a table.
        tokens = torch.arange(model.vocab_size)
        self.table = model.project_tokens(tokens) if isinstance(model.embedding, OneHot) else None

    def forward(self, token: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        projected = self.model.project_tokens(token) if self.table is None else F.embedding(token, self.table)
        hidden, new_state = self.model.stack.advance(projected, state)
        return (self.model.softmax.logits(hidden).log_softmax(1), *new_state)


def export_onnx(checkpoint: Checkpoint, folder: Location, identity: dict[str, Any]) -> None:
    """Write both graphs, the tokenizer, and last `config.json`. Raises ConfigError if a layer has no such graph."""
    model = checkpoint.model
    if not isinstance(model, LanguageModel):
        raise ConfigError(f"checkpoint: format=onnx is for language models; it is a {type(model).__name__}")
    metadata = {
        "model": checkpoint.fingerprint,
        "tokenizer": checkpoint.tokenizer.fingerprint,
        "vocab_size": str(checkpoint.tokenizer.vocab_size),
        "bos_id": str(checkpoint.tokenizer.bos_id),
        "eos_id": str(checkpoint.tokenizer.eos_id),
        "opset": str(OPSET),
    }
    step = step_graph(model)
    scorer = scorer_graph(step, model, bos_id=checkpoint.tokenizer.bos_id, eos_id=checkpoint.tokenizer.eos_id)
    graphs = {STEP: step, SCORER: scorer}
    for graph in graphs.values():
        helper.set_model_props(graph, {f"rnnlm.{name}": value for name, value in metadata.items()})
        if graph.ByteSize() > LARGEST_BYTES:
            raise ConfigError(f"checkpoint: an ONNX file holds 2 GiB, the model has {graph.ByteSize():,} bytes")
        checker.check_model(graph, full_check=True)
    _check_numbers(scorer, checkpoint, model)
    for name, graph in graphs.items():
        folder.join(name).write_bytes(graph.SerializeToString())
    checkpoint.tokenizer.save(folder)
    states = [{"name": f"state_{place}", "size": size} for place, size in enumerate(model.stack.state_sizes)]
    card = {"task": to_dict(checkpoint.task), "graphs": {"step": STEP, "scorer": SCORER}, "states": states}
    folder.join(CONFIG).write_json({**card, **metadata, "trained": {**checkpoint.trained, "identity": identity}})


def step_graph(model: LanguageModel) -> onnx.ModelProto:
    """The step. Raises ConfigError that names the layers if one of their operations is not in ONNX."""
    state = model.initial_state(2)
    names = [f"state_{place}" for place in range(len(state))]
    inputs, outputs = ["token", *names], ["logprobs", *(f"new_{name}" for name in names)]
    content = io.BytesIO()
    try:
        with _tracing():
            torch.onnx.export(
                _Step(model.eval()).cpu(),
                (torch.zeros(2, dtype=torch.int64), *state),
                content,  # type: ignore[arg-type]  # the tracer takes an open file
                dynamo=False,
                opset_version=OPSET,
                input_names=inputs,
                output_names=outputs,
                dynamic_axes={name: {0: "batch"} for name in (*inputs, *outputs)},
            )
    except OnnxExporterError as error:
        raise _refusal(model, str(error).splitlines()[0]) from error
    return onnx.load_from_string(content.getvalue())


def scorer_graph(step: onnx.ModelProto, model: LanguageModel, *, bos_id: int, eos_id: int) -> onnx.ModelProto:
    """The step, scanned over bos and the tokens; of its distributions only the targets' numbers are kept."""
    states = [f"state_{place}" for place in range(len(model.stack.state_sizes))]
    constants: dict[str, Any] = {"bos": [[bos_id]], "eos": [[eos_id]], "one": [1], "axis": [1]}
    constants |= {f"size_{place}": [size] for place, size in enumerate(model.stack.state_sizes)}
    nodes = [
        helper.make_node("Shape", ["tokens"], ["rows"], start=0, end=1),
        helper.make_node("Concat", ["rows", "one"], ["column"], axis=0),
        helper.make_node("Expand", ["bos", "column"], ["bos_column"]),
        helper.make_node("Expand", ["eos", "column"], ["eos_column"]),
        helper.make_node("Concat", ["bos_column", "tokens"], ["input_rows"], axis=1),
        helper.make_node("Concat", ["tokens", "eos_column"], ["target_rows"], axis=1),
        helper.make_node("Transpose", ["input_rows"], ["inputs"], perm=[1, 0]),  # time first, as Scan has it by itself
        helper.make_node("Transpose", ["target_rows"], ["targets"], perm=[1, 0]),
    ]
    for place, state in enumerate(states):
        nodes.append(helper.make_node("Concat", ["rows", f"size_{place}"], [f"shape_{place}"], axis=0))
        nodes.append(helper.make_node("ConstantOfShape", [f"shape_{place}"], [f"begin_{state}"]))
    nodes += [
        helper.make_node(
            "Scan",
            [*(f"begin_{state}" for state in states), "inputs", "targets"],
            [*(f"end_{state}" for state in states), "scanned"],
            body=_scanned(step.graph, states),
            num_scan_inputs=2,
        ),
        helper.make_node("Transpose", ["scanned"], ["logprobs"], perm=[1, 0]),
    ]
    graph = helper.make_graph(
        nodes,
        "scorer",
        [helper.make_tensor_value_info("tokens", TensorProto.INT64, ["batch", "length"])],
        [helper.make_tensor_value_info("logprobs", TensorProto.FLOAT, ["batch", "length_and_eos"])],
        [*step.graph.initializer, *(numpy_helper.from_array(np.array(one), name) for name, one in constants.items())],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=step.ir_version)


def _scanned(step: onnx.GraphProto, states: Sequence[str]) -> onnx.GraphProto:
    """The body: states, a token and a target to new states and a number; weights are those of the graph around it."""
    values = {value.name: value for value in (*step.input, *step.output)}
    target = helper.make_tensor_value_info("target", TensorProto.INT64, ["batch"])
    found = helper.make_tensor_value_info("target_logprob", TensorProto.FLOAT, ["batch"])
    last = [
        helper.make_node("Unsqueeze", ["target", "axis"], ["target_column"]),
        helper.make_node("GatherElements", ["logprobs", "target_column"], ["found_column"], axis=1),
        helper.make_node("Squeeze", ["found_column", "axis"], ["target_logprob"]),
    ]
    body = helper.make_graph(
        [*step.node, *last],
        "step",
        [*(values[state] for state in states), values["token"], target],
        [*(values[f"new_{state}"] for state in states), found],
    )
    for node in body.node:  # its distribution and the scorer's result have one name
        for names in (node.input, node.output):
            names[:] = ["distribution" if name == "logprobs" else name for name in names]
    return body


def _check_numbers(scorer: onnx.ModelProto, checkpoint: Checkpoint, model: LanguageModel) -> None:
    """Hold the scorer, and with it the step, against the model, in numpy alone: random tokens of other batches and
    lengths than were traced. Raises ConfigError."""
    eos_id = checkpoint.tokenizer.eos_id
    tokens = np.random.default_rng(0).integers(0, checkpoint.tokenizer.vocab_size, (3, max(PROBE_LENGTHS)))
    texts = [row[:length] for row, length in zip(tokens, PROBE_LENGTHS, strict=True)]
    padded = np.full_like(tokens, eos_id)
    for row, text in enumerate(texts):
        padded[row, : len(text)] = text
    try:
        results: Any = ReferenceEvaluator(scorer).run(None, {"tokens": padded})
    except (ValueError, TypeError, RuntimeError) as error:
        raise _refusal(model, "their step is bound to a number of rows") from error
    plain = Products(kernels="torch")
    expected = Scorer(checkpoint, products=plain).score_tokens(texts, keep_tokens=True).token_logprobs
    assert expected is not None
    apart = max(float(np.abs(results[0][row, : len(one)] - one).max()) for row, one in enumerate(expected))
    if not apart <= TOLERANCE:
        raise _refusal(model, f"the graph differs by {apart:.2g} nats a token")


def _refusal(model: LanguageModel, why: str) -> ConfigError:
    layers = ", ".join(dict.fromkeys(type(layer).__name__ for layer in model.stack.cells()))
    return ConfigError(f"checkpoint: its layers ({layers}) cannot be written as ONNX: {why}")


@contextlib.contextmanager
def _tracing() -> Iterator[None]:
    """The tracer warns that it is old, and lacks an operation."""
    register_custom_op_symbolic("aten::expm1", _expm1, OPSET)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _expm1(graph: Any, values: Any) -> Any:
    """e^x - 1, which ONNX lacks, without cancellation near 0: tanh(x / 2) (e^x + 1)."""
    half, one = (graph.op("Constant", value_t=torch.tensor(value)) for value in (0.5, 1.0))
    return graph.op(
        "Mul", graph.op("Tanh", graph.op("Mul", values, half)), graph.op("Add", graph.op("Exp", values), one)
    )
