"""Means with bootstrap 95% intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

RESAMPLES = 10_000
FEWEST = 10


@dataclass(frozen=True)
class Interval:
    """A mean and its 95% interval.

    Attributes:
        mean: of the values.
        low: lower end; NaN where there is one value only.
        high: upper end.
        count: number of independent values (photos or seeds).
    """

    mean: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        return f"{self.mean:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


def bootstrap(values: ArrayLike, seed: int = 0) -> Interval:
    """Give the mean of independent values with its 95% interval.

    The percentile bootstrap (Efron and Tibshirani 1993) from ten values on; below that it is too narrow, and
    Student's t takes its place.

    Args:
        values: one number for each independent unit; what is no finite number is left out.
        seed: of the resampling.

    Raises:
        ValueError: there is no finite value.
    """
    kept = np.asarray(values, dtype=np.float64)
    kept = kept[np.isfinite(kept)]
    if kept.size == 0:
        raise ValueError("no finite value to average: every score was NaN (flat pictures?)")
    mean = float(kept.mean())
    if kept.size == 1:
        return Interval(mean, float("nan"), float("nan"), 1)
    if np.ptp(kept) == 0:
        return Interval(mean, mean, mean, int(kept.size))
    if kept.size < FEWEST:
        low, high = stats.t.interval(0.95, kept.size - 1, loc=mean, scale=stats.sem(kept))
        return Interval(mean, float(low), float(high), int(kept.size))
    result = stats.bootstrap(
        (kept,), np.mean, n_resamples=RESAMPLES, method="percentile", rng=np.random.default_rng(seed)
    )
    low, high = result.confidence_interval
    return Interval(mean, float(low), float(high), int(kept.size))


def over_photos(values: ArrayLike, photo: ArrayLike) -> NDArray[np.float64]:
    """Give the mean of each photo's scenes: scenes of one photo are alike, photos are what is independent.

    Args:
        values: one number a scene, `(N,)`; what is no finite number is left out.
        photo: each scene's photo, `(N,)` whole numbers.

    Returns:
        One mean a photo, in the order of the numbers; NaN where no scene of it has a finite one.

    Example:
        >>> over_photos([1.0, 5.0, 3.0, float("nan")], [0, 1, 0, 1]).tolist()
        [2.0, 5.0]
    """
    found = np.asarray(values, dtype=np.float64)
    _, rows = np.unique(np.asarray(photo), return_inverse=True)
    kept = np.isfinite(found)
    count = np.bincount(rows, kept)
    total = np.bincount(rows, np.where(kept, found, 0.0))
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
