"""Degradation (paper, Eq. 1): LR = round8(bicubic_down_s(HR * k)).

Conventions, stated once: `*` is convolution (a kernel with its mass right of the centre moves the picture right); the
border is reflected without repeating the edge pixel; downsampling is MATLAB's `imresize(x, 1/s, 'bicubic')` with
antialiasing, so the LR pixel (i, j) is centred on the middle of the s x s HR block (i, j).

Both steps are linear and, for a separable kernel, act on rows and columns apart: the whole degradation of a batch is
then two batched matrix products with `(h, H)` matrices made from each picture's kernel profile, an order of magnitude
less work than convolving at full size. The LR is the same under whatever autocast and cuDNN settings the caller trains.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from blindsr_env.exact import exact


def blur(x: Tensor, kernel: Tensor) -> Tensor:
    """Convolve pictures with blur kernels, reflecting at the border.

    Args:
        x: pictures `(N, C, H, W)`, floating point.
        kernel: k odd; `(N, k, k)`, or `(N, k)` profiles of separable kernels (each kernel is the outer product of a
            profile with itself). N may be 1: one kernel for all. Two axes always mean profiles, never a single `(k, k)`
            kernel, which could not be told from k profiles: write `kernel[None]`.

    Returns:
        `(N, C, H, W)`, same dtype.

    Raises:
        ValueError: a side of the pictures is not above k // 2, so there is nothing to reflect, shapes disagree, or the
            pictures are no floats.
    """
    kernel = _check(x, kernel)
    n, c, height, width = x.shape
    with exact(x.device):
        if kernel.ndim == 2:
            rows = _blur_matrix(kernel, torch.eye(height, dtype=x.dtype, device=x.device))
            columns = _blur_matrix(kernel, torch.eye(width, dtype=x.dtype, device=x.device))
            return _both_sides(rows, x, columns)
        pad = kernel.shape[-1] // 2
        padded = F.pad(x, (pad, pad, pad, pad), mode="reflect")
        flipped = kernel.flip(1, 2)[:, None].repeat_interleave(c, dim=0)  # (N C, 1, k, k); conv2d correlates
        return F.conv2d(padded.reshape(1, n * c, *padded.shape[2:]), flipped, groups=n * c).view(n, c, height, width)


def downsample(x: Tensor, s: int) -> Tensor:
    """Shrink pictures as MATLAB's `imresize(x, 1/s, 'bicubic')` does, antialiased; no rounding, no clamping.

    Args:
        x: pictures `(N, C, H, W)`, floating point.
        s: whole factor, at least 1.

    Returns:
        `(N, C, ceil(H / s), ceil(W / s))`, same dtype.

    Raises:
        ValueError: the pictures have another shape or are no floats, or the factor is below 1.
    """
    _check_pictures(x)
    height, width = x.shape[-2:]
    rows, columns = (resize_matrix(side, s, x.device, x.dtype) for side in (height, width))
    with exact(x.device):
        return _both_sides(rows, x, columns)


def quantize(x: Tensor) -> Tensor:
    """Round to the 256 levels of an 8-bit picture: times 255, plus 0.5, floor, clip; still float in [0, 1]."""
    return (x.float() * 255).add_(0.5).floor_().clamp_(0, 255).div_(255)


def degrade(hr: Tensor, kernel: Tensor, s: int, noise: Tensor | None = None) -> Tensor:
    """Blur, shrink, add noise if there is any, and round (paper, Eq. 1).

    Args:
        hr: photos `(N, C, H, W)` in [0, 1], floating point.
        kernel: as in `blur`; profiles are the fast way.
        s: scale.
        noise: `(N, C, ceil(H / s), ceil(W / s))`, in units of the pictures' [0, 1].

    Returns:
        LR `(N, C, ceil(H / s), ceil(W / s))`: 8-bit levels as float32 in [0, 1].

    Raises:
        ValueError: see `blur`.
    """
    kernel = _check(hr, kernel)
    if kernel.ndim == 3:
        lr = downsample(blur(hr, kernel), s)
    else:
        height, width = hr.shape[-2:]
        with exact(hr.device):
            rows = _blur_matrix(kernel, resize_matrix(height, s, hr.device, hr.dtype))
            columns = rows if height == width else _blur_matrix(kernel, resize_matrix(width, s, hr.device, hr.dtype))
            lr = _both_sides(rows, hr, columns)
    return quantize(lr if noise is None else lr + noise)


@lru_cache(maxsize=256)
@torch.inference_mode(False)  # what is kept must serve a later backward pass too
def resize_matrix(length: int, s: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Matrix of MATLAB's antialiased bicubic `imresize` by 1/s along one axis.

    Args:
        length: number of samples before.
        s: whole factor.
        device: of the result.
        dtype: of the result; weights are computed in float64.

    Returns:
        `(ceil(length / s), length)`; rows sum to 1. Kept and shared: do not write to it.

    Raises:
        ValueError: a factor below 1.
    """
    if s < 1:
        raise ValueError(f"the factor must be at least 1, got {s}")
    size = -(-length // s)
    centre = (torch.arange(size, dtype=torch.float64) + 0.5) * s - 0.5  # where output samples lie on the input's axis
    reach = 2 * s  # the cubic's support is 2 samples of the coarser grid to each side
    tap = torch.floor(centre - reach)[:, None] + torch.arange(2 * reach + 2, dtype=torch.float64)  # (size, taps)
    weight = _cubic((centre[:, None] - tap) / s)
    weight = weight / weight.sum(dim=1, keepdim=True)
    # symmetric border: ... 1 0 | 0 1 2 ... n-1 | n-1 n-2 ...
    period = tap.to(torch.int64) % (2 * length)
    index = torch.where(period < length, period, 2 * length - 1 - period)
    matrix = torch.zeros(size, length, dtype=torch.float64).scatter_add_(1, index, weight)
    return matrix.to(device=device, dtype=dtype)


def _cubic(x: Tensor) -> Tensor:
    """Keys' cubic with a = -0.5, MATLAB's bicubic."""
    x = x.abs()
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x <= 1, near, torch.where(x < 2, far, torch.zeros_like(x)))


def _blur_matrix(profile: Tensor, after: Tensor) -> Tensor:
    """Compose `after @ B` where B blurs one axis with each profile, reflecting at the border.

    Args:
        profile: `(N, k)`.
        after: `(h, H)`, what follows the blur.

    Returns:
        `(N, h, H)`.
    """
    n, k = profile.shape
    height, length = after.shape
    pad = k // 2
    # y[i] = sum_t p[t] x[i - (t - pad)]: each row of `after` is correlated with the profile, then what fell beyond the
    # border is folded back onto its mirror image.
    spread = F.conv1d(after[:, None], profile[:, None], padding=2 * pad)  # (h, N, H + 2 pad)
    spread = spread.permute(1, 0, 2)
    inside = spread[..., pad : pad + length].clone()  # (N, h, H)
    inside[..., 1 : pad + 1] += spread[..., :pad].flip(-1)
    inside[..., length - 1 - pad : length - 1] += spread[..., pad + length :].flip(-1)
    return inside


def _both_sides(rows: Tensor, x: Tensor, columns: Tensor) -> Tensor:
    """Compute rows @ x @ columns.T for each channel; rows and columns are `(h, H)`, or `(N, h, H)`."""
    n, c, height, width = x.shape
    if rows.ndim == 2:
        return rows @ (x @ columns.T)
    # one product per picture, channels side by side: (N, h, H) @ (N, H, C W)
    tall = rows @ x.permute(0, 2, 1, 3).reshape(n, height, c * width)  # (N, h, C W)
    tall = tall.view(n, -1, width) @ columns.transpose(1, 2)  # (N, h C, w)
    return tall.view(n, rows.shape[1], c, -1).permute(0, 2, 1, 3).contiguous()


def _check_pictures(x: Tensor) -> None:
    if x.ndim != 4:
        raise ValueError(f"pictures must be (N, C, H, W), got {tuple(x.shape)}")
    if not x.is_floating_point():  # weights below 1 would be cast to whole numbers: a black picture
        raise ValueError(f"pictures must be floats in [0, 1], got {x.dtype}: divide by 255")


def _check(x: Tensor, kernel: Tensor) -> Tensor:
    _check_pictures(x)
    count, size = x.shape[0], kernel.shape[-1] if kernel.ndim else 0
    square = kernel.ndim == 2 or (kernel.ndim == 3 and kernel.shape[1] == size)
    if not square or kernel.shape[0] not in (1, count) or size % 2 == 0:
        raise ValueError(
            f"kernels must be ({count}, k, k), or profiles ({count}, k), with k odd, or one for all, (1, k, k) or "
            f"(1, k); got {tuple(kernel.shape)}"
        )
    kernel = kernel.expand(count, *kernel.shape[1:])
    if min(x.shape[-2:]) <= size // 2:
        raise ValueError(
            f"pictures of {x.shape[-2]}x{x.shape[-1]} are too small for a {size}x{size} kernel: "
            f"each side must be at least {size // 2 + 1}"
        )
    return kernel.to(device=x.device, dtype=x.dtype)
