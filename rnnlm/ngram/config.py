"""The settings of an n-gram model, and how it is made."""

from pydantic import Field

from rnnlm.config import PlacedError, config
from rnnlm.data.tokenizers import Tokenizer
from rnnlm.data.tokens import TokenTable
from rnnlm.errors import DataError
from rnnlm.ngram.counts import count_orders
from rnnlm.ngram.discounts import estimate_discounts
from rnnlm.ngram.model import NGramModel


@config
class NGramConfig:
    """An n-gram model with interpolated modified Kneser-Ney smoothing."""

    order: int = Field(default=5, ge=1)
    "Longest n-gram: a token is predicted from up to order - 1 tokens before it."
    fallback_discounts: list[float] = Field(default_factory=lambda: [0.5, 1.0, 1.5], min_length=3, max_length=3)
    "D1, D2 and D3+ of an order whose counts give no estimate of them: too little text, or text unlike language."

    def __post_init__(self) -> None:
        for count, discount in enumerate(self.fallback_discounts, start=1):
            if not 0.0 <= discount <= count:
                raise PlacedError(
                    f"fallback_discounts[{count - 1}]",
                    f"{discount} cannot be taken from a count of {count}; give 0 to {count}",
                )

    def train(self, table: TokenTable, tokenizer: Tokenizer) -> NGramModel:
        """Count and smooth. Some 250 bytes of memory a token at order 5. Raises DataError if there is no document."""
        if not table.num_documents:
            raise DataError("there is no document to count n-grams in", todo="give a token table that has some")
        vocab_size, eos_id = tokenizer.vocab_size, tokenizer.eos_id
        orders = count_orders(table, order=self.order, vocab_size=vocab_size, eos=eos_id)
        discounts = [estimate_discounts(one.counts, self.fallback_discounts) for one in orders]
        return NGramModel(orders, discounts, vocab_size=vocab_size, bos_id=tokenizer.bos_id, eos_id=eos_id)
