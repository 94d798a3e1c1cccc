"""The recipes of labels from the raw files to the report, with several seeds, as a user runs them: command by command.

    python -m benchmarks.label_recipes ud_ewt --data DATA [--seeds 1 2 3] [--output outputs/labels]

DATA is a folder with the data set (`ud-english-ewt/`, `conll2003/`, `germeval2014/`, `litbank-ner/`, `atis/`, `sst2/`,
`imdb/`). Each command has one thread. What is there already is not computed again, so a stopped run goes on. At the end
one report holds the first seed beside the classical baselines, and a table has every seed's figures on the test file.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.machine import machine

Overrides = Sequence[str]


@dataclass(frozen=True)
class Recipe:
    """What of a data set's files each step reads, as overrides; `{data}` stands for the folder of all data sets."""

    train: Overrides
    dev: Overrides
    test: Overrides
    figures: Mapping[str, tuple[str, ...]]
    "What is told, and where labels.json has it."
    predict: Overrides | None = None
    "Where the test file is read otherwise by jobs.predict."
    calibrate: bool = False
    baselines: Sequence[str] = ()
    only_train: Overrides = field(default_factory=list)
    "Of the vocabulary too."


ACCURACY, SPAN_F1 = ("tags", "accuracy", "value"), ("spans", "f1", "value")
ENTITIES = {"F1, all levels": SPAN_F1, "recall of inner": ("spans", "levels", "inner")}
FLIGHTS = (
    "corpus.words={{data}}/atis/{0}/seq.in corpus.labels={{data}}/atis/{0}/seq.out corpus.label={{data}}/atis/{0}/label"
)
HELD_OUT = "matches(id, '7_')"  # every tenth review: those whose number ends in 7

RECIPES = {
    "ud_ewt": Recipe(
        *([f"corpus.path={{data}}/ud-english-ewt/en_ewt-ud-{name}.conllu.xz"] for name in ("train", "dev", "test")),
        figures={"accuracy": ACCURACY},
        baselines=["hmm", "most_frequent"],
    ),
    "conll2003": Recipe(
        *([f"corpus.path={{data}}/conll2003/eng.{name}"] for name in ("train.xz", "testa", "testb")),
        figures={"F1": SPAN_F1},
        baselines=["hmm", "most_frequent"],
    ),
    "germeval2014": Recipe(
        *([f"corpus.path={{data}}/germeval2014/germ.{name}"] for name in ("train.iob2.xz", "dev.iob2", "test.iob2.xz")),
        figures=ENTITIES,
        calibrate=True,
    ),
    "litbank": Recipe(
        *([f"corpus.path={{data}}/litbank-ner/{name}"] for name in ("train.data.xz", "dev.data", "test.data")),
        figures=ENTITIES,
        calibrate=True,
    ),
    "atis": Recipe(
        *(FLIGHTS.format(name).split(" ") for name in ("train", "valid", "test")),
        figures={"slot F1": SPAN_F1, "intent accuracy": ACCURACY, "frame accuracy": ("frames", "accuracy", "value")},
    ),
    "sst2": Recipe(
        ["corpus.path={data}/sst2/phrases.train.tsv.xz", "corpus.label=last", "corpus.header=true"],
        *(
            [f"corpus.path={{data}}/sst2/stsa.binary.{name}", "corpus.separator=' '", "corpus.label=first"]
            for name in ("dev", "test")
        ),
        figures={"accuracy": ACCURACY},
        baselines=["bag_of_words", "most_frequent"],
    ),
    "imdb": Recipe(
        ["corpus.path={data}/imdb/train.jsonl.xz", f'corpus.where="not {HELD_OUT}"'],
        ["corpus.path={data}/imdb/train.jsonl.xz", f'corpus.where="{HELD_OUT}"'],
        ["corpus.path={data}/imdb/test.jsonl.xz"],
        figures={"accuracy": ACCURACY},
        baselines=["bag_of_words", "most_frequent"],
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", choices=RECIPES)
    parser.add_argument("--data", required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--output", type=Path, default=Path("outputs/labels"))
    arguments = parser.parse_args()
    runner = Runner(arguments.recipe, arguments.data, arguments.output / arguments.recipe)
    print(machine())
    runner.prepare()
    columns = ["seed", *runner.recipe.figures, "minutes of training"]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    rows = [runner.measure(seed) for seed in arguments.seeds]
    medians = [f"{statistics.median(values):.2f}" for values in zip(*rows, strict=True)]
    print(f"| median | {' | '.join(medians)} |")
    runner.compare(arguments.seeds[0])


class Runner:
    """Runs the commands of a recipe."""

    def __init__(self, name: str, data: str, folder: Path) -> None:
        self.name, self.recipe, self.folder = name, RECIPES[name], folder
        self._data = data
        self._vocabulary = f"tokenizer_path={folder}/tokenizer"

    def prepare(self) -> None:
        """Vocabulary and tables."""
        if not (self.folder / "tokenizer" / "tokenizer.json").exists():
            self._run("train_tokenizer", *self.recipe.train, f"output={self.folder}/tokenizer")
        for split, files in (("train", self.recipe.train), ("dev", self.recipe.dev)):
            output = f"output={self.folder}/table/{split}"
            self._run("tokenize_corpus", *files, self._vocabulary, output, "cluster=here")

    def measure(self, seed: int) -> list[float]:
        """Train and judge one model: its figures in percent, and the minutes of training."""
        model, found = self.folder / f"model-{seed}", self.folder / f"predicted-{seed}"
        if not (model / "settings.json").exists():
            self._run("train", *self._tables(), f"seed={seed}", "threads=1", f"output={model}")
        calibration = []
        if self.recipe.calibrate:
            tokens, output = f"tokens={self.folder}/table/dev", f"{self.folder}/calibration-{seed}"
            self._run_plain("calibrate", f"checkpoint={model}", tokens, f"output={output}")
            calibration = [f"calibration={output}"]
        self._predict(model, found, *calibration)
        figures = self._evaluate(f"predictions={found}", f"output={self.folder}/report-{seed}", report=f"report-{seed}")
        metrics = (model / "metrics.jsonl").read_text().splitlines()
        minutes = max(json.loads(line)["wall_seconds"] for line in metrics) / 60.0
        told = [100.0 * _at(figures, path) for path in self.recipe.figures.values()]
        print(f"| {seed} | {' | '.join(f'{one:.2f}' for one in told)} | {minutes:.1f} |", flush=True)
        return [*told, minutes]

    def compare(self, seed: int) -> None:
        """One report with the baselines."""
        against = []
        for baseline in self.recipe.baselines:
            folder, found = self.folder / baseline, self.folder / f"{baseline}-predicted"
            tune = [] if baseline == "most_frequent" else ["tune=true"]
            self._run_plain("train_baseline", f"baseline={baseline}", *tune, *self._tables(), f"output={folder}")
            self._predict(folder, found)
            against.append(f'"{baseline}={found}"')
        if not against:
            return
        given = [f"predictions={self.folder}/predicted-{seed}", f"against=[{','.join(against)}]"]
        if self.name in ("ud_ewt", "conll2003"):
            given.append(f"train_tokens={self.folder}/table/train")
        self._evaluate(*given, f"output={self.folder}/report", report="report", show=True)

    def _tables(self) -> list[str]:
        tables = [
            f"{name}_tokens={self.folder}/table/{split}" for name, split in (("train", "train"), ("valid", "dev"))
        ]
        return [*tables, self._vocabulary]

    def _predict(self, model: Path, output: Path, *options: str) -> None:
        self._run("predict", *self.recipe.test, f"checkpoint={model}", *options, f"output={output}", "cluster=here")

    def _evaluate(self, *overrides: str, report: str, show: bool = False) -> Any:
        said = self._run("evaluate", *overrides)
        if show:
            print(said)
        return json.loads((self.folder / report / "labels.json").read_text())

    def _run(self, job: str, *overrides: str) -> str:
        return self._run_plain(job, f"experiment={self.name}/{job}", *overrides)

    def _run_plain(self, job: str, *overrides: str) -> str:
        """Run a job; what it says. The same job again does nothing."""
        given = [override.replace("{data}", self._data) for override in overrides]
        began = time.monotonic()
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, "-m", f"jobs.{job}", *given], check=False, capture_output=True, text=True, env=environment
        )
        if done.returncode:
            raise SystemExit(f"jobs.{job} {' '.join(given)}\n{done.stderr[-2000:]}")
        print(f"{job}: {time.monotonic() - began:.0f} s", file=sys.stderr)
        return done.stdout


def _at(values: Any, path: Sequence[str]) -> float:
    for name in path:
        values = values[name]
    return float(values)


if __name__ == "__main__":
    main()
