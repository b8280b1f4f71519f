"""PSNR and SSIM on the luminance: how close a picture is to its reference. Both are differentiable."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from blindsr_env.metrics.luminance import luminance, weighted
from blindsr_env.metrics.metric import check
from blindsr_env.metrics.window import gaussian_taps, smooth


def inside(x: Tensor, border: int) -> Tensor:
    """Take `border` pixels off each side of x `(..., H, W)`."""
    return x[..., border : x.shape[-2] - border, border : x.shape[-1] - border]


class Psnr:
    """Peak signal-to-noise ratio in dB of Y in [16, 235] (not rounded), peak 255, without a border of `scale` pixels.

    As super-resolution papers report it. Equal pictures give `Psnr.highest`, not infinity, so that differences and
    means of scores stay numbers.

    Args:
        scale: pixels taken off each side before comparing.
    """

    name = "psnr"
    lower_is_better = False
    needs_reference = True
    differentiable = True
    highest = 100.0

    def __init__(self, scale: int = 4) -> None:
        self.border = scale
        self.min_size = 2 * scale + 1

    def __call__(self, sr: Tensor, hr: Tensor | None = None) -> Tensor:
        """Score `sr` against `hr`, both `(N, 3, H, W)` in [0, 1]: `(N,)` float32 in dB, at most `highest`."""
        check(self, sr, hr)
        assert hr is not None  # by check
        error = weighted(inside(sr.float() - hr.float(), self.border))
        mse = error.square().mean((1, 2)).clamp(min=255.0**2 * 10.0 ** (-self.highest / 10))
        return 20 * math.log10(255.0) - 10 * torch.log10(mse)


class Ssim:
    """Structural similarity of Y in [16, 235] (not rounded), without a border of `scale` pixels.

    Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment: from error visibility to structural similarity", IEEE
    TIP 2004, with its settings: 11x11 Gaussian of width 1.5, only where it lies inside, K1 = 0.01, K2 = 0.03, L = 255.

    Args:
        scale: pixels taken off each side before comparing.
    """

    name = "ssim"
    lower_is_better = False
    needs_reference = True
    differentiable = True

    taps = gaussian_taps(11, 1.5)
    c1 = (0.01 * 255) ** 2
    c2 = (0.03 * 255) ** 2

    def __init__(self, scale: int = 4) -> None:
        self.border = scale
        self.min_size = 2 * scale + len(self.taps)

    def __call__(self, sr: Tensor, hr: Tensor | None = None) -> Tensor:
        """Score `sr` against `hr`, both `(N, 3, H, W)` in [0, 1]: `(N,)` float32, 1 for equal pictures."""
        check(self, sr, hr)
        assert hr is not None  # by check
        x = luminance(inside(sr.float(), self.border))
        y = luminance(inside(hr.float(), self.border))
        # Variances do not depend on the mean grey, but float32 keeps more of them without it.
        grey = y.mean((1, 2), keepdim=True)
        x, y = x - grey, y - grey
        mu_x, mu_y, xx, yy, xy = smooth(torch.stack((x, y, x * x, y * y, x * y)), self.taps)
        var_x, var_y, cov = xx - mu_x * mu_x, yy - mu_y * mu_y, xy - mu_x * mu_y
        mu_x, mu_y = mu_x + grey, mu_y + grey
        luma = (2 * mu_x * mu_y + self.c1) / (mu_x * mu_x + mu_y * mu_y + self.c1)
        structure = (2 * cov + self.c2) / (var_x + var_y + self.c2)
        return (luma * structure).mean((1, 2))
