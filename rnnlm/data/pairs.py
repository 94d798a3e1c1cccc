"""Pairs of a source and a target, tokenized: a token table with a second column of tokens.

On disk: `tokens` (of the source) and `target_tokens`, both without bos and eos, `num_bytes` of the target's text, and
in the metadata the fingerprint of the pair of tokenizers. A row that cannot be used (a text is null or empty) has nulls
in both and is left out in memory.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from rnnlm.data.tokenizers.pair import PairTokenizer
from rnnlm.data.tokens import TokenTable, read_token_table
from rnnlm.errors import DataError

TARGET_TOKENS = "target_tokens"


@dataclass(frozen=True)
class PairTable:
    """Pair p is document p of `source` and of `target`; `left_out` counts pairs by the reason they are not here."""

    source: TokenTable
    target: TokenTable
    left_out: dict[str, int]

    @property
    def num_pairs(self) -> int:
        return self.source.num_documents

    @property
    def num_targets(self) -> int:
        """Predictions to be made: every token of a target, and its end."""
        return self.target.num_targets

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over both sides."""
        return hashlib.sha256(f"{self.source.fingerprint} {self.target.fingerprint}".encode()).hexdigest()

    def __str__(self) -> str:
        reasons = ", ".join(f"{count:,} with {reason}" for reason, count in self.left_out.items() if count)
        size = f"{self.num_pairs:,} pairs, {len(self.source.tokens):,} source and {len(self.target.tokens):,} target"
        return f"{size} tokens{f' (left out: {reasons})' if reasons else ''}"

    def within(self, *, max_source: int | None, max_target: int | None, max_ratio: float | None) -> "PairTable":
        """Without the pairs that have more tokens on a side, or so many times more on one side than on the other."""
        source, target = np.diff(self.source.offsets), np.diff(self.target.offsets)
        longer, shorter = np.maximum(source, target), np.maximum(1, np.minimum(source, target))
        kept = np.ones(self.num_pairs, dtype=bool)
        left_out = dict(self.left_out)
        limits = [
            (f"a source of more than {max_source} tokens", source, max_source),
            (f"a target of more than {max_target} tokens", target, max_target),
            (f"sides that differ more than {max_ratio} times", longer / shorter, max_ratio),
        ]
        for reason, found, most in limits:
            if most is not None:
                left_out[reason] = int((kept & (found > most)).sum())
                kept &= found <= most
        if kept.all():
            return PairTable(self.source, self.target, left_out)
        rows = np.flatnonzero(kept)
        return PairTable(_rows(self.source, rows), _rows(self.target, rows), left_out)


def read_pair_table(path: str, tokenizer: PairTokenizer) -> PairTable:
    """Read the pairs at `path` (a folder or a file), in file order, checked against `tokenizer`."""
    source = read_token_table(path, tokenizer)
    target = read_token_table(path, tokenizer, column=TARGET_TOKENS)
    if source.num_documents != target.num_documents:
        raise DataError(
            f"{path} holds {source.num_documents:,} sources and {target.num_documents:,} targets",
            todo="make the table again with python -m jobs.tokenize_corpus target_column=...",
        )
    return PairTable(source, target, {})


def _rows(table: TokenTable, rows: npt.NDArray[np.int64]) -> TokenTable:
    """Some documents; of the bytes of text their share by tokens is taken."""
    documents = [table.tokens[table.offsets[row] : table.offsets[row + 1]] for row in rows]
    kept = TokenTable.from_documents(documents)
    return TokenTable(kept.tokens, kept.offsets, round(table.num_bytes * len(kept.tokens) / max(1, len(table.tokens))))
