"""Generation rate against static batches with nn.LSTM, interleaved, one thread, CPU time.

    python -m benchmarks.bench_generate [--size small|big] [--rounds 5] [--prompts 640] [--lanes 192]
        [--precision float32|int8]

Both sides continue the same prompts with the same weights. The plain side is what one would write: batches of 64 in
their order, each run until its longest text is done, and `argmax`, or `topk(40)` and `multinomial`, or a full sort for
top-p 0.9 and `multinomial`. Texts have log-normal lengths (median 22 tokens, sigma 0.7, 5 to 200); as the weights are
random, both sides are told when a text has to end, by the first token of its prompt. Logits are spread as those of a
trained model: Zipf's law in the bias, a standard deviation of 3 nats beside it; the mean entropy is printed.

Before anything is timed, greedy texts must agree in float32 (all but 1 %: two logits can be equal but for rounding),
and all texts must have the lengths asked for. Tokens are predictions, ends included. Ours also gives each text's
log-probability.
"""

import argparse
import platform
import statistics
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import rnnlm
from benchmarks.bench_score import BOS, EOS, SIZES, cpu_seconds
from rnnlm.decoding.base import LANES, DecodingConfig, Ids, Started, decode
from rnnlm.decoding.greedy import GreedyConfig
from rnnlm.decoding.sampling import SamplingConfig
from rnnlm.inference.generate import LanguageModelStepper
from rnnlm.inference.precision import Products, product_rate
from rnnlm.nn.language_model import LanguageModel
from rnnlm.nn.prepared import Precision
from rnnlm.types import Context, State, StepLogits, StepTokens

PLAIN_BATCH = 64
LONGEST = 200
LOGIT_NATS = 3.0
NEVER, SURELY = -1e4, 1e4
MOST_DIFFERENT = 0.01


class EndsForced:
    """A stepper that ends each text when it is told: its state also holds how many tokens are left."""

    def __init__(self, stepper: LanguageModelStepper) -> None:
        self._stepper = stepper
        self.bos_id, self.eos_id = stepper.bos_id, stepper.eos_id
        self.vocab_size = stepper.vocab_size

    def start(self, prompts: Sequence[Ids]) -> Started:
        tokens, state, context = self._stepper.start(prompts)
        return Started(tokens, (*state, torch.tensor([[int(prompt[0])] for prompt in prompts])), context)

    def step(self, tokens: StepTokens, state: State, context: Context) -> tuple[StepLogits, State]:
        *inner, left = state
        logits, new = self._stepper.step(tokens, tuple(inner), context)
        logits[:, EOS] = forced_end(left[:, 0])
        return logits, (*new, left - 1)


def forced_end(left: Tensor) -> Tensor:
    """The logit of eos for texts with that many tokens left."""
    return torch.where(left == 1, SURELY, NEVER)


class Plain:
    """nn.Embedding, nn.LSTM and nn.Linear with the model's weights."""

    def __init__(self, model: LanguageModel) -> None:
        cells = [cast(Any, cell).fused for cell in model.stack.cells()]
        self.embedding, self.output = model.embedding, cast(Any, model.softmax)
        first = cells[0]
        self.lstm = nn.LSTM(first.input_size, first.hidden_size, len(cells), batch_first=True).eval()
        for layer, cell in enumerate(cells):
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                getattr(self.lstm, f"{name}_l{layer}").data.copy_(getattr(cell, f"{name}_l0").data)

    def logits(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        hidden, state = self.lstm(self.embedding(tokens), state)
        return F.linear(hidden[:, -1], self.output.weight, self.output.bias), state

    def generate(self, prompts: list[np.ndarray], pick: Callable[[Tensor], Tensor]) -> list[list[int]]:
        texts: list[list[int]] = []
        for start in range(0, len(prompts), PLAIN_BATCH):
            batch = torch.from_numpy(np.stack(prompts[start : start + PLAIN_BATCH]))
            left, done = batch[:, 0], torch.zeros(len(batch), dtype=torch.bool)
            tokens, state, columns = F.pad(batch, (1, 0), value=BOS), None, []
            while not done.all():
                logits, state = self.logits(tokens, state)
                logits[:, EOS], logits[:, BOS] = forced_end(left), NEVER
                chosen = pick(logits)
                columns.append(chosen)
                done |= chosen == EOS
                left, tokens = left - 1, chosen[:, None]
            texts += [row[: row.index(EOS)] for row in torch.stack(columns, 1).tolist()]
        return texts


def pick_from_best(logits: Tensor) -> Tensor:
    values, tokens = logits.topk(40, 1)
    return tokens.gather(1, torch.multinomial(values.softmax(1), 1))[:, 0]


def pick_from_nucleus(logits: Tensor) -> Tensor:
    values, tokens = logits.sort(1, descending=True)
    probabilities = values.softmax(1)
    probabilities[probabilities.cumsum(1) - probabilities > 0.9] = 0
    return tokens.gather(1, torch.multinomial(probabilities, 1))[:, 0]


STRATEGIES: dict[str, tuple[DecodingConfig, Callable[[Tensor], Tensor]]] = {
    "greedy": (GreedyConfig(max_tokens=LONGEST), lambda logits: logits.argmax(1)),
    "top-k 40": (SamplingConfig(max_tokens=LONGEST, top_k=40), pick_from_best),
    "top-p 0.9": (SamplingConfig(max_tokens=LONGEST, top_p=0.9), pick_from_nucleus),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--prompts", type=int, default=640)
    parser.add_argument("--lanes", type=int, default=LANES)
    parser.add_argument("--strategies", nargs="+", choices=STRATEGIES, default=list(STRATEGIES))
    parser.add_argument("--precision", choices=get_args(Precision), default="float32")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(1)
    model, prompts = make_model(*SIZES[arguments.size]), make_prompts(arguments.prompts, SIZES[arguments.size][0])
    tokenizer = SimpleNamespace(bos_id=BOS, eos_id=EOS, vocab_size=SIZES[arguments.size][0])
    stepper = EndsForced(LanguageModelStepper(cast(Any, SimpleNamespace(model=model, tokenizer=tokenizer))))
    num_tokens = sum(int(prompt[0]) for prompt in prompts)

    weights = Products(precision=arguments.precision).prepare(model.device)

    def ours(strategy: DecodingConfig) -> list[list[int]]:
        with weights.active():
            rows = range(len(prompts))
            found = decode(stepper, prompts, strategy, seed=1, row_ids=rows, lanes=arguments.lanes)
        return [one.tokens for (one,) in found]

    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, size {arguments.size}")
    print(f"{len(prompts)} prompts, {num_tokens:,} tokens, {arguments.lanes} lanes, one thread, CPU time")
    with torch.inference_mode():
        plain = Plain(model)
        different = check(ours, plain, prompts)
        print(f"{arguments.precision}: {different:.2%} of the greedy texts differ")
        assert different <= MOST_DIFFERENT or arguments.precision != "float32"
        for name in arguments.strategies:
            strategy, pick = STRATEGIES[name]
            rounds = []
            for _ in range(arguments.rounds):
                sgemm = product_rate("float32", model.device)
                fast = num_tokens / cpu_seconds(lambda: ours(strategy))  # noqa: B023 - called at once
                slow = num_tokens / cpu_seconds(lambda: plain.generate(prompts, pick))  # noqa: B023
                rounds.append((fast, slow, fast / slow, sgemm * 1e-9))
            print_rounds(name, rounds)


def make_model(vocab: int, embedding: int, hidden: int) -> LanguageModel:
    task = rnnlm.LanguageModelConfig(
        cell=rnnlm.LSTMConfig(hidden_size=hidden),
        num_layers=2,
        embedding_size=embedding,
        softmax=rnnlm.FullSoftmaxConfig(tied=False),
    )
    model = task.build_model(vocab).eval()
    softmax = cast(Any, model.softmax)
    with torch.inference_mode():
        softmax.bias.copy_(-(torch.arange(vocab) + 2.7).log())
        hidden_states, _ = model(torch.randint(3, vocab, (64, 20)), model.initial_state(64))
        last = hidden_states[:, -1]
        softmax.weight.mul_(LOGIT_NATS / F.linear(last, softmax.weight).std())
        probabilities = softmax.logits(last).softmax(1)
        entropy = -(probabilities * probabilities.log()).sum(1).mean()
        mass = probabilities.topk(256, 1).values.sum(1)
    print(f"mean entropy {entropy:.2f} nats; the best 256 hold {mass.mean():.3f}, {mass.min():.3f} to {mass.max():.3f}")
    return model


def make_prompts(count: int, vocab: int) -> list[np.ndarray]:
    """The number of tokens to generate, end included, which the network reads as a token, and a random token."""
    generator = np.random.default_rng(1)
    lengths = np.clip(np.exp(generator.normal(np.log(22), 0.7, count)).astype(np.int64), 5, LONGEST)
    return list(np.stack([lengths, generator.integers(3, vocab, count)], axis=1))


def check(ours: Callable[[DecodingConfig], list[list[int]]], plain: Plain, prompts: list[np.ndarray]) -> float:
    """The share of greedy texts in which the two sides differ, after a look at the lengths of all."""
    greedy, pick = STRATEGIES["greedy"]
    pairs = zip(ours(greedy), plain.generate(prompts, pick), strict=True)
    different = sum(mine != theirs for mine, theirs in pairs) / len(prompts)
    for strategy, _ in STRATEGIES.values():
        assert [len(text) + 1 for text in ours(strategy)] == [int(prompt[0]) for prompt in prompts]
    return different


def print_rounds(name: str, rounds: Sequence[tuple[float, ...]]) -> None:
    for column, label in enumerate(("lanes, tokens/s", "static batches, tokens/s", "ratio", "sgemm, GF/s")):
        values = [row[column] for row in rounds]
        spread = f"{min(values):,.1f} to {max(values):,.1f}"
        print(f"| {name} | {label} | {statistics.median(values):,.1f} | {spread} |", flush=True)


if __name__ == "__main__":
    main()
