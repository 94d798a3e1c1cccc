"""The encoder of `tokenizers` reads texts: `encode_batch_fast`, one thread.

Run by `benchmarks.peers.environments.ask`: the question has `text`, a file with a text a line, how often to
`repeat` it, `kind` (bpe or unigram) and `vocab`; the answer CPU seconds and the number of tokens.
"""

import json
import sys
import time
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, trainers


def main() -> None:
    question = json.loads(Path(sys.argv[1]).read_text())
    lines = [line for line in Path(question["text"]).read_text(encoding="utf-8").split("\n") if line.strip()]
    tokenizer = train(question["kind"], question["vocab"], lines[::4])
    texts = lines * question["repeat"]
    began = time.process_time()
    count = sum(len(found.ids) for found in tokenizer.encode_batch_fast(texts))
    print(json.dumps({"seconds": time.process_time() - began, "tokens": count}))


def train(kind: str, vocab: int, lines: list[str]) -> Tokenizer:
    if kind == "bpe":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=vocab, initial_alphabet=alphabet, show_progress=False)
    else:
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=vocab, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False
        )
    tokenizer.train_from_iterator(lines, trainer)
    return tokenizer


if __name__ == "__main__":
    main()
