"""How much memory a worker takes that scores a corpus, and what of it.

    python -m benchmarks.bench_memory --corpus outputs/documents/documents/imdb-00.parquet [--rows 2000]
                                      [--checkpoint outputs/demo/model] [--token-logprobs]

The rows are scored by the bulk engine in a process of its own, which notes its largest resident memory after each
step: imports, loading the model, and the run with its windows of the corpus and its part file. The bound is what
README and operations promise of a worker: twice the model and 500 MB, imports included. Without a checkpoint there is a
model of random weights: V 8192 (SentencePiece, trained on the corpus), E 256, H 512, two LSTM layers.
"""

import argparse
import gc
import json
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

import jobs  # noqa: F401 - how malloc is set up for every job

VOCAB, EMBEDDING, HIDDEN = 8192, 256, 512
TRAINING_ROWS = 2000
ALLOWED_MB = 500.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", default="outputs/documents/documents/imdb-00.parquet")
    parser.add_argument("--checkpoint")
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--token-logprobs", action="store_true")
    parser.add_argument("--run-in", help=argparse.SUPPRESS)  # this process is the one that is measured
    arguments = parser.parse_args()
    if arguments.run_in:
        steps = run(arguments)
        Path(arguments.run_in, "steps.json").write_text(json.dumps(steps))
        return
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = arguments.checkpoint or make_checkpoint(Path(folder, "model"), arguments.corpus)
        command = [sys.executable, "-m", "benchmarks.bench_memory", *sys.argv[1:]]
        subprocess.run([*command, "--run-in", folder, "--checkpoint", str(checkpoint)], check=True)
        report(json.loads(Path(folder, "steps.json").read_text()))


def run(arguments: argparse.Namespace) -> dict[str, float]:
    """Largest resident megabytes up to the end of each step."""
    steps = {"python": peak_mb()}
    import jobs.score  # noqa: PLC0415 - a step that is measured
    from rnnlm.bulk.engine import execute, prepare, run_here  # noqa: PLC0415
    from rnnlm.checkpoint import loaded  # noqa: PLC0415
    from rnnlm.data.formats.parquet import ParquetCorpus  # noqa: PLC0415
    from rnnlm.inference.score_work import ScoreWork  # noqa: PLC0415

    assert jobs.score
    gc.freeze()  # as every job does when it has imported
    gc.enable()
    steps["imports"] = peak_mb()
    model = loaded(arguments.checkpoint).model
    steps["model loaded"] = peak_mb()
    work = ScoreWork(checkpoint=arguments.checkpoint, token_logprobs=arguments.token_logprobs)
    corpus = ParquetCorpus(path=arguments.corpus, limit=arguments.rows)
    plan = prepare(work, corpus, str(Path(arguments.run_in, "out")), target_seconds=30.0)
    began = time.process_time()
    totals = execute(plan, run_here, on_event=lambda _: None).totals
    steps["all rows scored"] = peak_mb()
    return steps | {
        "model": sum(weight.numel() * weight.element_size() for weight in model.parameters()) / 1e6,
        "rows": totals.rows,
        "tokens": totals.tokens,
        "text": totals.num_bytes / 1e6,
        "seconds": time.process_time() - began,
    }


def report(found: dict[str, float]) -> None:
    bound = 2 * found["model"] + ALLOWED_MB
    print(
        f"{found['rows']:,.0f} rows, {found['text']:.1f} MB of text, {found['tokens']:,.0f} tokens, "
        f"{found['seconds']:.0f} CPU seconds; model {found['model']:.1f} MB; peak resident memory in MB"
    )
    before = 0.0
    for name in ("python", "imports", "model loaded", "all rows scored"):
        print(f"| {name} | {found[name]:,.0f} | +{found[name] - before:,.0f} |")
        before = found[name]
    print(f"| bound: 2 x model + {ALLOWED_MB:.0f} | {bound:,.0f} | {'kept' if before <= bound else 'BROKEN'} |")


def peak_mb() -> float:
    """Of this process alone: what getrusage says begins with the memory of the process that started this one."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6


def make_checkpoint(folder: Path, corpus: str) -> Path:
    """A model of random weights with a tokenizer of the corpus."""
    import torch  # noqa: PLC0415 - the process that is measured begins without it

    import rnnlm  # noqa: PLC0415
    from rnnlm.checkpoint import save_checkpoint  # noqa: PLC0415
    from rnnlm.data.formats.parquet import ParquetCorpus  # noqa: PLC0415
    from rnnlm.storage import open_location  # noqa: PLC0415

    torch.manual_seed(1)
    rows = ParquetCorpus(path=corpus)
    texts = islice(rows.iterate_texts(rows.list_units()), TRAINING_ROWS)
    tokenizer = rnnlm.SentencePieceConfig(vocab_size=VOCAB, num_threads=1).train(texts)
    task = rnnlm.LanguageModelConfig(
        cell=rnnlm.LSTMConfig(hidden_size=HIDDEN),
        num_layers=2,
        embedding_size=EMBEDDING,
        softmax=rnnlm.FullSoftmaxConfig(tied=False),
    )
    model = task.build_model(VOCAB)
    save_checkpoint(open_location(str(folder)), task=task, model=model, tokenizer=tokenizer, trained={})
    return folder


if __name__ == "__main__":
    main()
