"""Models as the Hugging Face hub holds them: a folder with `config.json`, `model.safetensors` and a tokenizer.

    path of a folder                       on disk or any store
    hf://owner/name, hf://owner/name@rev   downloaded once, kept in the hub's own cache (extra `hub`)

`python -m jobs.export format=huggingface` writes such folders. But for the name of the weights they are checkpoints.
"""

import importlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from typing import Any

from rnnlm.checkpoint import CONFIG, FORMAT_VERSION, WEIGHTS
from rnnlm.data.tokenizers.base import CARD_FILE, MODEL_FILE
from rnnlm.errors import CheckpointError, DataError, EnvironmentFailure
from rnnlm.retries import first_line
from rnnlm.storage import Location, open_location

SCHEME = "hf://"
HUB_WEIGHTS = "model.safetensors"
HUB_FILES = (CONFIG, HUB_WEIGHTS, MODEL_FILE, CARD_FILE)


def local_folder(path: str) -> str:
    """`path`, or where the hub's model is on this disk. Raises DataError if it names none, EnvironmentFailure if it
    cannot be had."""
    if not path.startswith(SCHEME):
        return path
    found = re.fullmatch(r"([\w.-]+/[\w.-]+)(?:@(.+))?", path.removeprefix(SCHEME).strip("/"))
    if found is None:
        raise DataError(f"{path} names no model", todo="write hf://owner/name or hf://owner/name@revision")
    try:
        hub = importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise EnvironmentFailure(f"{SCHEME} needs huggingface_hub", todo="pip install 'rnnlm[hub]'") from error
    try:
        # Nothing but what is read: a model's repository may hold more, in other formats.
        folder: str = hub.snapshot_download(found[1], revision=found[2], allow_patterns=list(HUB_FILES))
    except (OSError, ValueError) as error:  # all of the hub's own errors are one of them
        raise EnvironmentFailure(
            f"cannot get {path}: {first_line(error)}", todo="check name, network and access (HF_TOKEN, HF_HUB_OFFLINE)"
        ) from error
    return folder


def is_hub_folder(folder: Location) -> bool:
    """Whether a folder has the hub's names, and not a checkpoint's."""
    return folder.join(HUB_WEIGHTS).exists() and not folder.join(WEIGHTS).exists()


def as_checkpoint(folder: Location) -> tuple[str, Callable[[], Any]]:
    """A hub's folder under a checkpoint's names in a new temporary folder, and how to remove that. On a disk files are
    linked, others copied. Raises CheckpointError if it is the folder of another library's model."""
    card = folder.join(CONFIG).read_json()
    if not isinstance(card, dict) or card.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(
            f"{folder.uri} holds a model of another library", todo="give one of python -m jobs.export"
        )
    view = tempfile.mkdtemp(prefix="rnnlm-")
    for name in HUB_FILES:
        source, target = folder.join(name), os.path.join(view, WEIGHTS if name == HUB_WEIGHTS else name)  # noqa: PTH118
        if folder.is_local and source.exists():
            os.symlink(os.path.realpath(source.path), target)  # noqa: PTH211
        elif source.exists():
            open_location(target).write_bytes(source.read_bytes())
    return view, lambda: shutil.rmtree(view, ignore_errors=True)
