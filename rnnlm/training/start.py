"""What a run may begin with: its own earlier part, or the weights of another run."""

from typing import Any

from torch import nn

from rnnlm.checkpoint import Checkpoint
from rnnlm.config import differences, flatten, to_dict
from rnnlm.data.tokenizers import Tokenizer
from rnnlm.errors import ConfigError, RefusedError
from rnnlm.storage import Location
from rnnlm.tasks.base import TaskConfig

IDENTITY = "run.json"
TRAINING_ONLY = {
    "dropout", "input_dropout", "layer_dropout", "word_dropout", "variational_dropout", "weight_drop", "zoneout",
    "activation_penalty", "slowness_penalty", "recompute_steps", "pretrained_vectors", "cooccurrence_window",
    "forget_bias", "memory_steps",
}  # fmt: skip
"Fields of a task, anywhere inside it, that change how weights are found and not what they mean."


def check_identity(folder: Location, identity: dict[str, Any]) -> None:
    """Raise RefusedError if the folder holds another run, or something else."""
    file = folder.join(IDENTITY)
    if file.exists():
        changed = differences(file.read_json(), identity)
        if changed:
            raise RefusedError(folder.uri, changed)
    elif foreign := folder.list_files():
        raise RefusedError(folder.uri, [f"it holds {', '.join(foreign[:3])} and no {IDENTITY}"])


def write_identity(folder: Location, identity: dict[str, Any]) -> None:
    """Say whose folder it is; from here on only the same run may go on in it."""
    if not folder.join(IDENTITY).exists():
        folder.join(IDENTITY).write_json(identity)


def check_start(init_from: Checkpoint, task: TaskConfig, tokenizer: Tokenizer) -> None:
    """Raise ConfigError unless the weights of `init_from` mean the same in `task`, for the same tokens.

    What only matters in training (dropout, penalties) may differ; so may the softmax, as far as it has the same weights
    (full and sampled), which `take_weights` sees.
    """
    problems = []
    if init_from.tokenizer.fingerprint != tokenizer.fingerprint:
        problems.append(
            f"init_from: its tokenizer is {init_from.tokenizer.fingerprint[:12]} "
            f"({init_from.tokenizer.vocab_size:,} tokens), that of this run {tokenizer.fingerprint[:12]} "
            f"({tokenizer.vocab_size:,}); set tokenizer_path to the one it was trained with"
        )
    changed = differences(_meaning(init_from.task), _meaning(task))
    problems += [f"init_from: its model is another: task.{change}" for change in changed]
    if problems:
        raise ConfigError(problems)


def take_weights(model: nn.Module, init_from: Checkpoint) -> None:
    """Give `model` the parameters of `init_from`, and those of its buffers that it has too."""
    given, own = dict(init_from.model.named_parameters()), dict(model.named_parameters())
    problems = [f"init_from: it has no {name}, which this model has" for name in own.keys() - given.keys()]
    problems += [f"init_from: it has {name}, which this model has not" for name in given.keys() - own.keys()]
    problems += [
        f"init_from: {name} has the sizes {list(given[name].shape)}, here it has {list(own[name].shape)}"
        for name in given.keys() & own.keys()
        if given[name].shape != own[name].shape
    ]
    if problems:
        raise ConfigError(sorted(problems))
    buffers = {name: value for name, value in init_from.model.named_buffers() if name in dict(model.named_buffers())}
    model.load_state_dict({**given, **buffers}, strict=False)


def _meaning(task: TaskConfig) -> dict[str, Any]:
    """What decides what a task's weights mean."""
    return {
        path: value
        for path, value in flatten(to_dict(task)).items()
        if path.rpartition(".")[2] not in TRAINING_ONLY and not path.startswith("softmax.")
    }
