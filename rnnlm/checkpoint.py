"""A checkpoint: a folder that holds everything needed to use a model, and to go on training it.

    config.json            format version, the task's config, vocabulary size, SHA-256 of the weights, how far trained
    weights.safetensors    the network's parameters
    tokenizer.model/.json  the tokenizer
    training.json          step, position in the stream, random state, best validation (only needed to go on)
    training.safetensors   optimizer moments and the lanes' hidden states (only needed to go on)

The weights may be called `model.safetensors`, as in the folders of the Hugging Face hub (`rnnlm.export.huggingface`).

No pickle anywhere: reading a foreign checkpoint runs none of its code, opens no file outside of its folder, and takes
no more memory than a few times the size of its weights. `config.json` is written last, so a folder
without it is unfinished. A run folder points at its checkpoints with `checkpoints/index.json`.
"""

import functools
import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor, nn

from rnnlm.config import from_dict, to_dict
from rnnlm.data.tokenizers import Tokenizer, load_tokenizer
from rnnlm.errors import CheckpointError, RnnlmError
from rnnlm.nn.size_limit import TooLargeError, check_fits
from rnnlm.storage import Location, open_location
from rnnlm.tasks.base import TaskConfig

FORMAT_VERSION = 1
CONFIG, WEIGHTS, HUB_WEIGHTS = "config.json", "weights.safetensors", "model.safetensors"
TRAINING_JSON, TRAINING_TENSORS = "training.json", "training.safetensors"
TENSORS_DIGEST = "tensors_sha256"
INDEX = "checkpoints/index.json"
LARGEST_JSON_BYTES = 64 << 20
MOST_BYTES_A_STORED_BYTE = 4  # of a network; it may hold tables beside its weights
SLACK_BYTES = 1 << 20


@dataclass(frozen=True)
class Checkpoint:
    """A model ready for use (in evaluation mode), with its task, tokenizer and identity."""

    task: TaskConfig
    model: nn.Module
    tokenizer: Tokenizer
    fingerprint: str  # SHA-256 over task, weights and tokenizer
    trained: dict[str, Any]
    location: Location


@dataclass(frozen=True)
class TrainingState:
    """What resuming needs beside the weights."""

    values: dict[str, Any]
    tensors: dict[str, Tensor]


def save_checkpoint(
    folder: Location,
    *,
    task: TaskConfig,
    model: nn.Module,
    tokenizer: Tokenizer,
    trained: dict[str, Any],
    training: TrainingState | None = None,
) -> None:
    """Write all files; the folder counts only once `config.json`, the last, is there."""
    weights = safetensors.torch.save(_unshared(model))
    folder.join(WEIGHTS).write_bytes(weights)
    tokenizer.save(folder)
    if training is not None:
        tensors = safetensors.torch.save(training.tensors)
        folder.join(TRAINING_TENSORS).write_bytes(tensors)
        folder.join(TRAINING_JSON).write_json({**training.values, TENSORS_DIGEST: hashlib.sha256(tensors).hexdigest()})
    folder.join(CONFIG).write_json(
        {
            "format_version": FORMAT_VERSION,
            "task": to_dict(task),
            "vocab_size": tokenizer.vocab_size,
            "tokenizer": tokenizer.fingerprint,
            "weights_sha256": hashlib.sha256(weights).hexdigest(),
            "trained": trained,
        }
    )


def load_checkpoint(path: str) -> Checkpoint:
    """Read a checkpoint folder, or the best checkpoint of a run folder. Raises CheckpointError with the cure."""
    folder = resolve_checkpoint(path)
    card = _read_object(folder.join(CONFIG))
    if "format_version" not in card:
        raise CheckpointError(
            f"{folder.uri} holds a model of another library", todo="give one of python -m jobs.train or jobs.export"
        )
    if card["format_version"] != FORMAT_VERSION:
        raise CheckpointError(
            f"{folder.uri} has format version {card['format_version']}, this rnnlm reads {FORMAT_VERSION}",
            todo="use the rnnlm it was written with",
        )
    missing = sorted({"task", "vocab_size", "tokenizer", "weights_sha256"} - card.keys())
    if missing:
        raise CheckpointError(f"{folder.join(CONFIG).uri} lacks {', '.join(missing)}", todo="copy the checkpoint again")
    tokenizer = _load_matching_tokenizer(folder, card)
    task = _read_task(card, folder)
    _check_size(task, tokenizer, folder)
    weights = read_weights(folder)
    model = task.build(tokenizer)
    load_weights(model, weights, folder)
    identity = json.dumps([card["task"], card["weights_sha256"], tokenizer.fingerprint], sort_keys=True)
    fingerprint = hashlib.sha256(identity.encode()).hexdigest()
    return Checkpoint(task, model.eval(), tokenizer, fingerprint, card.get("trained", {}), folder)


def loaded(path: str) -> Checkpoint:
    """`load_checkpoint`, but each checkpoint only once a process, however many parts of it ask."""
    folder = resolve_checkpoint(path)
    return _loaded(folder.address, folder.join(CONFIG).info().mtime_ns)


@functools.lru_cache(maxsize=8)
def _loaded(path: str, mtime_ns: int | None) -> Checkpoint:  # noqa: ARG001 - a rewritten checkpoint is another key
    return load_checkpoint(path)


def read_weights(folder: Location) -> bytes:
    """The content of the weights file, checked against the digest in `config.json`."""
    return _checked(weights_file(folder), _read_object(folder.join(CONFIG)).get("weights_sha256"))


def load_weights(model: nn.Module, weights: bytes, folder: Location) -> None:
    """Fill `model` with the content of a weights file; tied parameters are stored once."""
    try:
        tensors = safetensors.torch.load(weights)
        missing, unexpected = model.load_state_dict(tensors, strict=False)
    except (SafetensorError, RuntimeError) as error:
        raise CheckpointError(
            f"the weights in {folder.uri} do not fit: {str(error).splitlines()[-1].strip()}",
            todo="were config.json and weights.safetensors written by the same run?",
        ) from error
    absent = sorted(set(missing) - set(_shared_names(model)))
    if absent or unexpected:
        raise CheckpointError(
            f"the weights in {folder.uri} do not fit: missing {absent[:3]}, unexpected {sorted(unexpected)[:3]}",
            todo="were config.json and weights.safetensors written by the same run?",
        )


def load_training_state(folder: Location) -> TrainingState:
    """What `save_checkpoint` was given as `training`."""
    if not folder.join(TRAINING_JSON).exists():
        raise CheckpointError(f"{folder.uri} holds no training state", todo="start a new run")
    values = _read_object(folder.join(TRAINING_JSON))
    content = _checked(folder.join(TRAINING_TENSORS), values.pop(TENSORS_DIGEST, None))
    return TrainingState(values, safetensors.torch.load(content))


def resolve_checkpoint(path: str, which: str = "best") -> Location:
    """The folder of a checkpoint, given itself or a run folder (then its best, or its `last`)."""
    location = open_location(path)
    if location.join(CONFIG).exists():
        return location
    index = location.join(INDEX)
    if not index.exists():
        what = "is not a checkpoint or a run folder" if location.exists() else "does not exist"
        raise CheckpointError(
            f"{path} {what} (no {CONFIG}, no {INDEX})", todo="give the output folder of python -m jobs.train"
        )
    name = _read_object(index).get(which)
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.-]*", name):
        raise CheckpointError(
            f"{index.uri}: {which} is {name!r}, not the name of a folder beside it", todo="copy the run again"
        )
    found = location.join("checkpoints", name)
    if not found.join(CONFIG).exists():
        raise CheckpointError(f"{index.uri} points to {found.uri}, which is not there", todo="copy the run again")
    return found


def _read_object(file: Location) -> dict[str, Any]:
    """A JSON object of moderate size."""
    size = file.info().size or 0
    if size > LARGEST_JSON_BYTES:
        raise CheckpointError(f"{file.uri} has {size:,} bytes: it is not that of a checkpoint", todo="check the path")
    try:
        found = file.read_json()
    except RecursionError as error:
        raise CheckpointError(f"{file.uri} is nested too deeply", todo="check where it comes from") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{file.uri} is not that of a checkpoint", todo="check the path")
    return found


def _read_task(card: dict[str, Any], folder: Location) -> TaskConfig:
    if not isinstance(card["task"], dict):
        raise CheckpointError(f"{folder.join(CONFIG).uri}: task is not an object", todo="check where it comes from")
    try:
        return from_dict(TaskConfig, card["task"])
    except RecursionError as error:
        raise CheckpointError(
            f"{folder.join(CONFIG).uri} is nested too deeply", todo="check where it comes from"
        ) from error


def _check_size(task: TaskConfig, tokenizer: Tokenizer, folder: Location) -> None:
    """Refuse sizes of layers that have nothing to do with the weights, before memory is taken for them."""
    weights = weights_file(folder)
    if not weights.exists():
        return  # said when they are read
    stored = weights.info().size
    limit = MOST_BYTES_A_STORED_BYTE * stored + SLACK_BYTES
    try:
        check_fits(lambda: task.build(tokenizer), limit)
    except TooLargeError:
        raise CheckpointError(
            f"{folder.join(CONFIG).uri} describes a network of more than {limit:,} bytes, its weights are {stored:,}",
            todo="were config.json and weights.safetensors written by the same run?",
        ) from None


def _load_matching_tokenizer(folder: Location, card: dict[str, Any]) -> Tokenizer:
    try:
        tokenizer = load_tokenizer(folder)
    except RnnlmError as error:
        raise CheckpointError(f"the checkpoint's tokenizer cannot be used: {error}") from error
    if tokenizer.fingerprint != card["tokenizer"]:
        raise CheckpointError(
            f"the checkpoint {folder.uri} was trained with tokenizer {card['tokenizer'][:12]} "
            f"({card['vocab_size']} tokens), it holds {tokenizer.fingerprint[:12]} ({tokenizer.vocab_size} tokens)",
            todo="restore the tokenizer it was trained with",
        )
    return tokenizer


def weights_file(folder: Location) -> Location:
    """Where the weights of a checkpoint are, by its own name for them or the hub's."""
    own, hub = folder.join(WEIGHTS), folder.join(HUB_WEIGHTS)
    return own if own.exists() or not hub.exists() else hub


def _checked(file: Location, digest: str | None) -> bytes:
    """A file of a checkpoint, if it is what was saved."""
    if not file.exists():
        raise CheckpointError(f"the checkpoint lacks {file.uri}", todo="copy the checkpoint again")
    content = file.read_bytes()
    if hashlib.sha256(content).hexdigest() != digest:
        raise CheckpointError(
            f"{file.uri} ({len(content)} bytes) is not what was saved: it was changed or cut short",
            todo="copy the checkpoint again",
        )
    return content


def _shared_names(model: nn.Module) -> list[str]:
    """Names of parameters that are the same tensor as one named before."""
    seen: set[int] = set()
    shared = []
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if id(parameter) in seen:
            shared.append(name)
        seen.add(id(parameter))
    return shared


def _unshared(model: nn.Module) -> dict[str, Tensor]:
    shared = set(_shared_names(model))
    return {name: t.detach().cpu().contiguous() for name, t in model.state_dict().items() if name not in shared}
