"""How fast words are labelled, in float32 and int8, against flair's BiLSTM-CRF `SequenceTagger` of the same size.

    python -m benchmarks.bench_flair_tagger [--rounds 5] [--data eng.testb]

One thread; flair runs in an environment of its own (`benchmarks/peers/environments.py`, made on first use), a process a
round in turn with ours. CPU seconds, and wall seconds where it says "by the clock"; loading does not count. DATA is a
file of columns as `conf/experiment/conll2003` reads it, or in CoNLL-U; without, there are sentences of the language
reference that comes with Python, and label names of CoNLL-2003.

Words have vectors of 100; their characters vectors of 32 and an LSTM of 32 in each direction; sentences an LSTM of 200
in each direction; labels a CRF. Weights are fresh and the same, and 99.9 % of the labels in float32 must be too before
anything counts. Only the weights that read what characters say are 0: it is computed all the same, but differs, since
flair takes from the LSTM from right to left what it says after the last character, not after the first.

Both find the best sequence (Viterbi), and a number for how sure each label is. Ours is P(label | sentence), from sums
over all sequences; flair's is a softmax over the scores of Viterbi's pass, which know nothing of the words behind. Ours
begins with lists of words; flair with its `Sentence`s, whose making counts only where it says so, and with the best of
BATCH_SIZES in each round.

The limit is what the products (of characters, once for each distinct word) would take at the rate of a large product in
that precision, measured in the same round. The parts of ours are run and measured one by one. Last comes the whole
command, `jobs.predict` from Parquet to Parquet without Ray: what COPIES of the file take more than one is free of the
start.
"""

import argparse
import gc
import itertools
import re
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from pydoc_data.topics import topics
from types import SimpleNamespace
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

import jobs  # noqa: F401 - sets the allocator up as in every job
from benchmarks.bench_score import product_rate
from benchmarks.bench_start import cpu_seconds as command_seconds
from benchmarks.machine import machine
from benchmarks.peers.environments import ask
from rnnlm.checkpoint import save_checkpoint
from rnnlm.data.formats.conll_columns import ConllColumnsCorpus
from rnnlm.data.formats.conllu import ConlluCorpus
from rnnlm.data.labelled import LabelledTable
from rnnlm.data.labels.words import split_words
from rnnlm.data.tokenizers.labels import LabelsConfig, LabelTokenizer
from rnnlm.inference.precision import Products
from rnnlm.inference.spelled import in_pools, with_spellings_once
from rnnlm.inference.tag import Tagger
from rnnlm.nn.cells.lstm import LSTM, LSTMConfig
from rnnlm.nn.layers.bidirectional import Bidirectional
from rnnlm.nn.prepared import Precision
from rnnlm.nn.tagging_model import TaggingModel
from rnnlm.nn.words.characters import RecurrentCharactersConfig
from rnnlm.nn.words.embedding import WordEmbeddingConfig
from rnnlm.nn.words.spelling import RecurrentSpelling
from rnnlm.storage import open_location
from rnnlm.tasks.tagging import TaggingConfig

WORDS, CHARACTERS, HIDDEN = 100, 32, 200  # sizes, HIDDEN that of a direction
BATCH_SIZES = (32, 64, 128)
PRECISIONS: tuple[Precision, ...] = ("float32", "int8")
NAMES = ["O", *("-".join(pair) for pair in itertools.product("BIES", ("LOC", "MISC", "ORG", "PER")))]
AGREEING = 0.999  # share of labels; sums in another order decide between sequences that are as good
FORBIDDEN = -1e4  # nats; flair has no -inf
SPREAD = 8.0  # times the weights of fresh emissions, which are so alike that rounding would decide
PASSES = 5  # of ours, so that both sides take seconds
COPIES = 11
LONGEST = 100  # words; longer "sentences" of the reference are listings
SENTENCE_ENDS = re.compile(r"(?<=[.:?!])\s+|\n{2,}")
Sentences = list[list[str]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--data")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(1)
    sentences, labels = read(arguments.data) if arguments.data else from_python()
    tokenizer = LabelsConfig().train_labelled(zip(sentences, labels, strict=True))
    task = TaggingConfig(
        cell=LSTMConfig(hidden_size=2 * HIDDEN),
        words=[
            WordEmbeddingConfig(size=WORDS),
            RecurrentCharactersConfig(embedding_size=CHARACTERS, cell=LSTMConfig(hidden_size=CHARACTERS)),
        ],
    )
    model = fresh(task, tokenizer)
    sides = {precision: Side(model, tokenizer, sentences, precision) for precision in PRECISIONS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_checkpoint(open_location(str(folder / "model")), task=task, model=model, tokenizer=tokenizer, trained={})
        for side, copies in (("once", 1), ("many", COPIES)):
            pq.write_table(pa.table({"words": sentences * copies}), folder / f"{side}.parquet")
        question = question_for(folder, model, tokenizer, sentences)
        rounds = [one_round(sides, question, folder, number) for number in range(arguments.rounds)]
    counts = f"{len(sentences):,} sentences, {sum(map(len, sentences)):,} words, {len(tokenizer.labels)} labels"
    print(f"{machine()}; {counts}; one thread, {arguments.rounds} rounds")
    for name in rounds[0]:
        values = [found[name] for found in rounds]
        print(f"| {name} | {statistics.median(values):,.1f} | {min(values):,.1f} to {max(values):,.1f} |")


def read(path: str) -> tuple[Sentences, Sentences]:
    """Words and labels of a file."""
    corpus = (
        ConlluCorpus(path=path)
        if ".conllu" in Path(path).suffixes
        else ConllColumnsCorpus(path=path, separator="blank", scheme="iob1", write_scheme="iobes")
    )
    tables = [table for table, _, _ in corpus.iterate_tables(corpus.list_units(), ["words", "labels"])]
    words, labels = (
        [row for table in tables for row in table.column(name).to_pylist()] for name in ("words", "labels")
    )
    return words, labels


def from_python() -> tuple[Sentences, Sentences]:
    """Sentences of the language reference; labels have the names of CoNLL-2003's in turn."""
    texts = [sentence for topic in sorted(topics) for sentence in SENTENCE_ENDS.split(topics[topic])]
    sentences = [words for words in map(list, map(split_words, texts)) if 0 < len(words) <= LONGEST]
    names = itertools.cycle(NAMES)
    return sentences, [list(itertools.islice(names, len(words))) for words in sentences]


def fresh(task: TaggingConfig, tokenizer: LabelTokenizer) -> TaggingModel:
    """Fresh weights, but for those that read what characters say, which are 0."""
    model = task.build(tokenizer).eval()
    with torch.no_grad():
        model.to_emissions.weight.mul_(SPREAD)
        for cell in directions(model):
            cell.fused.weight_ih_l0[:, WORDS:] = 0.0
    return model


def directions(model: TaggingModel) -> tuple[LSTM, LSTM]:
    """The cells of the encoder."""
    layer = next(iter(model.encoder.cells()))
    assert isinstance(layer, Bidirectional)
    return cast(LSTM, layer.ahead), cast(LSTM, layer.back.inner)


class Side:
    """Ours in one precision."""

    def __init__(
        self, model: TaggingModel, tokenizer: LabelTokenizer, sentences: Sentences, precision: Precision
    ) -> None:
        self._model, self._once = with_spellings_once(model)
        self._tokenizer, self._sentences = tokenizer, sentences
        products = Products(precision=precision).settled(1)
        self._weights = products.prepare(model.device)
        self.tagger = Tagger(cast(Any, SimpleNamespace(model=model, tokenizer=tokenizer)), products=products)
        self._operations = operations(model, sentences)

    def labels(self) -> Sentences:
        return [found.labels for found in self.tagger.tag(self._sentences)]

    def limit(self) -> float:
        """Seconds of the products at the machine's rate."""
        return self._operations / product_rate(self._weights)

    def parts(self) -> dict[str, float]:
        """CPU seconds of each part of `tag`."""
        assert self._model.crf is not None
        laps = Laps()
        with torch.inference_mode(), self._weights.active():
            table = LabelledTable.from_rows(self._sentences, None, self._tokenizer)
            laps.end("words as ids")
            for feature in self._once:
                feature.read(table.spellings)
            laps.end("characters")
            for read in in_pools(self._sentences, self._tokenizer, self._once):
                laps.end("")  # ids and characters once more, and making batches
                outputs = self._model.read(read.batch)
                laps.end("the sentences' LSTM")
                emissions = self._model.emissions_of(outputs)
                laps.end("emissions")
                self._model.crf.decode(emissions, read.batch.lengths)
                laps.end("Viterbi")
                self._model.crf.marginals(emissions, read.batch.lengths)
                laps.end("marginals")
        del laps.seconds[""]
        return laps.seconds


class Laps:
    """CPU seconds since the last end, summed by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._began = time.process_time()

    def end(self, name: str) -> None:
        now = time.process_time()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._began
        self._began = now


def operations(model: TaggingModel, sentences: Sentences) -> float:
    """Of all products, two a multiplication: of words, and of the characters of distinct words."""
    spelling = next(one for one in model.words if isinstance(one, RecurrentSpelling))
    by_word = model.to_emissions.weight.numel() + sum(map(weights_of, directions(model)))
    by_character = sum(weights_of(cast(LSTM, cell)) for cell in (spelling.ahead, spelling.back))
    characters = sum(map(len, {word for words in sentences for word in words}))
    return 2.0 * (by_word * sum(map(len, sentences)) + by_character * characters)


def weights_of(cell: LSTM) -> int:
    return sum(weight.numel() for weight in cell.weights()[:2])


def question_for(folder: Path, model: TaggingModel, tokenizer: LabelTokenizer, sentences: Sentences) -> dict[str, Any]:
    """The same network for flair, which knows every word of the file as it is written."""
    spellings = list(dict.fromkeys(word for words in sentences for word in words))
    embedding = cast(Tensor, model.words[0].embedding.weight)
    rnn = {
        name + suffix: weight
        for cell, suffix in zip(directions(model), ("", "_reverse"), strict=True)
        for name, weight in cell.fused.state_dict().items()
    }
    to_emissions = model.to_emissions.state_dict()
    weights = {
        "words": embedding[torch.from_numpy(tokenizer.word_ids(spellings))],
        "rnn": rnn,
        "linear": {
            name: torch.cat([value, value.new_zeros(2, *value.shape[1:])]) for name, value in to_emissions.items()
        },
        "crf": {"transitions": flair_transitions(model)},
    }
    torch.save(weights, folder / "flair.pt")
    return {
        "weights": str(folder / "flair.pt"),
        "words": spellings,
        "characters": tokenizer.characters,
        "labels": tokenizer.labels,
        "sizes": {"words": WORDS, "characters": CHARACTERS, "hidden": HIDDEN},
        "sentences": sentences,
        "batch_sizes": BATCH_SIZES,
    }


def flair_transitions(model: TaggingModel) -> Tensor:
    """To and from, with the labels <START> and <STOP> behind ours."""
    assert model.crf is not None
    chain = model.crf.chain(torch.zeros(1, 1, len(model.crf.start)), torch.ones(1, dtype=torch.int64))
    count = len(chain.start)
    found = torch.full((count + 2, count + 2), FORBIDDEN)
    found[:count, :count] = chain.transitions.t()
    found[:count, count], found[count + 1, :count] = chain.start, chain.end
    return found.clamp_min(FORBIDDEN).detach()


def one_round(sides: dict[Precision, Side], question: dict[str, Any], folder: Path, number: int) -> dict[str, float]:
    """Figures of a round; words/s where nothing else is said."""
    count = sum(map(len, question["sentences"]))
    answer = ask("flair", "flair_tagger.py", question)
    cpu, wall = (min(taken) for taken in zip(*answer["predicting"], strict=True))
    made = cpu + answer["making"][0]
    found = {"flair": count / cpu, "flair, by the clock": count / wall, "flair, its sentences made too": count / made}
    for size, (taken, _) in zip(BATCH_SIZES, answer["predicting"], strict=True):
        found[f"flair, batches of {size}"] = count / taken
    for name, side in sides.items():
        share = agreeing(side.labels(), answer["labels"])
        gc.collect()
        gc.freeze()  # what lives on is no garbage; as in a job
        assert name != "float32" or share >= AGREEING, f"the two sides differ: {share:.2%} of the labels agree"
        own_cpu, own_wall = (taken / PASSES for taken in seconds(lambda: [side.labels() for _ in range(PASSES)]))  # noqa: B023
        found |= {name: count / own_cpu, f"{name}, by the clock": count / own_wall}
        found[f"{name}, times flair"] = cpu / own_cpu
        found[f"{name}, times flair, by the clock"] = wall / own_wall
        found[f"{name}, times flair, its sentences made too"] = made / own_cpu
        found[f"{name}, labels as flair's, %"] = 100.0 * share
        limit, parts = side.limit(), side.parts()
        found |= {f"{name}, limit": count / limit, f"{name}, % of the limit": 100.0 * limit / own_cpu}
        parts["batches, and labels as text"] = own_cpu - sum(parts.values())
        found |= {f"{name}, {part}, % of the time": 100.0 * taken / own_cpu for part, taken in parts.items()}
        once, many = (command_seconds(command(folder, name, file, number)) for file in ("once", "many"))
        found[f"{name}, jobs.predict, CPU seconds"] = once
        found[f"{name}, jobs.predict beyond its start"] = (COPIES - 1) * count / (many - once)
    return found


def agreeing(ours: Sentences, theirs: Sentences) -> float:
    """The share of labels that are the same."""
    pairs = [pair for rows in zip(ours, theirs, strict=True) for pair in zip(*rows, strict=True)]
    return statistics.fmean(one == other for one, other in pairs)


def command(folder: Path, precision: Precision, file: str, number: int) -> list[str]:
    job = ["-m", "jobs.predict", f"checkpoint={folder / 'model'}", f"corpus.path={folder / file}.parquet"]
    options = [f"precision={precision}", "entities=false", "prefix=predicted_", "cluster=here"]
    return [*job, *options, f"output={folder / f'{file}-{precision}-{number}'}"]


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """CPU and wall."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - wall


if __name__ == "__main__":
    main()
