"""Whether confidences are accuracies: predictions by their confidence, batch after batch."""

import numpy as np
import numpy.typing as npt

from rnnlm.errors import DataError, Place
from rnnlm.evaluation.label_metrics import Reliability, reliability

NUM_BINS = 15  # as Guo et al. 2017 have
ROUNDING = 1e-5  # that a probability may be above 1


class Confidences:
    """Sums of how many there are in each bin, how sure, and how many of them right."""

    def __init__(self) -> None:
        self._bins = np.zeros((3, NUM_BINS))

    def add(self, sure: npt.ArrayLike, right: npt.ArrayLike, place: Place) -> None:
        """Raises DataError if a confidence is no probability."""
        given = np.asarray(sure, dtype=np.float64)
        try:
            bins = reliability(np.where(given <= 1.0 + ROUNDING, np.minimum(given, 1.0), given), right, NUM_BINS)
        except ValueError as error:
            raise DataError(str(error), where=place, todo="give the output of jobs.predict") from error
        self._bins += np.stack([bins.counts, bins.counts * bins.confidence, bins.counts * bins.accuracy])

    def result(self) -> Reliability | None:
        """None if there were none."""
        counts, sure, right = self._bins
        if not counts.any():
            return None
        divisor = np.maximum(counts, 1.0)
        edges = np.linspace(0.0, 1.0, NUM_BINS + 1)
        return Reliability(edges, counts.astype(np.int64), sure / divisor, right / divisor)
