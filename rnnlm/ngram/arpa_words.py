"""How tokens are written in an ARPA file: as the tokenizer writes its pieces; and `<s>`, `</s>`, `<unk>` as all do.

Words of an ARPA file are divided by white space, so what of it stands in a piece is written as its code point: a line
feed is `\\u000a`.
"""

import re

from rnnlm.data.tokenizers import Tokenizer
from rnnlm.errors import TokenizerError

BEGIN, END, UNKNOWN = "<s>", "</s>", "<unk>"
_BLANK = re.compile(r"[\x00\t-\r ]")  # at which KenLM, SRILM and Python's bytes.split() divide words


def arpa_words(tokenizer: Tokenizer) -> list[str]:
    """By id, as in `backoff.py`: V tokens, the beginning of a document, `<unk>`. A bos that is not eos has no word of
    its own and is "". Raises TokenizerError if two are written alike or texts have no end."""
    if tokenizer.eos_id < 0:
        raise TokenizerError(
            f"the tokenizer is one of {tokenizer.kind} and has no end of sequence, which n-grams predict",
            todo="give one of texts: words, chars, bytes or sentencepiece",
        )
    words = [_BLANK.sub(_code_point, tokenizer.piece(token)) for token in range(tokenizer.vocab_size)]
    if tokenizer.bos_id != tokenizer.eos_id:
        words[tokenizer.bos_id] = ""
    words[tokenizer.eos_id] = END
    if tokenizer.unk_id >= 0:
        words[tokenizer.unk_id] = UNKNOWN
    ids: dict[str, int] = {BEGIN: tokenizer.vocab_size}
    for token, word in enumerate(words):
        if ids.setdefault(word, token) != token:
            raise TokenizerError(
                f"tokens {ids[word]} and {token} would both be written {word!r} in an ARPA file",
                todo="use a tokenizer whose pieces differ from one another and from <s>, </s> and <unk>",
            )
    return [*words, BEGIN, UNKNOWN]


def _code_point(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"
