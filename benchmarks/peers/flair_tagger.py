"""flair's BiLSTM-CRF labels sentences: `SequenceTagger.predict` over vectors of words and an LSTM over characters.

Run by `benchmarks.peers.environments.ask`: the question has `weights` (a file of torch.save: `words`, `rnn`, `linear`
and `crf`), `words`, `characters` and `labels` in the order of their ids, `sizes` (vectors of `words`; vectors of
`characters` and a direction of their LSTM; `hidden`, a direction), `sentences` (lists of words) and `batch_sizes`. The
answer has [CPU, wall] seconds of making the sentences and of predicting with each batch size, and the labels of each
sentence.

After each batch `predict` clears the vectors of all sentences it was given, so it gets PIECE of them at a time, in
order of length: a file at once takes longer.
"""

import gc
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from flair.data import Dictionary, Sentence
from flair.embeddings import CharacterEmbeddings, OneHotEmbeddings, StackedEmbeddings
from flair.models import SequenceTagger

PIECE = 512
TAG = "label"


def main() -> None:
    question = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(1)
    model = tagger(question)
    sentences: list[Sentence] = []
    making = seconds(lambda: sentences.extend(Sentence(words) for words in question["sentences"]))
    gc.collect()
    gc.freeze()  # what lives on is no garbage; as on the other side
    ordered = sorted(sentences, key=len, reverse=True)
    predict(model, ordered[-PIECE:], question["batch_sizes"][0])  # warm
    predicting = [seconds(lambda: predict(model, ordered, size)) for size in question["batch_sizes"]]  # noqa: B023
    labels = [[token.get_label(TAG).value for token in sentence] for sentence in sentences]  # O where there is none
    print(json.dumps({"making": making, "predicting": predicting, "labels": labels}))


def tagger(question: dict[str, Any]) -> SequenceTagger:
    sizes, weights = question["sizes"], torch.load(question["weights"])
    words = OneHotEmbeddings(dictionary(question["words"]), embedding_length=sizes["words"])
    words.embedding_layer.load_state_dict({"weight": weights["words"]})
    characters = CharacterEmbeddings(
        dictionary(question["characters"]), char_embedding_dim=sizes["characters"], hidden_size_char=sizes["characters"]
    )
    model = SequenceTagger(
        StackedEmbeddings([words, characters]),
        dictionary(question["labels"]),
        tag_type=TAG,
        hidden_size=sizes["hidden"],
        reproject_embeddings=False,
    )
    for name in ("rnn", "linear", "crf"):
        getattr(model, name).load_state_dict(weights[name])
    return model.eval()


def dictionary(items: list[str]) -> Dictionary:
    found = Dictionary(add_unk=False)
    for item in items:
        found.add_item(item)
    return found


def predict(model: SequenceTagger, sentences: list[Sentence], batch_size: int) -> None:
    """A label a word; left alone flair would make spans of labels in a scheme, in the same time."""
    for start in range(0, len(sentences), PIECE):
        model.predict(sentences[start : start + PIECE], mini_batch_size=batch_size, force_token_predictions=True)


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """CPU and wall."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - wall


if __name__ == "__main__":
    main()
