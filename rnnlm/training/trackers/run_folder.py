"""What a tracking service is told of a run, as its folder has it, and where the run's id at the service is kept."""

from typing import Any

from rnnlm.checkpoint import INDEX, TRAINING_JSON, resolve_checkpoint
from rnnlm.config import flatten
from rnnlm.storage import Location
from rnnlm.training.start import IDENTITY


def settings_of(folder: Location) -> dict[str, Any]:
    """All that decides the outcome of the run, by dotted path."""
    return flatten(folder.join(IDENTITY).read_json())


def best_checkpoint(folder: Location) -> str | None:
    """Where the best checkpoint is; None before the first."""
    return resolve_checkpoint(folder.address).uri if folder.join(INDEX).exists() else None


def is_finished(folder: Location) -> bool:
    """Whether the run has made its last step."""
    if not folder.join(INDEX).exists():
        return False
    return bool(resolve_checkpoint(folder.address, "last").join(TRAINING_JSON).read_json()["finished"])


def kept_id(folder: Location, service: str) -> str | None:
    """The id that an earlier part of the run had at the service."""
    file = folder.join(f"{service}.json")
    return str(file.read_json()["run_id"]) if file.exists() else None


def keep_id(folder: Location, service: str, run_id: str) -> None:
    """Remember the id for later parts of the run."""
    folder.join(f"{service}.json").write_json({"run_id": run_id})


def name_of(folder: Location) -> str:
    """What people call the run: the name of its folder."""
    return folder.path.rstrip("/").rpartition("/")[2]
