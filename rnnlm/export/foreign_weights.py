"""Language models of others: the state dict of an embedding, a recurrent stack and a linear layer, as a checkpoint.

    examples  pytorch/examples, word_language_model            awd  salesforce/awd-lstm-lm (Merity et al. 2018)
    encoder.weight                      V x E                  encoder.weight
    rnn.weight_ih_l0, rnn.bias_hh_l0 .. layer by layer         rnns.0.module.weight_ih_l0, rnns.0.bias_hh_l0 ..
    decoder.weight, decoder.bias        V x H                  decoder.weight, decoder.bias

awd keeps U twice, as trained (`weight_hh_l0_raw`) and as thinned out last (`weight_hh_l0`): the first counts. Gates are
in torch's order, which is ours. LSTM, GRU and Elman layers are told apart by how many gates U has; that an Elman layer
has relu is not to be seen and has to be said. Where output and embedding are equal they become tied.
"""

import hashlib
import io
import re
from collections.abc import Mapping
from typing import Literal

import safetensors.torch
import torch
from torch import Tensor

from rnnlm.checkpoint import save_checkpoint
from rnnlm.data.tokenizers import Tokenizer
from rnnlm.errors import CheckpointError
from rnnlm.nn.cells.base import CellConfig
from rnnlm.nn.cells.elman import ElmanConfig
from rnnlm.nn.cells.gru import GRUConfig
from rnnlm.nn.cells.lstm import LSTMConfig
from rnnlm.nn.softmax.full import FullSoftmaxConfig
from rnnlm.storage import Location
from rnnlm.tasks.language_model import LanguageModelConfig

Nonlinearity = Literal["tanh", "relu"]
Weights = dict[str, Tensor]
EMBEDDING, OUTPUT, OUTPUT_BIAS = "encoder.weight", "decoder.weight", "decoder.bias"
PARTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
LAYER = re.compile(
    r"rnn\.(?P<part>(?:weight|bias)_[ih]h)_l(?P<one>\d+)"
    r"|rnns\.(?P<awd>\d+)\.(?:module\.)?(?P<awd_part>(?:weight|bias)_[ih]h)_l0(?:_raw)?"
)


def read_foreign(file: Location) -> tuple[Weights, str]:
    """The state dict in a .safetensors, .pt or .bin file, and the SHA-256 of the file. Raises CheckpointError."""
    content = file.read_bytes()
    try:
        if file.path.endswith(".safetensors"):
            found = safetensors.torch.load(content)
        else:
            found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:
        raise CheckpointError(
            f"{file.uri} cannot be read as tensors: {str(error).splitlines()[0]}",
            todo="save the state dict alone: safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')",
        ) from error
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
        raise CheckpointError(f"{file.uri} holds no state dict", todo="save model.state_dict() alone")
    return dict(found), hashlib.sha256(content).hexdigest()


def import_language_model(
    weights: Weights, tokenizer: Tokenizer, folder: Location, trained: dict[str, object], nonlinearity: Nonlinearity
) -> LanguageModelConfig:
    """Write the checkpoint; its task. Raises CheckpointError that names what does not fit."""
    layers = layers_of(weights)
    embedding = weights[EMBEDDING]
    cells = [cell_of(layer, place, nonlinearity) for place, layer in enumerate(layers)]
    output = weights.get(OUTPUT, embedding)
    tied = torch.equal(output, embedding)
    _check_matrix(EMBEDDING, embedding, tokenizer)
    _check_matrix(OUTPUT, output, tokenizer, columns=cells[-1].hidden_size)
    task = LanguageModelConfig(
        layers=[*cells],
        embedding_size=embedding.shape[1],
        softmax=FullSoftmaxConfig(tied=tied, bias=OUTPUT_BIAS in weights),
    )
    renamed = {"embedding.weight": embedding, **({} if tied else {"softmax.weight": output})}
    if OUTPUT_BIAS in weights:
        renamed["softmax.bias"] = weights[OUTPUT_BIAS]
    for place, layer in enumerate(layers):
        renamed |= {f"stack.layers.{place}.fused.{part}_l0": tensor for part, tensor in layer.items()}
    model = task.build(tokenizer)
    _fill(model, renamed, tied=tied)
    save_checkpoint(folder, task=task, model=model, tokenizer=tokenizer, trained=trained)
    return task


def layers_of(weights: Weights) -> list[Weights]:
    """Of each layer, from the bottom up, its four tensors. Raises CheckpointError if the names are of no known kind."""
    found: dict[int, Weights] = {}
    unknown = []
    for name, tensor in weights.items():
        match = LAYER.fullmatch(name)
        if match is None:
            unknown += [] if name in {EMBEDDING, OUTPUT, OUTPUT_BIAS} else [name]
            continue
        layer = found.setdefault(int(match["one"] or match["awd"] or 0), {})
        if f"{name}_raw" not in weights:
            layer[match["part"] or match["awd_part"]] = tensor
    missing = [EMBEDDING] * (EMBEDDING not in weights) + ["rnn.weight_ih_l0 or rnns.0.weight_ih_l0"] * (not found)
    missing += [
        f"{part} of layer {place}" for place in range(len(found)) for part in PARTS if part not in found.get(place, {})
    ]
    if unknown or missing:
        raise CheckpointError(
            f"the weights are not those of an embedding, LSTM, GRU or Elman layers and a linear layer: unknown "
            f"{sorted(unknown)[:3]}, missing {missing[:3]}",
            todo="names are those of pytorch/examples word_language_model or salesforce/awd-lstm-lm",
        )
    return [found[place] for place in range(len(found))]


def cell_of(layer: Weights, place: int, nonlinearity: Nonlinearity) -> CellConfig:
    """The cell whose weights these are."""
    shape = layer["weight_hh"].shape
    rows, size = shape if len(shape) == 2 and shape[1] else (1, 2)  # two numbers of which one is no multiple
    kinds: dict[int, CellConfig] = {
        4: LSTMConfig(hidden_size=size),
        3: GRUConfig(hidden_size=size),
        1: ElmanConfig(hidden_size=size, nonlinearity=nonlinearity),
    }
    if rows % size or rows // size not in kinds:
        raise CheckpointError(
            f"weight_hh of layer {place} has shape {tuple(shape)}: neither an LSTM's (4H x H), a GRU's (3H x H) nor an "
            "Elman network's (H x H)"
        )
    return kinds[rows // size]


def _check_matrix(name: str, matrix: Tensor, tokenizer: Tokenizer, columns: int | None = None) -> None:
    shape = tuple(matrix.shape)
    if len(shape) != 2 or shape[0] != tokenizer.vocab_size or columns not in {None, shape[1]}:
        raise CheckpointError(
            f"{name} has shape {shape}, the tokenizer {tokenizer.vocab_size:,} tokens"
            + (f", the top layer {columns} outputs" if columns else ""),
            todo="give the tokenizer with the vocabulary of the model, in its order",
        )


def _fill(model: torch.nn.Module, weights: Weights, *, tied: bool) -> None:
    for name, parameter in model.named_parameters():  # a tied output is not named again
        if weights[name].shape != parameter.shape:
            found, needed = tuple(weights[name].shape), tuple(parameter.shape)
            raise CheckpointError(f"the weights do not fit: {name} has shape {found}, {needed} is needed")
    model.load_state_dict({name: tensor.float() for name, tensor in weights.items()}, strict=not tied)
