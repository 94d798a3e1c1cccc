"""The vocabulary of labelled words: words, the characters they are spelled with, and the labels.

What a tagger knows a word by is its id, if the word was seen often enough, and its spelling, always; with `subwords`
also the pieces that the spelling consists of. As a `Tokenizer` it is that of words: a text is split as
`rnnlm.data.labels.words` says.
"""

import base64
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from rnnlm.config import PlacedError, config
from rnnlm.data.labels.words import split_words
from rnnlm.data.tokenizers.base import Ids, Tokenizer, TokenizerConfig
from rnnlm.data.tokenizers.sentencepiece import SentencePieceConfig, SentencePieceTokenizer
from rnnlm.data.vector_files.read import read_words
from rnnlm.errors import TokenizerError

UNK = "<unk>"
PADDING, UNKNOWN_CHARACTER = 0, 1  # ids of characters; those of the vocabulary begin at 2
FIRST_CHARACTER = 2
UNKNOWN_LABEL = -1
LabelledWords = tuple[Sequence[str], Sequence[str]]


@config
class LabelsConfig(TokenizerConfig):
    """Words that are frequent enough, all characters and all labels of a labelled corpus."""

    min_count: int = Field(default=1, ge=1)
    "Words seen fewer times are known by their spelling alone."
    max_words: int | None = Field(default=None, ge=1)
    "Keep only this many of the most frequent words; null keeps all."
    lower: bool = True
    "Look words up in lower case; the spelling keeps its case."
    zero_digits: bool = True
    "Look words up with every digit as 0; the spelling keeps its digits."
    min_character_count: int = Field(default=1, ge=1)
    "Characters seen fewer times are one unknown character."
    vectors: str | None = None
    "File of word vectors whose words get an id too, behind the corpus's own: for task.words with the same file."
    vectors_max_words: int | None = Field(default=None, ge=1)
    "Only so many words of that file, the first of them (files begin with the most frequent); null takes all."
    subwords: SentencePieceConfig | None = None
    "Pieces of words, learned from the corpus's words as often as they stand there; null: none, for task.words without."

    def __post_init__(self) -> None:
        if self.vectors_max_words is not None and self.vectors is None:
            raise PlacedError("vectors_max_words", "there is no file of vectors; set vectors or leave this at null")

    def train(self, texts: Iterable[str]) -> "Tokenizer":  # noqa: ARG002 - texts alone have no labels
        raise TokenizerError(
            "tokenizer=labels learns from words and their labels, and this corpus is read as text",
            todo="name the labels: python -m jobs.train_tokenizer tokenizer=labels labels_column=labels",
        )

    def train_labelled(self, rows: Iterable[LabelledWords]) -> "LabelTokenizer":
        """Learn from the words of each row and their labels, or the classes of the whole row. Raises TokenizerError if
        there is no word or no label."""
        spellings: Counter[str] = Counter()
        words: Counter[str] = Counter()
        characters: Counter[str] = Counter()
        labels: Counter[str] = Counter()
        for row_words, row_labels in rows:
            spellings.update(row_words)
            labels.update(row_labels)
        if not spellings or not labels:
            raise TokenizerError(f"there is not a single {'label' if spellings else 'word'} in the corpus")
        for spelling, count in spellings.items():
            words[self._looked_up(spelling)] += count
            for character in spelling:
                characters[character] += count
        kept = [word for word in _by_frequency(words, self.min_count) if word != UNK][: self.max_words]
        return LabelTokenizer(
            list(dict.fromkeys([UNK, *kept, *self._words_with_vectors()])),
            _by_frequency(characters, self.min_character_count),
            sorted(labels),
            lower=self.lower,
            zero_digits=self.zero_digits,
            subwords=None if self.subwords is None else self._train_subwords(self.subwords, spellings),
        )

    def _looked_up(self, word: str) -> str:
        return looked_up(word, lower=self.lower, zero_digits=self.zero_digits)

    def _words_with_vectors(self) -> Iterable[str]:
        if self.vectors is None:
            return []
        return map(self._looked_up, read_words(self.vectors, self.vectors_max_words, option="tokenizer.vectors"))

    @staticmethod
    def _train_subwords(subwords: SentencePieceConfig, spellings: Counter[str]) -> SentencePieceTokenizer:
        try:
            return subwords.train(spelling for spelling in sorted(spellings) for _ in range(spellings[spelling]))
        except TokenizerError as error:
            raise TokenizerError(error.what, todo=error.todo.replace("tokenizer.", "tokenizer.subwords.")) from error


class LabelTokenizer(Tokenizer):
    """`words` (the first stands for all others), `characters` and `labels`; `intents` of rows whose words have labels;
    `subwords`, which cuts words into pieces, or None.

    The id of a word, label or intent is its place, that of a character its place and FIRST_CHARACTER.
    """

    kind = "labels"
    bos_id = eos_id = -1  # nothing is framed
    unk_id = 0

    def __init__(
        self,
        words: Sequence[str],
        characters: Sequence[str],
        labels: Sequence[str],
        *,
        lower: bool,
        zero_digits: bool,
        intents: Sequence[str] = (),
        subwords: SentencePieceTokenizer | None = None,
    ) -> None:
        self.words, self.characters, self.labels = list(words), list(characters), list(labels)
        self.lower, self.zero_digits, self.subwords = lower, zero_digits, subwords
        self._word_ids = {word: place for place, word in enumerate(self.words)}
        self._character_ids = {one: place + FIRST_CHARACTER for place, one in enumerate(self.characters)}
        self._label_ids = {label: place for place, label in enumerate(self.labels)}
        self.intents = list(intents)
        self._intent_ids = {intent: place for place, intent in enumerate(self.intents)}
        sizes = (
            (self.words, self._word_ids),
            (self.characters, self._character_ids),
            (self.labels, self._label_ids),
            (self.intents, self._intent_ids),
        )
        if self.words[:1] != [UNK] or not self.labels or any(len(listed) != len(ids) for listed, ids in sizes):
            raise TokenizerError(f"a vocabulary of labels needs distinct words, the first {UNK}, characters and labels")
        self.vocab_size = len(self.words)

    @property
    def num_characters(self) -> int:
        """Ids of characters, those for padding and the unknown included."""
        return len(self.characters) + FIRST_CHARACTER

    def word_ids(self, words: Iterable[str]) -> Ids:
        """The id of each word; `unk_id` for those that are not in the vocabulary."""
        lookup, lower, zero_digits = self._word_ids.get, self.lower, self.zero_digits
        return np.array(
            [lookup(looked_up(word, lower=lower, zero_digits=zero_digits), self.unk_id) for word in words],
            dtype=np.int32,
        )

    def spelling(self, word: str) -> npt.NDArray[np.int32]:
        """The ids of a word's characters."""
        lookup = self._character_ids.get
        return np.array([lookup(character, UNKNOWN_CHARACTER) for character in word], dtype=np.int32)

    def label_ids(self, labels: Iterable[str]) -> npt.NDArray[np.int32]:
        """The id of each label; UNKNOWN_LABEL for those that were not seen in training."""
        lookup = self._label_ids.get
        return np.array([lookup(label, UNKNOWN_LABEL) for label in labels], dtype=np.int32)

    def intent_ids(self, intents: Iterable[str]) -> npt.NDArray[np.int32]:
        """The id of each intent; UNKNOWN_LABEL for those that were not seen in training."""
        lookup = self._intent_ids.get
        return np.array([lookup(intent, UNKNOWN_LABEL) for intent in intents], dtype=np.int32)

    def with_intents(self, intents: Iterable[str]) -> "LabelTokenizer":
        """The same vocabulary with intents."""
        content = json.loads(self.model_bytes())
        return LabelTokenizer.from_bytes(json.dumps({**content, "intents": sorted(set(intents))}).encode())

    def encode(self, texts: Sequence[str]) -> list[Ids]:
        return [self.word_ids(split_words(text)) for text in texts]

    def starts(self, texts: Sequence[str]) -> list[Ids]:
        return [np.array(split_words(text).starts, dtype=np.int32) for text in texts]

    def decode(self, ids: Sequence[int]) -> str:
        return " ".join(self.words[word] for word in ids)

    def piece(self, token: int) -> str:
        return self.words[token]

    def model_bytes(self) -> bytes:
        content: dict[str, Any] = {
            "words": self.words,
            "characters": self.characters,
            "labels": self.labels,
            "lower": self.lower,
            "zero_digits": self.zero_digits,
            **({"intents": self.intents} if self.intents else {}),  # so that other vocabularies stay what they were
        }
        if self.subwords is not None:
            content["subwords"] = base64.b64encode(self.subwords.model_bytes()).decode()
        return json.dumps(content, ensure_ascii=False).encode()

    @staticmethod
    def from_bytes(content: bytes) -> "LabelTokenizer":
        """From `model_bytes`. Raises ValueError if it is something else."""
        found = json.loads(content)
        needed = {"words", "characters", "labels", "lower", "zero_digits"}
        if not isinstance(found, dict) or found.keys() - {"intents", "subwords"} != needed:
            raise ValueError("no vocabulary of labels")
        subwords = found.get("subwords")
        return LabelTokenizer(
            found["words"],
            found["characters"],
            found["labels"],
            lower=found["lower"],
            zero_digits=found["zero_digits"],
            intents=found.get("intents", ()),
            subwords=None if subwords is None else SentencePieceTokenizer(base64.b64decode(subwords)),
        )


def looked_up(word: str, *, lower: bool, zero_digits: bool) -> str:
    """A word as it stands in the vocabulary."""
    word = word.lower() if lower else word
    return re.sub(r"\d", "0", word) if zero_digits else word


def _by_frequency(counts: Counter[str], least: int) -> list[str]:
    """What was seen often enough, most frequent first, equals in their own order."""
    return [one for one, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])) if count >= least]
