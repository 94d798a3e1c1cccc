"""The last steps of a sequence as a state `B x (P * D)`: P vectors of size D side by side, the oldest first.

Zeros are what stands before the beginning.
"""

import torch

from rnnlm.types import Joined, LayerInputs, Lengths, Past


def joined(past: Past, new: LayerInputs) -> Joined:
    """The P vectors remembered, and the T new ones behind them: B (P + T) D."""
    return torch.cat([past.unflatten(1, (-1, new.shape[2])), new], dim=1)


def last(sequence: Joined, count: int, lengths: Lengths | None = None) -> Past:
    """The state after B (P + T) D: its last P = `count` vectors, where a row's T ends after `lengths` if given."""
    if lengths is None:
        return sequence[:, sequence.shape[1] - count :].flatten(1)
    times = lengths[:, None] + torch.arange(count, device=sequence.device)
    return sequence.gather(1, times[:, :, None].expand(-1, -1, sequence.shape[2])).flatten(1)
