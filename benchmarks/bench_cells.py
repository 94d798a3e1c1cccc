"""Time a token of every cell in conf/cell, reading (no gradient) and training (forward and backward), one thread, CPU.

    python -m benchmarks.bench_cells [lstm:peepholes=true ...] [--only lstm gru] [--rounds 5]

One layer reads 32 rows of 35 steps, D = 256, H = 512, from a given state. The cells take turns within a round; the
median of the rounds is printed with the smallest and the largest, and the median of the rounds' ratios to the LSTM.
`name:field=value,field=value` adds a choice of options.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch
import yaml

from benchmarks.machine import machine
from rnnlm.config import from_dict
from rnnlm.nn.cells.base import CellConfig
from rnnlm.nn.layer import Layer

CONF = Path(__file__).resolve().parents[1] / "conf" / "cell"
BASE = "lstm"  # what the others are compared with


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variants", nargs="*", metavar="name:field=value,...")
    parser.add_argument("--only", nargs="+", default=None)
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--steps", type=int, default=35)
    parser.add_argument("--input", type=int, default=256)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(1)
    names = [path.stem for path in sorted(CONF.glob("*.yaml"))] if arguments.only is None else arguments.only
    names = [BASE, *(name for name in [*names, *arguments.variants] if name != BASE)]
    layers = {name: config_of(name, arguments.hidden).build(arguments.input) for name in names}
    inputs = torch.randn(arguments.rows, arguments.steps, arguments.input)
    reading: dict[str, list[float]] = {name: [] for name in names}
    training: dict[str, list[float]] = {name: [] for name in names}
    for counted in [False] + [True] * arguments.rounds:  # the first round warms up
        for name, layer in layers.items():
            read, trained = seconds(layer, inputs)
            if counted:
                reading[name].append(1e9 * read / inputs[..., 0].numel())
                training[name].append(1e9 * trained / inputs[..., 0].numel())
    print(f"{machine()}; one thread, CPU time, ns a token")
    print(f"{arguments.rows} rows of {arguments.steps} steps, D = {arguments.input}, H = {arguments.hidden}")
    print("| cell | parameters | reading | training | smallest to largest | training / lstm |")
    print("|---|---|---|---|---|---|")
    for name, layer in layers.items():
        parameters = sum(parameter.numel() for parameter in layer.parameters())
        ratio = statistics.median(one / base for one, base in zip(training[name], training[BASE], strict=True))
        spread = f"{min(training[name]):,.0f} to {max(training[name]):,.0f}"
        medians = f"{statistics.median(reading[name]):,.0f} | {statistics.median(training[name]):,.0f}"
        print(f"| {name} | {parameters:,} | {medians} | {spread} | {ratio:.2f} |")


def config_of(name: str, hidden_size: int) -> CellConfig:
    """The config of `name` or `name:field=value,...`, with `hidden_size` unless it says otherwise."""
    stem, _, options = name.partition(":")
    data = {**yaml.safe_load((CONF / f"{stem}.yaml").read_text()), "hidden_size": hidden_size}
    for option in options.split(",") if options else []:
        field, _, value = option.partition("=")
        data[field] = yaml.safe_load(value)
    return from_dict(CellConfig, data)


def seconds(layer: Layer, inputs: torch.Tensor) -> tuple[float, float]:
    """CPU seconds to read the inputs without a gradient, and to go forward and backward."""
    state = layer.initial_state(len(inputs))
    began = time.process_time()
    with torch.inference_mode():
        layer(inputs, state)
    middle = time.process_time()
    outputs, _ = layer(inputs, state)
    outputs.square().sum().backward()
    end = time.process_time()
    layer.zero_grad(set_to_none=True)
    return middle - began, end - middle


if __name__ == "__main__":
    main()
