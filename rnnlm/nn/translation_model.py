"""The encoder-decoder network (Sutskever, Vinyals & Le 2014; with attention: Bahdanau, Cho & Bengio 2015).

    m_1, ..., m_S = encoder(x_1, ..., x_S)            any stack of layers, bidirectional as a rule
    d_0 = tanh(B [m_S ; m_1] + b)                     the bridge: one block for each part of the decoder's state
    s_t, d_t = decoder([E y_{t-1} ; r_{t-1}], d_{t-1})        r only with input feeding
    c_t = attention(s_t, m)
    r_t = tanh(R [s_t ; c_t] + c)                     the readout (Luong, Pham & Manning 2015, equation 5)
    P(y_t | y_<t, x) = softmax(r_t)

With input feeding (the same, section 3.3) a step sees what the one before looked at, so steps follow one another;
without it all steps of training are made at once.

With the copy mechanism (See, Liu & Manning 2017, equations 8 and 9), a gate g_t = sigmoid(w . r_t + b) shares out the
probability between the vocabulary and the tokens of the source:

    P(v) = g_t softmax(r_t)_v + (1 - g_t) sum over the places s of v in the source of a_ts
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rnnlm.nn.activations import tanh
from rnnlm.nn.attending.base import Attending
from rnnlm.nn.dropout import Dropout, drop_words
from rnnlm.nn.products import Linear
from rnnlm.nn.softmax.base import Softmax
from rnnlm.nn.stack import Stack
from rnnlm.types import (
    Context,
    LayerOutputs,
    Lengths,
    ProjectedStep,
    Readouts,
    SourceTokens,
    State,
    StepLogits,
    StepTokens,
    TokenIds,
)


class Read(NamedTuple):
    """Readouts B T R of a target, the attention's weights B T S if there is attention, and the state after it."""

    readouts: Readouts
    weights: Tensor | None
    state: State


class TranslationModel(nn.Module):
    """A source is encoded once into a context, (keys, values, known, source), all B x S x ...: what every step looks
    at. Without attention it is empty."""

    def __init__(
        self,
        *,
        source_embedding: nn.Embedding,
        encoder: Stack,
        target_embedding: nn.Embedding,
        decoder: Stack,
        attention: Attending | None,
        readout_size: int,
        softmax: Softmax,
        input_feeding: bool,
        copies: bool,
        input_dropout: Dropout,
        readout_dropout: Dropout,
        word_dropout: float,
    ) -> None:
        super().__init__()
        self.source_embedding, self.target_embedding = source_embedding, target_embedding
        self.encoder, self.decoder, self.attention, self.softmax = encoder, decoder, attention, softmax
        self.bridge = Linear(2 * encoder.output_size, sum(decoder.state_sizes))
        context_size = 0 if attention is None else attention.context_size
        self.to_readout = Linear(decoder.output_size + context_size, readout_size)
        self.copy_gate = Linear(readout_size, 1) if copies else None
        self.input_feeding = input_feeding
        self.input_dropout, self.readout_dropout, self.word_dropout = input_dropout, readout_dropout, word_dropout

    @property
    def device(self) -> torch.device:
        return self.target_embedding.weight.device

    @property
    def precision(self) -> torch.dtype:
        """That of the weights."""
        return self.target_embedding.weight.dtype

    def encode(self, source: SourceTokens, lengths: Lengths) -> tuple[State, Context]:
        """The decoder's first state, and what it looks at; `source` is padded on the right."""
        embedded = self._embedded(source, self.source_embedding)
        memory = self.encoder.read(embedded, lengths).to(self.precision)
        ends = memory[torch.arange(len(memory), device=memory.device), lengths.to(memory.device) - 1]
        bridged = tanh(self.bridge(torch.cat([ends, memory[:, 0]], dim=1))).to(self.precision)
        state: State = tuple(part.contiguous() for part in bridged.split(list(self.decoder.state_sizes), dim=1))
        if self.input_feeding:
            state += (memory.new_zeros(len(memory), self.to_readout.out_features),)
        if self.attention is None:
            return state, ()
        known = (torch.arange(source.shape[1]) < lengths.cpu()[:, None]).to(memory)
        memory = memory * known.unsqueeze(2)  # what stands behind the end means nothing, and must not be NaN
        return state, (self.attention.keys(memory), self.attention.values(memory), known, source)

    def read(self, tokens: TokenIds, state: State, context: Context) -> Read:
        """All steps of targets that begin with bos, given what was encoded."""
        embedded = self._embedded(tokens, self.target_embedding)
        if not self.input_feeding:
            hidden, state = self.decoder(embedded, state)
            return Read(*self._look(hidden, context), state)
        readouts, weights = [], []
        *inner, fed = state
        before: State = tuple(inner)
        for one in embedded.unbind(1):
            hidden, before = self.decoder.step(torch.cat([one, fed.to(one.dtype)], dim=1), before)
            readout, looked = self._look(hidden.unsqueeze(1), context)
            fed = readout.squeeze(1)
            readouts.append(readout)
            weights.append(looked)
        looked_at = None if weights[0] is None else torch.cat([one for one in weights if one is not None], dim=1)
        return Read(torch.cat(readouts, dim=1), looked_at, (*before, fed))

    def step(self, tokens: StepTokens, state: State, context: Context) -> tuple[StepLogits, State]:
        """Logits after one more token of each of N = B k rows, of which k by k look at one source; no dropout."""
        embedded = self.target_embedding(tokens)
        if self.input_feeding:
            embedded, state = torch.cat([embedded, state[-1]], dim=1), state[:-1]
        return self.step_projected(self.decoder.project(embedded), state, context)

    def step_projected(self, projected: ProjectedStep, state: State, context: Context) -> tuple[StepLogits, State]:
        """The same, given what the decoder's first layer makes of its inputs alone; the state is the decoder's."""
        hidden, state = self.decoder.advance(projected, state)
        side_by_side = len(hidden) // len(context[0]) if context else 1
        readouts, weights = self._look(hidden.unflatten(0, (-1, side_by_side)), context)
        readout = readouts.flatten(0, 1)
        if self.input_feeding:
            state = (*state, readout)
        if self.copy_gate is None:
            return self.softmax.logits(readout), state
        return self.with_copies(readouts, weights, context).flatten(0, 1), state

    def with_copies(self, readouts: Readouts, weights: Tensor | None, context: Context) -> Tensor:
        """log P over the vocabulary, B T V, with the share of the source's tokens in it."""
        assert self.copy_gate is not None
        assert weights is not None
        gate = self.copy_gate(readouts).float()
        words = self.softmax.logits(readouts.flatten(0, 1)).float().log_softmax(1).unflatten(0, readouts.shape[:2])
        places = context[3].unsqueeze(1).expand_as(weights)
        copied = torch.zeros_like(words).scatter_add(2, places, weights.float())
        return torch.logaddexp(words + F.logsigmoid(gate), copied.clamp_min(1e-30).log() + F.logsigmoid(-gate))

    def _look(self, hidden: LayerOutputs, context: Context) -> tuple[Readouts, Tensor | None]:
        """Readouts of the decoder's outputs, and where they looked."""
        weights = None
        if self.attention is not None:
            keys, values, known, _ = context
            contexts, weights = self.attention(hidden, keys, values, known)
            hidden = torch.cat([hidden, contexts.to(hidden.dtype)], dim=2)
        return tanh(self.to_readout(hidden)), weights

    def _embedded(self, tokens: TokenIds, embedding: nn.Embedding) -> LayerOutputs:
        embedded = embedding(tokens)
        if self.training and self.word_dropout > 0.0:
            embedded = drop_words(embedded, tokens, embedding.num_embeddings, self.word_dropout)
        result: LayerOutputs = self.input_dropout(embedded)
        return result
