"""Where something that fades with the distance is over: the first lag from which on it stays below 1 % of its value at
lag 0.
"""

from collections.abc import Sequence

FADED = 0.01


def horizon(lags: Sequence[int], values: Sequence[float]) -> int | None:
    """That lag, of values at rising lags from 0 on; None if the last one still counts."""
    counting = [lag for lag, value in zip(lags, values, strict=True) if value > FADED * values[0]]
    if not counting:
        return lags[0]
    return next((lag for lag in lags if lag > counting[-1]), None)
