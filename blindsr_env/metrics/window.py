"""Averages over small symmetric windows, as sums of shifted pictures.

Shifted sums need no padding to whole tiles and no channels, so for one channel and a handful of taps they beat the
convolutions of torch on a CPU several times over; they are differentiable, and no TF32 setting changes them.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable


def gaussian_taps(size: int, sigma: float) -> tuple[float, ...]:
    """Sample a Gaussian at `size` whole positions around its centre, sum 1 (one side of MATLAB's fspecial)."""
    taps = [math.exp(-0.5 * ((i - size // 2) / sigma) ** 2) for i in range(size)]
    return tuple(tap / sum(taps) for tap in taps)


def slide(x: Tensor, taps: tuple[float, ...], dim: int) -> Tensor:
    """Average along one dimension where the window lies wholly inside: len(taps) - 1 positions fewer."""
    if x.requires_grad and torch.is_grad_enabled():
        slid: Tensor = _Slide.apply(x, taps, dim)
        return slid
    size = x.shape[dim] - len(taps) + 1
    out = x.narrow(dim, 0, size) * taps[0]
    for i, tap in enumerate(taps[1:], 1):
        out.add_(x.narrow(dim, i, size), alpha=tap)
    return out


class _Slide(Function):
    """`slide` with its adjoint. Autograd itself would walk back over each shifted view by a picture full of zeros."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, taps: tuple[float, ...], dim: int) -> Tensor:
        ctx.shape, ctx.taps, ctx.dim = x.shape, taps, dim
        return slide(x, taps, dim)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        out = gradient.new_zeros(ctx.shape)
        for i, tap in enumerate(ctx.taps):
            out.narrow(ctx.dim, i, gradient.shape[ctx.dim]).add_(gradient, alpha=tap)
        return out, None, None


def smooth(x: Tensor, taps: tuple[float, ...]) -> Tensor:
    """Average over a square window where it lies wholly inside.

    Args:
        x: `(..., H, W)` floating point.
        taps: the window's weights in each direction, an odd number, symmetric.

    Returns:
        `(..., H - len(taps) + 1, W - len(taps) + 1)`.
    """
    return slide(slide(x, taps, -2), taps, -1)


def moments(x: Tensor, taps: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    """Compute weighted mean and variance over a square window; shapes as `smooth`.

    The variance is the mean of the columns' variances plus the variance of the columns' means: sums of squared
    differences only, so float32 keeps the small variances that the mean square less the squared mean loses.

    Returns:
        The mean in float64, for what matters is how far x is from it; the variance in the dtype of x.
    """
    columns = slide(x.double(), taps, -2)
    mean = slide(columns, taps, -1)
    columns = columns.to(x.dtype)
    variance = slide(spread(x, columns, taps, -2), taps, -1).add_(spread(columns, mean.to(x.dtype), taps, -1))
    return mean, variance


def spread(x: Tensor, mean: Tensor, taps: tuple[float, ...], dim: int) -> Tensor:
    """Average the squared difference from `mean`, which is `slide` of x, along one dimension."""
    out = (x.narrow(dim, 0, mean.shape[dim]) - mean).square_().mul_(taps[0])
    for i, tap in enumerate(taps[1:], 1):
        difference = x.narrow(dim, i, mean.shape[dim]) - mean
        out.addcmul_(difference, difference, value=tap)
    return out
