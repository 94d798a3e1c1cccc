"""Text to token ids and back; one kind of tokenizer a file."""

from rnnlm.data.tokenizers.base import Tokenizer, TokenizerConfig
from rnnlm.data.tokenizers.load import load_tokenizer

__all__ = ["Tokenizer", "TokenizerConfig", "load_tokenizer"]
