"""Small corpora and models that several test files share."""

import datetime as dt
import decimal
import lzma
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from rnnlm.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from rnnlm.config import config
from rnnlm.data.pairs import PairTable
from rnnlm.data.tokenizers.pair import PairTokenizer
from rnnlm.data.tokenizers.words import WordsConfig, WordsTokenizer
from rnnlm.data.tokens import TokenTable
from rnnlm.nn.attending.additive import AdditiveConfig
from rnnlm.nn.cells.base import CellConfig
from rnnlm.nn.cells.elman import ElmanConfig
from rnnlm.nn.cells.gru import GRUConfig
from rnnlm.nn.cells.lstm import LSTMConfig
from rnnlm.nn.language_model import LanguageModel
from rnnlm.nn.softmax.full import FullSoftmaxConfig
from rnnlm.storage import open_location
from rnnlm.tasks.language_model import LanguageModelConfig
from rnnlm.tasks.translation import TranslationConfig

WORDS = ["the", "cat", "dog", "sat", "ran", "on", "under", "a", "mat", "tree", "."]
CELLS: dict[str, type[CellConfig]] = {"elman": ElmanConfig, "gru": GRUConfig, "lstm": LSTMConfig}

PARTS = ["re", "con", "tra", "lo", "min", "ster", "pal"]
TEXTS = [
    "The quick brown fox jumps over the lazy dog.",
    "  two  blanks, a\ttab and\na line feed ",
    "def add(a, b):\n    return a + b\n",
    "Füße über Öl; naïve café; 東京は日本の首都です。",
    *(f"{a}{b}ing the {b}{c} of {c}{a}er number {len(a + b)}" for a in PARTS for b in PARTS for c in PARTS[:3]),
]


def sentences(count: int, *, seed: int = 0) -> list[str]:
    """Texts of 1 to 9 words."""
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(WORDS, size=random.integers(1, 10))) for _ in range(count)]


def words_tokenizer() -> WordsTokenizer:
    """11 words, <eos>, which starts a text too, and <unk>."""
    return WordsConfig().train([" ".join(WORDS)])


def random_documents(lengths: Sequence[int], vocab_size: int, *, seed: int = 0) -> list[np.ndarray]:
    """Token ids without the specials, one document a length."""
    random = np.random.default_rng(seed)
    return [random.integers(2, vocab_size - 1, size=length, dtype=np.int32) for length in lengths]


def token_table(texts: Sequence[str]) -> TokenTable:
    return TokenTable.from_documents(words_tokenizer().encode(texts))


def tiny_task(cell: str = "lstm", *, hidden_size: int = 8, tied: bool = True, **fields) -> LanguageModelConfig:
    embedding_size = hidden_size if tied else hidden_size + 3
    return LanguageModelConfig(
        cell=CELLS[cell](hidden_size=hidden_size),
        embedding_size=embedding_size,
        softmax=FullSoftmaxConfig(tied=tied),
        **fields,
    )


def save_tiny(folder, task: LanguageModelConfig | None = None, tokenizer=None) -> Checkpoint:
    """A checkpoint with random weights in `folder`, far enough from uniform that mistakes show."""
    task, tokenizer = task or tiny_task(), tokenizer or words_tokenizer()
    model = task.build_model(tokenizer.vocab_size)
    for parameter in model.parameters():
        parameter.data.mul_(3.0)
    save_checkpoint(
        open_location(str(folder)), task=task, model=model, tokenizer=tokenizer, trained={"step": 0, "tokens": 0}
    )
    return load_checkpoint(str(folder))


def nasty_table(rows: int) -> pa.Table:
    """A text column and one column of each Arrow type that Parquet can hold, every fifth value null."""
    noon = dt.datetime(2024, 2, 29, 12, tzinfo=dt.UTC)

    def column(make, kind):
        return pa.array([None if row % 5 == 4 else make(row) for row in range(rows)], kind)

    return pa.table(
        {
            "text": pa.array([f"text {row} \u2028 \u00fc \U0001f600" for row in range(rows)]),
            "bool": column(lambda r: r % 2 == 0, pa.bool_()),
            "int8": column(lambda r: r % 100 - 50, pa.int8()),
            "uint64": column(lambda r: 2**64 - 1 - r, pa.uint64()),
            "float16": column(lambda r: np.float16(r / 4), pa.float16()),
            "float64": column(lambda r: float("nan") if r % 3 == 0 else -r / 7, pa.float64()),
            "large_string": column(lambda r: "s" * (r % 4), pa.large_string()),
            "binary": column(lambda r: bytes([r % 256, 0, 255]), pa.binary()),
            "fixed_size_binary": column(lambda r: bytes([r % 256] * 4), pa.binary(4)),
            "decimal": column(lambda r: decimal.Decimal(r).scaleb(-3), pa.decimal128(20, 3)),
            "date": column(lambda r: (noon + dt.timedelta(days=r)).date(), pa.date32()),
            "time": column(lambda r: dt.time(r % 24, 1, 2, 345678), pa.time64("us")),
            "timestamp": column(lambda r: noon + dt.timedelta(seconds=r), pa.timestamp("us", tz="Europe/Berlin")),
            "duration": column(lambda r: dt.timedelta(seconds=r), pa.duration("ms")),
            "dictionary": column(lambda r: "abc"[r % 3], pa.string()).dictionary_encode(),
            "list": column(lambda r: [[], [None], [r, r + 1]][r % 3], pa.list_(pa.int32())),
            "list_of_list": column(lambda r: [[r], None, []], pa.list_(pa.list_(pa.int16()))),
            "fixed_size_list": column(lambda r: [r, None], pa.list_(pa.float32(), 2)),
            "struct": column(
                lambda r: {"a": r, "b": None if r % 2 else {"c": str(r)}},
                pa.struct([("a", pa.int64()), ("b", pa.struct([("c", pa.string())]))]),
            ),
            "map": column(lambda r: [("k", r), ("l", None)], pa.map_(pa.string(), pa.int64())),
            "null": pa.nulls(rows),
        }
    )


@config
class DoubleTask(LanguageModelConfig):
    """A language model in float64, so that what differs is a mistake and not rounding."""

    def build_model(self, vocab_size: int) -> LanguageModel:
        return super().build_model(vocab_size).double()


def write_compressed(file, content, member_bytes=None):
    """Content as the ending of the file's name asks for: plain, .gz, .xz or .zst; in several members if it says so."""
    codec = {".gz": "gzip", ".xz": "xz", ".zst": "zstd"}.get(file.suffix)
    step = member_bytes or max(1, len(content))
    parts = [content[start : start + step] for start in range(0, max(1, len(content)), step)]
    file.write_bytes(b"".join(compressed(part, codec) for part in parts))


def compressed(content, codec):
    if codec is None:
        return content
    if codec == "xz":
        return lzma.compress(content)
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, codec) as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


def reversals(count: int, *, longest: int = 6, seed: int = 0) -> list[tuple[str, str]]:
    """Pairs of 1 to `longest` words and the same words backwards."""
    random = np.random.default_rng(seed)
    sources = [list(random.choice(WORDS, size=random.integers(1, longest + 1))) for _ in range(count)]
    return [(" ".join(words), " ".join(words[::-1])) for words in sources]


def pair_tokenizer() -> PairTokenizer:
    """The words of `words_tokenizer` on both sides."""
    return PairTokenizer(words_tokenizer(), words_tokenizer())


def pair_table(pairs: Sequence[tuple[str, str]]) -> PairTable:
    sources, targets = zip(*pairs, strict=True)
    return PairTable(token_table(sources), token_table(targets), {})


def tiny_translation(**fields) -> TranslationConfig:
    """Everything at size 8 that fields do not set."""
    settings = {"cell": LSTMConfig(hidden_size=8), "attention": AdditiveConfig(size=8), "embedding_size": 8}
    return TranslationConfig(**{**settings, **fields})


def save_tiny_translation(folder, task: TranslationConfig | None = None) -> Checkpoint:
    """A checkpoint with random weights in `folder`, far enough from uniform that mistakes show."""
    task, tokenizer = task or tiny_translation(), pair_tokenizer()
    model = task.build(tokenizer)
    for parameter in model.parameters():
        parameter.data.mul_(3.0)
    save_checkpoint(
        open_location(str(folder)), task=task, model=model, tokenizer=tokenizer, trained={"step": 0, "tokens": 0}
    )
    return load_checkpoint(str(folder))
