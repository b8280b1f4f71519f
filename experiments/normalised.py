"""The normalised score: a policy's share of a per-image search's gain. 0 is the true code, 1 the search."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from experiments.intervals import FEWEST, RESAMPLES, Interval, over_photos

LEAST = 1e-3
"""Mean reward of a search below which there is nothing to be won: metrics' own noise is of this size."""


def normalised(reward: ArrayLike, best: ArrayLike, seed: int = 0, *, photo: ArrayLike | None = None) -> Interval:
    """Give the ratio of the mean rewards of a policy and of a search on the same scenes, with its 95% interval.

    A ratio of means, not a mean of ratios: a scene where the search gains next to nothing hardly counts. Each photo's
    scenes are averaged first, since only photos are independent. The percentile bootstrap resamples photos, both
    rewards together; below fifty photos Student's t on the linearised ratio (delta method) takes its place, as in
    `intervals.bootstrap`.

    Args:
        reward: of the policy, `(N,)`; a scene where either is NaN is left out.
        best: of the search, `(N,)`.
        seed: of the resampling.
        photo: each scene's photo, `(N,)` whole numbers; None where each scene is of a photo of its own.

    Raises:
        ValueError: lengths differ, no scene is finite in both, or the search gains less than `LEAST` on average.

    Example:
        >>> normalised([1.0, 0.0], [2.0, 0.0]).mean
        0.5
    """
    values, bests = np.asarray(reward, dtype=np.float64), np.asarray(best, dtype=np.float64)
    if values.shape != bests.shape:
        raise ValueError(f"rewards of {values.shape} scenes cannot be normalised by those of {bests.shape}")
    kept = np.isfinite(values) & np.isfinite(bests)
    values, bests = values[kept], bests[kept]
    if photo is not None:
        of = np.asarray(photo)[kept]
        values, bests = over_photos(values, of), over_photos(bests, of)
    if values.size == 0:
        raise ValueError("no scene has a finite reward of both policy and search (flat pictures?)")
    if bests.mean() < LEAST:
        raise ValueError(
            f"the search won {bests.mean():.2g} on average, less than {LEAST:g}: there is nothing to normalise by; "
            "give it more renders, or more photos"
        )
    ratio = float(values.mean() / bests.mean())
    count = int(values.size)
    if count == 1:
        return Interval(ratio, float("nan"), float("nan"), 1)
    residual = (values - ratio * bests) / bests.mean()
    if np.ptp(residual) < 1e-12:
        return Interval(ratio, ratio, ratio, count)
    if count < FEWEST:
        low, high = stats.t.interval(0.95, count - 1, loc=ratio, scale=stats.sem(residual))
        return Interval(ratio, float(low), float(high), count)

    def ratios(a: NDArray[np.float64], b: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
        return a.mean(axis=axis) / np.maximum(b.mean(axis=axis), LEAST)

    result = stats.bootstrap(
        (values, bests),
        ratios,
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    low, high = result.confidence_interval
    return Interval(ratio, float(low), float(high), count)
