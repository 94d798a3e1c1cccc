"""What one would write to score a Parquet corpus with Ray Data: read_parquet, map_batches, write_parquet.

    python -m benchmarks.peers.ray_data_score WEIGHTS CORPUS OUTPUT [--workers 2] [--batch 64]

WEIGHTS is a file of torch.save with `words` (the vocabulary, end of sequence first) and the state dicts `embedding`,
`lstm` and `output` of an nn.Embedding, nn.LSTM and nn.Linear. Each actor has one thread and takes batches of 64 rows in
the order of the files, padded to the longest, float32, log_softmax over everything.
"""

import argparse

import numpy as np
import ray
import torch
from torch import nn

EOS, UNKNOWN = 0, 1

Batch = dict[str, np.ndarray]


class Scorer:
    def __init__(self, path: str) -> None:
        torch.set_num_threads(1)
        found = torch.load(path)
        self.ids = {word: number for number, word in enumerate(found["words"])}
        vocab, width = found["embedding"]["weight"].shape
        hidden, layers = found["output"]["weight"].shape[1], sum("weight_ih" in name for name in found["lstm"])
        self.embedding = nn.Embedding(vocab, width)
        self.lstm = nn.LSTM(width, hidden, layers, batch_first=True)
        self.output = nn.Linear(hidden, vocab)
        for name in ("embedding", "lstm", "output"):
            getattr(self, name).load_state_dict(found[name])

    @torch.inference_mode()
    def __call__(self, batch: Batch) -> Batch:
        rows = [[self.ids.get(word, UNKNOWN) for word in text.split()] for text in batch["text"]]
        longest = max(len(row) for row in rows) + 1
        inputs = torch.zeros(len(rows), longest, dtype=torch.long)
        targets, mask = torch.zeros_like(inputs), torch.zeros(len(rows), longest)
        for number, row in enumerate(rows):
            inputs[number, : len(row) + 1] = torch.tensor([EOS, *row])
            targets[number, : len(row) + 1] = torch.tensor([*row, EOS])
            mask[number, : len(row) + 1] = 1.0
        hidden, _ = self.lstm(self.embedding(inputs))
        logprobs = torch.log_softmax(self.output(hidden), dim=2)
        chosen = logprobs.gather(2, targets[:, :, None])[:, :, 0] * mask
        return {**batch, "logprob": chosen.sum(1).numpy(), "num_tokens": mask.sum(1).int().numpy()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights")
    parser.add_argument("corpus")
    parser.add_argument("output")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch", type=int, default=64)
    arguments = parser.parse_args()
    ray.init(address="local", num_cpus=arguments.workers, include_dashboard=False, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    # Actors of a whole CPU each would leave no room for the tasks that list, read and write: nothing would ever move.
    room = {"num_cpus": 0.01}
    blocks = 4 * arguments.workers  # with fewer, one actor can get all
    rows = ray.data.read_parquet(arguments.corpus, ray_remote_args=room, override_num_blocks=blocks)
    scored = rows.map_batches(
        Scorer,
        fn_constructor_args=(arguments.weights,),
        batch_size=arguments.batch,
        batch_format="numpy",
        compute=ray.data.ActorPoolStrategy(size=arguments.workers),
        num_cpus=0.4,
    )
    scored.write_parquet(arguments.output, ray_remote_args=room)


if __name__ == "__main__":
    main()
