"""Exact neighbours by cosine in blocks, beside a loop over queries in numpy, and the machine's own limit.

    python -m benchmarks.bench_neighbours [--rows 50000] [--queries 1000] [--size 256] [--k 10] [--rounds 5]

One thread, CPU time, all sides in turn; the neighbours of both sides must be the same. The loop has the vectors at
length 1 already, and for each query a product with all of them, the k best and their order. `sgemm` is the limit: how
long the search's products alone would take at the rate of the fastest large float32 product of this machine.
"""

import argparse
import os
import statistics

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"  # before numpy is loaded

import numpy as np  # noqa: E402
import numpy.typing as npt  # noqa: E402
import torch  # noqa: E402

from benchmarks.bench_score import cpu_seconds, product_rate  # noqa: E402
from benchmarks.machine import machine  # noqa: E402
from rnnlm.nn.prepared import PreparedWeights  # noqa: E402
from rnnlm.vectors.columns import Vectors, with_direction  # noqa: E402
from rnnlm.vectors.neighbours import BLOCK_ROWS, QUERY_ROWS, Nearest  # noqa: E402

Floats = npt.NDArray[np.float32]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("rows", 50_000), ("queries", 1000), ("size", 256), ("k", 10), ("rounds", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    torch.set_num_threads(1)
    values = np.random.default_rng(1).normal(size=(options.rows, options.size)).astype(np.float32)
    data = with_direction(values, np.arange(options.rows)).vectors
    units = (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)
    ours, loop = in_blocks(data, options.queries, options.k), one_by_one(units, options.queries, options.k)
    assert (ours == loop).mean() > 0.9999, "the two sides differ"  # the loop's last digits are those of float32
    seconds: dict[str, list[float]] = {"in blocks": [], "loop over queries": [], "sgemm": []}
    for _ in range(options.rounds):
        seconds["in blocks"].append(cpu_seconds(lambda: in_blocks(data, options.queries, options.k)))
        seconds["loop over queries"].append(cpu_seconds(lambda: one_by_one(units, options.queries, options.k)))
        rate = product_rate(PreparedWeights("float32", torch.device("cpu")))
        seconds["sgemm"].append(2.0 * options.rows * options.queries * options.size / rate)
    print(f"{machine()}; one thread, CPU time, {options.rounds} rounds")
    print(f"{options.queries:,} queries in {options.rows:,} x {options.size}, k = {options.k}")
    print("| | queries/s | % of sgemm | times the loop |\n|---|---|---|---|")
    for name, own in seconds.items():
        rate = options.queries / statistics.median(own)
        share, times = (
            statistics.median([one / mine for one, mine in zip(seconds[other], own, strict=True)])
            for other in ("sgemm", "loop over queries")
        )
        print(f"| {name} | {rate:,.0f} | {100.0 * share:.0f} | {times:.1f} |")


def in_blocks(data: Vectors, count: int, k: int) -> npt.NDArray[np.int64]:
    found = []
    for start in range(0, count, QUERY_ROWS):
        nearest = Nearest(data.part(start, min(count, start + QUERY_ROWS)), k, leave_out_self=True)
        for begin in range(0, len(data.rows), BLOCK_ROWS):
            nearest.add(data.part(begin, begin + BLOCK_ROWS))
        found.append(nearest.found.rows)
    return np.concatenate(found)


def one_by_one(units: Floats, count: int, k: int) -> npt.NDArray[np.int64]:
    found = np.empty((count, k), dtype=np.int64)
    for query in range(count):
        cosines = units @ units[query]
        cosines[query] = -np.inf
        best = np.argpartition(-cosines, k)[:k]
        found[query] = best[np.lexsort((best, -cosines[best]))]
    return found


if __name__ == "__main__":
    main()
