"""The recurrent language model as a network: embedding E, a stack of recurrent layers, softmax over the vocabulary."""

from torch import nn

from rnnlm.nn.softmax import Softmax
from rnnlm.nn.stack import Stack
from rnnlm.types import LayerOutputs, State, StepLogits, StepTokens, TokenIds


class LanguageModel(nn.Module):
    """Maps tokens B T and a state to hidden states B T H, from which the softmax predicts the token that follows each.

    Dropout (probability) falls on the embedded tokens and on the stack's outputs; the stack has its own between layers.
    """

    def __init__(self, embedding: nn.Embedding, stack: Stack, softmax: Softmax, dropout: float) -> None:
        super().__init__()
        self.embedding = embedding
        self.stack = stack
        self.softmax = softmax
        self.dropout = nn.Dropout(dropout)

    @property
    def vocab_size(self) -> int:
        return self.embedding.num_embeddings

    def initial_state(self, batch_size: int) -> State:
        return self.stack.initial_state(batch_size)

    def forward(self, tokens: TokenIds, state: State) -> tuple[LayerOutputs, State]:
        hidden, state = self.stack(self.dropout(self.embedding(tokens)), state)
        return self.dropout(hidden), state

    def step(self, tokens: StepTokens, state: State) -> tuple[StepLogits, State]:
        """Logits for the token after `tokens`, one step of time for B rows."""
        hidden, state = self.stack.step(self.dropout(self.embedding(tokens)), state)
        return self.softmax.logits(self.dropout(hidden)), state
