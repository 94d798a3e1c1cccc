"""What a tagger reads of words: training with and without pieces of words, and how long a file of vectors takes.

    python -m benchmarks.bench_words [--rounds 5] [--words 400000]

One thread. Training (CPU time, kinds in turn, each an epoch a round): 1,000 rows of 3 to 40 words, drawn from 8,000
spellings by Zipf's law, 1,024 words a batch, a bidirectional LSTM of 100 each way, a CRF of 17 labels. Vectors (wall
time): GloVe-like text of 100 numbers a word, all of whose words are wanted.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.bench_score import cpu_seconds
from benchmarks.machine import machine
from rnnlm.data.labelled import LabelledTable
from rnnlm.data.tokenizers.labels import LabelsConfig, LabelTokenizer
from rnnlm.data.tokenizers.sentencepiece import SentencePieceConfig
from rnnlm.data.vectors import read_vectors
from rnnlm.nn.cells.lstm import LSTMConfig
from rnnlm.nn.words.base import WordFeatureConfig
from rnnlm.nn.words.characters import RecurrentCharactersConfig
from rnnlm.nn.words.embedding import WordEmbeddingConfig
from rnnlm.nn.words.subwords import SubwordsConfig
from rnnlm.tasks.batching import SentencesConfig
from rnnlm.tasks.tagging import TaggingConfig
from rnnlm.training.optimizers.adamw import AdamWConfig

ROWS, LONGEST, SPELLINGS, LABELS, SIZE = 1000, 40, 8000, 17, 100
WORDS: list[WordFeatureConfig] = [WordEmbeddingConfig(), RecurrentCharactersConfig()]
KINDS: dict[str, list[WordFeatureConfig]] = {
    "words and characters": WORDS,
    "and pieces, mean": [*WORDS, SubwordsConfig(combine="mean")],
    "and pieces, recurrent": [*WORDS, SubwordsConfig()],
    "words and pieces, recurrent": [WordEmbeddingConfig(), SubwordsConfig()],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--words", type=int, default=400_000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(1)
    print(f"{machine()}; one thread, {arguments.rounds} rounds")
    measure_training(arguments.rounds)
    measure_vectors(arguments.words, arguments.rounds)


def measure_training(rounds: int) -> None:
    table, tokenizer = toy_table()
    epochs = {name: Epoch(words, table, tokenizer) for name, words in KINDS.items()}
    seconds: dict[str, list[float]] = {name: [] for name in KINDS}
    for _ in range(rounds + 1):  # the first warms up
        for name, epoch in epochs.items():
            seconds[name].append(cpu_seconds(epoch.run))
    print("| read of words | words/s | least to most |\n|---|---|---|")
    for name, found in seconds.items():
        rates = sorted(len(table.words) / one for one in found[1:])
        print(f"| {name} | {statistics.median(rates):,.0f} | {rates[0]:,.0f} to {rates[-1]:,.0f} |")


class Epoch:
    """A tagger that goes through a table once a run."""

    def __init__(self, words: list[WordFeatureConfig], table: LabelledTable, tokenizer: LabelTokenizer) -> None:
        self._task = TaggingConfig(words=words, cell=LSTMConfig(hidden_size=200), scheme="none")
        self._model = self._task.build(tokenizer)
        self._optimizer = AdamWConfig().build(self._model)
        batching = SentencesConfig()
        self._stream = self._task.open_stream(table, tokenizer, batching, seed=1, rank=0, world_size=1)

    def run(self) -> None:
        for _ in range(self._stream.steps_per_epoch):
            self._optimizer.zero_grad()
            loss, _ = self._task.loss(self._model, self._stream.next(), ())
            loss.nll.backward()
            self._optimizer.step()


def toy_table() -> tuple[LabelledTable, LabelTokenizer]:
    drawn = np.random.default_rng(1)
    stems = ["".join(drawn.choice(list("aeioubdgklmnprst"), size=drawn.integers(2, 9))) for _ in range(SPELLINGS)]
    words = [stem + drawn.choice(["", "s", "ed", "ing", "er", "ly"]) for stem in stems]
    shares = 1.0 / np.arange(1, SPELLINGS + 1)
    rows = [
        [words[one] for one in drawn.choice(SPELLINGS, size=drawn.integers(3, LONGEST + 1), p=shares / shares.sum())]
        for _ in range(ROWS)
    ]
    labels = [[f"L{len(word) % LABELS}" for word in row] for row in rows]
    options = LabelsConfig(subwords=SentencePieceConfig(model_type="bpe", vocab_size=2000))
    tokenizer = options.train_labelled(zip(rows, labels, strict=True))
    return LabelledTable.from_rows(rows, labels, tokenizer), tokenizer


def measure_vectors(count: int, rounds: int) -> None:
    drawn = np.random.default_rng(1)
    tails = [" ".join(f"{number:.5f}" for number in row) for row in drawn.standard_normal((1000, SIZE))]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "vectors.txt")
        with path.open("w") as file:
            file.writelines(f"word{place} {tails[place % len(tails)]}\n" for place in range(count))
        wanted = {f"word{place}": place for place in range(count)}
        seconds = []
        for _ in range(rounds):
            began = time.perf_counter()
            assert len(read_vectors(str(path), SIZE, wanted, loosely=True)) == count
            seconds.append(time.perf_counter() - began)
        megabytes = path.stat().st_size / 1e6
    print(
        f"\n{count:,} vectors of {SIZE} numbers, {megabytes:,.0f} MB of text: {statistics.median(seconds):.2f} s "
        f"({min(seconds):.2f} to {max(seconds):.2f})"
    )


if __name__ == "__main__":
    main()
