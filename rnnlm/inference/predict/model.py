"""What a folder holds that can predict: a network, or a baseline."""

from rnnlm.baselines.stored import StoredBaseline, is_baseline, loaded_baseline
from rnnlm.checkpoint import Checkpoint, loaded, resolve_checkpoint

Predictor = Checkpoint | StoredBaseline


def loaded_predictor(path: str) -> Predictor:
    """The model of a run, checkpoint or baseline folder, read once a process. Raises CheckpointError with the cure."""
    folder = resolve_checkpoint(path)
    return loaded_baseline(folder) if is_baseline(folder) else loaded(path)
