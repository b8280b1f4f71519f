"""Degradation: blur against SciPy, downsampling against MATLAB's algorithm as loops, rounding, alignment, bad input."""

import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from blindsr_env import degradation, images
from blindsr_env.degradation import blur, degrade, downsample, quantize
from blindsr_env.kernels import anisotropic, gaussian, gaussian_profile


def picture(*shape, seed=0, dtype=torch.float64):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def lopsided(n, size=5, seed=1):
    kernel = picture(n, size, size, seed=seed) ** 3
    return kernel / kernel.sum(dim=(1, 2), keepdim=True)


def cubic(x):
    x = abs(x)
    if x <= 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x <= 2 else 0.0


def matlab_resize(signal, size, scale):
    """MATLAB's imresize of columns `(n, ...)` to `size` samples: its `contributions`, with its 1-based indices."""
    n, wide = len(signal), min(scale, 1.0)  # antialiasing stretches the cubic when shrinking
    kernel_width = 4.0 / wide
    result = np.zeros((size, *signal.shape[1:]))
    for i in range(size):
        u = (i + 1) / scale + 0.5 * (1 - 1 / scale)
        left = math.floor(u - kernel_width / 2)
        index = [left + j for j in range(math.ceil(kernel_width) + 2)]
        weight = [wide * cubic(wide * (u - j)) for j in index]
        aux = [*range(1, n + 1), *range(n, 0, -1)]  # symmetric border
        for j, w in zip(index, weight, strict=True):
            result[i] += w / sum(weight) * signal[aux[(j - 1) % len(aux)] - 1]
    return result


def matlab_imresize(plane, scale):
    """Both axes of `(H, W)`, to MATLAB's size, ceil(scale * side)."""
    height, width = (math.ceil(round(scale * side, 9)) for side in plane.shape)
    return matlab_resize(matlab_resize(plane, height, scale).T, width, scale).T


@pytest.mark.parametrize("s", [2, 3, 4])
@pytest.mark.parametrize("size", [(24, 36), (25, 23), (13, 50), (7, 5), (1, 3)])
def test_downsampling_is_matlabs(s, size):
    x = picture(1, 2, *size)
    expected = np.stack([matlab_imresize(plane.numpy(), 1 / s) for plane in x[0]])
    assert downsample(x, s).shape[2:] == expected.shape[1:]
    assert np.abs(downsample(x, s)[0].numpy() - expected).max() < 1e-12
    assert np.abs(downsample(x.float(), s)[0].numpy() - expected).max() < 1e-6


def test_photos_shrink_as_matlabs_but_at_the_border():
    pixels = np.random.default_rng(0).integers(0, 256, (60, 45, 3), dtype=np.uint8)
    small = images.shrink(images.Photo("noise", pixels), 0.8)
    expected = np.stack([matlab_imresize(plane, 0.8) for plane in pixels.transpose(2, 0, 1).astype(float)])
    assert small.name == "noise" and small.pixels.shape == (48, 36, 3) and small.pixels.dtype == np.uint8
    inside = (slice(None), slice(3, -3), slice(3, -3))  # beyond it MATLAB continues a photo by its mirror image
    assert np.abs(small.pixels.transpose(2, 0, 1) - expected.clip(0, 255))[inside].max() < 0.51
    assert images.shrink(images.Photo("odd", pixels[:5, :3]), 0.1).pixels.shape == (1, 1, 3)
    assert np.array_equal(images.shrink(images.Photo("same", pixels), 1).pixels, pixels)
    with pytest.raises(ValueError, match="above 0 and at most 1, got 1.5"):
        images.shrink(images.Photo("noise", pixels), 1.5)
    (mirrored,) = images.load([pixels[..., ::-1]])
    assert np.array_equal(images.shrink(mirrored, 1).pixels, pixels[..., ::-1])


@pytest.mark.parametrize("s", [2, 3, 4])
def test_downsampling_facts(s):
    assert (downsample(torch.full((1, 1, 19, 22), 0.3), s) - 0.3).abs().max() < 1e-6
    ramp = torch.arange(60, dtype=torch.float64).expand(1, 1, 60, 60)
    middle = s * torch.arange(60 // s) + (s - 1) / 2  # LR pixels sit on the middle of their blocks
    inside = slice(3, -3)
    assert (downsample(ramp, s)[0, 0, 0] - middle)[inside].abs().max() < 1e-10
    assert downsample(picture(1, 1, 6, 6), 1).shape == (1, 1, 6, 6)
    with pytest.raises(ValueError, match="at least 1"):
        downsample(ramp, 0)


@pytest.mark.parametrize("size", [(16, 20), (11, 13)])
def test_blur_is_scipys_convolution(size):
    x, kernel = picture(2, 3, *size), lopsided(2)
    for n in range(2):
        for c in range(3):
            expected = ndimage.convolve(x[n, c].numpy(), kernel[n].numpy(), mode="mirror")
            assert np.abs(blur(x, kernel)[n, c].numpy() - expected).max() < 1e-12


def test_a_kernel_right_of_the_centre_moves_the_picture_right():
    kernel = torch.zeros(1, 5, 5)
    kernel[0, 2, 3] = 1
    x = picture(1, 1, 9, 9, dtype=torch.float32)
    assert torch.equal(blur(x, kernel)[..., 1:], x[..., :-1])


@pytest.mark.parametrize("size", [(24, 24), (21, 34), (11, 11)])
def test_profiles_equal_kernels(size):
    width = torch.tensor([0.2, 1.3, 4.0], dtype=torch.float64)
    x, profile, kernel = picture(3, 3, *size), gaussian_profile(width), gaussian(width)
    assert (blur(x, profile) - blur(x, kernel)).abs().max() < 1e-12
    levels = (degrade(x, profile, 4) - degrade(x, kernel, 4)).abs() * 255
    assert levels.max() < 1.5 and (levels > 0.5).float().mean() < 0.01  # one level, where rounding falls the other way


def test_lopsided_profiles_equal_kernels():
    x, profile = picture(2, 1, 17, 18), torch.tensor([[0.1, 0.2, 0.7], [0.6, 0.4, 0.0]], dtype=torch.float64)
    assert (blur(x, profile) - blur(x, profile[:, :, None] * profile[:, None, :])).abs().max() < 1e-12


@pytest.mark.parametrize("s", [2, 3, 4])
def test_degrade_is_blur_downsample_quantize(s):
    width = torch.tensor([0.7, 2.6], dtype=torch.float64)
    x = picture(2, 3, 32, 45)
    steps = quantize(downsample(blur(x, gaussian(width)), s))
    for kernel in (gaussian(width), gaussian_profile(width)):
        lr = degrade(x, kernel, s)
        assert lr.shape == (2, 3, -(-32 // s), -(-45 // s)) and lr.dtype == torch.float32
        assert torch.equal((lr * 255).round() / 255, lr) and lr.min() >= 0 and lr.max() <= 1
        assert ((lr - steps).abs() * 255 > 0.5).float().mean() < 0.01


def test_a_delta_changes_nothing():
    x = picture(2, 3, 12, 15)
    delta = torch.zeros(1, 21, 21, dtype=torch.float64)
    delta[0, 10, 10] = 1
    assert torch.equal(blur(x, delta), x)
    assert (blur(x, delta[:, 10]) - x).abs().max() < 1e-15
    assert (blur(x, gaussian_profile(torch.tensor([0.05, 0.05], dtype=torch.float64))) - x).abs().max() < 1e-15


@pytest.mark.parametrize("s", [2, 3, 4])
@pytest.mark.parametrize("blocks", [6, 7])
def test_nothing_shifts(s, blocks):
    """A symmetric picture stays symmetric; and going up again by MATLAB's bicubic, a smooth one is where it was."""
    side = s * blocks
    x = picture(1, 1, side, side)
    x = x + x.flip(-1)
    x = (x + x.flip(-2)) / 4
    profile = gaussian_profile(torch.tensor([1.1], dtype=torch.float64))
    lr = downsample(blur(x, profile), s)
    assert (lr - lr.flip(-1)).abs().max() < 1e-12 and (lr - lr.flip(-2)).abs().max() < 1e-12
    wave = torch.arange(40 * s, dtype=torch.float64)
    wave = 0.5 + 0.2 * torch.sin(2 * math.pi * wave / (20 * s))
    lr = downsample(wave.expand(1, 1, 40 * s, -1), s)[0, 0]
    back = matlab_imresize(lr.numpy(), s)[0]
    shift = [np.abs(np.roll(back, move) - wave.numpy())[5 * s : -5 * s].mean() for move in (-1, 0, 1)]
    assert shift[1] < 0.2 * min(shift[0], shift[2])


def test_each_picture_has_its_own_kernel():
    x = picture(3, 2, 14, 16)
    for kernel in (lopsided(3), gaussian_profile(torch.tensor([0.5, 1.5, 3.0], dtype=torch.float64))[:, 4:17]):
        together = blur(x, kernel)
        alone = torch.cat([blur(x[i : i + 1], kernel[i : i + 1]) for i in range(3)])
        assert (together - alone).abs().max() < 1e-14


def test_one_kernel_for_all_has_a_leading_axis():
    x, kernel = picture(3, 1, 12, 12), lopsided(1)
    assert torch.equal(blur(x, kernel), blur(x, kernel.repeat(3, 1, 1)))
    profile = gaussian_profile(torch.tensor([1.0], dtype=torch.float64))
    assert torch.equal(blur(x, profile), blur(x, profile.repeat(3, 1)))
    assert torch.equal(degrade(x, profile, 2), degrade(x, profile.repeat(3, 1), 2))


@pytest.mark.parametrize("n", [5, 21])
def test_two_axes_are_always_profiles(n):
    """As many pictures as taps: k profiles of k taps must not be taken for one kernel."""
    profile = gaussian_profile(torch.linspace(0.3, 2.0, n, dtype=torch.float64), size=n)
    x = picture(n, 1, 16, 16)
    assert (blur(x, profile) - blur(x, profile[:, :, None] * profile[:, None, :])).abs().max() < 1e-14
    with pytest.raises(ValueError, match=r"got \(21, 21\)"):
        blur(x[:2], gaussian(torch.tensor(1.0, dtype=torch.float64))[0])


@pytest.mark.parametrize(
    ("shape", "kernel", "message"),
    [
        ((3, 16, 16), (1, 5, 5), r"must be \(N, C, H, W\)"),
        ((2, 1, 16, 16), (3, 5, 5), r"kernels must be \(2, k, k\)"),
        ((2, 1, 16, 16), (2, 5, 7), "kernels must be"),
        ((2, 1, 16, 16), (2, 4, 4), "k odd"),
        ((2, 1, 16, 16), (2, 6), "k odd"),
        ((2, 1, 16, 16), (5,), "kernels must be"),
        ((2, 1, 16, 16), (), "kernels must be"),
        ((2, 1, 16, 16), (1, 1, 5, 5), "kernels must be"),
        ((1, 1, 10, 40), (1, 21, 21), "10x40 are too small for a 21x21 kernel: each side must be at least 11"),
        ((1, 1, 40, 10), (1, 21), "too small"),
    ],
)
def test_bad_shapes_are_refused(shape, kernel, message):
    for function in (blur, lambda x, k: degrade(x, k, 4)):
        with pytest.raises(ValueError, match=message):
            function(torch.zeros(shape), torch.zeros(kernel))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: blur(x, gaussian(torch.tensor([1.0]))),
        lambda x: degrade(x, gaussian_profile(torch.tensor([1.0])), 4),
        lambda x: downsample(x, 4),
    ],
)
def test_pictures_that_are_no_floats_or_no_batch_are_refused(function):
    with pytest.raises(ValueError, match=r"floats in \[0, 1\], got torch.uint8: divide by 255"):
        function(torch.full((1, 3, 32, 32), 200, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"pictures must be \(N, C, H, W\), got \(3, 32, 32\)"):
        function(torch.zeros(3, 32, 32))


def test_noise_is_added_before_rounding():
    x, noise = picture(2, 3, 32, 48), picture(2, 3, 8, 12, seed=2) / 8 - 1 / 16
    for kernel in (gaussian(torch.tensor([1.3])), gaussian_profile(torch.tensor([1.3]))):
        exactly = downsample(blur(x, kernel.double()), 4) + noise
        assert (degrade(x, kernel, 4, noise) - exactly.clamp(0, 1)).abs().max() <= 0.5 / 255 + 1e-6


def test_the_smallest_picture_is_blurred():
    x, width = picture(1, 1, 11, 11), torch.tensor([4.0], dtype=torch.float64)
    expected = ndimage.convolve(x[0, 0].numpy(), gaussian(width)[0].numpy(), mode="mirror")
    for kernel in (gaussian(width), gaussian_profile(width)):
        assert np.abs(blur(x, kernel)[0, 0].numpy() - expected).max() < 1e-12


def test_rounding():
    levels = torch.arange(256) / 255
    assert torch.equal(quantize(levels), levels)
    halves = (torch.arange(255, dtype=torch.float64) + 0.5) / 255
    above, below = quantize(halves + 1e-6), quantize(halves - 1e-6)
    assert torch.equal((above * 255).round(), torch.arange(1.0, 256.0))
    assert torch.equal((below * 255).round(), torch.arange(0.0, 255.0))
    assert quantize(torch.tensor([0.5, -0.3, 1.7, 127.5 / 255])).mul(255).round().tolist() == [128, 0, 255, 128]
    halfway = (
        torch.arange(0.5, 255, 2) / 255
    )  # of an even level and the next: up, as MATLAB's uint8, not to the even one
    assert torch.equal(halfway * 255, torch.arange(0.5, 255, 2))
    assert torch.equal(quantize(halfway).mul(255).round(), torch.arange(1.0, 256, 2))
    assert quantize(torch.tensor([0.5], dtype=torch.bfloat16)).dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_and_device_are_kept(dtype):
    x = picture(2, 3, 16, 16, dtype=dtype)
    for kernel in (gaussian(torch.tensor([1.0, 2.0])), gaussian_profile(torch.tensor([1.0, 2.0], dtype=torch.float64))):
        y = blur(x, kernel)
        assert y.dtype == dtype and y.device == x.device and y.shape == x.shape
    assert downsample(x, 3).dtype == dtype


def test_anisotropic_kernels_are_applied():
    angle = torch.tensor([0.4], dtype=torch.float64)
    kernel = anisotropic(torch.full((1,), 3.0).double(), torch.full((1,), 0.8).double(), angle)
    x = picture(1, 1, 25, 31)
    expected = ndimage.convolve(x[0, 0].numpy(), kernel[0].numpy(), mode="mirror")
    assert np.abs(blur(x, kernel)[0, 0].numpy() - expected).max() < 1e-12


def test_matrices_first_used_for_inference_serve_training_too():
    degradation.resize_matrix.cache_clear()
    with torch.inference_mode():
        downsample(picture(1, 1, 29, 31), 4)
    x = picture(1, 1, 29, 31).requires_grad_()
    downsample(x, 4).sum().backward()
    assert x.grad.sum().item() == pytest.approx(8 * 8)


def test_gradients_are_those_of_the_formula():
    x = picture(2, 1, 8, 9).requires_grad_()
    profile = gaussian_profile(torch.tensor([0.8, 1.5], dtype=torch.float64), size=5)
    assert torch.autograd.gradcheck(lambda x: downsample(blur(x, profile), 2), x)


def test_autocast_of_the_caller_changes_nothing():
    x, width = picture(2, 3, 40, 44, dtype=torch.float32), torch.tensor([0.7, 2.6])
    for kernel in (gaussian(width), gaussian_profile(width)):
        for function in (blur, lambda x, k: downsample(x, 4), lambda x, k: degrade(x, k, 4)):
            plain = function(x, kernel)
            with torch.autocast("cpu", torch.bfloat16):
                cast = function(x, kernel)
            assert cast.dtype == plain.dtype and torch.equal(cast, plain)


@pytest.mark.gpu
def test_settings_of_the_caller_change_nothing_on_the_gpu():
    x, width = picture(8, 3, 64, 80, dtype=torch.float32).cuda(), torch.linspace(0.2, 4, 8).cuda()
    for kernel in (gaussian(width), gaussian_profile(width)):
        plain = degrade(x, kernel, 4)
        with torch.autocast("cuda", torch.bfloat16), torch.backends.cudnn.flags(benchmark=True, allow_tf32=True):
            assert torch.equal(degrade(x, kernel, 4), plain)


@pytest.mark.gpu
def test_the_gpu_degrades_as_the_cpu():
    x, profile = picture(4, 3, 64, 80, dtype=torch.float32), gaussian_profile(torch.linspace(0.2, 4, 4))
    levels = (degrade(x.cuda(), profile.cuda(), 4).cpu() - degrade(x, profile, 4)).abs() * 255
    assert levels.max() < 1.5 and (levels > 0.5).float().mean() < 1e-3


def luminance(rgb):
    return (rgb @ np.array([65.481, 128.553, 24.966]) + 16) / 255


SHARED = Path(os.environ.get("BLINDSR_SHARED", Path(__file__).resolve().parents[3] / "shared"))


@pytest.mark.skipif(not (SHARED / "data/eval/Set5").is_dir(), reason="needs ../shared")
def test_bicubic_reference_figures():
    """Bicubic upsampling of our LR, PSNR-Y, border 4: what the field reports for Set5."""
    width = torch.tensor([0.2, 1.3, 2.6], dtype=torch.float64)
    psnr = []
    for path in images.find(SHARED / "data/eval/Set5"):
        hr = images.read(path)
        hr = hr[: hr.shape[0] // 4 * 4, : hr.shape[1] // 4 * 4]
        x = torch.from_numpy(hr).permute(2, 0, 1)[None].expand(3, -1, -1, -1).float() / 255
        lr = degrade(x, gaussian_profile(width), 4).double().permute(0, 2, 3, 1).numpy()
        for small in lr:
            rows = matlab_resize(small, hr.shape[0], 4.0)
            sr = matlab_resize(rows.transpose(1, 0, 2), hr.shape[1], 4.0).transpose(1, 0, 2)
            sr = np.floor(sr.clip(0, 1) * 255 + 0.5) / 255
            error = (luminance(sr) - luminance(hr / 255.0))[4:-4, 4:-4]
            psnr.append(-10 * np.log10(np.mean(error**2)))
    assert np.array(psnr).reshape(-1, 3).mean(axis=0) == pytest.approx([28.43, 27.57, 25.71], abs=0.006)
