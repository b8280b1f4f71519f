"""Averages over small symmetric windows, as sums of shifted pictures.

Shifted sums need no padding to whole tiles and no channels, so for one channel and a handful of taps they beat the
convolutions of torch on a CPU twenty times over; they are differentiable, and no TF32 setting changes them.
"""

import math

from torch import Tensor


def gaussian_taps(size: int, sigma: float) -> tuple[float, ...]:
    """A Gaussian at an odd number of whole positions around its centre (one side of MATLAB's fspecial).

    Rounded to multiples of 2^-25, a centre below 1/2 taking up the difference, so that the taps sum to 1 in float32 too
    and the mean of a flat area is its grey.
    """
    side = [math.exp(-0.5 * (i / sigma) ** 2) for i in range(size // 2, 0, -1)]
    side = [round(tap / (1 + 2 * sum(side)) * 2**25) / 2**25 for tap in side]
    return (*side, 1 - 2 * sum(side), *reversed(side))


def slide(x: Tensor, taps: tuple[float, ...], dim: int) -> Tensor:
    """Weighted mean along one dimension, where the window lies wholly inside: len(taps) - 1 positions fewer."""
    size, last = x.shape[dim] - len(taps) + 1, len(taps) - 1
    # From both ends to the middle: partial sums stay small for longest, and so do their rounding errors.
    first, *order = sorted(range(len(taps)), key=lambda i: -abs(2 * i - last))
    out = x.narrow(dim, first, size) * taps[first]
    for i in order:
        out.add_(x.narrow(dim, i, size), alpha=taps[i])
    return out


def smooth(x: Tensor, taps: tuple[float, ...]) -> Tensor:
    """Weighted mean over a square window, where it lies wholly inside.

    Args:
        x: (..., H, W) float.
        taps: The window's odd number of weights in each direction, symmetric.

    Returns:
        (..., H - len(taps) + 1, W - len(taps) + 1).
    """
    return slide(slide(x, taps, -2), taps, -1)


def moments(x: Tensor, taps: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    """Weighted mean and variance over a square window; shapes as `smooth`.

    The variance is the mean of the columns' variances plus the variance of the columns' means: sums of squared
    differences only, so float32 keeps the small variances that the mean square less the squared mean loses.
    """
    columns = slide(x, taps, -2)
    mean = slide(columns, taps, -1)
    variance = slide(spread(x, columns, taps, -2), taps, -1).add_(spread(columns, mean, taps, -1))
    return mean, variance


def spread(x: Tensor, mean: Tensor, taps: tuple[float, ...], dim: int) -> Tensor:
    """Weighted mean squared difference from `mean`, which is `slide` of x, along one dimension."""
    out = (x.narrow(dim, 0, mean.shape[dim]) - mean).square_().mul_(taps[0])
    for i, tap in enumerate(taps[1:], 1):
        difference = x.narrow(dim, i, mean.shape[dim]) - mean
        out.addcmul_(difference, difference, value=tap)
    return out
