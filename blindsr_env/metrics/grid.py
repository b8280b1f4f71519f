"""The mark of pixel shuffle: how much of a picture's fine detail repeats with the period of the upscaling."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from blindsr_env.metrics.luminance import luminance
from blindsr_env.metrics.metric import check
from blindsr_env.metrics.window import smooth


class Grid:
    """Share of the high-pass energy that repeats every `scale` pixels in both directions, in [0, 1].

    High-pass: the luminance (not rounded) less its 9x9 box mean (border reflected without repeating the edge). The
    share is the variance of its scale x scale phase means over its variance. Photos have about 2e-4 at 256x256; a
    generator whose code was bent until a printed grid pleased NIQE has 7e-3. A flat picture has no grid: 0.

    Args:
        scale: the period to look for.
    """

    name = "grid"
    lower_is_better = True
    needs_reference = False
    differentiable = True

    box = (1 / 9,) * 9
    # In squared grey levels. The variance of one step of one channel in one of 65,536 pixels is ten times
    # this; float32 noise on a flat picture is below it and must not be taken for a pattern.
    least_variance = 1e-8

    def __init__(self, scale: int = 4) -> None:
        self.scale = scale
        self.min_size = max(len(self.box), 2 * scale)

    def __call__(self, sr: Tensor, hr: Tensor | None = None) -> Tensor:
        """Score whole periods of `sr`, `(N, 3, H, W)` in [0, 1]: `(N,)` float32. `hr` is ignored."""
        check(self, sr, hr)
        y = luminance(sr.float()) - 128.0  # (N, H, W)
        margin = len(self.box) // 2
        detail = y - smooth(F.pad(y[:, None], (margin,) * 4, mode="reflect")[:, 0], self.box)
        s = self.scale
        rows, columns = detail.shape[1] // s, detail.shape[2] // s
        phases = detail[:, : rows * s, : columns * s].reshape(len(y), rows, s, columns, s)
        phases = phases - phases.mean((1, 2, 3, 4), keepdim=True)
        total = phases.square().mean((1, 2, 3, 4)).clamp(min=self.least_variance)
        means = phases.mean((1, 3))  # (N, s, s)
        return torch.div(means.square().mean((1, 2)), total)
