"""What `python -m jobs.calibrate` found on held-out rows of one model, and its way into predicting.

calibration.json    the model's fingerprint, what was fitted, and to what
"""

import dataclasses
from typing import Annotated, Any

from pydantic import Field

from rnnlm.checkpoint import Checkpoint
from rnnlm.config import config, from_dict
from rnnlm.errors import CheckpointError, ConfigError
from rnnlm.inference.predict.options import PredictOptions
from rnnlm.storage import Location, open_location

CALIBRATION = "calibration.json"
Threshold = Annotated[float, Field(ge=0.0, le=1.0)]


@config
class Calibration:
    """Of one model; null where there is nothing of the kind."""

    model: str
    "Fingerprint of the model."
    temperature: float | None = Field(default=None, gt=0.0)
    "Of a classifier: what its logits are divided by."
    thresholds: dict[str, Threshold] | None = None
    "Of a classifier of several classes a row: from which calibrated probability on each class is given."
    threshold: Threshold | None = None
    "Of nested spans: from which probability on one is given."
    trained: dict[str, Any]
    "What it was fitted to (`identity`), and figures of these very rows `before` and `after`."

    def fitted(self) -> dict[str, Any]:
        """What decides the output of predicting."""
        return {"temperature": self.temperature, "thresholds": self.thresholds, "threshold": self.threshold}

    def save(self, folder: Location) -> None:
        """Write the folder."""
        folder.make_dir()
        folder.join(CALIBRATION).write_json(dataclasses.asdict(self))


def read_calibration(path: str) -> Calibration:
    """From the folder that `save` wrote. Raises CheckpointError with the cure."""
    place = open_location(path).join(CALIBRATION)
    if not place.exists():
        raise CheckpointError(f"there is no {CALIBRATION} in {path}", todo="make one with python -m jobs.calibrate")
    content = place.read_json()
    if not isinstance(content, dict):
        raise CheckpointError(f"{place.uri} is no calibration", todo="fit it again")
    try:
        return from_dict(Calibration, content)
    except ConfigError as error:
        raise CheckpointError(f"{place.uri} is no calibration: {error.problems[0]}", todo="fit it again") from error


def calibration_of(options: PredictOptions, checkpoint: Checkpoint) -> Calibration | None:
    """What is to be applied. Raises ConfigError if it is that of another model, or if its values are given too."""
    if options.calibration is None:
        return None
    options.refuse_changed(("temperature", "threshold"), "is part of the calibration; leave out one of the two")
    found = read_calibration(options.calibration)
    if found.model != checkpoint.fingerprint:
        raise ConfigError(
            f"calibration: {options.calibration} is that of model {found.model[:12]}, the checkpoint is "
            f"{checkpoint.fingerprint[:12]}; fit it again with python -m jobs.calibrate"
        )
    return found
