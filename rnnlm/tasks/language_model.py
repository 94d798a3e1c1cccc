"""Language modelling: predict each token from all before it.

Training is truncated back-propagation through time (Williams & Peng 1990): the gradient flows back through one window
of `batching.window` steps, the hidden state is carried on without it.
"""

from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from rnnlm.config import config
from rnnlm.data.stream import LaneStream, Window
from rnnlm.data.tokenizers import Tokenizer
from rnnlm.data.tokens import TokenTable
from rnnlm.nn.cells.base import CellConfig
from rnnlm.nn.cells.lstm import LSTMConfig
from rnnlm.nn.dropout import Dropout
from rnnlm.nn.language_model import LanguageModel
from rnnlm.nn.softmax.base import SoftmaxConfig
from rnnlm.nn.softmax.full import FullSoftmaxConfig
from rnnlm.nn.stack import Stack
from rnnlm.tasks.base import BatchingConfig, LossSum, TaskConfig
from rnnlm.types import State

VALIDATION_WINDOW = 128  # steps a kernel call; the result does not depend on it


@config
class LanesConfig(BatchingConfig):
    """Contiguous lanes with carried state, for language models."""

    num_lanes: int = Field(default=64, ge=1)
    "Lanes over all workers; the batch size of a step."
    window: int = Field(default=64, ge=1)
    "Steps back-propagated through (BPTT)."
    shuffle: bool = True
    "Draw a new order of the documents in every epoch; false where consecutive documents belong together."
    fresh_state_at_documents: bool = True
    "Where a window begins with a new document, begin with the initial state instead of the carried one."

    def problems(self, world_size: int) -> list[str]:
        if self.num_lanes % world_size:
            return [f"batching.num_lanes: {self.num_lanes} lanes cannot be dealt evenly to {world_size} workers"]
        return []


@config
class LanguageModelConfig(TaskConfig):
    """A recurrent language model."""

    cell: CellConfig = Field(default_factory=LSTMConfig)
    "The recurrence; every layer has the same."
    num_layers: int = Field(default=1, ge=1)
    "Recurrent layers on top of one another."
    embedding_size: int = Field(default=256, ge=1)
    "Size of a token's vector (E)."
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

    def __post_init__(self) -> None:
        if self.softmax.tied and self.cell.hidden_size != self.embedding_size:
            raise ValueError(
                f"a tied softmax needs cell.hidden_size ({self.cell.hidden_size}) = "
                f"task.embedding_size ({self.embedding_size}); make them equal or set softmax.tied=false"
            )

    def build_model(self, vocab_size: int) -> LanguageModel:
        embedding = nn.Embedding(vocab_size, self.embedding_size)
        # Small, since a tied embedding is the output matrix too: at std 1 the first logits would be far too large.
        nn.init.normal_(embedding.weight, std=self.embedding_size**-0.5)
        cells, size = [], self.embedding_size
        for _ in range(self.num_layers):
            cells.append(self.cell.build(size))
            size = cells[-1].output_size
        stack = Stack(cells, self._dropout(self.layer_dropout))
        return LanguageModel(
            embedding,
            stack,
            self.softmax.build(stack.output_size, embedding),
            input_dropout=self._dropout(self.dropout if self.input_dropout is None else self.input_dropout),
            output_dropout=self._dropout(self.dropout),
            word_dropout=self.word_dropout,
        )

    def _dropout(self, probability: float) -> Dropout:
        return Dropout(probability, variational=self.variational_dropout)

    def prepare(self, model: nn.Module, table: TokenTable, tokenizer: Tokenizer) -> None:
        assert isinstance(model, LanguageModel)
        counts = np.bincount(table.tokens, minlength=model.vocab_size)
        counts[tokenizer.eos_id] += table.num_documents  # what a table leaves out, the stream puts in
        model.softmax.prepare(counts)

    def open_stream(
        self,
        table: TokenTable,
        tokenizer: Tokenizer,
        batching: BatchingConfig,
        *,
        seed: int,
        rank: int,
        world_size: int,
    ) -> LaneStream:
        assert isinstance(batching, LanesConfig)
        return LaneStream(
            table,
            num_lanes=batching.num_lanes,
            window=batching.window,
            bos_id=tokenizer.bos_id,
            eos_id=tokenizer.eos_id,
            seed=seed,
            shuffle=batching.shuffle,
            fresh=batching.fresh_state_at_documents,
            rank=rank,
            world_size=world_size,
        )

    def initial_state(self, model: nn.Module, batching: BatchingConfig, world_size: int) -> State:
        assert isinstance(model, LanguageModel)
        assert isinstance(batching, LanesConfig)
        return model.initial_state(batching.num_lanes // world_size)

    def loss(self, model: nn.Module, batch: Any, state: State) -> tuple[LossSum, State]:
        assert isinstance(model, LanguageModel)
        raw, targets, state = _run(model, batch, state)
        hidden = model.output_dropout(raw)
        objective = model.softmax.objective(hidden.flatten(0, 1), targets)
        nll = objective.detach()
        # The penalties are means over elements (as in the paper's code); times targets, so that the whole is a sum.
        if self.activation_penalty:
            objective = objective + self.activation_penalty * targets.numel() * hidden.square().mean().double()
        if self.slowness_penalty and raw.shape[1] > 1:
            change = (raw[:, 1:] - raw[:, :-1]).square().mean().double()
            objective = objective + self.slowness_penalty * targets.numel() * change
        return LossSum(nll, targets.numel(), objective), state

    def validate(
        self,
        model: nn.Module,
        table: TokenTable,
        tokenizer: Tokenizer,
        *,
        num_lanes: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> LossSum:
        """Exact over every target. One lane gives the standard figure; more lanes are faster and lose the context at
        the few points where a lane begins."""
        assert isinstance(model, LanguageModel)
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
                raw, targets, state = _run(model, batch, state)
                hidden = raw.flatten(0, 1)
                mask = batch.mask.flatten().to(hidden.device)
                nll -= model.softmax.logprobs(hidden[mask], targets[mask]).sum(dtype=torch.float64).cpu()
                num_targets += int(mask.sum())
        model.train(training)
        return LossSum(nll, num_targets)


def _run(model: LanguageModel, batch: Window, state: State) -> tuple[Tensor, Tensor, State]:
    """The stack's outputs (B T H) and targets (N) of a window, and the state after it, cut off from the gradient."""
    device = model.embedding.weight.device
    keep = (~batch.fresh).to(device).unsqueeze(1)
    hidden, state = model.run(batch.inputs.to(device), tuple(tensor * keep for tensor in state))
    targets = batch.targets.to(device).flatten()
    # Under autocast the layers give bfloat16; sums over time and vocabulary are done in the precision of the weights.
    precision = model.embedding.weight.dtype
    return hidden.to(precision), targets, tuple(tensor.detach().to(precision) for tensor in state)
