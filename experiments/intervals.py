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

    def times(self, unit: float) -> Interval:
        """Give the same in other units, such as thousandths for `unit=1e3`."""
        return Interval(unit * self.mean, unit * self.low, unit * self.high, self.count)

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


def seeds_and_photos(values: ArrayLike, other: ArrayLike | None = None, seed: int = 0) -> Interval:
    """Give the mean over seeds and photos with its 95% interval: what another seed on other photos would give.

    Seeds and photos are resampled apart, since a seed's luck shows on all photos and a photo's on all seeds.

    Args:
        values: `(seeds, photos)`; photos with a number that is not finite are left out.
        other: of another recipe on the same photos, `(its seeds, photos)`: the mean of the difference is given then,
            paired by photo; seeds of different recipes have nothing in common.
        seed: of the resampling.

    Returns:
        The interval; `count` is the number of seeds, the lesser one's of two. With one seed it covers photos alone.

    Raises:
        ValueError: no photo is left.
    """
    found = [np.asarray(each, dtype=np.float64) for each in (values, other) if each is not None]
    kept = np.logical_and.reduce([np.isfinite(each).all(axis=0) for each in found])
    if not kept.any():
        raise ValueError("no photo has finite scores from all seeds: nothing to average")
    rng = np.random.default_rng(seed)
    of_photos = _weights(int(kept.sum()), rng)
    mean, resampled = 0.0, np.zeros(RESAMPLES)
    for sign, each in zip((1, -1), found, strict=False):
        mean += sign * float(each[:, kept].mean())
        resampled += sign * ((_weights(len(each), rng) @ each[:, kept]) * of_photos).sum(axis=1)
    low, high = np.percentile(resampled, [2.5, 97.5])
    return Interval(mean, float(low), float(high), min(len(each) for each in found))


def _weights(count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw the weights of resampled units, `(RESAMPLES, count)`, each row's sum 1.

    The percentile bootstrap is too narrow where units are few: deviations from equal weights are widened until a mean
    over these units alone has the width of Student's t interval.
    """
    if count == 1:
        return np.ones((RESAMPLES, 1))
    drawn = rng.multinomial(count, np.full(count, 1 / count), RESAMPLES) / count
    wider = (count / (count - 1)) ** 0.5 * stats.t.ppf(0.975, count - 1) / stats.norm.ppf(0.975)
    return 1 / count + wider * (drawn - 1 / count)


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
