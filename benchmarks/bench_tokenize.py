"""Tokenizing rate of a worker against SentencePiece's own `encode`, interleaved, one thread, CPU time.

    python -m benchmarks.bench_tokenize --text outputs/corpora/wikitext2/train.txt [--rounds 7] [--repeat 4]

A worker reads a text column from Parquet and writes a token table, checks, counts and hash included. SentencePiece
encodes the same texts, which are a list of strings already, with num_threads=1 into each of its two numeric outputs,
lists of int and NumPy arrays; the faster of a round is the limit. The ids must be equal before anything is timed. One
vocabulary of 8,192 is trained a model type, on a quarter of the text. A text is a line; empty lines are left out.

A row `tokenizers` is the encoder of the package of that name (`encode_batch_fast`, a vocabulary of its own of the same
size and kind from the same lines), in an environment of its own (`benchmarks/peers/environments.py`), a process a
round; `--alone` leaves it out. `read for training` is the reading of the token table, as training reads it.
"""

import argparse
import gc
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import sentencepiece as spm

import jobs  # noqa: F401 - how malloc is set up for every job
import rnnlm
from benchmarks.machine import machine
from benchmarks.peers.environments import ask
from rnnlm.bulk.engine import Plan, prepare
from rnnlm.bulk.output import DoneRecord
from rnnlm.bulk.shard import Reader, read_windows, run_shard
from rnnlm.bulk.work import Processor
from rnnlm.data.formats.parquet import ParquetCorpus
from rnnlm.data.tokens import read_token_table
from rnnlm.inference.tokenize_work import TokenizeWork
from rnnlm.storage import open_location

VOCAB = 8192


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", default="outputs/corpora/wikitext2/train.txt", help="file with a text a line")
    parser.add_argument("--models", nargs="+", default=["unigram", "bpe"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--repeat", type=int, default=4, help="how often the corpus holds the text")
    parser.add_argument("--alone", action="store_true", help="without the package tokenizers")
    arguments = parser.parse_args()
    pa.set_cpu_count(1)
    lines = [line for line in Path(arguments.text).read_text(encoding="utf-8").split("\n") if line.strip()]
    texts = lines * arguments.repeat
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    print(f"{machine()}, sentencepiece {spm.__version__}, pyarrow {pa.__version__}")
    print(f"{len(texts):,} texts, {megabytes:.1f} MB, one thread, CPU time, {arguments.rounds} rounds")
    for model_type in arguments.models:
        config = rnnlm.SentencePieceConfig(model_type=model_type, vocab_size=VOCAB, num_threads=1)
        with tempfile.TemporaryDirectory() as folder:
            measure(model_type, config.train(lines[::4]), texts, Path(folder), arguments.rounds)
        if not arguments.alone:
            measure_tokenizers(model_type, arguments, megabytes)


def measure(name: str, tokenizer: rnnlm.Tokenizer, texts: list[str], folder: Path, rounds: int) -> None:
    pq.write_table(pa.table({"text": texts}), folder / "corpus.parquet", compression="zstd")
    tokenizer.save(open_location(str(folder / "tokenizer")))
    encoder = spm.SentencePieceProcessor(model_proto=tokenizer.model_bytes())
    work = TokenizeWork(tokenizer=str(folder / "tokenizer"))
    plan = prepare(work, ParquetCorpus(path=str(folder / "corpus.parquet")), str(folder / "out"), target_seconds=1e9)
    plan.run.folder().begin(plan.identity, plan.recipe, plan.listing)
    processor = work.build("cpu")
    record = worker(plan, processor)
    part = folder / "out" / "data" / record.parts[0].name
    check(part, encoder.encode(texts, num_threads=1))
    windows = list(read_windows(plan.run, plan.shards[0]))
    gc.collect()
    gc.freeze()  # what is imported is no garbage; otherwise the encoder's lists make the collector search it, by chance
    sides: dict[str, Callable[[], object]] = {
        "encode to lists": lambda: encoder.encode(texts, num_threads=1),
        "encode to NumPy": lambda: encoder.encode(texts, num_threads=1, out_type="numpy"),
        "column to column": lambda: [processor.process(window.table, window.rows) for window in windows],
        "Parquet to Parquet": lambda: worker(plan, processor),
        "read for training": lambda: read_token_table(str(part), tokenizer),
    }
    seconds = {side: np.zeros(rounds) for side in sides}
    for number in range(rounds):
        for side, action in sides.items():
            seconds[side][number] = cpu_seconds(action)
    report(name, seconds, record, part.stat().st_size)


def measure_tokenizers(model_type: str, arguments: argparse.Namespace, megabytes: float) -> None:
    question = {"text": arguments.text, "repeat": arguments.repeat, "kind": model_type, "vocab": VOCAB}
    answers = [ask("transformers", "tokenizers_encode.py", question) for _ in range(arguments.rounds)]
    seconds = np.array([answer["seconds"] for answer in answers])
    tokens = answers[0]["tokens"]
    print(f"| tokenizers, {tokens:,} | {spread(tokens / seconds / 1e6)} | {spread(megabytes / seconds)} | |")


def worker(plan: Plan, processor: Processor) -> DoneRecord:
    """All that a worker does for a shard."""
    reader = Reader(plan.run)
    outcome = run_shard(plan.run, plan.shards[0], processor, reader, worker="benchmark")
    reader.close()
    assert isinstance(outcome, DoneRecord), outcome
    return outcome


def check(part: Path, expected: list[list[int]]) -> None:
    column = pq.read_table(part).column("tokens").combine_chunks()
    offsets = np.concatenate([[0], np.cumsum([len(ids) for ids in expected])])
    assert np.array_equal(np.asarray(column.offsets), offsets), "texts have other numbers of tokens"
    flat = np.fromiter((token for ids in expected for token in ids), dtype=np.int32, count=offsets[-1])
    assert np.array_equal(np.asarray(column.values), flat), "ids differ"


def report(name: str, seconds: dict[str, np.ndarray], record: DoneRecord, size: int) -> None:
    encode = np.minimum(seconds["encode to lists"], seconds["encode to NumPy"])
    print(f"\n{name} {VOCAB}: {record.tokens:,} tokens, {size / record.tokens:.2f} bytes a token on disk")
    print("| | million tokens/s | MB of text/s | of the faster encode % |")
    print("|---|---|---|---|")
    for side, values in seconds.items():
        tokens, size_read = record.tokens / values / 1e6, record.num_bytes / values / 1e6
        share = f"{spread(100 * encode / values)}" if side != "read for training" else ""
        print(f"| {side} | {spread(tokens)} | {spread(size_read)} | {share} |")


def spread(values: np.ndarray) -> str:
    return f"{statistics.median(values):,.1f} ({min(values):,.1f} to {max(values):,.1f})"


def cpu_seconds(action: Callable[[], object]) -> float:
    began = time.process_time()
    result = action()
    seconds = time.process_time() - began
    del result  # freeing millions of ints is the caller's time
    return seconds


if __name__ == "__main__":
    main()
