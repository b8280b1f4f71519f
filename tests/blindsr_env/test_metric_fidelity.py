"""PSNR and SSIM against NumPy and scikit-image."""

import numpy as np
import pytest
import torch
from skimage import data
from skimage.metrics import structural_similarity

from blindsr_env import metrics


def y_of(picture):
    """MATLAB's rgb2ycbcr of a (3, H, W) double picture, luminance only, in [16, 235]."""
    return 16 + np.tensordot([65.481, 128.553, 24.966], np.asarray(picture, dtype=np.float64), 1)


@pytest.fixture(scope="module")
def pairs():
    """Three photos (HR) and what noise, blur and an offset made of them (SR)."""
    photos = [data.astronaut()[:70, 180:260], data.astronaut()[200:270, 0:80], data.chelsea()[80:150, 100:180]]
    hr = torch.from_numpy(np.stack(photos)).permute(0, 3, 1, 2).float() / 255
    sr = hr.clone()
    sr[0] += torch.randn(sr[0].shape, generator=torch.Generator().manual_seed(0)) * 0.05
    sr[1] = torch.nn.functional.avg_pool2d(hr[1], 5, stride=1, padding=2)
    sr[2] += 1 / 255
    return sr.clamp(0, 1), hr


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_psnr_equals_numpy(pairs, scale):
    sr, hr = pairs
    inner = (slice(scale, -scale),) * 2
    expected = [
        20 * np.log10(255) - 10 * np.log10(np.mean((y_of(a)[inner] - y_of(b)[inner]) ** 2))
        for a, b in zip(sr, hr, strict=True)
    ]
    np.testing.assert_allclose(metrics.get("psnr", scale=scale)(sr, hr), expected, atol=1e-4)


@pytest.mark.parametrize("scale", [2, 4])
def test_ssim_equals_scikit_image(pairs, scale):
    sr, hr = pairs
    inner = (slice(scale, -scale),) * 2
    valid = (slice(5, -5),) * 2
    expected = []
    for a, b in zip(sr, hr, strict=True):
        _, similarity = structural_similarity(
            y_of(a)[inner],
            y_of(b)[inner],
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=255,
            full=True,
        )
        expected.append(similarity[valid].mean())
    np.testing.assert_allclose(metrics.get("ssim", scale=scale)(sr, hr), expected, atol=1e-5)


def test_equal_pictures_score_finite_and_highest(pairs):
    _, hr = pairs
    assert metrics.get("psnr")(hr, hr).tolist() == [100.0] * 3
    assert metrics.get("ssim")(hr, hr).tolist() == pytest.approx([1.0] * 3, abs=1e-6)
    flat = torch.zeros(1, 3, 64, 64)
    assert metrics.get("psnr")(flat, flat).item() == 100.0
    assert metrics.get("ssim")(flat, flat).item() == pytest.approx(1.0, abs=1e-6)


def test_half_precision_loses_only_what_its_pictures_lost(pairs):
    """Differences are taken in float32: bright pixels a level apart would be equal, or two apart."""
    sr, hr = (picture.bfloat16() for picture in pairs)
    for name in ("psnr", "ssim"):
        metric = metrics.get(name, scale=4)
        assert torch.equal(metric(sr, hr), metric(sr.float(), hr.float()))


def test_border_does_not_count(pairs):
    sr, hr = (x.clone() for x in pairs)
    expected = [metrics.get(name)(sr, hr) for name in ("psnr", "ssim")]
    sr[..., :4, :] = 0
    sr[..., -4:] = 1
    for name, score in zip(("psnr", "ssim"), expected, strict=True):
        torch.testing.assert_close(metrics.get(name)(sr, hr), score)


def test_ssim_in_float32_on_flat_bright_pictures():
    """Its variances are small differences of large numbers: one grey level of noise on white."""
    noise = torch.randint(0, 2, (1, 3, 64, 64), generator=torch.Generator().manual_seed(0)) / 255
    hr, sr = torch.ones(1, 3, 64, 64), 1 - noise
    _, similarity = structural_similarity(
        y_of(sr[0])[4:-4, 4:-4],
        y_of(hr[0])[4:-4, 4:-4],
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=255,
        full=True,
    )
    assert metrics.get("ssim")(sr, hr).item() == pytest.approx(similarity[5:-5, 5:-5].mean(), abs=1e-5)


@pytest.mark.parametrize("name", ["psnr", "ssim"])
def test_gradient(pairs, name):
    """A step along the gradient raises the score; where pictures are equal the gradient is a number."""
    sr, hr = pairs
    metric = metrics.get(name)
    x = sr[:2].clone().requires_grad_()
    score = metric(x, hr[:2])
    (gradient,) = torch.autograd.grad(score.sum(), x)
    assert gradient.isfinite().all() and (gradient.abs().amax((1, 2, 3)) > 0).all()
    assert (gradient[..., :4, :] == 0).all()
    step = 1e-3 * gradient / gradient.abs().amax((1, 2, 3), keepdim=True)
    assert (metric(sr[:2] + step, hr[:2]) > score).all()
    same = hr[:1].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(metric(same, hr[:1]).sum(), same)
    assert gradient.isfinite().all()


@pytest.mark.gpu
def test_gpu_equals_cpu(pairs):
    sr, hr = pairs
    for name in ("psnr", "ssim", "grid"):
        metric = metrics.get(name)
        torch.testing.assert_close(metric(sr.cuda(), hr.cuda()).cpu(), metric(sr, hr), atol=1e-4, rtol=1e-5)
