"""Validation perplexity of WikiText-2 over time: a recipe of ours and two plain scripts, given the same minutes.

    python -m benchmarks.prepare_corpora --data DATA
    python -m benchmarks.race_wikitext2 --recipe wikitext2/ten_minutes/train --minutes 10

The three train in turn, a slice of some seconds each on the whole machine while the others are stopped, until each has
had its minutes; so a slow spell of the machine hits all. All that our command does counts as its time: start, reading,
validation, checkpoints. Of the scripts only training and the validations they need count, not those for the curve.
At the end our model reads the test file as one stream, exactly (`jobs.evaluate`).
"""

import argparse
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib as mpl

from benchmarks.machine import machine

mpl.use("Agg")
import matplotlib.pyplot as plt

OURS, EXAMPLE, PLAIN = "rnnlm", "word_language_model (SGD)", "nn.LSTM, Adam"


@dataclass
class Contestant:
    """A process that is stopped while it is not its turn."""

    name: str
    command: list[str]
    metrics: Path | None = None  # where ours writes; the scripts print
    used_seconds: float = 0.0
    free_seconds: float = 0.0  # validations for the curve
    curve: list[tuple[float, float]] = field(default_factory=list)  # minutes, perplexity

    def start(self) -> None:
        environment = {**os.environ, "GOMP_SPINCOUNT": "1000"}
        output = subprocess.DEVNULL if self.metrics else subprocess.PIPE
        self.process = subprocess.Popen(self.command, stdout=output, env=environment, text=True)
        self._turn_began: float | None = time.monotonic()
        self._validating_since: float | None = None
        if not self.metrics:
            threading.Thread(target=self._listen, daemon=True).start()
        self.stop()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGSTOP)  # nothing happens if it has ended
        self.used_seconds, self._turn_began = self._now(), None
        if self.metrics and self.metrics.exists():
            rows = [json.loads(line) for line in self.metrics.read_text().splitlines()]
            found = [row["nll"] for row in rows if row["kind"] == "valid"]
            self.curve += [(self.used_seconds / 60, math.exp(nll)) for nll in found[len(self.curve) :]]

    def go_on(self) -> None:
        self._turn_began = time.monotonic()
        self.process.send_signal(signal.SIGCONT)

    def ended(self) -> bool:
        return self.process.poll() is not None

    def minutes(self) -> float:
        return (self.used_seconds - self.free_seconds) / 60

    def _now(self) -> float:
        return self.used_seconds + (time.monotonic() - self._turn_began if self._turn_began is not None else 0.0)

    def _listen(self) -> None:
        for line in self.process.stdout or []:
            row, now = json.loads(line), self._now()
            if "validating" in row:
                self._validating_since = now
                continue
            if self._validating_since is not None:
                self.free_seconds += now - self._validating_since
                self._validating_since = None
            self.curve.append(((now - self.free_seconds) / 60, math.exp(row["nll"])))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpora", type=Path, default=Path("outputs/corpora"))
    parser.add_argument("--output", type=Path, default=Path("outputs/race"))
    parser.add_argument("--recipe", default="wikitext2/ten_minutes/train")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--slice", type=float, default=5.0, help="seconds of a turn")
    parser.add_argument("--alone", action="store_true", help="without the two scripts")
    parser.add_argument("overrides", nargs="*", help="further settings of our recipe")
    arguments = parser.parse_args()
    tokens = prepare_tokens(arguments.corpora / "wikitext2")
    model = arguments.output / "model"
    contestants = contestants_of(arguments, tokens, model)
    for one in contestants:
        one.start()
    race(contestants, arguments.minutes, arguments.slice)
    report = arguments.output / "report"
    test = subprocess.run(
        [*job("evaluate"), f"checkpoint={model}", f"tokens={tokens / 'test'}", f"run={model}", f"output={report}"],
        check=True,
        capture_output=True,
        text=True,
    )
    show(contestants, arguments)
    print(test.stdout.strip())


def contestants_of(arguments: argparse.Namespace, tokens: Path, model: Path) -> list[Contestant]:
    ours = [
        *job("train"),
        f"experiment={arguments.recipe}",
        f"train_tokens={tokens / 'train'}",
        f"valid_tokens={tokens / 'valid'}",
        f"tokenizer_path={tokens.parent / 'tokenizer'}",
        f"output={model}",
        "tracker=none",
        *arguments.overrides,
    ]
    found = [Contestant(OURS, ours, metrics=model / "metrics.jsonl")]
    if not arguments.alone:
        corpus = str(arguments.corpora / "wikitext2")
        for name, module in ((EXAMPLE, "word_language_model"), (PLAIN, "plain_lstm")):
            found.append(Contestant(name, [sys.executable, "-m", f"benchmarks.peers.{module}", corpus]))
    return found


def prepare_tokens(corpus: Path) -> Path:
    """Tokenizer and token tables beside the text, if they are not there."""
    tokenizer, tokens = corpus / "tokenizer", corpus / "tokens"
    if not (tokenizer / "tokenizer.json").exists():
        options = ["experiment=wikitext2/train_tokenizer", f"corpus.path={corpus / 'train.txt'}", f"output={tokenizer}"]
        subprocess.run([*job("train_tokenizer"), *options], check=True)
    for split in ("train", "valid", "test"):
        if not (tokens / split / "_SUCCESS").exists():
            text = f"corpus.path={corpus / f'{split}.txt'}"
            options = ["experiment=wikitext2/tokenize_corpus", text, f"tokenizer_path={tokenizer}"]
            subprocess.run([*job("tokenize_corpus"), *options, f"output={tokens / split}"], check=True)
    return tokens


def job(name: str) -> list[str]:
    return [sys.executable, "-m", f"jobs.{name}"]


def race(contestants: list[Contestant], minutes: float, turn_seconds: float) -> None:
    """Turns until ours has ended by itself and the others have had their minutes."""
    running = list(contestants)
    while running:
        for one in list(running):
            one.go_on()
            end = time.monotonic() + turn_seconds
            while time.monotonic() < end and not one.ended():
                time.sleep(0.05)
            one.stop()
            if one.ended() or (one.metrics is None and one.minutes() >= minutes):
                one.process.kill()
                running.remove(one)
        print("  ".join(f"{one.name}: {one.minutes():.1f} min" for one in contestants), end="\r", file=sys.stderr)
    failed = [one.name for one in contestants if one.metrics and one.process.wait() != 0]
    assert not failed, f"{failed} failed"


def show(contestants: list[Contestant], arguments: argparse.Namespace) -> None:
    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    print(machine())
    for one in contestants:
        axes.plot(*zip(*one.curve, strict=True), marker="o", label=one.name)
        print(f"{one.name}: {one.minutes():.1f} minutes; validation perplexity after minutes:")
        print("  " + ", ".join(f"{minutes:.1f}: {perplexity:.1f}" for minutes, perplexity in one.curve))
    axes.set(yscale="log", xlabel="minutes of training on this machine", ylabel="validation perplexity")
    axes.set_title(f"WikiText-2 by words: {arguments.recipe}")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    figure.savefig(arguments.output / "race.svg")
    figure.savefig(arguments.output / "race.png", dpi=120)


if __name__ == "__main__":
    main()
