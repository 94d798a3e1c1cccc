"""Additive attention's scores with their gradients, made in the cache, beside the formula written out in torch.

    python -m benchmarks.bench_attention

One thread, CPU time, best of `--rounds`; both sides give the same scores. The formula holds a number for every target,
source and feature; `rnnlm.nn.attending.additive_scores` holds some queries' of them at a time.
"""

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.machine import machine
from rnnlm.nn.attending.additive_scores import AdditiveScores

SIZES = [(146, 14, 15, 256), (51, 40, 40, 256)]  # rows, queries, places, features
TOLERANCE = 1e-3


def written_out(queries: Tensor, keys: Tensor, scorer: Tensor) -> Tensor:
    """v . tanh(q + k) for all pairs."""
    scores: Tensor = torch.tanh(queries.unsqueeze(2) + keys.unsqueeze(1)) @ scorer
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{machine()}, one thread; ms with gradients")
    print("| rows x queries x places x features | in the cache | written out, float32 | written out, bfloat16 |")
    print("|---|---|---|---|")
    for rows, queries, places, features in SIZES:
        given = [torch.randn(rows, queries, features), torch.randn(rows, places, features), torch.randn(features)]
        upstream = torch.randn(rows, queries, places)
        torch.testing.assert_close(AdditiveScores.apply(*given), written_out(*given), rtol=0, atol=TOLERANCE)
        times = [
            milliseconds(function, given, upstream, dtype, arguments.rounds)
            for function, dtype in [
                (AdditiveScores.apply, torch.float32),
                (written_out, torch.float32),
                (written_out, torch.bfloat16),
            ]
        ]
        print(f"| {rows} x {queries} x {places} x {features} | {' | '.join(f'{one:.1f}' for one in times)} |")


def milliseconds(
    function: Callable[..., Tensor], given: list[Tensor], upstream: Tensor, dtype: torch.dtype, rounds: int
) -> float:
    """Forward and backward, the best of some."""
    inputs = [one.to(dtype).requires_grad_() for one in given]
    best = float("inf")
    for _ in range(rounds):
        began = time.process_time()
        function(*inputs).backward(upstream.to(dtype))
        best = min(best, time.process_time() - began)
    return 1e3 * best


if __name__ == "__main__":
    main()
