"""CPU time to the same held-out loss on WikiText-2: our training against `word_language_model`, networks of one size.

    python -m benchmarks.race_to_loss [--minutes 8]

Both train an embedding of 200, two LSTM layers of 200 and an output layer of their own over 33,278 words, at the same
time, one thread each, until the script has had its CPU minutes and ours a third as many. The network is the same; how
it is trained is what is compared: plain SGD over all words there; the sampled softmax, Adam and embeddings that begin
as co-occurrences here. Validation is exact on both sides, over the first tenth of the lines of the validation file. All
that our command does counts as its time: start, reading, validations, checkpoints. Of the script only training counts.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.machine import machine
from benchmarks.race_wikitext2 import job, prepare_tokens

SIZE = 200
VALID_LINES = 376
OUR_PART = 3
TICK = os.sysconf("SC_CLK_TCK")
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
SETTINGS = [
    f"task.embedding_size={SIZE}",
    f"cell.hidden_size={SIZE}",
    "task.num_layers=2",
    "task.cooccurrence_window=4",
    "task.dropout=0.2",
    "softmax=sampled",
    "softmax.tied=false",
    "schedule=constant",
    "optimizer.learning_rate=0.003",
    "batching.num_lanes=20",
    "batching.window=35",
    "batching.shuffle=false",
    "batching.fresh_state_at_documents=false",
    "loop.max_epochs=2",
    "loop.valid_every_steps=200",
    "threads=1",
    "tracker=none",
]

Curve = list[tuple[float, float]]  # CPU seconds, perplexity


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpora", type=Path, default=Path("outputs/corpora"))
    parser.add_argument("--output", type=Path, default=Path("outputs/race_to_loss"))
    parser.add_argument("--minutes", type=float, default=8.0, help="of the script, in CPU time")
    parser.add_argument("overrides", nargs="*", help="further settings of ours")
    arguments = parser.parse_args()
    corpus = smaller_validation(arguments.corpora / "wikitext2", arguments.output / "corpus")
    tokens = prepare_tokens(corpus)
    model = arguments.output / f"model-{int(time.time())}"
    settings = [f"train_tokens={tokens / 'train'}", f"valid_tokens={tokens / 'valid'}", f"output={model}"]
    settings += [f"tokenizer_path={corpus / 'tokenizer'}", *SETTINGS, *arguments.overrides]
    theirs = [sys.executable, "-m", "benchmarks.peers.word_language_model", str(corpus), "--every", "60"]
    quiet = subprocess.DEVNULL
    with (
        subprocess.Popen([*job("train"), *settings], env=ONE_THREAD, stdout=quiet, stderr=quiet) as ours,
        subprocess.Popen(theirs, env=ONE_THREAD, stdout=subprocess.PIPE, text=True) as script,
    ):
        curves = race(ours, model / "metrics.jsonl", script, arguments.minutes * 60)
        ours.kill()
        script.kill()
    show(*curves)


def smaller_validation(source: Path, folder: Path) -> Path:
    """The corpus with a tenth of the validation file, which is then no longer most of the time."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = (source / "valid.txt").read_bytes().splitlines(keepends=True)
    (folder / "train.txt").write_bytes((source / "train.txt").read_bytes())
    for split in ("valid", "test"):
        (folder / f"{split}.txt").write_bytes(b"".join(lines[:VALID_LINES]))
    return folder


def race(ours: subprocess.Popen[bytes], metrics: Path, script: subprocess.Popen[str], limit: float) -> list[Curve]:
    """Both curves, until the script has had `limit` CPU seconds."""
    mine: Curve = []
    theirs: Curve = []
    assert script.stdout is not None
    os.set_blocking(script.stdout.fileno(), False)
    while not theirs or theirs[-1][0] < limit:
        time.sleep(0.2)
        for line in script.stdout.readlines():
            row = json.loads(line)
            if "nll" in row:
                theirs.append((row["seconds"], math.exp(row["nll"])))
                print(f"script: {theirs[-1][0]:.0f} s, perplexity {theirs[-1][1]:.1f}", flush=True)
        assert script.poll() is None, "the script ended"
        if ours.poll() is None and metrics.exists():
            rows = [json.loads(line) for line in metrics.read_text().splitlines() if line.endswith("}")]
            found = [math.exp(row["nll"]) for row in rows if row["kind"] == "valid"]
            for perplexity in found[len(mine) :]:
                mine.append((cpu_seconds_of(ours.pid), perplexity))
                print(f"rnnlm: {mine[-1][0]:.0f} s, perplexity {perplexity:.1f}", flush=True)
            if mine and mine[-1][0] > limit / OUR_PART:
                ours.kill()
    return [mine, theirs]


def cpu_seconds_of(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def show(mine: Curve, theirs: Curve) -> None:
    print(f"{machine()}; one thread each, CPU seconds")
    print("| script | its perplexity | rnnlm, to the same or better | times less |\n|---|---|---|---|")
    for seconds, perplexity in theirs:
        reached = [when for when, level in mine if level <= perplexity]
        if reached:
            print(f"| {seconds:.0f} s | {perplexity:.1f} | {reached[0]:.0f} s | {seconds / reached[0]:.1f} |")
    print("rnnlm: " + ", ".join(f"{when:.0f} s {perplexity:.1f}" for when, perplexity in mine))


if __name__ == "__main__":
    main()
