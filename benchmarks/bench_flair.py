"""Perplexity by characters against flair's `calculate_perplexity`, in float32 and int8.

    python -m benchmarks.bench_flair [--rounds 5] [--texts 4096] [--flair-texts 256]

flair runs in an environment of its own (`benchmarks/peers/environments.py`, made on first use), a process a round in
turn with ours; one thread, CPU time, loading not counted. Both have one LSTM layer of 1,024 over embeddings of 100 with
the same weights, and read lines of this project's documentation and sources, each from the initial state, its end
included. Ours reads all of them; flair, one text a call, reads an even sample, whose perplexities must agree to 1e-3 in
float32 before anything counts. Characters are predictions. The limit of a precision is what the recurrent products and
the output layer would take at the rate of a large product in that precision, measured in the same round; the inputs'
product is a table.
"""

import argparse
import statistics
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast, get_args

import numpy as np
import torch

import jobs  # noqa: F401 - sets the allocator up as in every job
import rnnlm
from benchmarks.bench_score import cpu_seconds, product_rate
from benchmarks.machine import machine
from benchmarks.peers.environments import ask
from rnnlm.data.tokenizers.chars import CharsTokenizer
from rnnlm.inference.precision import Products
from rnnlm.inference.score import Scorer
from rnnlm.nn.language_model import LanguageModel
from rnnlm.nn.prepared import Precision

HIDDEN, EMBEDDING = 1024, 100
END = "\n"  # flair's sign between documents; ours begins and ends each with <eos>
PRECISIONS = ("float32", "int8")
SHORTEST = 40


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--texts", type=int, default=4096)
    parser.add_argument("--flair-texts", type=int, default=256)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(1)
    texts = lines()[: arguments.texts]
    sample = texts[:: max(1, len(texts) // arguments.flair_texts)]
    tokenizer = rnnlm.CharsConfig().train(texts)
    assert isinstance(tokenizer, CharsTokenizer)
    task = rnnlm.LanguageModelConfig(
        cell=rnnlm.LSTMConfig(hidden_size=HIDDEN),
        embedding_size=EMBEDDING,
        softmax=rnnlm.FullSoftmaxConfig(tied=False),
    )
    model = task.build_model(tokenizer.vocab_size).eval()
    flops = 2.0 * HIDDEN * (4 * HIDDEN + tokenizer.vocab_size)
    scorers = {}
    for precision in PRECISIONS:
        assert precision in get_args(Precision)
        checkpoint = cast(Any, SimpleNamespace(model=model, tokenizer=tokenizer))
        scorers[precision] = Scorer(checkpoint, products=Products(precision=precision).settled(1))
    with tempfile.TemporaryDirectory() as folder:
        question = question_for(Path(folder), model, tokenizer, sample)
        rounds: list[dict[str, float]] = []
        for _ in range(arguments.rounds):
            answer = ask("flair", "flair_perplexity.py", question)
            check(scorers["float32"], sample, answer["perplexities"])
            found = {"flair, characters/s": predictions(sample) / answer["seconds"]}
            for name, scorer in scorers.items():
                rate = predictions(texts) / cpu_seconds(lambda: scorer.score_texts(texts))  # noqa: B023 - called at once
                found[f"{name}, characters/s"] = rate
                found[f"{name}, times flair"] = rate / found["flair, characters/s"]
                limit = product_rate(Products(precision=cast(Any, name)).settled(1).prepare(model.device)) / flops
                found[f"{name}, limit, characters/s"] = limit
                found[f"{name}, % of the limit"] = 100 * rate / limit
            rounds.append(found)
    print(f"{machine()}; {len(texts):,} texts, {predictions(texts):,} characters of {tokenizer.vocab_size} kinds")
    for name in rounds[0]:
        values = [one[name] for one in rounds]
        print(f"| {name} | {statistics.median(values):,.1f} | {min(values):,.1f} to {max(values):,.1f} |")


def lines() -> list[str]:
    """Of the documentation and the sources, in an order by chance."""
    root = Path(__file__).parent.parent
    files = sorted([*root.glob("docs/*.md"), *root.glob("rnnlm/**/*.py"), *root.glob("jobs/**/*.py")])
    found = [line.strip() for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    found = [line for line in found if len(line) >= SHORTEST]
    return [found[place] for place in np.random.default_rng(1).permutation(len(found))]


def predictions(texts: list[str]) -> int:
    return sum(len(text) + 1 for text in texts)


def question_for(folder: Path, model: LanguageModel, tokenizer: CharsTokenizer, texts: list[str]) -> dict[str, Any]:
    """The same network for flair."""
    fused, softmax = cast(Any, next(iter(model.stack.cells()))).fused, cast(Any, model.softmax)
    weights = {f"rnn.{name}": value for name, value in fused.state_dict().items()}
    weights |= {"encoder.weight": cast(Any, model.embedding).weight.data}
    weights |= {"decoder.weight": softmax.weight.data, "decoder.bias": softmax.bias.data}
    torch.save(weights, folder / "flair.pt")
    characters = [END, "<unk>", *(tokenizer.piece(token) for token in range(2, tokenizer.vocab_size))]
    framed = [f"{END}{text}{END}" for text in texts]
    sizes = {"hidden": HIDDEN, "embedding": EMBEDDING}
    return {"weights": str(folder / "flair.pt"), "characters": characters, "texts": framed, **sizes}


def check(scorer: Scorer, texts: list[str], perplexities: list[float]) -> None:
    scores = scorer.score_texts(texts)
    ours = np.exp(-scores.logprob / scores.num_tokens)
    assert np.allclose(ours, perplexities, rtol=1e-3), "the two sides differ"


if __name__ == "__main__":
    main()
