"""Models of the Hugging Face hub, hf://owner/name or hf://owner/name@revision: downloaded once, kept in the hub's own
cache (extra `hub`). `python -m jobs.export format=huggingface` writes their folders, which are checkpoints.
"""

import importlib
import re

from rnnlm.checkpoint import CONFIG, HUB_WEIGHTS
from rnnlm.data.tokenizers.base import CARD_FILE, MODEL_FILE
from rnnlm.errors import DataError, EnvironmentFailure
from rnnlm.retries import first_line

SCHEME = "hf://"
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
