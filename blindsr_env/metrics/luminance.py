"""Y of ITU-R BT.601 in [16, 235], as MATLAB's rgb2ycbcr gives it."""

from __future__ import annotations

from torch import Tensor

# Y = 16 + (65.481 R + 128.553 G + 24.966 B) for R, G, B in [0, 1]. For 8-bit levels r, g, b in 0..255 that is
# 16 + (65481 r + 128553 g + 24966 b) / 255000, or over the common divisor 3:
_WEIGHTS = (21827.0, 42851.0, 8322.0)
_DIVISOR = 85000.0
# floor(Y + 1/2) - 128 = floor((weights . (levels - 128) + _ROUNDING) / divisor)
_ROUNDING = 128.0 * sum(_WEIGHTS) + (16.0 - 128.0 + 0.5) * _DIVISOR


def luminance(rgb: Tensor) -> Tensor:
    """Compute Y, unrounded; differentiable.

    Args:
        rgb: `(N, 3, H, W)` floating point in [0, 1].

    Returns:
        `(N, H, W)` in [16, 235], the dtype of `rgb`.
    """
    return weighted(rgb) + 16.0


def weighted(rgb: Tensor) -> Tensor:
    """Compute Y less its offset of 16: linear, so Y of a difference is a difference of Ys. Shapes as `luminance`."""
    red, green, blue = rgb.unbind(1)
    return (red * 65.481).add(green, alpha=128.553).add(blue, alpha=24.966)


def rounded(rgb: Tensor) -> Tensor:
    """Compute the Y of 8-bit pictures in whole grey levels, less 128. Exact: halves go up, on every device.

    With 128 taken off the levels every product and sum is a whole number below 2^24, and a quotient of such numbers by
    85000 is rounded by less than its distance to the next grey level: float32 arithmetic makes no error here.

    Args:
        rgb: `(N, 3, H, W)` floating point in [0, 1]; clamped and rounded to 8 bit first.

    Returns:
        `(N, H, W)` float32, whole numbers in [-112, 107].
    """
    levels = (rgb.float() * 255.0).round_().clamp_(0.0, 255.0).sub_(128.0)
    red, green, blue = levels.unbind(1)
    y = (red * _WEIGHTS[0]).add_(green, alpha=_WEIGHTS[1]).add_(blue, alpha=_WEIGHTS[2])
    # The divisor is a tensor because CUDA divides by a number as a product with its rounded reciprocal.
    return y.add_(_ROUNDING).div_(y.new_full((), _DIVISOR)).floor_()
