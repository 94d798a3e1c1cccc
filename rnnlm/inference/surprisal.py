"""The log-probability of each word, whose negative is its surprisal (Hale 2001; Levy 2008).

    log P(word | all before) = sum over the word's tokens of log P(token | all before)       nats, float64

A word is what white space separates (`str.split`), in characters of the text as it was given. A token goes whole to one
word, by the character it begins at:

    in a word        to that word, even if the token goes on into white space or another word. A word that no token
                     begins in has null: its probability is in that of a word before it, or its characters were dropped
                     by the tokenizer's normalisation.
    white space      SentencePiece, whose pieces write a blank before a word: to the word behind it, a lone U+2581 and
                     a line feed too; behind the last word to none. chars, bytes: to the word before it, which it ends;
                     before the first word to none. words: never a token.
    end of sequence  to none; it is the column `end_logprob`.

    logprob = sum over words + end_logprob + tokens of white space that belong to none

So with chars and bytes a word's probability is that of its spelling and of its end, with words that of the word: a
distribution over words (but for the last word of a text, whose end is the end of sequence). With SentencePiece a word
is charged for the blank before it instead of the one behind it: that the word ends is in the next word's surprisal.
Pimentel & Meister (2024) and Oh & Schuler (2024) correct this by log P(next token begins a word), before the word and
behind it. That is a sum over half of the vocabulary at each word, which scoring never forms, and it is not done here.
"""

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rnnlm.data.tokenizers import Tokenizer
from rnnlm.data.tokenizers.base import Ids

WORDS = pa.list_(pa.struct([("start_char", pa.int32()), ("end_char", pa.int32()), ("logprob", pa.float64())]))
_WORD = re.compile(r"\S+")

Places = npt.NDArray[np.int32]  # W x 2: where words start and end, end exclusive
Logprobs = npt.NDArray[np.float64]  # W


def words_column(
    texts: Sequence[str | None], token_logprobs: Sequence[npt.NDArray[np.float32] | None], tokenizer: Tokenizer
) -> pa.ListArray:
    """The column `words` from the log-probabilities of each row's tokens, end of sequence included; null where they are
    None."""
    scored = [(str(text), values) for text, values in zip(texts, token_logprobs, strict=True) if values is not None]
    starts = tokenizer.starts([text for text, _ in scored])
    found = [
        word_logprobs(text, begins, values[:-1], blanks_lead=tokenizer.blanks_lead)
        for (text, values), begins in zip(scored, starts, strict=True)
    ]
    present = np.array([values is not None for values in token_logprobs], dtype=bool)
    offsets = np.zeros(len(texts) + 1, dtype=np.int32)
    offsets[1:][present] = [len(logprobs) for _, logprobs in found]
    places = np.concatenate([np.zeros((0, 2), dtype=np.int32), *(one for one, _ in found)])
    logprobs = np.concatenate([np.zeros(0), *(one for _, one in found)])
    words = pa.StructArray.from_arrays(
        [pa.array(places[:, 0]), pa.array(places[:, 1]), pa.array(logprobs, from_pandas=True)],  # NaN is null
        fields=list(WORDS.value_type),
    )
    return pa.ListArray.from_arrays(np.cumsum(offsets, dtype=np.int32), words, type=WORDS, mask=pa.array(~present))


def word_logprobs(
    text: str, token_starts: Ids, token_logprobs: npt.NDArray[np.floating], *, blanks_lead: bool
) -> tuple[Places, Logprobs]:
    """Where the words of a text are, and the log-probability of each; NaN where no token begins. `token_starts` and
    `token_logprobs` are of all tokens but the end of sequence."""
    places = np.array([word.span() for word in _WORD.finditer(text)], dtype=np.int32).reshape(-1, 2)
    if blanks_lead:  # the first word that ends behind the token's beginning
        word = np.searchsorted(places[:, 1], token_starts, side="right")
    else:  # the last word that begins at or before it
        word = np.searchsorted(places[:, 0], token_starts, side="right") - 1
    belongs = (word >= 0) & (word < len(places))
    # bincount adds in order, in float64; of nothing it makes integers.
    sums = np.bincount(word[belongs], weights=token_logprobs[belongs], minlength=len(places)).astype(np.float64)
    sums[np.bincount(word[belongs], minlength=len(places)) == 0] = np.nan
    return places, sums
