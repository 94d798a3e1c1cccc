"""The recurrent language model as a network: embedding E or none, a stack of layers, softmax over the vocabulary."""

import torch
from torch import Tensor, nn

from rnnlm.nn.dropout import Dropout, drop_words
from rnnlm.nn.embedding import OneHot
from rnnlm.nn.packing import Packing
from rnnlm.nn.softmax.base import Softmax
from rnnlm.nn.stack import Stack
from rnnlm.types import LayerOutputs, PackedHidden, PackedTokens, Projected, State, StepLogits, StepTokens, TokenIds


class LanguageModel(nn.Module):
    """Maps tokens B T and a state to hidden states B T H, from which the softmax predicts the token that follows each.

    In training, dropout falls on whole words (`word_dropout`, a probability), on the embedded tokens and on the stack's
    outputs; the stack has its own between layers.
    """

    def __init__(
        self,
        embedding: nn.Embedding | OneHot,
        stack: Stack,
        softmax: Softmax,
        *,
        input_dropout: Dropout,
        output_dropout: Dropout,
        word_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.embedding = embedding
        self.stack = stack
        self.softmax = softmax
        self.input_dropout, self.output_dropout, self.word_dropout = input_dropout, output_dropout, word_dropout

    @property
    def vocab_size(self) -> int:
        return self.embedding.num_embeddings

    @property
    def device(self) -> torch.device:
        return self._weight.device

    @property
    def precision(self) -> torch.dtype:
        """That of the weights."""
        return self._weight.dtype

    def initial_state(self, batch_size: int) -> State:
        return self.stack.initial_state(batch_size)

    def run(self, tokens: TokenIds, state: State) -> tuple[LayerOutputs, State]:
        """The stack's outputs before dropout."""
        if isinstance(self.embedding, OneHot):
            scales = self.embedding(tokens, self._weight, word_dropout=self.word_dropout, dropout=self.input_dropout)
            projected = self.stack.project_one_hot(tokens.flatten(), scales.flatten())
            return self.stack.advance_sequence(projected.unflatten(0, tokens.shape), state)
        embedded = self.embedding(tokens)
        if self.training and self.word_dropout > 0.0:
            embedded = drop_words(embedded, tokens, self.vocab_size, self.word_dropout)
        hidden, state = self.stack(self.input_dropout(embedded), state)
        return hidden, state

    def forward(self, tokens: TokenIds, state: State) -> tuple[LayerOutputs, State]:
        hidden, state = self.run(tokens, state)
        return self.output_dropout(hidden), state

    def step(self, tokens: StepTokens, state: State) -> tuple[StepLogits, State]:
        """Logits for the token after `tokens`, one step of time for B rows; no dropout."""
        hidden, state = self.stack.advance(self.project_tokens(tokens), state)
        return self.softmax.logits(hidden), state

    def project_tokens(self, tokens: PackedTokens) -> Projected:
        """What the stack's first layer makes of tokens alone, for any number of them; no dropout."""
        if isinstance(self.embedding, OneHot):
            return self.stack.project_one_hot(tokens, self._weight.new_ones(len(tokens)))
        return self.stack.project(self.embedding(tokens))

    @property
    def prefers_inputs(self) -> bool:
        """Whether `run_packed` beats `stack.advance_packed` of projected tokens that were looked up."""
        return self.stack.prefers_inputs and not isinstance(self.embedding, OneHot)

    def run_packed(self, tokens: PackedTokens, packing: Packing, state: State) -> tuple[PackedHidden, State]:
        """The stack's outputs for rows of unequal length; no dropout."""
        if isinstance(self.embedding, OneHot):
            return self.stack.advance_packed(self.project_tokens(tokens), packing, state)
        return self.stack.run_packed(self.embedding(tokens), packing, state)

    @property
    def _weight(self) -> Tensor:
        """Some weight, for device and precision."""
        return next(self.parameters())
