"""Vectors of whole rows: the hidden states of a layer, pooled (`rnnlm.nn.pooling`).

    h_1, ..., h_n = layer l of the stack, at each position of a row        n positions, H features
    v = pool(h_1, ..., h_n)                                                last, mean or max
    v / |v|                                                                if `normalise` asks for it

language model        positions: bos and the tokens. Read in chunks with carried state and pooled on the way, so memory
                      does not grow with the length of a text. A text without tokens has the state after bos
encoder-decoder       positions of the encoder: the tokens of the source and its eos
encoder of words      positions: the words

`last` is the final state; where the layer is bidirectional, that of each direction side by side. Layers above l are not
computed. A row's vector does not depend on the other rows, up to the rounding of float32 products of another shape.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence, Sized
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from rnnlm.checkpoint import Checkpoint
from rnnlm.data.labels.words import split_words
from rnnlm.data.pair_stream import PairReader
from rnnlm.data.pairs import PairTable
from rnnlm.data.tokenizers.labels import LabelTokenizer
from rnnlm.data.tokenizers.pair import PairTokenizer
from rnnlm.data.tokens import TokenTable
from rnnlm.errors import ConfigError, DataError
from rnnlm.inference.packed import Block, Chunk, Ids, PackedRunner, Report, ignore
from rnnlm.inference.precision import Products
from rnnlm.inference.spelled import in_pools, with_spellings_once
from rnnlm.nn.language_model import LanguageModel
from rnnlm.nn.layer import Layer
from rnnlm.nn.layers.bidirectional import Bidirectional
from rnnlm.nn.layers.reading_order import ReadingOrder
from rnnlm.nn.packing import Packing
from rnnlm.nn.pooling import Pooled, Pooling, build_pooling
from rnnlm.nn.stack import Stack
from rnnlm.nn.translation_model import TranslationModel
from rnnlm.nn.word_encoder import WordEncoder

RowPooling = Literal["last", "mean", "max"]
Row = str | Sequence[str]
RowVectors = npt.NDArray[np.float32]  # N x H
Advance = Callable[[int], None]  # told how many positions were read
Model = TypeVar("Model", bound=nn.Module)

BATCH_TOKENS = 4096  # of sources that are read at a time, padding counted; a longer one is read alone


class Read(NamedTuple):
    """Numbers of some rows, their vectors (B H), and the positions computed that belong to no token."""

    rows: Ids
    vectors: Pooled
    num_padding: int = 0


class Embedder:
    """Makes vectors of rows; build it once."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        pooling: RowPooling = "last",
        layer: int = -1,
        normalise: bool = False,
        products: Products | None = None,
    ) -> None:
        """Layers are counted from 1 at the bottom, or from -1 at the top downwards. `products` (default: float32) says
        how the model computes. Raises ConfigError if there is no such layer, or no such pooling of it."""
        self._reader = reader_of(checkpoint, pooling, layer)
        self._normalise = normalise
        self._weights = (products or Products()).prepare(next(checkpoint.model.parameters()).device)
        self.num_tokens: npt.NDArray[np.int64] = np.zeros(0, dtype=np.int64)  # positions of each row of the last call
        self.num_padding = 0  # positions computed by the last call that belong to no token

    @property
    def size(self) -> int:
        """Numbers of a vector, H."""
        return self._reader.stack.output_size

    def embed(self, rows: Sequence[Row], *, report: Report = ignore) -> RowVectors:
        """N x H, in the order of the rows: texts, or for an encoder of words rows of words (a text is split).

        nan for a row without words, and with `normalise` for a vector of zeros. `report` is told the share of positions
        that is read.
        """
        encoded = self._reader.encode(rows)
        self.num_tokens = np.array([len(one) for one in encoded], dtype=np.int64) + self._reader.frame
        found = np.full((len(rows), self.size), np.nan, dtype=np.float32)
        done = self.num_padding = 0

        def advance(positions: int) -> None:
            nonlocal done
            done += positions
            report(done / int(self.num_tokens.sum()))

        with torch.inference_mode(), self._weights.active():
            for read in self._reader.read(encoded, advance):
                found[read.rows] = read.vectors.float().cpu().numpy()
                self.num_padding += read.num_padding
        return normalised(found) if self._normalise else found


class RowReader(ABC):
    """Reads the rows of one kind of model up to layer `layer` of its stack."""

    frame = 0  # positions of a row beside its tokens

    def __init__(self, checkpoint: Checkpoint, pooling: RowPooling, layer: int) -> None:
        self.stack = cut_stack(checkpoint, layer)
        self.kind: RowPooling = pooling
        self.pooling = pooling_of(self.stack, pooling)

    @abstractmethod
    def encode(self, rows: Sequence[Row]) -> Sequence[Sized]:
        """Ids or words of each row."""

    @abstractmethod
    def read(self, encoded: Sequence[Any], advance: Advance) -> Iterator[Read]:
        """The vectors of all rows that have positions."""


class TextReader(RowReader):
    """A language model."""

    frame = 1  # bos

    def __init__(self, checkpoint: Checkpoint, pooling: RowPooling, layer: int) -> None:
        assert isinstance(checkpoint.model, LanguageModel)
        super().__init__(checkpoint, pooling, layer)
        self._tokenizer = checkpoint.tokenizer
        model = with_module(checkpoint.model, "stack", self.stack)
        self._runner = PackedRunner(model, bos_id=self._tokenizer.bos_id, eos_id=self._tokenizer.eos_id)

    def encode(self, rows: Sequence[Row]) -> list[Ids]:
        return list(self._tokenizer.encode(texts_of(rows)))

    def read(self, encoded: Sequence[Any], advance: Advance) -> Iterator[Read]:
        for block in self._runner.blocks(encoded):
            running = RunningPooling(block, self.kind, self.stack.output_size)
            for chunk in self._runner.run(encoded, block):
                running.add(chunk)
                advance(len(chunk.rows))
            yield Read(block.rows, running.vectors())


class RunningPooling:
    """Pools the rows of a block chunk by chunk; sums are in float64."""

    def __init__(self, block: Block, kind: RowPooling, size: int) -> None:
        self._lengths, self._kind, self._pooling = (
            torch.from_numpy(block.lengths),
            kind,
            build_pooling(kind, size, size),
        )
        self._shape, self._pooled = (len(block.rows), size), torch.zeros(0)

    def add(self, chunk: Chunk) -> None:
        """The positions that follow those of the chunk before."""
        begin = int(chunk.times[0])
        if begin == 0:
            self._pooled = self._nothing(chunk.hidden)
        packing = Packing(np.bincount(chunk.times - begin).tolist())
        outputs, lengths = packing.pad(chunk.hidden), packing.lengths.to(chunk.hidden.device)
        pooled = self._pooled[: packing.rows]  # rows are in the order of the block, and shorter ones have ended
        if self._kind == "mean":
            pooled += outputs.sum(1, dtype=torch.float64)
        elif self._kind == "max":
            torch.maximum(pooled, self._pooling(outputs, lengths), out=pooled)
        else:
            pooled.copy_(self._pooling(outputs, lengths))

    def vectors(self) -> Pooled:
        """B H, in the order of the block."""
        if self._kind == "mean":
            return self._pooled / self._lengths.to(self._pooled.device).unsqueeze(1)
        return self._pooled

    def _nothing(self, like: Tensor) -> Tensor:
        if self._kind == "mean":
            return like.new_zeros(self._shape, dtype=torch.float64)
        return like.new_full(self._shape, -torch.inf)


class SourceReader(RowReader):
    """The encoder of an encoder-decoder."""

    frame = 1  # eos

    def __init__(self, checkpoint: Checkpoint, pooling: RowPooling, layer: int) -> None:
        assert isinstance(checkpoint.model, TranslationModel)
        assert isinstance(checkpoint.tokenizer, PairTokenizer)
        super().__init__(checkpoint, pooling, layer)
        self._tokenizer, self._embedding = checkpoint.tokenizer.source, checkpoint.model.source_embedding

    def encode(self, rows: Sequence[Row]) -> list[Ids]:
        return list(self._tokenizer.encode(texts_of(rows)))

    def read(self, encoded: Sequence[Any], advance: Advance) -> Iterator[Read]:
        if not encoded:
            return
        sources = TokenTable.from_documents(encoded)
        # Batches of pairs are planned by their targets: here each source is its own.
        eos = self._tokenizer.eos_id
        reader = PairReader(PairTable(sources, sources, {}), source_eos=eos, bos_id=eos, eos_id=eos)
        device = self._embedding.weight.device
        for rows in reader.plan(reader.by_length(np.arange(len(encoded))), BATCH_TOKENS):
            batch = reader.read(rows)
            lengths, positions = batch.lengths.to(device), int(batch.lengths.sum())
            outputs = self.stack.read(self._embedding(batch.source.to(device)), batch.lengths)
            yield Read(rows, self.pooling(outputs, lengths), batch.source.numel() - positions)
            advance(positions)


class WordsReader(RowReader):
    """A tagger, a classifier or a model of spans: what its encoder makes of words."""

    def __init__(self, checkpoint: Checkpoint, pooling: RowPooling, layer: int) -> None:
        assert isinstance(checkpoint.model, WordEncoder)
        assert isinstance(checkpoint.tokenizer, LabelTokenizer)
        super().__init__(checkpoint, pooling, layer)
        self._tokenizer = checkpoint.tokenizer
        self._model, self._once = with_spellings_once(with_module(checkpoint.model, "encoder", self.stack))

    def encode(self, rows: Sequence[Row]) -> list[Sequence[str]]:
        return [list(split_words(row)) if isinstance(row, str) else row for row in rows]

    def read(self, encoded: Sequence[Any], advance: Advance) -> Iterator[Read]:
        for read in in_pools(encoded, self._tokenizer, self._once):
            outputs = self._model.read(read.batch)
            vectors = self.pooling(outputs, read.batch.lengths.to(outputs.device))
            yield Read(read.rows, vectors, read.num_padding)
            advance(int(read.lengths.sum()))


def reader_of(checkpoint: Checkpoint, pooling: RowPooling, layer: int) -> RowReader:
    """What reads the rows of a checkpoint's model; the one place that asks for its class."""
    if isinstance(checkpoint.model, LanguageModel):
        return TextReader(checkpoint, pooling, layer)
    if isinstance(checkpoint.model, TranslationModel):
        return SourceReader(checkpoint, pooling, layer)
    return WordsReader(checkpoint, pooling, layer)


def cut_stack(checkpoint: Checkpoint, layer: int) -> Stack:
    """The layers of the model, or of its encoder, up to `layer`. Raises ConfigError if there is no such layer."""
    model = checkpoint.model
    stack = model.stack if isinstance(model, LanguageModel) else model.encoder
    assert isinstance(stack, Stack)
    layers = list(stack.cells())
    if not 1 <= abs(layer) <= len(layers):
        raise ConfigError(
            f"layer: there is no layer {layer} among {len(layers)}; take 1 (the lowest) to {len(layers)}, or "
            f"-1 (the top one) to -{len(layers)}"
        )
    return Stack(layers[: layer if layer > 0 else len(layers) + 1 + layer], stack.dropout)


def pooling_of(stack: Stack, kind: RowPooling) -> Pooling:
    """The pooling of a stack's outputs. Raises ConfigError where final states are asked for that are mixed."""
    *_, top = stack.cells()
    size = forward_size(top)
    if kind == "last" and size is None:
        raise ConfigError(
            f"pooling: the final states of the layer ({type(top).__name__}) do not stand apart in its outputs; take "
            "mean or max, or another layer"
        )
    return build_pooling(kind, stack.output_size, size)


def forward_size(layer: Layer) -> int | None:
    """How many of a layer's outputs, the first ones, are of a forward direction, all others being of a backward one;
    None if they are mixed."""
    if isinstance(layer, Bidirectional) and layer.combine == "concat":
        apart = not layer.ahead.sees_future and not layer.back.inner.sees_future
        return layer.ahead.output_size if apart else None
    if isinstance(layer, ReadingOrder) and layer.order == "backward" and not layer.inner.sees_future:
        return 0
    return None if layer.sees_future else layer.output_size


def with_module(model: Model, name: str, module: nn.Module) -> Model:
    """A model of the same modules, but for one."""
    found = copy.copy(model)
    found._modules = {**model._modules, name: module}  # the copy shares the old dictionary
    return found


def texts_of(rows: Sequence[Row]) -> list[str]:
    """The rows, which have to be texts. Raises DataError."""
    for number, row in enumerate(rows):
        if not isinstance(row, str):
            raise DataError(
                f"row {number} is no text but {type(row).__name__}; the model reads texts", todo="join the words"
            )
    return [str(row) for row in rows]


def normalised(vectors: RowVectors) -> RowVectors:
    """Vectors of length 1 in the same directions; nan where there is none."""
    lengths = np.sqrt(np.square(vectors, dtype=np.float64).sum(1, keepdims=True))
    with np.errstate(invalid="ignore"):
        found: RowVectors = (vectors / lengths).astype(np.float32)
    return found
