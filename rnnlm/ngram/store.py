"""An n-gram model on disk: a folder like that of a checkpoint.

    ngram.safetensors      keys and adjusted counts of each order (the keys of order 1 are all ids, and left out);
                           of a model that was read from an ARPA file, keys, log-probabilities and back-off weights
    tokenizer.model/.json  the tokenizer
    config.json            format version, discounts, SHA-256 of the counts, what it was made of; written last

Counts are stored where there are any, and probabilities made of them in loading, which is quick and loses no digit.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.numpy
from safetensors import SafetensorError

from rnnlm.data.tokenizers import Tokenizer, load_tokenizer
from rnnlm.errors import CheckpointError
from rnnlm.ngram.backoff import BackoffModel, Level
from rnnlm.ngram.counts import Order
from rnnlm.ngram.discounts import Discounts
from rnnlm.ngram.model import NGramModel
from rnnlm.storage import Location, open_location

FORMAT_VERSION = 1
KIND, BACKOFF_KIND = "ngram", "backoff_ngram"
CONFIG, COUNTS = "config.json", "ngram.safetensors"
FILES = {COUNTS, "tokenizer.model", "tokenizer.json"}  # what an unfinished folder may hold


@dataclass(frozen=True)
class StoredNGram:
    """A model ready for use, with its tokenizer and identity."""

    model: BackoffModel
    tokenizer: Tokenizer
    fingerprint: str  # SHA-256 over counts and discounts, or probabilities, and tokenizer
    trained: dict[str, Any]


def save_ngram(folder: Location, model: BackoffModel, tokenizer: Tokenizer, trained: dict[str, Any]) -> None:
    """Write all files; the folder counts only once `config.json`, the last, is there."""
    card: dict[str, Any]
    arrays: dict[str, npt.NDArray[Any]]
    if isinstance(model, NGramModel):
        arrays = {f"counts_{m}": _narrow(one.counts) for m, one in enumerate(model.orders, start=1)}
        card = {
            "kind": KIND,
            "discounts": [list(one.values) for one in model.discounts],
            "discounts_estimated": [one.estimated for one in model.discounts],
        }
    else:
        arrays = {f"logprobs_{m}": one.logprobs for m, one in enumerate(model.levels, start=1)}
        arrays |= {f"backoffs_{m}": one.backoffs for m, one in enumerate(model.levels, start=1)}
        card = {"kind": BACKOFF_KIND}
    arrays |= {f"keys_{m}": one.keys for m, one in enumerate(model.levels, start=1) if m > 1}
    content = safetensors.numpy.save(arrays)
    folder.join(COUNTS).write_bytes(content)
    tokenizer.save(folder)
    folder.join(CONFIG).write_json(
        {
            **card,
            "format_version": FORMAT_VERSION,
            "order": model.order,
            "num_ngrams": model.num_ngrams,
            "tokenizer": tokenizer.fingerprint,
            "counts_sha256": hashlib.sha256(content).hexdigest(),
            "trained": trained,
        }
    )


def load_ngram(path: str) -> StoredNGram:
    """Read the folder of an n-gram model. Raises CheckpointError with the cure."""
    folder = open_location(path)
    if not folder.join(CONFIG).exists():
        raise CheckpointError(
            f"there is no n-gram model in {folder.uri} (no {CONFIG})", todo="make one with python -m jobs.train_ngram"
        )
    card = folder.join(CONFIG).read_json()
    if not isinstance(card, dict) or card.get("kind") not in {KIND, BACKOFF_KIND}:
        raise CheckpointError(f"{folder.join(CONFIG).uri} is not that of an n-gram model", todo="check the path")
    if card.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(
            f"{folder.uri} has format version {card.get('format_version')}, this rnnlm reads {FORMAT_VERSION}",
            todo="use the rnnlm it was written with",
        )
    missing = sorted({"order", "tokenizer", "counts_sha256", "trained"} - card.keys())
    if missing:
        raise CheckpointError(f"{folder.join(CONFIG).uri} lacks {', '.join(missing)}", todo="copy the model again")
    tokenizer = load_tokenizer(folder)
    if tokenizer.fingerprint != card["tokenizer"]:
        raise CheckpointError(
            f"the n-gram model {folder.uri} was made with tokenizer {card['tokenizer'][:12]}, "
            f"it holds {tokenizer.fingerprint[:12]}",
            todo="restore the tokenizer it was made with",
        )
    model = _model(_read_arrays(folder, card), card, tokenizer)
    identity = json.dumps([card["counts_sha256"], card.get("discounts"), tokenizer.fingerprint])
    return StoredNGram(model, tokenizer, hashlib.sha256(identity.encode()).hexdigest(), card["trained"])


def _model(arrays: dict[str, Any], card: dict[str, Any], tokenizer: Tokenizer) -> BackoffModel:
    special = {"vocab_size": tokenizer.vocab_size, "bos_id": tokenizer.bos_id, "eos_id": tokenizer.eos_id}
    of_orders = range(1, card["order"] + 1)
    if card["kind"] == BACKOFF_KIND:
        arrays["keys_1"] = np.arange(len(arrays["logprobs_1"]))
        return BackoffModel(
            [Level(arrays[f"keys_{m}"], arrays[f"logprobs_{m}"], arrays[f"backoffs_{m}"]) for m in of_orders], **special
        )
    arrays["keys_1"] = np.arange(tokenizer.vocab_size + 1)
    discounts = [
        Discounts((one[0], one[1], one[2]), estimated=estimated)
        for one, estimated in zip(card["discounts"], card["discounts_estimated"], strict=True)
    ]
    orders = [Order(arrays[f"keys_{m}"], arrays[f"counts_{m}"].astype(np.int64)) for m in of_orders]
    return NGramModel(orders, discounts, **special)


def _read_arrays(folder: Location, card: dict[str, Any]) -> dict[str, Any]:
    content = folder.join(COUNTS).read_bytes()
    if hashlib.sha256(content).hexdigest() != card["counts_sha256"]:
        raise CheckpointError(
            f"{folder.join(COUNTS).uri} ({len(content)} bytes) is not what was saved: it was changed or cut short",
            todo="copy the model again",
        )
    try:
        return safetensors.numpy.load(content)
    except SafetensorError as error:
        raise CheckpointError(f"{folder.join(COUNTS).uri} is damaged: {error}", todo="copy the model again") from error


def _narrow(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.integer]:
    """In half the space where they fit."""
    return counts.astype(np.int32) if not counts.size or counts.max() < 1 << 31 else counts
