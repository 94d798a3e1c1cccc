"""Sentences translated a second, beam search of 5: ours in lanes that are refilled, ours sentence by sentence, joeynmt.

    python -m benchmarks.prepare_pairs --data DATA
    python -m benchmarks.bench_translate --checkpoint outputs/multi30k/de_en/model

One thread, CPU time, in turn over `--rounds`. joeynmt (in an environment of its own) has a recurrent model of the same
sizes over the same vocabulary; it is first trained for `--steps` steps, so that what it writes is as long as a
translation, and translates in batches of 64 sentences of like length, which is kinder to it than the order of the file.
Ours is the trained checkpoint. One by one means a call, or a batch, for each sentence, with everything else the same.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch

from benchmarks.machine import machine
from benchmarks.peers.environments import ask
from rnnlm.checkpoint import load_checkpoint
from rnnlm.data.pairs import read_pair_table
from rnnlm.decoding.beam import BeamConfig
from rnnlm.inference.precision import Products
from rnnlm.inference.translate import Translator
from rnnlm.tasks.translation import TranslationConfig

BEAM, MAX_TOKENS, ALPHA = 5, 100, 1.0
ALONE = 100  # sentences of a round that are translated one by one
FOLDER = Path("outputs/peers")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="outputs/multi30k/de_en/model")
    parser.add_argument("--tokens", default="outputs/multi30k/de_en/tokens/train")
    parser.add_argument("--test", type=Path, default=Path("outputs/pairs/multi30k/test.parquet"))
    parser.add_argument("--column", default="de")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--precision", choices=["float32", "int8"], default="float32")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    checkpoint = load_checkpoint(arguments.checkpoint)
    translator = Translator(checkpoint, products=Products(precision=arguments.precision).settled(1))
    sentences = pq.read_table(arguments.test).column(arguments.column).to_pylist()
    question = _question(checkpoint.task, translator, arguments.tokens, sentences, arguments.steps)
    strategy = BeamConfig(width=BEAM, max_tokens=MAX_TOKENS, length_penalty=ALPHA)
    rates: dict[str, list[float]] = {"ours": [], "ours, one by one": [], "joeynmt": [], "joeynmt, one by one": []}
    lengths = {}
    for _ in range(arguments.rounds):
        seconds, found = _timed(translator, sentences, strategy)
        rates["ours"].append(len(sentences) / seconds)
        lengths["ours"] = np.mean([len(one[0].tokens) for one in found])
        began = time.process_time()
        for sentence in sentences[:: len(sentences) // ALONE][:ALONE]:
            translator.generate([sentence], strategy)
        rates["ours, one by one"].append(ALONE / (time.process_time() - began))
        answer = ask("joeynmt", "joeynmt_translate.py", question)
        rates["joeynmt"].append(answer["sentences"] / answer["seconds"])
        lengths["joeynmt"] = np.mean([len(one) for one in answer["written"]])
        answer = ask("joeynmt", "joeynmt_translate.py", {**question, "batch": 1, "every": len(sentences) // ALONE})
        rates["joeynmt, one by one"].append(answer["sentences"] / answer["seconds"])
    print(f"{machine()}, one thread, {arguments.precision}; {len(sentences):,} sentences")
    for name, values in rates.items():
        ratios = np.array(rates["ours"]) / np.array(values)
        length = f", {lengths[name]:.1f} tokens each" if name in lengths else ""
        print(
            f"{name}: {np.median(values):.1f} sentences/s{length}; ours is {np.median(ratios):.2f} times as fast "
            f"({ratios.min():.2f} to {ratios.max():.2f})"
        )


def _timed(translator: Translator, sentences: list[str], strategy: BeamConfig) -> tuple[float, list[Any]]:
    began = time.process_time()
    found = translator.generate(sentences, strategy)
    return time.process_time() - began, found


def _question(task: Any, translator: Translator, tokens: str, sentences: list[str], steps: int) -> dict[str, Any]:
    """What joeynmt is told: the same tokens, the same sizes."""
    assert isinstance(task, TranslationConfig)
    table = read_pair_table(tokens, translator.tokenizer)
    test = translator.tokenizer.source.encode(sentences)
    FOLDER.mkdir(parents=True, exist_ok=True)
    pairs = FOLDER / "joeynmt-pairs.npz"
    np.savez(
        pairs,
        train_source=table.source.tokens,
        train_source_offsets=table.source.offsets,
        train_target=table.target.tokens,
        train_target_offsets=table.target.offsets,
        test_source=np.concatenate(test),
        test_source_offsets=np.cumsum([0, *map(len, test)]),
    )
    return {
        "pairs": str(pairs),
        "vocab": max(translator.tokenizer.source.vocab_size, translator.tokenizer.vocab_size),
        "hidden": task.cell.hidden_size,
        "embedding": task.embedding_size,
        "steps": steps,
        "weights": str(FOLDER / f"joeynmt-{table.fingerprint[:8]}-{steps}.pt"),
        "batch": 64,
        "beam": BEAM,
        "alpha": ALPHA,
        "max_tokens": MAX_TOKENS,
    }


if __name__ == "__main__":
    main()
