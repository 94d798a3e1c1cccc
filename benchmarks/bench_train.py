"""Training rate against a plain nn.LSTM script with full cross-entropy and Adam, interleaved, one thread, CPU time.

    python -m benchmarks.bench_train [--vocab 8192] [--rounds 5]

Both sides start from the same weights and see the same windows (64 lanes of 70 steps); their first losses must agree to
1e-3 nats before anything is timed.
"""

import argparse
import platform
import statistics
import time

import numpy as np
import torch
import torch.nn.functional as F

import rnnlm
from rnnlm.data.stream import LaneStream, Window
from rnnlm.nn.language_model import LanguageModel

LANES, WINDOW, STEPS = 64, 70, 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vocab", type=int, default=8192)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    task = rnnlm.LanguageModelConfig(
        cell=rnnlm.LSTMConfig(hidden_size=arguments.hidden),
        num_layers=2,
        embedding_size=256,
        softmax=rnnlm.FullSoftmaxConfig(tied=False),
    )
    generator = np.random.default_rng(1)
    documents = [generator.integers(3, arguments.vocab, 50) for _ in range(2000)]
    stream = LaneStream(rnnlm.TokenTable.from_documents(documents), num_lanes=LANES, window=WINDOW, bos_id=1, eos_id=2)
    windows = [stream.next() for _ in range(STEPS)]
    torch.manual_seed(1)
    ours = task.build_model(arguments.vocab)
    theirs = task.build_model(arguments.vocab)
    theirs.load_state_dict(ours.state_dict())
    our_optimizer = rnnlm.AdamWConfig(learning_rate=1e-4).build(ours)
    their_optimizer = torch.optim.Adam(theirs.parameters(), lr=1e-4)
    first = our_steps(task, ours, our_optimizer, windows[:1]), their_steps(theirs, their_optimizer, windows[:1])
    assert abs(first[0] - first[1]) < 1e-3, f"the first losses differ: {first}"
    targets = sum(window.targets.numel() for window in windows)
    rounds = []
    for _ in range(arguments.rounds):
        began = time.process_time()
        our_steps(task, ours, our_optimizer, windows)
        middle = time.process_time()
        their_steps(theirs, their_optimizer, windows)
        end = time.process_time()
        rounds.append((targets / (middle - began), targets / (end - middle), (end - middle) / (middle - began)))
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, one thread, CPU time")
    print(f"two LSTM layers of {arguments.hidden}, vocabulary {arguments.vocab:,}, {LANES} lanes of {WINDOW} steps")
    for column, name in enumerate(("rnnlm, targets/s", "plain script, targets/s", "ratio")):
        values = [row[column] for row in rounds]
        print(f"| {name} | {statistics.median(values):,.2f} | {min(values):,.2f} to {max(values):,.2f} |")


def our_steps(
    task: rnnlm.LanguageModelConfig, model: LanguageModel, optimizer: torch.optim.Optimizer, windows: list[Window]
) -> float:
    state = model.initial_state(LANES)
    mean = 0.0
    for window in windows:
        optimizer.zero_grad(set_to_none=True)
        loss, state = task.loss(model, window, state)
        (loss.nll / loss.num_targets).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        mean = loss.nll.item() / loss.num_targets
    return mean


def their_steps(model: LanguageModel, optimizer: torch.optim.Optimizer, windows: list[Window]) -> float:
    """The same network written as a plain script does: all logits, F.cross_entropy, Adam as it comes."""
    state = model.initial_state(LANES)
    mean = 0.0
    for window in windows:
        optimizer.zero_grad()
        hidden, state = model(window.inputs, tuple(tensor.detach() for tensor in state))
        logits = F.linear(hidden, model.softmax.weight, model.softmax.bias)
        loss = F.cross_entropy(logits.flatten(0, 1), window.targets.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        mean = loss.item()
    return mean


if __name__ == "__main__":
    main()
