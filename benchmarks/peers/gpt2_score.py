"""GPT-2 small of random weights scores rows with transformers, padded batches of 16 in order of length.

Run by `benchmarks.peers.environments.ask`: the question has `rows`, lists of token ids; the answer CPU seconds.
"""

import json
import sys
import time
from pathlib import Path

import torch
from transformers import GPT2Config, GPT2LMHeadModel

BATCH = 16


def main() -> None:
    rows = json.loads(Path(sys.argv[1]).read_text())["rows"]
    torch.set_num_threads(1)
    torch.manual_seed(1)
    model = GPT2LMHeadModel(GPT2Config()).eval()
    score(model, rows[:BATCH])
    began = time.process_time()
    logprobs = score(model, rows)
    print(json.dumps({"seconds": time.process_time() - began, "logprobs": logprobs}))


@torch.inference_mode()
def score(model: GPT2LMHeadModel, rows: list[list[int]]) -> list[float]:
    """Sums of log-probabilities, of rows from the shortest to the longest; a row's first token is given."""
    found: list[float] = []
    rows = sorted(rows, key=len)
    for start in range(0, len(rows), BATCH):
        batch = rows[start : start + BATCH]
        longest = max(len(row) for row in batch)
        tokens = torch.tensor([row + [0] * (longest - len(row)) for row in batch])
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in batch])
        logits = model(input_ids=tokens, attention_mask=mask).logits[:, :-1]
        chosen = logits.log_softmax(2).gather(2, tokens[:, 1:, None])[:, :, 0]
        found += (chosen * mask[:, 1:]).sum(1).tolist()
    return found


if __name__ == "__main__":
    main()
