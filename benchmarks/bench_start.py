"""How long a small job takes to start: `jobs.score` on one row and on 1,000 rows without Ray, beside its imports; and
how long the library takes to import, load a model and score one text.

    python -m benchmarks.bench_start [--checkpoint outputs/demo/model] [--rounds 5] [--rows 1000]

Processes run in turn: one that imports what `jobs.score` imports and no more, the command on one row, the command on
all rows, one that uses the library. CPU seconds of each process, user and system, by what the system says of it when it
has ended; the library's are by the clock, as the process itself reads it; one thread. The start is the command on one
row less the imports of the same round. Without a checkpoint there is a model of random weights: V 8192, E 256, H 512,
two LSTM layers, 37 MB. Rows are made of the words of the documentation.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

import rnnlm
from benchmarks.machine import machine
from rnnlm.checkpoint import save_checkpoint
from rnnlm.data.tokenizers.words import WordsTokenizer
from rnnlm.storage import open_location

VOCAB, EMBEDDING, HIDDEN = 8192, 256, 512
# As the command imports: see jobs/__init__.py.
IMPORTS = "import gc; gc.disable(); import jobs.score; gc.freeze()"
LIBRARY = """
import time
began = time.perf_counter()
import rnnlm
imported = time.perf_counter()
model = rnnlm.load({checkpoint!r})
loaded = time.perf_counter()
assert model.score(["The cat sat."])[0]["error"] is None
print(imported - began, loaded - imported, time.perf_counter() - loaded)
"""
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=1000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoint = arguments.checkpoint or str(make_checkpoint(folder / "model"))
        texts = make_texts(arguments.rows)
        pq.write_table(pa.table({"text": texts}), folder / "all.parquet")
        pq.write_table(pa.table({"text": texts[:1]}), folder / "one.parquet")
        seconds: dict[str, list[float]] = {"imports": [], "one row": [], "all rows": []}
        library = []
        cpu_seconds(["-c", IMPORTS])  # everything is in the page cache, and compiled
        for number in range(arguments.rounds):
            seconds["imports"].append(cpu_seconds(["-c", IMPORTS]))
            for side, corpus in (("one row", "one"), ("all rows", "all")):
                output = folder / f"{corpus}-{number}"
                seconds[side].append(cpu_seconds(command(checkpoint, folder / f"{corpus}.parquet", output)))
                assert (output / "_SUCCESS").exists()
            library.append(clock_seconds(LIBRARY.format(checkpoint=checkpoint)))
    print(f"{machine()}; load {os.getloadavg()[0]:.1f}; CPU seconds of a process, {arguments.rounds} rounds")
    imports, one, every = (np.array(values) for values in seconds.values())
    for name, values in {
        "imports alone": imports,
        "the command on one row": one,
        f"the command on {arguments.rows:,} rows": every,
        "start beyond imports: one row": one - imports,
        f"beyond imports: {arguments.rows:,} rows": every - imports,
        **dict(zip(("by the clock: import rnnlm", "rnnlm.load", "the first score"), np.array(library).T, strict=True)),
    }.items():
        print(f"| {name} | {statistics.median(values):.2f} | {min(values):.2f} to {max(values):.2f} | s |")


def command(checkpoint: str, corpus: Path, output: Path) -> list[str]:
    job = ["-m", "jobs.score", f"checkpoint={checkpoint}", "corpus=parquet", f"corpus.path={corpus}"]
    return [*job, f"output={output}", "cluster.workers=0"]


def cpu_seconds(arguments: list[str]) -> float:
    """Of a Python process of its own."""
    quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    environment = {**os.environ, **ONE_THREAD}
    process = os.posix_spawn(sys.executable, [sys.executable, *arguments], environment, file_actions=quiet)
    _, status, usage = os.wait4(process, 0)
    assert os.waitstatus_to_exitcode(status) == 0, f"{arguments} failed"
    return usage.ru_utime + usage.ru_stime


def clock_seconds(code: str) -> list[float]:
    """What a Python process of its own prints."""
    command, environment = [sys.executable, "-c", code], {**os.environ, **ONE_THREAD}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    return [float(seconds) for seconds in done.stdout.split()]


def make_checkpoint(folder: Path) -> Path:
    """A model of random weights with a vocabulary of made-up words and those of the documentation."""
    torch.manual_seed(1)
    words = list(dict.fromkeys([*doc_words(), *(f"word{number}" for number in range(VOCAB))]))[: VOCAB - 2]
    tokenizer = WordsTokenizer(["<eos>", "<unk>", *words])
    task = rnnlm.LanguageModelConfig(
        cell=rnnlm.LSTMConfig(hidden_size=HIDDEN),
        num_layers=2,
        embedding_size=EMBEDDING,
        softmax=rnnlm.FullSoftmaxConfig(tied=False),
    )
    model = task.build_model(tokenizer.vocab_size)
    save_checkpoint(open_location(str(folder)), task=task, model=model, tokenizer=tokenizer, trained={})
    return folder


def make_texts(rows: int) -> list[str]:
    """Of log-normal length: median 22 words, 5 to 200."""
    generator = np.random.default_rng(1)
    words = doc_words()
    lengths = np.clip(np.exp(generator.normal(np.log(22), 0.7, rows)).astype(int), 5, 200)
    places = [generator.integers(0, len(words) - length) for length in lengths]
    return [" ".join(words[place : place + length]) for place, length in zip(places, lengths, strict=True)]


def doc_words() -> list[str]:
    files = sorted(Path(__file__).parent.parent.joinpath("docs").glob("*.md"))
    return [word for file in files for word in file.read_text(encoding="utf-8").split()]


if __name__ == "__main__":
    main()
