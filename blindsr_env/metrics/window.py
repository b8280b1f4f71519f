"""Averages over small symmetric windows, as sums of shifted pictures.

Shifted sums need no padding to whole tiles and no channels, so for one channel and a handful of taps they beat the
convolutions of torch on a CPU several times over; they are differentiable, and no TF32 setting changes them.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function


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

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, taps: tuple[float, ...], dim: int) -> Tensor:
        return slide(x.detach(), taps, dim)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, tuple[float, ...], int], output: Tensor) -> None:
        _, ctx.taps, ctx.dim = inputs

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _spread_out(gradient, ctx.taps, ctx.dim), None, None


def _spread_out(gradient: Tensor, taps: tuple[float, ...], dim: int) -> Tensor:
    """Hand each average's gradient on to the positions that it is of: the adjoint of `slide`."""
    beyond, size = len(taps) - 1, gradient.shape[dim]
    if gradient.requires_grad and torch.is_grad_enabled():  # for second derivatives
        after = gradient.ndim - 1 - dim % gradient.ndim  # dimensions behind it, which F.pad counts from the last
        return slide(F.pad(gradient, [0, 0] * after + [beyond, beyond]), taps[::-1], dim)
    shape = list(gradient.shape)
    shape[dim] += beyond
    out = gradient.new_zeros(shape)
    for i, tap in enumerate(taps):
        out.narrow(dim, i, size).add_(gradient, alpha=tap)
    return out


def smooth(x: Tensor, taps: tuple[float, ...]) -> Tensor:
    """Average over a square window where it lies wholly inside.

    Args:
        x: `(..., H, W)` floating point.
        taps: the window's weights in each direction, an odd number, symmetric.

    Returns:
        `(..., H - len(taps) + 1, W - len(taps) + 1)`.
    """
    return slide(slide(x, taps, -2), taps, -1)


def spread_out(gradient: Tensor, taps: tuple[float, ...]) -> Tensor:
    """Hand the gradient of `smooth`, `(..., h, w)`, on to what was averaged, as large as that: `smooth`'s adjoint."""
    return _spread_out(_spread_out(gradient, taps, -1), taps, -2)


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
