"""LSTM, GRU, Elman, minGRU and Mogrifier on novels: bits per byte at equal parameters and equal minutes.

    python -m benchmarks.prepare_corpora --data DATA
    python -m benchmarks.cells_on_novels --minutes 10

All cells stand in the same stack (`conf/experiment/novels/train.yaml`: two layers, a projection, a tied embedding of
8,000 subwords) and are as wide as `--parameters` allows. How many steps fit into the minutes is measured by a short run
of each first, since the learning rate's schedule must know its end; the minutes really taken are in the table. Bits per
byte are those of ten held-out novels, each paragraph a document, read as one stream.
"""

import argparse
import json
import math
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import yaml

from benchmarks.machine import machine
from rnnlm.config import from_dict
from rnnlm.data.tokenizers import load_tokenizer
from rnnlm.data.tokens import TokenTable, read_token_table
from rnnlm.nn.layer import LayerConfig
from rnnlm.nn.layers.projection import ProjectionConfig
from rnnlm.storage import open_location
from rnnlm.tasks.language_model import LanguageModelConfig
from rnnlm.training.metrics import METRICS, read_metrics

mpl.use("Agg")
import matplotlib.pyplot as plt

CELLS = {"lstm": "LSTM", "gru": "GRU", "elman": "Elman", "min_gru": "minGRU", "mogrifier": "Mogrifier LSTM"}
LEARNING_RATES = {"elman": 0.001}  # at the recipe's 0.004 it learns no more than how frequent words are (6.6 nats)
VOCAB, EMBEDDING = 8000, 256
MULTIPLE = 16  # widths are multiples of this: processors like them
CALIBRATION_STEPS = 60


@dataclass
class Result:
    """One row of the table and one curve of the plot."""

    name: str
    hidden_size: int
    parameters: int
    minutes: float
    tokens: int
    epochs: float
    valid_curve: list[tuple[float, float]]  # minutes, bits per byte
    test_bits_per_byte: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpora", type=Path, default=Path("outputs/corpora"))
    parser.add_argument("--output", type=Path, default=Path("outputs/novels"))
    parser.add_argument("--minutes", type=float, default=10.0, help="of each cell's steps")
    parser.add_argument("--parameters", type=int, default=5_000_000)
    parser.add_argument("--cells", nargs="*", default=list(CELLS), choices=list(CELLS))
    parser.add_argument("overrides", nargs="*", help="further settings of all runs")
    arguments = parser.parse_args()
    corpus = arguments.corpora / "novels"
    prepare_tokens(corpus)
    results = []
    for cell in arguments.cells:
        results.append(run(cell, corpus, arguments))
        show(results, arguments)


def run(cell: str, corpus: Path, arguments: argparse.Namespace) -> Result:
    """Train and test one cell; what is there from before is taken."""
    hidden_size, parameters = width_of(cell, arguments.parameters)
    output = arguments.output / f"{cell}-{arguments.minutes:g}"
    settings = [
        "experiment=novels/train",
        f"cell={cell}",
        f"cell.hidden_size={hidden_size}",
        f"train_tokens={corpus / 'tokens' / 'train'}",
        f"tokenizer_path={corpus / 'tokenizer'}",
        "tracker=none",
        *([f"optimizer.learning_rate={LEARNING_RATES[cell]}"] if cell in LEARNING_RATES else []),
        *arguments.overrides,
    ]
    steps_file = arguments.output / f"{cell}-{arguments.minutes:g}-steps.json"
    if not steps_file.exists():
        steps = steps_that_fit(settings, corpus, output, arguments.minutes)
        steps_file.write_text(json.dumps(steps))
    steps = json.loads(steps_file.read_text())
    valid = f"valid_tokens={corpus / 'tokens' / 'valid'}"
    call("train", *settings, valid, f"loop.max_steps={steps}", f"output={output / 'model'}")
    if not (output / "report" / "report.html").exists():
        tokens, model = f"tokens={corpus / 'tokens' / 'test'}", output / "model"
        call("evaluate", f"checkpoint={model}", tokens, f"run={model}", f"output={output / 'report'}")
    rows = read_metrics(open_location(str(output / "model" / METRICS)))
    trained = [row for row in rows if row["kind"] == "train"]
    table = table_of(corpus, "valid")
    bits = table.num_targets / table.num_bytes / math.log(2)  # a byte, of a nat a target
    seconds, curve = 0.0, []
    for row in rows:
        if row["kind"] == "train":
            before = trained[trained.index(row) - 1]["tokens"] if row is not trained[0] else 0
            seconds += (row["tokens"] - before) / row["tokens_per_second"]
        else:
            curve.append((seconds / 60, row["nll"] * bits))
    report = json.loads((output / "report" / "report.json").read_text())
    return Result(
        name=CELLS[cell],
        hidden_size=hidden_size,
        parameters=parameters,
        minutes=seconds / 60,
        tokens=trained[-1]["tokens"],
        epochs=trained[-1]["tokens"] / table_of(corpus, "train").num_targets,
        valid_curve=curve,
        test_bits_per_byte=report["stream"]["bits_per_byte"],
    )


def width_of(cell: str, parameters: int) -> tuple[int, int]:
    """The hidden size with which the whole model comes nearest to `parameters`, and what it then has."""
    data = yaml.safe_load((Path("conf/cell") / f"{cell}.yaml").read_text())

    def count(hidden_size: int) -> int:
        layer = from_dict(LayerConfig, {**data, "hidden_size": hidden_size})
        task = LanguageModelConfig(layers=[layer, layer, ProjectionConfig(size=EMBEDDING)], embedding_size=EMBEDDING)
        return sum(parameter.numel() for parameter in task.build_model(VOCAB).parameters())

    sizes = range(MULTIPLE, 2049, MULTIPLE)
    low, high = 0, len(sizes) - 1
    while low < high:  # the count grows with the width
        middle = (low + high) // 2
        low, high = (middle + 1, high) if count(sizes[middle]) < parameters else (low, middle)
    nearest = min(sizes[max(0, low - 1) : low + 1], key=lambda size: abs(count(size) - parameters))
    return nearest, count(nearest)


def steps_that_fit(settings: list[str], corpus: Path, output: Path, minutes: float) -> int:
    """Measured by a short run; its first half, in which caches and memory are filled, is left out."""
    probe = output / "probe"
    # Validation on the first paragraphs only: this run is about time.
    call(
        "train", *settings, f"valid_tokens={corpus / 'tokens' / 'probe'}", f"loop.max_steps={CALIBRATION_STEPS}",
        f"loop.log_every_steps={CALIBRATION_STEPS // 2}", f"output={probe}",
    )  # fmt: skip
    rows = [row for row in read_metrics(open_location(str(probe / METRICS))) if row["kind"] == "train"]
    tokens = rows[-1]["tokens"] - rows[0]["tokens"]
    return math.floor(minutes * 60 * rows[-1]["tokens_per_second"] / tokens * (CALIBRATION_STEPS // 2))


def prepare_tokens(corpus: Path) -> None:
    """Tokenizer and token tables beside the text, if they are not there."""
    tokenizer, tokens = corpus / "tokenizer", corpus / "tokens"
    if not (tokenizer / "tokenizer.model").exists():
        path = f"corpus.path={corpus / 'train.parquet'}"
        call("train_tokenizer", "experiment=novels/train_tokenizer", path, f"output={tokenizer}")
    for split in ("train", "valid", "test", "probe"):
        if not (tokens / split / "_SUCCESS").exists():
            source, limit = ("valid", ["corpus.limit=200"]) if split == "probe" else (split, [])
            call(
                "tokenize_corpus", "experiment=novels/tokenize_corpus", f"corpus.path={corpus / f'{source}.parquet'}",
                f"tokenizer_path={tokenizer}", f"output={tokens / split}", *limit,
            )  # fmt: skip


def table_of(corpus: Path, split: str) -> TokenTable:
    return read_token_table(str(corpus / "tokens" / split), load_tokenizer(open_location(str(corpus / "tokenizer"))))


def call(job: str, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", f"jobs.{job}", *arguments], check=True)


def show(results: list[Result], arguments: argparse.Namespace) -> None:
    """The table on the screen and beside the plot."""
    lines = [
        machine(),
        "",
        "| cell | width | parameters | minutes | tokens/s | epochs | bits per byte, ten held-out novels |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {one.name} | {one.hidden_size} | {one.parameters:,} | {one.minutes:.1f} "
        f"| {one.tokens / one.minutes / 60:,.0f} | {one.epochs:.2f} | {one.test_bits_per_byte:.4f} |"
        for one in sorted(results, key=lambda result: result.test_bits_per_byte)
    ]
    text = "\n".join(lines)
    print(text)
    (arguments.output / "table.md").write_text(text + "\n")
    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    for one in results:
        axes.plot(*zip(*one.valid_curve, strict=True), marker="o", label=f"{one.name} ({one.test_bits_per_byte:.3f})")
    axes.set(xlabel="minutes of training steps on this machine", ylabel="validation, bits per byte")
    axes.set_title(f"Novels, 8,000 subwords, {arguments.parameters / 1e6:g} million parameters each (test in brackets)")
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    figure.savefig(arguments.output / "cells_on_novels.svg")
    figure.savefig(arguments.output / "cells_on_novels.png", dpi=120)


if __name__ == "__main__":
    main()
