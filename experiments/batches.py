"""Endless training batches of (HR, LR, kernel), cropped and degraded on the device."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from blindsr_env import degradation, kernels
from blindsr_env.images import ImageError
from blindsr_env.patch import PatchSize, covered, fits, oriented, scaled, sides
from blindsr_env.pool import PhotoPool

SHARP = 0.1
"""Width at which a sampled Gaussian is a single pixel."""


class Batches:
    """Random crops of a pool, flipped, turned, blurred with random isotropic kernels and shrunk.

    Photos are drawn in proportion to their pixels, so that each is used as much as it has to show, although crops of
    one that is hardly larger than a patch look much alike. Photos smaller than a patch are left out.

    Args:
        pool: HR photos.
        scale: 2, 3 or 4.
        patch_size: side of an LR patch, in pixels, or its height and width; a crop that is no square covers its photo
            upright or turned by a right angle, whichever way it fits.
        batch_size: patches per batch.
        width_range: kernel widths are drawn uniformly from it.
        soften: half of the HR crops are first blurred by a Gaussian of random width up to this, HR
            pixels. Photos differ in how sharp they are, and a predictor that takes softness for blur makes pictures
            ring.
        rng: on the pool's device; its state is the stream's state.

    Raises:
        ImageError: no photo is large enough for a patch.
        ValueError: half of an odd batch is to be softened.
    """

    def __init__(
        self,
        pool: PhotoPool,
        *,
        scale: int,
        patch_size: PatchSize,
        batch_size: int,
        width_range: tuple[float, float],
        soften: float = 0.0,
        rng: torch.Generator,
    ) -> None:
        self.pool, self.scale, self.batch_size, self.width_range, self.rng = pool, scale, batch_size, width_range, rng
        if soften > 0 and batch_size % 2:
            raise ValueError(f"half of the crops are softened, of an odd number, {batch_size} a process: make it even")
        self.soften = soften
        self.size = height, width = scaled(sides(patch_size), scale)
        # By their number of crops, photos a little larger than a patch would hardly count: a tenth for BSDS400 beside
        # 82 photos of 1200 pixels and patches of 64x64.
        large = fits(self.size, pool.heights, pool.widths)
        if not bool(large.any()):
            raise ImageError(f"no photo is as large as {height}x{width}: lower patch_size or give larger photos")
        self._cumulative = (pool.heights * pool.widths * large).double().cumsum(0)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield HR `(N, 3, s h, s w)` and LR `(N, 3, h, w)`, float32 in [0, 1], and kernels `(N, 21, 21)` float64."""
        pool, (low, high) = self.pool, self.width_range
        while True:
            u = torch.rand(5, self.batch_size, generator=self.rng, device=pool.device, dtype=torch.float64)
            image = torch.searchsorted(self._cumulative, u[0] * self._cumulative[-1], right=True)
            heights, widths = pool.heights[image], pool.widths[image]
            flip = oriented(self.size, (u[3] * 8).long(), heights, widths)
            rows, columns = covered(self.size, flip)
            top = (u[1] * (heights - rows + 1)).long()
            left = (u[2] * (widths - columns + 1)).long()
            hr = pool.crops(image, top, left, self.size, flip).float().div_(255)
            if self.soften > 0:
                half = hr[: self.batch_size // 2]
                v = torch.rand(len(half), generator=self.rng, device=pool.device, dtype=torch.float64)
                half.copy_(degradation.blur(half, kernels.gaussian_profile(SHARP + (self.soften - SHARP) * v)))
            width = low + (high - low) * u[4]
            yield hr, degradation.degrade(hr, kernels.gaussian_profile(width), self.scale), kernels.gaussian(width)
