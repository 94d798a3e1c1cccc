"""What most would write first: nn.LSTM, a linear layer, F.cross_entropy, Adam, one file.

    python -m benchmarks.peers.plain_lstm outputs/corpora/wikitext2 [--embedding 256 --hidden 512]

Two LSTM layers, the second as wide as the embedding, tied, with dropout; Adam at a constant learning rate and clipped
gradients.
"""

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.peers.corpus import Curve, as_columns, read_words

VALID_COLUMNS = 10

States = list[tuple[Tensor, Tensor] | None]


class Model(nn.Module):
    def __init__(self, vocab_size: int, embedding: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.encoder = nn.Embedding(vocab_size, embedding)
        nn.init.uniform_(self.encoder.weight, -0.1, 0.1)
        self.layers = nn.ModuleList([nn.LSTM(embedding, hidden), nn.LSTM(hidden, embedding)])
        self.bias = nn.Parameter(torch.zeros(vocab_size))
        self.drop = nn.Dropout(dropout)

    def forward(self, inputs: Tensor, states: States) -> tuple[Tensor, States]:
        outputs, new_states = self.drop(self.encoder(inputs)), []
        for layer, state in zip(self.layers, states, strict=True):
            outputs, state = layer(outputs, state)
            outputs = self.drop(outputs)
            new_states.append(tuple(tensor.detach() for tensor in state))
        return F.linear(outputs, self.encoder.weight, self.bias), new_states


def validate(model: Model, tokens: Tensor, steps: int) -> float:
    model.eval()
    columns = as_columns(tokens, VALID_COLUMNS)
    total, states = 0.0, [None, None]
    with torch.no_grad():
        for start in range(0, len(columns) - 1, steps):
            targets = columns[start + 1 : start + 1 + steps]
            logits, states = model(columns[start : start + len(targets)], states)
            total += F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum").item()
    model.train()
    return total / ((len(columns) - 1) * VALID_COLUMNS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--embedding", type=int, default=256)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--dropout", type=float, default=0.25)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--columns", type=int, default=32)
    parser.add_argument("--steps", type=int, default=35)
    parser.add_argument("--every", type=float, default=120.0, help="seconds of one core's work between validations")
    arguments = parser.parse_args()
    torch.manual_seed(1)
    splits, vocab_size = read_words(arguments.corpus)
    columns = as_columns(splits["train"], arguments.columns)
    model = Model(vocab_size, arguments.embedding, arguments.hidden, arguments.dropout)
    optimizer = torch.optim.Adam(model.parameters(), lr=arguments.rate)
    curve, seen = Curve(arguments.every), 0
    while True:
        states: States = [None, None]
        for start in range(0, len(columns) - 1, arguments.steps):
            targets = columns[start + 1 : start + 1 + arguments.steps]
            optimizer.zero_grad()
            logits, states = model(columns[start : start + len(targets)], states)
            F.cross_entropy(logits.flatten(0, 1), targets.flatten()).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            seen += targets.numel()
            if curve.due():
                curve.report(validate(model, splits["valid"], arguments.steps), seen)


if __name__ == "__main__":
    main()
