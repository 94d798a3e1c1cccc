"""Scoring rate beside that of transformers with a GPT-2 of the small size: another network, no ratio of like and like.

    python -m benchmarks.bench_gpt2 [--rounds 3] [--rows 64]

What a person gives up or gains in speed who scores with a transformer of 124 million parameters instead. Rows of random
tokens have the lengths of `bench_score`; one thread, CPU time, processes in turn, random weights.
"""

import argparse
import statistics

import torch

import jobs  # noqa: F401 - sets the allocator up as in every job
import rnnlm
from benchmarks.bench_score import BOS, EOS, PRECISIONS, SIZES, cpu_seconds, make_documents, packed
from benchmarks.machine import machine
from benchmarks.peers.environments import ask
from rnnlm.inference.packed import PackedRunner
from rnnlm.inference.precision import Products

OURS_ROWS = 512


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=64, help="of GPT-2")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(1)
    theirs = [[BOS, *document.tolist()] for document in make_documents(arguments.rows, SIZES["big"][0])]
    rounds = []
    for _ in range(arguments.rounds):
        answer = ask("transformers", "gpt2_score.py", {"rows": theirs})
        found = {"GPT-2 small, float32": sum(len(row) - 1 for row in theirs) / answer["seconds"]}
        for size, (vocab, embedding, hidden) in SIZES.items():
            task = rnnlm.LanguageModelConfig(
                cell=rnnlm.LSTMConfig(hidden_size=hidden),
                num_layers=2,
                embedding_size=embedding,
                softmax=rnnlm.FullSoftmaxConfig(tied=False),
            )
            model, documents = task.build_model(vocab).eval(), make_documents(OURS_ROWS, vocab)
            with torch.inference_mode():
                runner = PackedRunner(model, bos_id=BOS, eos_id=EOS)
                for precision in PRECISIONS:
                    weights = Products(precision=precision).settled(1).prepare(model.device)
                    packed(model, runner, documents[:64], weights)
                    seconds = cpu_seconds(lambda: packed(model, runner, documents, weights))  # noqa: B023
                    found[f"rnnlm {size}, {precision}"] = sum(len(one) + 1 for one in documents) / seconds
        rounds.append(found)
    print(f"{machine()}; one thread, CPU time, {arguments.rounds} rounds; tokens/s")
    for name in rounds[0]:
        values = [found[name] for found in rounds]
        ratios = [found[name] / next(iter(found.values())) for found in rounds]
        times = f"{statistics.median(ratios):,.0f} ({min(ratios):,.0f} to {max(ratios):,.0f})"
        print(f"| {name} | {statistics.median(values):,.0f} | {min(values):,.0f} to {max(values):,.0f} | {times} |")


if __name__ == "__main__":
    main()
