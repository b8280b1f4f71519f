"""NIQE with a gradient: the same score by the same steps, written so that they can be followed backwards.

The literature takes NIQE for non-differentiable. It is so in three places only, each with an obvious slope:

- Pictures and their luminance are rounded: the slope is that of the unrounded value (straight through). Where pictures
  are clamped it is 0.
- A shape is looked up in a table, as the one whose moment ratio is nearest: the slope is that of the table there.
- Coefficients on either side of zero are counted: the slope is that of a count by a smooth step, as wide as `STEP`.
  Taken for constants, as a count is at almost every point, they put the slope of blurring wrong by two thirds.

It is the gradient of a smooth score. The rounded one is rough when looked at closely: a code that moves by 0.01 changes
it by as much through rounding as along the slope. Over steps of 0.1 the two agree.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from blindsr_env.metrics import luminance, niqe_features
from blindsr_env.metrics.window import smooth, spread_out

LEAST_VARIANCE = 1e-6
"""In squared grey levels: below it a deviation's slope would grow without bound, and a flat window is flat."""

STEP = 0.03
"""Width of the step at zero over the coefficients' root mean square: of 0.01 to 0.3 the one whose slope comes nearest
to finite differences of NIQE along blur, noise and stripes."""


def score(sr: Tensor, threshold: float, dtype: torch.dtype) -> Tensor:
    """Score pictures as `Niqe` does, with a gradient.

    Args:
        sr: `(N, 3, H, W)` in [0, 1], sides whole multiples of 96.
        threshold: as `Niqe`.
        dtype: of the arithmetic over pixels.

    Returns:
        `(N,)` float32. Where a block has no fit, as a flat one, the picture's gradient is NaN or leaves that block out.
    """
    y = rounded(sr).to(dtype)
    fine = fitted(neighbour_products(mscn(y, threshold), niqe_features.BLOCK))
    coarse = fitted(neighbour_products(mscn(niqe_features.halved(y), threshold), niqe_features.BLOCK // 2))
    return niqe_features.distance(torch.cat((fine, coarse), -1)).float()


def rounded(sr: Tensor) -> Tensor:
    """Compute `luminance.rounded` with the slope of the unrounded luminance: `(N, 3, H, W)` -> `(N, H, W)`."""
    y = luminance.luminance(sr.float().clamp(0, 1))
    return luminance.rounded(sr.detach()) + (y - y.detach())  # in this order the sum is exact


def mscn(y: Tensor, threshold: float) -> Tensor:
    """Subtract the mean of y `(N, H, W)` and normalise its contrast, as `niqe_features.mscn`."""
    x: Tensor = _Mscn.apply(y, threshold)[0]
    return x


class _Mscn(Function):
    """`niqe_features.mscn` with its adjoint, in the precision of y.

    Autograd would walk back through mean and mean square in float64, which takes as long as all other steps.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(y: Tensor, threshold: float) -> tuple[Tensor, Tensor, Tensor]:
        difference, deviation = niqe_features.local_contrast(y)
        return F.hardshrink(difference / (deviation + 1), threshold), difference, deviation

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float], output: tuple[Tensor, Tensor, Tensor]) -> None:
        ctx.threshold = inputs[1]
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(inputs[0], *output[1:])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None, *_: None) -> tuple[Tensor | None, None]:
        if gradient is None:
            return None, None
        y, difference, deviation = ctx.saved_tensors
        if torch.is_grad_enabled():  # for second derivatives
            wide = niqe_features.padded(y.double())
            mean = smooth(wide, niqe_features.TAPS)
            variance = smooth(wide * wide, niqe_features.TAPS) - mean * mean
            difference, deviation = (y - mean).to(y.dtype), variance.clamp(min=LEAST_VARIANCE).sqrt().to(y.dtype)
        contrast = deviation + 1
        x = difference / contrast
        to_difference = gradient * (x.abs() > ctx.threshold) / contrast
        to_variance = (
            to_difference * x / deviation.clamp(min=LEAST_VARIANCE**0.5) * (deviation**2 > LEAST_VARIANCE) / -2
        )
        # The mean is S y and the variance S y^2 - (S y)^2, where S, `smooth`, is linear.
        to_mean = -to_difference - 2 * (y - difference) * to_variance
        back_mean, back_square = _unpadded(spread_out(torch.stack([to_mean, to_variance]), niqe_features.TAPS))
        return to_difference + back_mean + 2 * y * back_square, None


def _unpadded(gradient: Tensor) -> Tensor:
    """Hand the gradient of repeated edges on to what was repeated: the adjoint of `padded`, `(..., H, W)`."""
    margin = len(niqe_features.TAPS) // 2
    for dim in (-2, -1):
        before, inside, after = gradient.split([margin, gradient.shape[dim] - 2 * margin, margin], dim)
        first, rest = inside.split([1, inside.shape[dim] - 1], dim)
        gradient = torch.cat([first + before.sum(dim, keepdim=True), rest], dim)
        rest, last = gradient.split([gradient.shape[dim] - 1, 1], dim)
        gradient = torch.cat([rest, last + after.sum(dim, keepdim=True)], dim)
    return gradient


def neighbour_products(x: Tensor, size: int) -> Tensor:
    """Cut x `(N, H, W)` into blocks and multiply each with itself shifted, as `niqe_features.neighbour_products`."""
    blocks, neighbours = niqe_features.neighbourhood(x, size)
    return torch.stack([blocks, *(blocks * neighbour for neighbour in neighbours)], 2).flatten(3)


def fitted(x: Tensor) -> Tensor:
    """Fit an asymmetric generalised Gaussian to each row of x `(N, blocks, 5, n)`, as `niqe_features.fitted`."""
    left_square, right_square, magnitude, left_count, right_count = _Moments.apply(x)
    left_deviation, right_deviation = (left_square / left_count).sqrt(), (right_square / right_count).sqrt()
    r = magnitude.square() / (left_square + right_square) / x.shape[-1]
    return niqe_features.fit_features(left_deviation, right_deviation, r, shape_at)


class _Moments(Function):
    """Sums over the rows of x `(..., n)`, float64 `(...)`: squares left and right of zero, magnitudes, and counts.

    The backward pass is one sweep over x, where autograd would make several of each of a dozen steps.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> tuple[Tensor, ...]:
        left, right = x.clamp(max=0), x.clamp(min=0)
        squares = niqe_features.norm(left).square(), niqe_features.norm(right).square()
        magnitude = niqe_features.total(right) - niqe_features.total(left)
        return *squares, magnitude, -niqe_features.total(left.sign()), niqe_features.total(right.sign())

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, ...]) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        left_square, right_square, magnitude, left_count, right_count = (g[..., None].to(x.dtype) for g in gradients)
        step = STEP * x.detach().square().mean(-1, keepdim=True).sqrt()
        crossing = torch.sigmoid(x / step)  # of a number from left to right
        gradient = (crossing - crossing.square()) * ((right_count - left_count) / step)
        gradient = gradient.addcmul_(x.clamp(min=0), right_square, value=2)
        gradient = gradient.addcmul_(x.clamp(max=0), left_square, value=2)
        return gradient.addcmul_(x.sign(), magnitude)


def shape_at(r: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Look r up as `niqe_features.nearest_shape` does, with the table's slope."""
    index = niqe_features.nearest_index(r.detach())
    change = torch.where(r.isfinite(), r - r.detach(), 0.0)  # 0, with the slope of r; no fit has the smallest shape
    found = niqe_features.shapes(r.device)[1][index] + slopes(r.device)[index] * change[..., None]
    shape, width, spread = found.unbind(-1)
    return shape, width, spread


@lru_cache(maxsize=8)
@torch.inference_mode(False)  # what is kept must serve a later backward pass too
def slopes(device: torch.device) -> Tensor:
    """Differentiate the columns of `niqe_features.shapes` by the moment ratio, `(9801, 3)`: central differences."""
    ratio, found = niqe_features.shapes(device)
    inner = (found[2:] - found[:-2]) / (ratio[2:] - ratio[:-2])[:, None]
    return torch.cat((inner[:1], inner, inner[-1:]))
