"""Isotropic Gaussian blur kernels: the family that a generator's code speaks of.

The formula lives in this lowest room because the codec is fitted to it; `blindsr_env.kernels` adds what a world
needs beside it (sampling, other families) and is the public place to import it from.
"""

from __future__ import annotations

import torch
from torch import Tensor

KERNEL_SIZE = 21
"""Side of every blur kernel in HR pixels."""

WIDTH_RANGE: dict[int, tuple[float, float]] = {2: (0.2, 2.0), 3: (0.2, 3.0), 4: (0.2, 4.0)}
"""Kernel widths (standard deviation, HR pixels) that each scale is trained for (paper, section 4.1)."""


def check_width(width: float, width_range: tuple[float, float], whose: str, setting: str = "width") -> None:
    """Raise a ValueError where a kernel width lies outside a generator's range.

    Args:
        width: HR pixels.
        width_range: the least and the largest that it knows.
        whose: its name, for the message.
        setting: what the width was given as, for the message.
    """
    low, high = width_range
    if not low <= width <= high:
        raise ValueError(
            f"{setting} must lie in {low:g} to {high:g}, as {whose}'s kernels do, got {width:g}: give another"
        )


def gaussian_profile(width: Tensor | float, size: int = KERNEL_SIZE) -> Tensor:
    """Sample a one-dimensional Gaussian at whole pixels; its outer product with itself is the kernel.

    Args:
        width: standard deviations in HR pixels, `(N,)` floating point or one number, above 0.
        size: number of taps, odd.

    Returns:
        `(N, size)` in the dtype of `width`; each row sums to 1.

    Raises:
        ValueError: an even size, which has no centre; on the host, a width that is not finite and
            above 0 (widths on another device are not looked at: that would wait for it).
    """
    if size % 2 == 0:
        raise ValueError(f"a kernel's size must be odd, got {size}")
    widths = (width if isinstance(width, Tensor) else torch.as_tensor(width)).reshape(-1)  # a tensor stays where it is
    if not widths.is_floating_point():
        widths = widths.to(torch.get_default_dtype())
    if widths.device.type == "cpu" and not (torch.isfinite(widths) & (widths > 0)).all():
        bad = widths[~(torch.isfinite(widths) & (widths > 0))]
        raise ValueError(f"a kernel's width must be a finite number above 0, in HR pixels, got {bad[0].item():g}")
    offset = torch.arange(size, dtype=widths.dtype, device=widths.device) - size // 2
    profile = torch.exp(-0.5 * (offset / widths[:, None]) ** 2)  # (N, size)
    return profile / profile.sum(dim=1, keepdim=True)


def gaussian(width: Tensor | float, size: int = KERNEL_SIZE) -> Tensor:
    """Sample isotropic Gaussian blur kernels (paper, section 4.1).

    Args:
        width: standard deviations in HR pixels, `(N,)` floating point or one number, above 0.
        size: side of the kernel, odd.

    Returns:
        `(N, size, size)` in the dtype of `width`; each kernel sums to 1.

    Raises:
        ValueError: as `gaussian_profile`.

    Example:
        >>> gaussian(torch.tensor([1.3], dtype=torch.float64)).sum().item()
        1.0
    """
    profile = gaussian_profile(width, size)
    return profile[:, :, None] * profile[:, None, :]
