"""Models that are tables, for searches whose outcome can be enumerated."""

import torch

from rnnlm.decoding.stepper import Started
from tests.reference import TableStepper


class SourceTableStepper(TableStepper):
    """A table of its own for each prompt, given by what stands in a context of as many places as the prompt has tokens;
    so a row that looks at another's context, or at padding, gives other text."""

    def start(self, prompts):
        sources = [list(map(int, prompt)) or [0] for prompt in prompts]
        longest = max(map(len, sources))
        padded = torch.zeros(len(sources), longest, 2, dtype=torch.int64)
        for row, source in enumerate(sources):
            padded[row, : len(source), 0] = torch.tensor(source)
        lengths = torch.tensor([len(source) for source in sources])
        first = torch.full((len(sources), 1), self.bos_id)
        return Started(first[:, 0].clone(), (first,), (padded, lengths))

    def step(self, tokens, state, context):
        source, lengths = context
        side_by_side = len(tokens) // len(lengths)
        known = torch.arange(source.shape[1]) < lengths[:, None]
        weights = torch.arange(1, source.shape[1] + 1) * known
        shift = (source[:, :, 0] * weights).sum(1).repeat_interleave(side_by_side)
        logits = self.table[(state[0][:, 0] + shift) % self.vocab_size, tokens]
        return logits.clone(), (tokens.unsqueeze(1),)

    def logprob(self, prompt, tokens, *, end):
        _, (before,), context = self.start([prompt])
        last, state, total = torch.tensor([self.bos_id]), (before,), 0.0
        for token in [*tokens, *([self.eos_id] if end else [])]:
            logits, state = self.step(last, state, context)
            total += logits[0].double().log_softmax(0)[token].item()
            last = torch.tensor([token])
        return total


def ranked(stepper, prompt, max_tokens, alpha):
    """Everything that can be generated, [(score, tokens, finish reason)], best first."""
    found = [
        (logprob / ((5 + len(tokens) + (reason == "end")) / 6) ** alpha, list(tokens), reason)
        for (tokens, reason), logprob in stepper.every_continuation(prompt, max_tokens).items()
    ]
    return sorted(found, key=lambda one: -one[0])
