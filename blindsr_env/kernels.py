"""Blur kernels of the world: isotropic Gaussians (from the generators' room) and their anisotropic relatives."""

from __future__ import annotations

import torch
from torch import Tensor

from generators.kernels import KERNEL_SIZE, WIDTH_RANGE, check_width, gaussian, gaussian_profile

__all__ = [
    "GAUSSIAN8",
    "KERNEL_SIZE",
    "WIDTH_RANGE",
    "anisotropic",
    "check_width",
    "gaussian",
    "gaussian_profile",
    "least_side",
]

GAUSSIAN8: tuple[float, ...] = (1.8, 2.0, 2.2, 2.4, 2.6, 2.8, 3.0, 3.2)
"""*Gaussian8*, the widths at x4 that blind super-resolution is reported on."""


def least_side(scale: int) -> int:
    """Give the least side of LR, pixels, whose HR is large enough to be blurred: its border is mirrored."""
    return KERNEL_SIZE // 2 // scale + 1


def anisotropic(width_x: Tensor, width_y: Tensor, angle: Tensor, size: int = KERNEL_SIZE) -> Tensor:
    """Sample anisotropic Gaussian blur kernels.

    Args:
        width_x: standard deviations along the first principal axis in HR pixels, `(N,)` floating point, above 0.
        width_y: the same along the second.
        angle: from the picture's x axis to the first principal axis, radians, counter-clockwise as seen, `(N,)`.
        size: side of the kernel, odd.

    Returns:
        `(N, size, size)` in the dtype of `width_x`; each kernel sums to 1.

    Raises:
        ValueError: an even size, which has no centre.
    """
    if size % 2 == 0:
        raise ValueError(f"a kernel's size must be odd, got {size}")
    offset = torch.arange(size, dtype=width_x.dtype, device=width_x.device) - size // 2
    x, y = offset[None, None, :], -offset[None, :, None]  # rows grow downwards, angles turn upwards
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    along, across = x * cos + y * sin, y * cos - x * sin
    distance = (along / width_x[:, None, None]) ** 2 + (across / width_y[:, None, None]) ** 2
    kernel = torch.exp(-0.5 * distance)  # (N, size, size)
    return kernel / kernel.sum(dim=(1, 2), keepdim=True)
