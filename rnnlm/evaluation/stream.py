"""Perplexity over a token table read as one stream with carried state, as word-level benchmarks define it, beside the
figures that compare models with different tokenizers (`perplexity.py` has their definitions).

What the definitions count is the text of the documents, had back from the tokens: with a tokenizer of words each token
is a word and each end of a document is one more, so perplexity a word and perplexity a token are the same number; with
subwords the same text has the same words, and the same number compares. Bytes are those the table was made from.
Characters are counted only where the tokens hold the text to the byte; a tokenizer of words drops blanks, for one.
"""

import math
from dataclasses import dataclass
from typing import Any

from rnnlm.checkpoint import Checkpoint
from rnnlm.data.tokenizers import Tokenizer
from rnnlm.data.tokens import TokenTable, read_token_table
from rnnlm.evaluation.beside_ngram import BesideNGram
from rnnlm.evaluation.perplexity import Totals


@dataclass(frozen=True)
class StreamResult:
    """A row of `totals` is a document; its tokens are the targets, the end of each document among them."""

    table: str
    lanes: int
    totals: Totals
    strengthened: "Strengthened | None" = None

    @property
    def nll(self) -> float:
        """Nats a target."""
        return -self.totals.logprob / self.totals.tokens

    @property
    def perplexity(self) -> float:
        return math.exp(min(700.0, self.nll))

    def figures(self) -> dict[str, Any]:
        """As plain data."""
        totals = self.totals
        return {
            "table": self.table,
            "lanes": self.lanes,
            "documents": totals.rows,
            "targets": totals.tokens,
            "nll": self.nll,
            "perplexity": self.perplexity,
            "words": totals.words,
            "num_bytes": totals.num_bytes,
            "chars": totals.chars,
            "word_perplexity": totals.word_perplexity,
            "bits_per_byte": totals.bits_per_byte,
            "bits_per_char": totals.bits_per_char,
            "strengthened": self.strengthened.figures() if self.strengthened else None,
        }


@dataclass(frozen=True)
class Strengthened:
    """The same stream predicted by more than the trained model alone; `means` says what helped."""

    means: list[str]
    totals: Totals
    beside_ngram: BesideNGram | None = None

    def figures(self) -> dict[str, Any]:
        """As plain data."""
        totals = self.totals
        return {
            "means": self.means,
            "nll": totals.nats_per_token,
            "perplexity": totals.token_perplexity,
            "word_perplexity": totals.word_perplexity,
            "bits_per_byte": totals.bits_per_byte,
            "bits_per_char": totals.bits_per_char,
            "beside_ngram": self.beside_ngram.figures() if self.beside_ngram else None,
        }

    def sentence(self) -> str:
        """The figure in words."""
        return f"With {' and '.join(self.means)}: perplexity {self.totals.token_perplexity:.2f} a token"


def evaluate_stream(checkpoint: Checkpoint, path: str, *, lanes: int = 1) -> StreamResult:
    """Evaluate a model on the token table at `path`."""
    table = read_token_table(path, checkpoint.tokenizer)
    loss = checkpoint.task.validate(checkpoint.model, table, checkpoint.tokenizer, num_lanes=lanes)
    return StreamResult(path, lanes, stream_totals(table, checkpoint.tokenizer, loss.nll.item(), loss.num_targets))


def stream_totals(table: TokenTable, tokenizer: Tokenizer, nll: float, num_targets: int) -> Totals:
    """The sums over a token table whose targets have `nll` nats together."""
    words = chars = num_bytes = 0
    for begin, end in zip(table.offsets[:-1].tolist(), table.offsets[1:].tolist(), strict=True):
        text = tokenizer.decode(table.tokens[begin:end].tolist())
        words += len(text.split())
        chars += len(text)
        num_bytes += len(text.encode())
    return Totals(
        rows=table.num_documents,
        logprob=-nll,
        tokens=num_targets,
        num_bytes=table.num_bytes,
        chars=chars if num_bytes == table.num_bytes else 0,
        words=words,
    )
