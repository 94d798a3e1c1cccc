"""(No measurement.) What `make submit-demo` does: a head with a token, `ray job submit` of jobs.score, the scores.

    python -m benchmarks.submit_demo [--model outputs/demo/model] [--output outputs/submit-demo]

The model is that of `make demo`; if there is none, a tiny one is trained first. Shows the command, the job's log and
the first rows, and ends with the job's own exit code. Stops only the cluster that it started.
"""

import argparse
import os
import secrets
import shlex
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks.local_head import RAY, Head, local_head

ROOT = Path(__file__).resolve().parents[1]
ROWS = 300


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="outputs/demo/model")
    parser.add_argument("--output", default="outputs/submit-demo")
    arguments = parser.parse_args()
    folder = Path(arguments.output).resolve()
    model = Path(arguments.model).resolve()
    if not (model / "checkpoints/index.json").exists():
        model = tiny_model(folder / "tiny")
    scored = folder / f"scored-{secrets.token_hex(3)}"  # a finished output would not be done again
    with local_head(num_cpus=2) as head:
        code = submitted(head, score_command(model, scored))
    if code == 0:
        show(scored)
    return code


def score_command(model: Path, output: Path) -> list[str]:
    """What is submitted; all paths are absolute, since a job runs in an unpacked copy of this folder."""
    return [
        "python", "-m", "jobs.score", f"checkpoint={model}", f"corpus.folder={ROOT / 'outputs/corpus'}",
        "corpus.split=test", f"corpus.limit={ROWS}", f"output={output}", "cluster.workers=2", "shard_seconds=0.2",
    ]  # fmt: skip


def submitted(head: Head, job: list[str]) -> int:
    """Submit a job, wait for its end and show its log; its own exit code, which `ray job submit` keeps to itself."""
    name = f"demo-{secrets.token_hex(4)}"
    command = ["ray", "job", "submit", f"--address={head.dashboard}", f"--submission-id={name}", "--working-dir=."]
    command += ["--log-color=false", "--", *job]
    print(f"$ {shlex.join(command)}", flush=True)
    subprocess.run([RAY, *command[1:]], cwd=ROOT, env=head.environment, check=False)
    os.environ.update(head.environment)  # before Ray is imported, which reads it then
    from ray.job_submission import JobSubmissionClient  # noqa: PLC0415

    info = JobSubmissionClient(head.dashboard).get_job_info(name)
    print(f"the job {info.status.lower()} with exit code {info.driver_exit_code}")
    return 4 if info.driver_exit_code is None else int(info.driver_exit_code)  # None: it never started


def show(scored: Path) -> None:
    """A few rows of the output."""
    table = pq.read_table(scored / "data")
    print(f"{table.num_rows} rows in {scored / 'data'}; the first:")
    for row in table.slice(0, 3).to_pylist():
        print(f"  {row['logprob']:10.1f} nats  {' '.join(row['text'].split())[:80]}")


def tiny_model(folder: Path) -> Path:
    """A model that has hardly learned, in half a minute."""
    if not (folder / "model/checkpoints/index.json").exists():
        tokenizer = f"{folder / 'tokenizer'}"
        run("train_tokenizer", "tokenizer.vocab_size=512", "max_bytes=300000", f"output={tokenizer}")
        for split, limit in (("train", 2000), ("valid", 100)):
            tokens = [f"corpus.split={split}", f"corpus.limit={limit}", f"tokenizer_path={tokenizer}"]
            run("tokenize_corpus", *tokens, "cluster=here", f"output={folder / split}")
        tables = [f"train_tokens={folder / 'train'}", f"valid_tokens={folder / 'valid'}", f"tokenizer_path={tokenizer}"]
        size = ["cell.hidden_size=64", "task.embedding_size=64", "loop.max_steps=50"]
        run("train", *tables, *size, f"output={folder / 'model'}")
    return folder / "model"


def run(job: str, *settings: str) -> None:
    subprocess.run([sys.executable, "-m", f"jobs.{job}", *settings], cwd=ROOT, check=True)


if __name__ == "__main__":
    sys.exit(main())
