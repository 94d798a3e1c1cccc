"""The recipe of PyTorch's `examples/word_language_model`, with its defaults, written anew after its README.

    python -m benchmarks.peers.word_language_model outputs/corpora/wikitext2 [--minutes 10]

Two nn.LSTM layers of 200, embeddings of 200, 20 columns of 35 steps, dropout 0.2, plain SGD with learning rate 20,
gradients clipped to 0.25, and the rate divided by 4 whenever the validation after an epoch is no better. The loss is
log_softmax over all words and NLLLoss. Validation beside those of the epochs is for the curve alone.
"""

import argparse
import math
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.peers.corpus import Curve, as_columns, read_words

SIZE, LAYERS, COLUMNS, STEPS, DROPOUT, CLIP = 200, 2, 20, 35, 0.2, 0.25
VALID_COLUMNS = 10

State = tuple[Tensor, Tensor]


class Model(nn.Module):
    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.drop = nn.Dropout(DROPOUT)
        self.encoder = nn.Embedding(vocab_size, SIZE)
        self.rnn = nn.LSTM(SIZE, SIZE, LAYERS, dropout=DROPOUT)
        self.decoder = nn.Linear(SIZE, vocab_size)
        nn.init.uniform_(self.encoder.weight, -0.1, 0.1)
        nn.init.uniform_(self.decoder.weight, -0.1, 0.1)
        nn.init.zeros_(self.decoder.bias)

    def forward(self, inputs: Tensor, state: State | None) -> tuple[Tensor, State]:
        hidden, state = self.rnn(self.drop(self.encoder(inputs)), state)
        return torch.log_softmax(self.decoder(self.drop(hidden)).flatten(0, 1), dim=1), state


def validate(model: Model, tokens: Tensor) -> float:
    model.eval()
    columns = as_columns(tokens, VALID_COLUMNS)
    total, state = 0.0, None
    with torch.no_grad():
        for start in range(0, len(columns) - 1, STEPS):
            targets = columns[start + 1 : start + 1 + STEPS]
            logprobs, state = model(columns[start : start + len(targets)], state)
            total += nn.functional.nll_loss(logprobs, targets.flatten(), reduction="sum").item()
    model.train()
    return total / ((len(columns) - 1) * VALID_COLUMNS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--every", type=float, default=120.0, help="seconds of one core's work between validations")
    arguments = parser.parse_args()
    torch.manual_seed(1111)
    splits, vocab_size = read_words(arguments.corpus)
    columns = as_columns(splits["train"], COLUMNS)
    model, curve = Model(vocab_size), Curve(arguments.every)
    loss_function = nn.NLLLoss()
    rate, best, seen = 20.0, math.inf, 0
    while True:
        state = None
        for start in range(0, len(columns) - 1, STEPS):
            targets = columns[start + 1 : start + 1 + STEPS]
            model.zero_grad()
            if state is not None:
                state = tuple(tensor.detach() for tensor in state)
            logprobs, state = model(columns[start : start + len(targets)], state)
            loss_function(logprobs, targets.flatten()).backward()
            nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.add_(parameter.grad, alpha=-rate)
            seen += targets.numel()
            if curve.due():
                curve.report(validate(model, splits["valid"]), seen)
        nll = validate(model, splits["valid"])
        curve.report(nll, seen)
        if nll < best:
            best = nll
        else:
            rate /= 4.0


if __name__ == "__main__":
    main()
