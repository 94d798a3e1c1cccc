"""Sequence to sequence: write a target given a source; translation, spelling to sound, commands to actions, summaries.

    log P(y | x) = sum over t of log P(y_t | y_1, ..., y_{t-1}, x) + log P(eos | y, x)

Encoder, attention and decoder are trained together on pairs, with the true target as the decoder's inputs (teacher
forcing). With `scheduled_sampling` (Bengio et al. 2015) some inputs are what the model itself would have written: it
reads the target once to know (Mihaylova & Martins 2019), then again with those tokens put in.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from rnnlm.config import PlacedError, config, join_path
from rnnlm.data.pair_stream import PairBatch, PairReader, PairStream
from rnnlm.data.pairs import PairTable, read_pair_table
from rnnlm.data.tokenizers import Tokenizer
from rnnlm.data.tokenizers.pair import PairTokenizer
from rnnlm.data.tokenizers.sentencepiece import SentencePieceTokenizer
from rnnlm.data.tokens import TokenTable
from rnnlm.determinism import derive_seed
from rnnlm.errors import ConfigError
from rnnlm.nn.attending.additive import AdditiveConfig
from rnnlm.nn.attending.base import AttendingConfig
from rnnlm.nn.attending.none import NoAttentionConfig
from rnnlm.nn.cells.base import CellConfig
from rnnlm.nn.cells.lstm import LSTMConfig
from rnnlm.nn.dropout import Dropout
from rnnlm.nn.layer import LayerConfig, chained_size
from rnnlm.nn.layers.bidirectional import BidirectionalConfig
from rnnlm.nn.softmax.base import SoftmaxConfig, SoftmaxLoss
from rnnlm.nn.softmax.full import FullSoftmaxConfig
from rnnlm.nn.stack import build_stack
from rnnlm.nn.translation_model import TranslationModel
from rnnlm.stopwatch import lap
from rnnlm.tasks.base import BatchingConfig, LossSum, Stream, Table, TaskConfig
from rnnlm.tasks.batching import PairsConfig
from rnnlm.types import State, TokenIds

VALIDATION_TOKENS = 8192  # target tokens of a batch; the result does not depend on it


@config
class TranslationConfig(TaskConfig):
    """A recurrent encoder-decoder."""

    batching_type: ClassVar[type[BatchingConfig]] = PairsConfig

    cell: CellConfig = Field(default_factory=LSTMConfig)
    "The decoder's recurrence."
    num_layers: int = Field(default=1, ge=1, le=1000)
    "Layers of the decoder, and of the encoder where `encoder` is null."
    encoder: list[LayerConfig] | None = Field(default=None, min_length=1)
    "The encoder's layers from the bottom up; null takes bidirectional pairs of `cell`, half as wide each way."
    attention: AttendingConfig = Field(default_factory=AdditiveConfig)
    "How the decoder looks at the source."
    input_feeding: bool = False
    "Let a step see what the one before looked at; training is then one step after another."
    copies: bool = False
    "Let the decoder copy tokens of the source (pointer); needs attention and one vocabulary for both sides."
    source_embedding_size: int | None = Field(default=None, ge=1)
    "Size of a source token's vector; null takes embedding_size."
    embedding_size: int = Field(default=256, ge=1)
    "Size of a target token's vector, and of the readout where the softmax is tied."
    shared_embedding: bool = False
    "One embedding matrix for source and target; needs one vocabulary for both sides."
    readout_size: int | None = Field(default=None, ge=1)
    "Size of the readout; null takes embedding_size."
    softmax: SoftmaxConfig = Field(default_factory=FullSoftmaxConfig)
    "The output layer."
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    "Probability that a feature of the readouts is zeroed in training."
    input_dropout: float | None = Field(default=None, ge=0.0, lt=1.0)
    "The same for embedded tokens of both sides; null takes `dropout`."
    layer_dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    "The same between layers."
    word_dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    "Probability that a word's vector is zeroed wherever the word occurs in a batch."
    variational_dropout: bool = False
    "Keep one mask over all steps of a row instead of drawing one a step."
    scheduled_sampling: float = Field(default=0.0, ge=0.0, le=1.0)
    "Probability that an input of the decoder in training is the model's own choice; costs a second pass."
    subword_sampling: float = Field(default=0.0, ge=0.0, le=1.0)
    "Cut texts anew in each epoch: BPE-dropout's probability for bpe, the sampling's alpha for unigram; 0 for never."
    max_source_tokens: int | None = Field(default=None, ge=1)
    "Pairs with a longer source are left out in training, and counted; null for no limit."
    max_target_tokens: int | None = Field(default=None, ge=1)
    "The same for the target."
    max_length_ratio: float | None = Field(default=None, ge=1.0)
    "The same for pairs of which one side has so many times more tokens than the other."

    def __post_init__(self) -> None:
        if self.encoder is None and self.cell.hidden_size % 2:
            raise PlacedError(
                "cell.hidden_size", f"{self.cell.hidden_size} cannot be halved for the encoder's two directions"
            )
        found = self.cell.sees_future()
        if found is not None:
            raise PlacedError(join_path("cell", found.path), f"{found.reason}; a decoder writes from left to right")
        size = self.cell.output_size(self.embedding_size)
        memory = chained_size("encoder", self.encoder_layers(), self.source_embedding_size or self.embedding_size)
        try:
            self.attention.check_sizes(size, memory)
        except ValueError as error:
            raise PlacedError("attention", str(error)) from None
        self.softmax.check_sizes(self.readout, self.embedding_size, "task.readout_size")
        if self.copies and isinstance(self.attention, NoAttentionConfig):
            raise PlacedError("copies", "what is copied is where attention looks; set another attention")
        if self.copies and not (type(self.softmax) is FullSoftmaxConfig and self.softmax.label_smoothing == 0.0):
            raise PlacedError("copies", "the mixture with copies needs softmax=full without label_smoothing")
        if self.shared_embedding and (self.source_embedding_size or self.embedding_size) != self.embedding_size:
            raise PlacedError("shared_embedding", "it needs source_embedding_size = embedding_size; leave it null")

    @property
    def readout(self) -> int:
        """Size of the readout."""
        return self.readout_size or self.embedding_size

    def encoder_layers(self) -> Sequence[LayerConfig]:
        """The encoder from the bottom up."""
        if self.encoder is not None:
            return self.encoder
        half = dataclasses.replace(self.cell, hidden_size=self.cell.hidden_size // 2)
        return [BidirectionalConfig(forward=half)] * self.num_layers

    def build(self, tokenizer: Tokenizer) -> TranslationModel:
        pair = self._pair(tokenizer)
        source_size = self.source_embedding_size or self.embedding_size
        target_embedding = source_embedding = _embedding(pair.target.vocab_size, self.embedding_size)
        if not self.shared_embedding:
            source_embedding = _embedding(pair.source.vocab_size, source_size)
        encoder = build_stack(self.encoder_layers(), source_size, self._dropout(self.layer_dropout))
        fed = self.readout if self.input_feeding else 0
        decoder = build_stack(
            [self.cell] * self.num_layers, self.embedding_size + fed, self._dropout(self.layer_dropout)
        )
        return TranslationModel(
            source_embedding=source_embedding,
            encoder=encoder,
            target_embedding=target_embedding,
            decoder=decoder,
            attention=self.attention.build(decoder.output_size, encoder.output_size),
            readout_size=self.readout,
            softmax=self.softmax.build(self.readout, target_embedding),
            input_feeding=self.input_feeding,
            copies=self.copies,
            input_dropout=self._dropout(self.dropout if self.input_dropout is None else self.input_dropout),
            readout_dropout=self._dropout(self.dropout),
            word_dropout=self.word_dropout,
        )

    def read_table(self, path: str, tokenizer: Tokenizer, *, for_training: bool) -> Table:
        table = read_pair_table(path, self._pair(tokenizer))
        if not for_training:
            return table
        kept = table.within(
            max_source=self.max_source_tokens, max_target=self.max_target_tokens, max_ratio=self.max_length_ratio
        )
        if not kept.num_pairs:
            raise ConfigError(f"task.max_source_tokens, max_target_tokens, max_length_ratio: no pair of {path} is left")
        return kept

    def prepare(self, model: nn.Module, table: Table, tokenizer: Tokenizer) -> None:
        assert isinstance(model, TranslationModel)
        assert isinstance(table, PairTable)
        counts = np.bincount(table.target.tokens, minlength=tokenizer.vocab_size)
        counts[tokenizer.eos_id] += table.num_pairs
        model.softmax.prepare(counts)

    def open_stream(
        self, table: Table, tokenizer: Tokenizer, batching: BatchingConfig, *, seed: int, rank: int, world_size: int
    ) -> Stream:
        assert isinstance(table, PairTable)
        assert isinstance(batching, PairsConfig)
        pair = self._pair(tokenizer)
        return PairStream(
            table,
            lambda one: _reader(one, pair),
            tokens=batching.tokens,
            max_rows=batching.max_rows,
            seed=seed,
            resegmented=self._resegmented(pair, seed) if self.subword_sampling else None,
            rank=rank,
            world_size=world_size,
        )

    def initial_state(self, model: nn.Module, batching: BatchingConfig, world_size: int) -> State:  # noqa: ARG002 - pairs have no past
        return ()

    def num_targets(self, batch: Any) -> int:
        assert isinstance(batch, PairBatch)
        return int(batch.mask.sum())

    def loss(self, model: nn.Module, batch: Any, state: State) -> tuple[LossSum, State]:
        assert isinstance(model, TranslationModel)
        assert isinstance(batch, PairBatch)
        found = self._predicted(model, batch)
        return LossSum(found.nll, self.num_targets(batch), found.objective), state

    def validate(
        self,
        model: nn.Module,
        table: Table,
        tokenizer: Tokenizer,
        *,
        num_lanes: int,  # noqa: ARG002 - pairs have no lanes
        rank: int = 0,
        world_size: int = 1,
    ) -> LossSum:
        """Exact over every target."""
        assert isinstance(model, TranslationModel)
        assert isinstance(table, PairTable)
        nll, num_targets = torch.zeros((), dtype=torch.float64), 0
        training = model.training
        model.eval()
        with torch.inference_mode():
            for batch in _in_batches(_reader(table, self._pair(tokenizer)), rank, world_size):
                logprobs = target_logprobs(model, batch)
                nll -= logprobs[batch.mask].sum(dtype=torch.float64)
                num_targets += int(batch.mask.sum())
        model.train(training)
        return LossSum(nll, num_targets)

    def _predicted(self, model: TranslationModel, batch: PairBatch) -> SoftmaxLoss:
        device = model.device
        state, context = model.encode(batch.source.to(device), batch.lengths)
        inputs = batch.inputs.to(device)
        if self.scheduled_sampling:
            with torch.no_grad():
                guessed = _own_choices(model, inputs, state, context)
            own = torch.rand(inputs.shape, device=device) < self.scheduled_sampling
            own[:, 0] = False  # bos stays
            inputs = torch.where(own, guessed, inputs)
        read = model.read(inputs, state, context)
        readouts = model.readout_dropout(read.readouts).to(model.precision)
        mask, targets = batch.mask.to(device), batch.targets.to(device)
        with lap("softmax"):
            if model.copy_gate is None:
                return model.softmax.objective(readouts[mask], targets[mask])
            mixed = model.with_copies(readouts, read.weights, context)
            nll = -mixed.gather(2, targets.unsqueeze(2)).squeeze(2)[mask].sum(dtype=torch.float64)
            return SoftmaxLoss(nll, nll.detach())

    def _resegmented(self, pair: PairTokenizer, seed: int) -> Any:
        """Cuts the texts of both sides in another way, by the epoch."""
        for side in (pair.source, pair.target):
            if not isinstance(side, SentencePieceTokenizer):
                raise ConfigError(f"task.subword_sampling: a tokenizer of kind {side.kind} cuts a text in one way only")

        def cut(table: PairTable, epoch: int) -> PairTable:
            sides = [(pair.source, table.source), (pair.target, table.target)]
            found = [
                _cut_anew(side, documents, self.subword_sampling, derive_seed(seed, "subwords", epoch, number))
                for number, (side, documents) in enumerate(sides)
            ]
            return PairTable(found[0], found[1], table.left_out)

        return cut

    def _pair(self, tokenizer: Tokenizer) -> PairTokenizer:
        """The tokenizer as one for pairs. Raises ConfigError if it is none, or not joint where it has to be."""
        if not isinstance(tokenizer, PairTokenizer):
            raise ConfigError(
                f"tokenizer_path: {type(self).__name__} needs a tokenizer for pairs, this one is of kind "
                f"{tokenizer.kind}; make one with python -m jobs.train_tokenizer target_column=..."
            )
        for name in ("shared_embedding", "copies"):
            if getattr(self, name) and not tokenizer.is_joint:
                raise ConfigError(
                    f"task.{name}: source and target have a vocabulary each; train the tokenizer with joint=true"
                )
        return tokenizer

    def _dropout(self, probability: float) -> Dropout:
        return Dropout(probability, variational=self.variational_dropout)


def target_logprobs(model: TranslationModel, batch: PairBatch) -> Tensor:
    """log P of each target (B T, nats), given its source and the targets before it; 0 behind the end. No gradient."""
    device = model.device
    state, context = model.encode(batch.source.to(device), batch.lengths)
    read = model.read(batch.inputs.to(device), state, context)
    readouts, mask, targets = read.readouts.to(model.precision), batch.mask.to(device), batch.targets.to(device)
    found = readouts.new_zeros(mask.shape)
    if model.copy_gate is None:
        found[mask] = model.softmax.logprobs(readouts[mask], targets[mask]).to(found.dtype)
    else:
        mixed = model.with_copies(readouts, read.weights, context)
        found = mixed.gather(2, targets.unsqueeze(2)).squeeze(2) * mask
    return found.cpu()


def _own_choices(model: TranslationModel, inputs: TokenIds, state: State, context: tuple[Tensor, ...]) -> TokenIds:
    """What the model holds most probable at each place, as inputs: moved one step to the right behind bos."""
    read = model.read(inputs, state, context)
    guessed = torch.empty_like(inputs)
    guessed[:, 0] = inputs[:, 0]
    for step in range(inputs.shape[1] - 1):  # step by step: never all positions by the whole vocabulary
        guessed[:, step + 1] = model.softmax.logits(read.readouts[:, step].to(model.precision)).argmax(1)
    return guessed


def _reader(table: PairTable, pair: PairTokenizer) -> PairReader:
    return PairReader(table, source_eos=pair.source.eos_id, bos_id=pair.target.bos_id, eos_id=pair.target.eos_id)


def _in_batches(reader: PairReader, rank: int, world_size: int) -> Iterator[PairBatch]:
    """This rank's part of all pairs."""
    order = reader.by_length(np.arange(len(reader.target_lengths)))[rank::world_size]
    for pairs in reader.plan(order, VALIDATION_TOKENS):
        yield reader.read(pairs)


def _cut_anew(tokenizer: Tokenizer, table: TokenTable, strength: float, seed: int) -> TokenTable:
    assert isinstance(tokenizer, SentencePieceTokenizer)
    tokens = table.tokens.tolist()
    bounds = table.offsets.tolist()
    texts = [tokenizer.decode(tokens[start:end]) for start, end in pairwise(bounds)]
    return TokenTable.from_documents(tokenizer.sample(texts, strength, seed), table.num_bytes)


def _embedding(vocab_size: int, size: int) -> nn.Embedding:
    embedding = nn.Embedding(vocab_size, size)
    nn.init.normal_(embedding.weight, std=size**-0.5)  # small, since a tied one is the output matrix too
    return embedding
