"""Language modelling: predict each token from all before it.

Training is back-propagation through time. In lanes it is truncated (Williams & Peng 1990): the gradient flows back
through one window of `batching.window` steps, the hidden state is carried on without it. By documents it is full.
"""

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from rnnlm.config import PlacedError, config, join_path
from rnnlm.data.cooccurrence import cooccurrence_vectors
from rnnlm.data.stream import LaneStream, Window
from rnnlm.data.tokenizers import Tokenizer
from rnnlm.data.tokens import TokenTable, read_token_table
from rnnlm.data.vectors import load_vectors
from rnnlm.errors import ConfigError
from rnnlm.nn.cells.base import CellConfig
from rnnlm.nn.cells.lstm import LSTMConfig
from rnnlm.nn.dropout import Dropout
from rnnlm.nn.embedding import OneHot
from rnnlm.nn.language_model import LanguageModel
from rnnlm.nn.layer import LayerConfig, chained_size
from rnnlm.nn.softmax.base import SoftmaxConfig
from rnnlm.nn.softmax.full import FullSoftmaxConfig
from rnnlm.nn.stack import Stack, build_stack
from rnnlm.stopwatch import lap
from rnnlm.tasks.base import BatchingConfig, LossSum, Stream, Table, TaskConfig
from rnnlm.tasks.batching import TextBatchingConfig
from rnnlm.types import State

VALIDATION_WINDOW = 128  # steps a kernel call; the result does not depend on it


@config
class LanguageModelConfig(TaskConfig):
    """A recurrent language model."""

    batching_type: ClassVar[type[BatchingConfig]] = TextBatchingConfig

    cell: CellConfig = Field(default_factory=LSTMConfig)
    "The recurrence; every layer has the same."
    num_layers: int = Field(default=1, ge=1, le=1000)
    "Recurrent layers on top of one another."
    layers: list[LayerConfig] | None = Field(default=None, min_length=1)
    "Any layers from the bottom up, each from conf/cell or conf/layer; null takes num_layers times cell."
    embedding_size: int = Field(default=256, ge=1)
    "Size of a token's vector (E)."
    one_hot_input: bool = False
    "No E: the one-hot vector of a token goes straight into the W of the first layer, a cell."
    pretrained_vectors: str | None = None
    "Text file of word vectors (word2vec, GloVe) that E starts from where it has the word; null draws all of E."
    cooccurrence_window: int | None = Field(default=None, ge=1)
    "Start E from which tokens stand within so many of one another in the training data; null draws it. Takes seconds."
    softmax: SoftmaxConfig = Field(default_factory=FullSoftmaxConfig)
    "The output layer."
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    "Probability that a feature of the stack's outputs is zeroed in training."
    input_dropout: float | None = Field(default=None, ge=0.0, lt=1.0)
    "The same for the embedded tokens; null takes `dropout`."
    layer_dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    "The same between layers."
    word_dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    "Probability that a word's vector is zeroed wherever the word occurs in a window (embedding dropout)."
    variational_dropout: bool = False
    "Keep one mask over all steps of a window instead of drawing one a step."
    activation_penalty: float = Field(default=0.0, ge=0.0)
    "AR: weight of the mean square of the stack's outputs after dropout (Merity, McCann & Socher 2017)."
    slowness_penalty: float = Field(default=0.0, ge=0.0)
    "TAR: weight of the mean square of the change of the stack's outputs from step to step (the same)."
    recompute_steps: int | None = Field(default=None, ge=1)
    "Keep states only every so many steps and compute what lies between again in the backward pass; null keeps all."

    def __post_init__(self) -> None:
        if self.layers is not None and self.num_layers != 1:
            raise PlacedError("num_layers", f"{self.num_layers} has no meaning where task.layers is set; leave it at 1")
        for place, layer in self.inner_layers():
            found = layer.sees_future()
            if found is not None:
                raise PlacedError(
                    join_path(place, found.path),
                    f"{found.reason}; a language model predicts each token from those before it: "
                    f"take a layer that reads from left to right",
                )
        if self.one_hot_input:
            self._check_one_hot()
        input_size = 1 if self.one_hot_input else self.embedding_size  # a cell reads one-hot vectors of any size
        if self.layers is not None:
            size = chained_size("layers", self.layers, input_size)
        else:
            size = self.cell.output_size(input_size)
        whole = self.layers is None and size == self.cell.hidden_size
        self.softmax.check_sizes(size, self.embedding_size, "cell.hidden_size" if whole else "the stack's outputs")

    def inner_layers(self) -> Iterator[tuple[str, LayerConfig]]:
        """The layers of the stack and where each stands in this config."""
        if self.layers is None:
            yield from [("cell", self.cell)] * self.num_layers
        else:
            yield from ((f"layers[{index}]", layer) for index, layer in enumerate(self.layers))

    def _check_one_hot(self) -> None:
        if self.softmax.tied:
            raise PlacedError(
                "one_hot_input", "there is no embedding matrix that a tied softmax could use; set softmax.tied=false"
            )
        if self.pretrained_vectors is not None:
            raise PlacedError(
                "one_hot_input", "there is no embedding matrix for task.pretrained_vectors; leave out one of the two"
            )
        if self.cooccurrence_window is not None:
            raise PlacedError(
                "one_hot_input", "there is no embedding matrix for task.cooccurrence_window; leave out one of the two"
            )
        place, first = next(self.inner_layers())
        if not isinstance(first, CellConfig):
            raise PlacedError(
                place,
                f"one_hot_input needs a cell as the first layer, whose W reads the token, not {type(first).__name__}",
            )

    def build(self, tokenizer: Tokenizer) -> LanguageModel:
        return self.build_model(tokenizer.vocab_size)

    def build_model(self, vocab_size: int) -> LanguageModel:
        """The network for a vocabulary of that size."""
        embedding = self._build_embedding(vocab_size)
        input_size = vocab_size if isinstance(embedding, OneHot) else self.embedding_size
        layers = [layer for _, layer in self.inner_layers()]
        stack = build_stack(layers, input_size, self._dropout(self.layer_dropout))
        if isinstance(embedding, OneHot):
            self._check_vocabulary(stack, vocab_size)
            matrix = nn.Embedding(vocab_size, 1, device="meta")  # holds nothing; tells the softmax how large V is
        else:
            matrix = embedding
        return LanguageModel(
            embedding,
            stack,
            self.softmax.build(stack.output_size, matrix),
            input_dropout=self._dropout(self.dropout if self.input_dropout is None else self.input_dropout),
            output_dropout=self._dropout(self.dropout),
            word_dropout=self.word_dropout,
        )

    def _build_embedding(self, vocab_size: int) -> nn.Embedding | OneHot:
        if self.one_hot_input:
            return OneHot(vocab_size)
        embedding = nn.Embedding(vocab_size, self.embedding_size)
        # Small, since a tied embedding is the output matrix too: at std 1 the first logits would be far too large.
        nn.init.normal_(embedding.weight, std=self.embedding_size**-0.5)
        return embedding

    def _check_vocabulary(self, stack: Stack, vocab_size: int) -> None:
        place, first = next(self.inner_layers())
        most = next(stack.cells()).most_one_hot
        if most is not None and vocab_size > most:
            raise ConfigError(
                f"task.{place}: {type(first).__name__} makes one-hot vectors as they are, for at most {most:,} tokens, "
                f"and the tokenizer has {vocab_size:,}; set task.one_hot_input=false or take an LSTM"
            )

    def _dropout(self, probability: float) -> Dropout:
        return Dropout(probability, variational=self.variational_dropout)

    def read_table(self, path: str, tokenizer: Tokenizer, *, for_training: bool) -> TokenTable:  # noqa: ARG002 - all is fit to train on
        return read_token_table(path, tokenizer)

    def prepare(self, model: nn.Module, table: Table, tokenizer: Tokenizer) -> None:
        assert isinstance(model, LanguageModel)
        assert isinstance(table, TokenTable)
        counts = np.bincount(table.tokens, minlength=model.vocab_size)
        counts[tokenizer.eos_id] += table.num_documents  # what a table leaves out, the stream puts in
        model.softmax.prepare(counts)
        if self.cooccurrence_window is not None:
            assert isinstance(model.embedding, nn.Embedding)
            vectors = cooccurrence_vectors(
                table,
                vocab_size=model.vocab_size,
                eos_id=tokenizer.eos_id,
                size=self.embedding_size,
                window=self.cooccurrence_window,
            )
            with torch.no_grad():
                # Unit vectors, as long as those that are drawn; tokens that stand next to nothing keep theirs.
                weight = model.embedding.weight
                weight.copy_(torch.where(vectors.any(1, keepdim=True), vectors, weight.cpu()))
        if self.pretrained_vectors is not None:
            assert isinstance(model.embedding, nn.Embedding)
            load_vectors(self.pretrained_vectors, model.embedding.weight, tokenizer)

    def open_stream(
        self, table: Table, tokenizer: Tokenizer, batching: BatchingConfig, *, seed: int, rank: int, world_size: int
    ) -> Stream:
        assert isinstance(table, TokenTable)
        assert isinstance(batching, TextBatchingConfig)
        return batching.open(table, tokenizer, seed=seed, rank=rank, world_size=world_size)

    def initial_state(self, model: nn.Module, batching: BatchingConfig, world_size: int) -> State:
        assert isinstance(model, LanguageModel)
        assert isinstance(batching, TextBatchingConfig)
        return model.initial_state(batching.carried_rows // world_size) if batching.carried_rows else ()

    def num_targets(self, batch: Any) -> int:
        assert isinstance(batch, Window)
        return int(batch.mask.sum())

    def loss(self, model: nn.Module, batch: Any, state: State) -> tuple[LossSum, State]:
        """A batch that comes without a state begins with the initial one, and none is carried on."""
        assert isinstance(model, LanguageModel)
        begin = state or model.initial_state(len(batch.inputs))
        raw, targets, end = read_window(model, batch, begin, segment=self.recompute_steps)
        hidden = model.output_dropout(raw)
        rows, num_targets = hidden.flatten(0, 1), self.num_targets(batch)
        if num_targets < batch.mask.numel():
            real = batch.mask.flatten().to(rows.device)
            rows, targets = rows[real], targets[real]
        with lap("softmax"):
            predicted = model.softmax.objective(rows, targets)
        objective = predicted.objective
        # The penalties are means over elements (as in the paper's code); times targets, so that the whole is a sum.
        if self.activation_penalty:
            objective = objective + self.activation_penalty * num_targets * hidden.square().mean().double()
        if self.slowness_penalty and raw.shape[1] > 1:
            change = (raw[:, 1:] - raw[:, :-1]).square().mean().double()
            objective = objective + self.slowness_penalty * num_targets * change
        return LossSum(predicted.nll, num_targets, objective), end if state else ()

    def validate(
        self,
        model: nn.Module,
        table: Table,
        tokenizer: Tokenizer,
        *,
        num_lanes: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> LossSum:
        """Exact over every target. One lane gives the standard figure; more lanes are faster and lose the context at
        the few points where a lane begins."""
        assert isinstance(model, LanguageModel)
        assert isinstance(table, TokenTable)
        num_lanes = world_size * max(1, min(num_lanes, table.num_targets) // world_size)
        stream = LaneStream(
            table,
            num_lanes=num_lanes,
            window=VALIDATION_WINDOW,
            bos_id=tokenizer.bos_id,
            eos_id=tokenizer.eos_id,
            rank=rank,
            world_size=world_size,
        )
        state = model.initial_state(num_lanes // world_size)
        nll, num_targets = torch.zeros((), dtype=torch.float64), 0
        training = model.training
        model.eval()
        with torch.inference_mode():
            for _ in range(stream.steps_per_epoch):
                batch = stream.next()
                raw, targets, state = read_window(model, batch, state)
                hidden = raw.flatten(0, 1)
                mask = batch.mask.flatten().to(hidden.device)
                nll -= model.softmax.logprobs(hidden[mask], targets[mask]).sum(dtype=torch.float64).cpu()
                num_targets += int(mask.sum())
        model.train(training)
        return LossSum(nll, num_targets)


def read_window(
    model: LanguageModel, batch: Window, state: State, *, segment: int | None = None
) -> tuple[Tensor, Tensor, State]:
    """The stack's outputs (B T H) and targets (N) of a window, and the state after it, cut off from the gradient.

    With a `segment`, the activations of so many steps are thrown away and made again in the backward pass (Chen et al.
    2016, "Training deep nets with sublinear memory cost"); dropout's masks come out the same, and are drawn anew for
    each segment also where a window has one mask otherwise.
    """
    device = model.device
    keep = (~batch.fresh).to(device).unsqueeze(1)
    inputs, targets = batch.inputs.to(device), batch.targets.to(device).flatten()
    state = tuple(tensor * keep for tensor in state)
    if segment is None:
        hidden, state = model.run(inputs, state)
    else:
        parts = []
        for piece in inputs.split(segment, dim=1):
            part, state = checkpoint(model.run, piece, state, use_reentrant=False)
            parts.append(part)
        hidden = torch.cat(parts, dim=1)
    # Under autocast the layers give bfloat16; sums over time and vocabulary are done in the precision of the weights.
    hidden = hidden.to(model.precision)
    return hidden, targets, tuple(tensor.detach().to(model.precision) for tensor in state)
