"""A baseline on disk: a folder like that of a checkpoint, and no pickle in it.

    strings.json          lists of strings by name: words, tags, labels
    arrays.safetensors    arrays by name
    config.json           kind, format version, settings, SHA-256 of the other two, what it was made of; written last

Reading a foreign folder runs none of its code.
"""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.numpy
from safetensors import SafetensorError

from rnnlm.errors import CheckpointError
from rnnlm.storage import Location

FORMAT_VERSION = 1
CONFIG, STRINGS, ARRAYS = "config.json", "strings.json", "arrays.safetensors"


@dataclass(frozen=True)
class Stored:
    """What makes up a baseline."""

    settings: dict[str, Any]
    strings: dict[str, list[str]]
    arrays: dict[str, npt.NDArray[Any]]


def save_baseline(
    folder: Location,
    kind: str,
    *,
    settings: Mapping[str, Any],
    strings: Mapping[str, Sequence[str]],
    arrays: Mapping[str, npt.NDArray[Any]],
    trained: Mapping[str, Any] | None = None,
) -> None:
    """Write all files; the folder counts only once `config.json`, the last, is there. `trained` (what the model was
    made of) is no part of what it is."""
    # Escaped JSON takes every string as it is, lone surrogates and credentials included.
    contents = {
        STRINGS: json.dumps({name: list(values) for name, values in strings.items()}, sort_keys=True).encode(),
        ARRAYS: safetensors.numpy.save({name: np.ascontiguousarray(array) for name, array in arrays.items()}),
    }
    folder.make_dir()
    for name, content in contents.items():
        folder.join(name).write_bytes(content)
    folder.join(CONFIG).write_json(
        {
            "kind": kind,
            "format_version": FORMAT_VERSION,
            "settings": dict(settings),
            "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()},
            "trained": dict(trained or {}),
        }
    )


def load_baseline(
    folder: Location, kind: str, *, settings: Collection[str] = (), strings: Collection[str], arrays: Collection[str]
) -> Stored:
    """Read what was saved, with the names it must have. Raises CheckpointError with the cure."""
    card = _read_card(folder, kind)
    digests = card["sha256"]
    try:
        found_strings = json.loads(_checked(folder, STRINGS, digests))
        found_arrays = safetensors.numpy.load(_checked(folder, ARRAYS, digests))
    except (ValueError, SafetensorError) as error:
        raise CheckpointError(f"{folder.uri} is damaged: {error}", todo="copy the model again") from error
    wanted = [(settings, card["settings"]), (strings, found_strings), (arrays, found_arrays)]
    missing = sorted(name for names, found in wanted for name in names if name not in found)
    if missing:
        raise CheckpointError(f"{folder.uri} lacks {', '.join(missing)}", todo="copy the model again")
    return Stored(card["settings"], found_strings, found_arrays)


def kind_of(folder: Location) -> str | None:
    """The kind of model that a folder says it holds, if it says so."""
    card = folder.join(CONFIG).read_json() if folder.join(CONFIG).exists() else None
    return card.get("kind") if isinstance(card, dict) else None


def fingerprint_of(folder: Location, kind: str) -> str:
    """SHA-256 over all that a stored model is. Raises CheckpointError as `load_baseline` does."""
    card = _read_card(folder, kind)
    identity = json.dumps([kind, card["settings"], card["sha256"]], sort_keys=True)
    return hashlib.sha256(identity.encode()).hexdigest()


def _read_card(folder: Location, kind: str) -> dict[str, Any]:
    place = folder.join(CONFIG)
    if not place.exists():
        raise CheckpointError(f"there is no {kind} model in {folder.uri} (no {CONFIG})", todo="check the path")
    card = place.read_json()
    if not isinstance(card, dict) or card.get("kind") != kind:
        raise CheckpointError(f"{place.uri} is not that of a {kind} model", todo="check the path")
    if card.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(
            f"{folder.uri} has format version {card.get('format_version')}, this rnnlm reads {FORMAT_VERSION}",
            todo="use the rnnlm it was written with",
        )
    if not all(isinstance(card.get(name), dict) for name in ("settings", "sha256")):
        raise CheckpointError(f"{place.uri} lacks settings or sha256", todo="copy the model again")
    return card


def _checked(folder: Location, name: str, digests: Mapping[str, str]) -> bytes:
    """A file's content, if it is what was saved."""
    if not folder.join(name).exists():
        raise CheckpointError(f"the model {folder.uri} lacks {name}", todo="copy the model again")
    content = folder.join(name).read_bytes()
    if hashlib.sha256(content).hexdigest() != digests.get(name):
        raise CheckpointError(
            f"{folder.join(name).uri} ({len(content)} bytes) is not what was saved: it was changed or cut short",
            todo="copy the model again",
        )
    return content
