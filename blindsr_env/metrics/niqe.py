"""NIQE: how far a picture's local statistics are from those of undistorted photos. No reference; lower is better.

Mittal, Soundararajan, Bovik, "Making a 'completely blind' image quality analyzer", IEEE Signal Processing Letters
20(3), 2013, as the official MATLAB release computes it of a grey picture, for a whole batch at once. The picture is the
Y channel here, 16 to 235, as super-resolution papers score it. The release itself makes colour grey by `rgb2gray`,
which moves the scores of single photos by up to 0.14.

1. Whole blocks of 96x96 of the rounded luminance, at full and at half size (`imresize`, blocks of 48x48).
2. MSCN coefficients: the luminance less its local mean, over its local deviation plus 1 (7x7 Gaussian of width 7/6).
3. Per block, asymmetric generalised Gaussians fitted to the MSCN and to its products with four neighbours: 18 features
   a size, 36 in all.
4. Mean and covariance of the features over the blocks, and their distance to those of the pristine photos.
"""

from __future__ import annotations

import torch
from torch import Tensor

from blindsr_env.metrics import niqe_features, niqe_gradient
from blindsr_env.metrics.metric import check
from blindsr_env.metrics.niqe_features import BLOCK

# On a CPU, pictures go through in parts of about so many pixels a thread, so that each step finds its input in the
# cache.
CACHED_PIXELS = 2**17


class Niqe:
    """NIQE of the picture that a viewer would see: clamped and rounded to 8 bit.

    Pictures that require a gradient get one, in four times the time; see `niqe_gradient`.

    Needs at least one block of 96x96 pixels; rows and columns beyond a multiple of 96 are left out. A picture with a
    single usable block has no covariance: it counts as zero. A picture without any usable block (a flat one) gives NaN
    for itself alone.

    Args:
        name: what tables call it.
        threshold: smaller MSCN coefficients count as zero. In flat areas they are rounding noise, whose signs enter the
            fits and move the score by up to 0.1 between two correct implementations; 0 is the official NIQE.
        dtype: of the arithmetic over pixels, float32 or float64. With the default threshold they agree to 3e-5 in the
            mean of 100 crops of 256x256, and to 0.0015 where a shape falls to its neighbour in the table.
    """

    lower_is_better = True
    needs_reference = False
    min_size = BLOCK
    differentiable = True

    def __init__(self, name: str = "niqe", threshold: float = 3e-4, dtype: torch.dtype = torch.float32) -> None:
        self.name = name
        self.threshold = threshold
        self.dtype = dtype

    def __call__(self, sr: Tensor, hr: Tensor | None = None) -> Tensor:
        """Score `sr`, `(N, 3, H, W)` in [0, 1]: `(N,)` float32. `hr` is ignored."""
        check(self, sr, hr)
        rows, columns = sr.shape[2] // BLOCK, sr.shape[3] // BLOCK
        sr = sr[..., : rows * BLOCK, : columns * BLOCK]
        if sr.requires_grad and torch.is_grad_enabled():
            return niqe_gradient.score(sr, self.threshold, self.dtype)
        return self._score(sr, rows * columns)

    @torch.no_grad()
    def _score(self, sr: Tensor, blocks: int) -> Tensor:
        part = len(sr)
        if sr.device.type == "cpu":
            part = CACHED_PIXELS * torch.get_num_threads() // (blocks * BLOCK**2)
        parts = torch.split(sr, max(1, part))
        features = [niqe_features.block_features(pictures, self.threshold, self.dtype) for pictures in parts]
        return niqe_features.distance(torch.cat(features)).float()
