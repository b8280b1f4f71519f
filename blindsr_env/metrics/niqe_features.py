"""What NIQE measures of pictures, and how far that is from undistorted photos; see `niqe`."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from blindsr_env.metrics import luminance
from blindsr_env.metrics.window import gaussian_taps, moments

BLOCK = 96
TAPS = gaussian_taps(7, 7 / 6)
# MATLAB's bicubic kernel with antialiasing at scale 1/2, at -3.5, -2.5, ..., 3.5 pixels from the new pixel's centre.
HALVING_TAPS = (-3 / 256, -9 / 256, 29 / 256, 111 / 256, 111 / 256, 29 / 256, -9 / 256, -3 / 256)


def block_features(sr: Tensor, threshold: float, dtype: torch.dtype) -> Tensor:
    """Measure every block of pictures `(N, 3, H, W)`, sides whole blocks: `(N, blocks, 36)` float64."""
    y = luminance.rounded(sr).to(dtype)  # (N, H, W), less 128: float32 loses less on small numbers
    fine = fitted(neighbour_products(mscn(y, threshold), BLOCK))
    coarse = fitted(neighbour_products(mscn(halved(y), threshold), BLOCK // 2))
    return torch.cat((fine, coarse), -1)


def mscn(y: Tensor, threshold: float) -> Tensor:
    """Subtract the mean of y `(N, H, W)` and normalise its contrast, same shape; the border repeats the edge."""
    difference, deviation = local_contrast(y)
    return F.hardshrink(difference.div_(deviation.add_(1)), threshold)


def local_contrast(y: Tensor) -> tuple[Tensor, Tensor]:
    """Give how far y `(N, H, W)` is from the mean of its window, and the window's deviation: same shape each."""
    mean, variance = moments(padded(y), TAPS)
    return mean.neg_().add_(y).to(y.dtype), variance.sqrt_()


def padded(y: Tensor) -> Tensor:
    """Repeat the edges of y `(N, H, W)` as far as a window reaches."""
    return F.pad(y[:, None], (len(TAPS) // 2,) * 4, mode="replicate")[:, 0]


def halved(y: Tensor) -> Tensor:
    """Halve y `(N, H, W)`, sides even, as MATLAB's imresize(y, 0.5) does: `(N, H/2, W/2)`."""
    for dim in (1, 2):
        phases = [y.index_select(dim, index) for index in alternate(y.shape[dim], y.device)]
        size = y.shape[dim] // 2
        y = phases[0].narrow(dim, 0, size) * HALVING_TAPS[0]
        for i, tap in enumerate(HALVING_TAPS[1:], 1):
            y.add_(phases[i % 2].narrow(dim, i // 2, size), alpha=tap)
    return y


@cache  # recorded graphs go on reading what is kept here
@torch.inference_mode(False)  # what is kept must serve a later backward pass too
def alternate(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """List every second position from -3 and from -2 on, to 3 beyond the end; mirrored at the border, edge repeated."""
    position = torch.arange(-3, size + 3, device=device)
    inside = torch.where(position < 0, -1 - position, torch.minimum(position, 2 * size - 1 - position))
    return inside[0::2], inside[1::2]


def neighbour_products(x: Tensor, size: int) -> Tensor:
    """Cut x `(N, H, W)` into blocks, and multiply each with itself shifted by (0, 1), (1, 0), (1, 1) and (1, -1).

    What leaves a block on one side enters it on the other.

    Returns:
        `(N, blocks, 5, size^2)`: the block itself, then the four products.
    """
    blocks, neighbours = neighbourhood(x, size)
    products = x.new_empty(*blocks.shape[:2], 5, size, size)
    products[:, :, 0] = blocks
    for i, neighbour in enumerate(neighbours, 1):
        torch.mul(blocks, neighbour, out=products[:, :, i])
    return products.flatten(3)


def neighbourhood(x: Tensor, size: int) -> tuple[Tensor, list[Tensor]]:
    """Cut x `(N, H, W)` into blocks `(N, blocks, size, size)`; give them, and the four shifted ones, same shape."""
    rows, columns = x.shape[1] // size, x.shape[2] // size
    blocks = x.reshape(len(x), rows, size, columns, size).transpose(2, 3).flatten(1, 2)
    around = F.pad(blocks, (1, 1, 1, 0), mode="circular")  # (N, blocks, size + 1, size + 2)
    corners = ((1, 0), (0, 1), (0, 0), (0, 2))
    return blocks, [around[:, :, top : top + size, left : left + size] for top, left in corners]


def fitted(x: Tensor) -> Tensor:
    """Fit an asymmetric generalised Gaussian to each row of x `(N, blocks, 5, n)`: `(N, blocks, 18)` float64.

    By its moments; x is used up. A row without a negative or without a positive number has no fit on that side: NaN
    there, and the smallest shape.
    """
    right = x.relu()
    left = x.sub_(right)
    right_norm, left_norm = norm(right), norm(left)
    magnitude = total(right) - total(left)
    right_count, left_count = total(right.sign_()), -total(left.sign_())

    left_deviation, right_deviation = left_norm / left_count.sqrt(), right_norm / right_count.sqrt()
    r = magnitude.square() / (left_norm.square() + right_norm.square()) / x.shape[-1]
    return fit_features(left_deviation, right_deviation, r, nearest_shape)


def fit_features(
    left_deviation: Tensor,
    right_deviation: Tensor,
    r: Tensor,
    look_up: Callable[[Tensor], tuple[Tensor, Tensor, Tensor]],
) -> Tensor:
    """Turn moments, `(N, blocks, 5)` each, into the features of their fits: `(N, blocks, 18)`.

    Args:
        left_deviation: root mean square of the numbers below zero.
        right_deviation: of those above.
        r: squared mean magnitude over mean square.
        look_up: shape and its two factors for a moment ratio, as `nearest_shape`.
    """
    g = left_deviation / right_deviation
    shape, width, spread = look_up(r * (g**3 + 1) * (g + 1) / (g**2 + 1) ** 2)
    left_width, right_width = left_deviation * width, right_deviation * width
    fits = torch.stack((shape, (right_width - left_width) * spread, left_width, right_width), -1)  # (N, blocks, 5, 4)
    own = torch.stack((shape[..., 0], (left_width[..., 0] + right_width[..., 0]) / 2), -1)
    return torch.cat((own, fits[..., 1:, :].flatten(-2)), -1)


def norm(x: Tensor) -> Tensor:
    """Take Euclidean norms over the last dimension, handed on in float64."""
    return torch.linalg.vector_norm(x, dim=-1).double()


def total(x: Tensor) -> Tensor:
    """Sum over the last dimension, handed on in float64."""
    return x.sum(-1).double()


@lru_cache(maxsize=8)
@torch.inference_mode(False)  # what is kept must serve a later backward pass too
def shapes(device: torch.device) -> tuple[Tensor, Tensor]:
    """Tabulate the shapes 0.2, 0.201, ..., 10 that are tried, by what they predict.

    Returns:
        The moment ratio Gamma(2/a)^2 / (Gamma(1/a) Gamma(3/a)) of each shape a, rising, `(9801,)`; and `(9801, 3)`: a
        itself, the width over the deviation, sqrt(Gamma(1/a) / Gamma(3/a)), and Gamma(2/a) / Gamma(1/a). Float64.
    """
    a = torch.arange(200, 10001, dtype=torch.float64) / 1000
    one, two, three = torch.lgamma(1 / a), torch.lgamma(2 / a), torch.lgamma(3 / a)
    ratio = torch.exp(2 * two - one - three)
    return ratio.to(device), torch.stack((a, torch.exp((one - three) / 2), torch.exp(two - one)), -1).to(device)


def nearest_shape(r: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Look up the shape with the moment ratio nearest to r, of any size: that shape and its two factors in `shapes`."""
    shape, width, spread = shapes(r.device)[1][nearest_index(r)].unbind(-1)
    return shape, width, spread


def nearest_index(r: Tensor) -> Tensor:
    """Find the place in `shapes` of the moment ratio nearest to r, of any size."""
    ratio, _ = shapes(r.device)
    above = torch.searchsorted(ratio, r).clamp_(1, len(ratio) - 1)
    index = above - (r - ratio[above - 1] <= ratio[above] - r).long()
    return index.masked_fill(r.isnan(), 0)  # as MATLAB's min over nothing but NaN


@lru_cache(maxsize=8)
@torch.inference_mode(False)  # what is kept must serve a later backward pass too
def pristine(device: torch.device) -> tuple[Tensor, Tensor]:
    """Read mean `(36,)` and covariance `(36, 36)` of undistorted photos' features, float64, as LIVE published them."""
    with np.load(Path(__file__).with_name("niqe_pristine.npz")) as file:
        mean, covariance = file["mu_pris_param"][0], file["cov_pris_param"]
    return torch.from_numpy(mean).to(device), torch.from_numpy(covariance).to(device)


def distance(features: Tensor) -> Tensor:
    """Measure how far features `(N, blocks, 36)` are from the pristine model: `(N,)`; NaN where no block has all."""
    pristine_mean, pristine_covariance = pristine(features.device)
    usable = features.isfinite().all(-1, keepdim=True)  # (N, blocks, 1)
    count = usable.sum(1, keepdim=True)  # (N, 1, 1)
    # As in MATLAB, the mean is over the numbers of each feature, the covariance over the blocks that have them all.
    mean = features.nanmean(1)
    centred = features.where(usable, 0.0)
    centred = (centred - centred.sum(1, keepdim=True) / count.clamp(min=1)) * usable
    covariance = centred.mT @ centred / (count - 1).clamp(min=1)
    # The sum of a positive definite and a positive semidefinite matrix: its Cholesky solution is the pseudo-inverse's.
    factor, _ = torch.linalg.cholesky_ex((pristine_covariance + covariance) / 2)
    difference = (mean - pristine_mean)[..., None]
    quality = torch.linalg.solve_triangular(factor, difference, upper=False).square().sum((1, 2)).sqrt()
    return quality.where(count[:, 0, 0] > 0, torch.nan)
