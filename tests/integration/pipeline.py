"""The jobs as a user runs them, on a tiny corpus: commands in processes of their own, made once for all tests."""

import functools
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).parents[2]
TIMEOUT_SECONDS = 180
VOCAB = 280  # the 256 bytes, three special tokens and a few pieces


@dataclass(frozen=True)
class Pipeline:
    """Folders made by the commands."""

    corpus: Path
    tokenizer: Path
    tokens: Path
    model: Path

    @property
    def train_arguments(self) -> list[str]:
        return [
            f"tokenizer_path={self.tokenizer}",
            f"train_tokens={self.tokens}",
            f"valid_tokens={self.tokens}",
            "task.embedding_size=16",
            "cell.hidden_size=16",
            "batching.num_lanes=4",
            "batching.window=16",
            "tracker=none",
            "threads=1",
        ]

    def score_arguments(self, output: Path) -> list[str]:
        return [f"checkpoint={self.model}", "corpus=parquet", f"corpus.path={self.corpus}", f"output={output}"]


def run_job(job: str, *arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """`python -m jobs.<job> <arguments>`, to its end."""
    return subprocess.run(
        [sys.executable, "-m", f"jobs.{job}", *arguments],
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )


def run_well(job: str, *arguments: str, env: dict[str, str] | None = None) -> str:
    """The same, and it must succeed; its output."""
    done = run_job(job, *arguments, env=env)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def refusal(code: int, job: str, *arguments: str) -> str:
    """What a job says when it refuses: no traceback, at most three lines for one problem."""
    done = run_job(job, *arguments)
    assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 3
    return done.stderr


def part_bytes(output: Path) -> list[tuple[str, bytes]]:
    """Names and contents of the part files."""
    parts = sorted((output / "data").iterdir())
    assert parts
    return [(part.name, part.read_bytes()) for part in parts]


@functools.cache
def pipeline() -> Pipeline:
    """Tokenizer, tokens and a trained model, by command."""
    folder = Path(tempfile.mkdtemp(prefix="rnnlm-pipeline-"))
    corpus = folder / "corpus.parquet"
    texts = [f"row {i % 7} says {'yes' if i % 3 else 'no'} to number {i * i % 11}" for i in range(240)]
    table = pa.table({"id": list(range(240)), "text": [None if i % 60 == 9 else t for i, t in enumerate(texts)]})
    pq.write_table(table, corpus, row_group_size=40)
    made = Pipeline(corpus, folder / "tokenizer", folder / "tokens", folder / "model")
    source = ["corpus=parquet", f"corpus.path={corpus}"]
    run_well("train_tokenizer", *source, f"tokenizer.vocab_size={VOCAB}", f"output={made.tokenizer}")
    run_well("tokenize_corpus", *source, "cluster=here", f"tokenizer_path={made.tokenizer}", f"output={made.tokens}")
    run_well("train", *made.train_arguments, "loop.max_steps=30", f"output={made.model}")
    return made
