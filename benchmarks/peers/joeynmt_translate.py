"""joeynmt's recurrent model translates sentences with its own beam search, as its `test` mode does, in batches.

Run by `benchmarks.peers.environments.ask`. The question has `pairs` (an .npz with flat token ids and offsets of train
and test), `vocab`, `hidden`, `embedding`, `steps` (of training, so that what it writes has the length of a
translation), `weights` (where the trained model is kept), `batch`, `beam`, `alpha`, `max_tokens`, and `every` (so many
sentences of the test one is taken); the answer CPU seconds, the number of sentences and the token ids written.
"""

import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from joeynmt.batch import Batch
from joeynmt.model import Model, build_model
from joeynmt.search import search
from joeynmt.vocabulary import Vocabulary

SPECIAL = SimpleNamespace(
    unk_token="<unk>", pad_token="<pad>", bos_token="<s>", eos_token="</s>", sep_token=None, lang_tags=[],
    unk_id=0, pad_id=1, bos_id=2, eos_id=3,
)  # fmt: skip
FIRST = 4  # id of the first token that is not special
TRAIN_BATCH, LEARNING_RATE = 80, 0.001


def main() -> None:
    question = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(1)
    torch.manual_seed(1)
    pairs = np.load(question["pairs"])
    model = build(question)
    weights = Path(question["weights"])
    if weights.exists():
        model.load_state_dict(torch.load(weights))
    else:
        train(model, documents(pairs, "train_source"), documents(pairs, "train_target"), question["steps"])
        torch.save(model.state_dict(), weights)
    model.eval()
    sources = documents(pairs, "test_source")[:: question.get("every", 1)]
    order = np.argsort([-len(source) for source in sources], kind="stable")  # kinder than the order of the file
    written: list[list[int]] = [[]] * len(sources)
    began = time.process_time()
    for start in range(0, len(order), question["batch"]):
        rows = order[start : start + question["batch"]]
        found, _, _ = search(
            model,
            batch_of([sources[row] for row in rows], None),
            max_output_length=question["max_tokens"],
            beam_size=question["beam"],
            beam_alpha=question["alpha"],
        )
        for row, tokens in zip(rows.tolist(), found.tolist(), strict=True):
            end = tokens.index(SPECIAL.eos_id) if SPECIAL.eos_id in tokens else len(tokens)
            written[row] = [token - FIRST for token in tokens[:end] if token >= FIRST]
    seconds = time.process_time() - began
    print(json.dumps({"seconds": seconds, "sentences": len(sources), "written": written}))


def build(question: dict[str, Any]) -> Model:
    """A bidirectional LSTM, an LSTM, additive attention, input feeding: joeynmt's recurrent defaults."""
    vocabulary = Vocabulary([f"t{token}" for token in range(question["vocab"])], SPECIAL)
    embeddings = {"embedding_dim": question["embedding"]}
    settings = {
        "encoder": {"rnn_type": "lstm", "embeddings": embeddings, "hidden_size": question["hidden"] // 2,
                    "bidirectional": True, "num_layers": 1, "dropout": 0.2, "type": "recurrent"},
        "decoder": {"rnn_type": "lstm", "embeddings": embeddings, "hidden_size": question["hidden"], "num_layers": 1,
                    "dropout": 0.2, "attention": "bahdanau", "type": "recurrent", "input_feeding": True},
    }  # fmt: skip
    model = build_model(settings, src_vocab=vocabulary, trg_vocab=vocabulary)
    model.loss_function = ("crossentropy", 0.1)
    return model


def train(model: Model, sources: list[Any], targets: list[Any], steps: int) -> None:
    """So many steps of Adam on pairs of like length."""
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    order = np.argsort([len(target) for target in targets], kind="stable")
    random = np.random.default_rng(1)
    for _ in range(steps):
        start = int(random.integers(0, len(order) - TRAIN_BATCH))
        rows = order[start : start + TRAIN_BATCH]
        batch = batch_of([sources[row] for row in rows], [targets[row] for row in rows])
        batch.sort_by_src_length()
        loss = model(return_type="loss", **vars(batch))[0] / batch.ntokens
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    print(f"trained {steps} steps, {loss.item():.3f} nats", file=sys.stderr)


def batch_of(sources: list[Any], targets: list[Any] | None) -> Batch:
    """joeynmt's batch: eos behind the source, bos and eos around the target."""
    source = [[*(tokens + FIRST).tolist(), SPECIAL.eos_id] for tokens in sources]
    target = targets and [[SPECIAL.bos_id, *(tokens + FIRST).tolist(), SPECIAL.eos_id] for tokens in targets]
    return Batch(
        src=padded(source),
        src_length=torch.tensor([len(tokens) for tokens in source]),
        src_prompt_mask=None,
        trg=padded(target) if target else None,
        trg_prompt_mask=None,
        indices=torch.arange(len(source)),
        device=torch.device("cpu"),
        pad_index=SPECIAL.pad_id,
        eos_index=SPECIAL.eos_id,
        is_train=target is not None,
    )


def padded(rows: list[list[int]]) -> torch.Tensor:
    return torch.nn.utils.rnn.pad_sequence(
        [torch.tensor(row) for row in rows], batch_first=True, padding_value=SPECIAL.pad_id
    )


def documents(pairs: Any, name: str) -> list[Any]:
    return np.split(pairs[name].astype(np.int64), pairs[f"{name}_offsets"][1:-1])


if __name__ == "__main__":
    main()
