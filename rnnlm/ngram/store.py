"""An n-gram model on disk: a folder like that of a checkpoint.

    ngram.safetensors      keys and adjusted counts of each order (the keys of order 1 are all ids, and left out)
    tokenizer.model/.json  the tokenizer
    config.json            format version, discounts, SHA-256 of the counts, what it was made of; written last

Counts are stored and probabilities are made of them in loading, which is quick and loses no digit.
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
from rnnlm.ngram.counts import Order
from rnnlm.ngram.discounts import Discounts
from rnnlm.ngram.model import NGramModel
from rnnlm.storage import Location, open_location

FORMAT_VERSION = 1
KIND = "ngram"
CONFIG, COUNTS = "config.json", "ngram.safetensors"
FILES = {COUNTS, "tokenizer.model", "tokenizer.json"}  # what an unfinished folder may hold


@dataclass(frozen=True)
class StoredNGram:
    """A model ready for use, with its tokenizer and identity."""

    model: NGramModel
    tokenizer: Tokenizer
    fingerprint: str  # SHA-256 over counts, discounts and tokenizer
    trained: dict[str, Any]


def save_ngram(folder: Location, model: NGramModel, tokenizer: Tokenizer, trained: dict[str, Any]) -> None:
    """Write all files; the folder counts only once `config.json`, the last, is there."""
    arrays = {f"counts_{m}": _narrow(one.counts) for m, one in enumerate(model.orders, start=1)}
    arrays |= {f"keys_{m}": one.keys for m, one in enumerate(model.orders, start=1) if m > 1}
    content = safetensors.numpy.save(arrays)
    folder.join(COUNTS).write_bytes(content)
    tokenizer.save(folder)
    folder.join(CONFIG).write_json(
        {
            "format_version": FORMAT_VERSION,
            "kind": KIND,
            "order": model.order,
            "num_ngrams": model.num_ngrams,
            "discounts": [list(one.values) for one in model.discounts],
            "discounts_estimated": [one.estimated for one in model.discounts],
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
    if not isinstance(card, dict) or card.get("kind") != KIND:
        raise CheckpointError(f"{folder.join(CONFIG).uri} is not that of an n-gram model", todo="check the path")
    if card.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(
            f"{folder.uri} has format version {card.get('format_version')}, this rnnlm reads {FORMAT_VERSION}",
            todo="use the rnnlm it was written with",
        )
    tokenizer = load_tokenizer(folder)
    if tokenizer.fingerprint != card["tokenizer"]:
        raise CheckpointError(
            f"the n-gram model {folder.uri} was made with tokenizer {card['tokenizer'][:12]}, "
            f"it holds {tokenizer.fingerprint[:12]}",
            todo="restore the tokenizer it was made with",
        )
    orders = _read_orders(folder, card, tokenizer.vocab_size)
    discounts = [
        Discounts((one[0], one[1], one[2]), estimated=estimated)
        for one, estimated in zip(card["discounts"], card["discounts_estimated"], strict=True)
    ]
    model = NGramModel(
        orders, discounts, vocab_size=tokenizer.vocab_size, bos_id=tokenizer.bos_id, eos_id=tokenizer.eos_id
    )
    identity = json.dumps([card["counts_sha256"], card["discounts"], tokenizer.fingerprint])
    return StoredNGram(model, tokenizer, hashlib.sha256(identity.encode()).hexdigest(), card["trained"])


def _read_orders(folder: Location, card: dict[str, Any], vocab_size: int) -> list[Order]:
    content = folder.join(COUNTS).read_bytes()
    if hashlib.sha256(content).hexdigest() != card["counts_sha256"]:
        raise CheckpointError(
            f"{folder.join(COUNTS).uri} ({len(content)} bytes) is not what was saved: it was changed or cut short",
            todo="copy the model again",
        )
    try:
        arrays = safetensors.numpy.load(content)
    except SafetensorError as error:
        raise CheckpointError(f"{folder.join(COUNTS).uri} is damaged: {error}", todo="copy the model again") from error
    arrays["keys_1"] = np.arange(vocab_size + 1)
    return [Order(arrays[f"keys_{m}"], arrays[f"counts_{m}"].astype(np.int64)) for m in range(1, card["order"] + 1)]


def _narrow(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.integer]:
    """In half the space where they fit."""
    return counts.astype(np.int32) if not counts.size or counts.max() < 1 << 31 else counts
