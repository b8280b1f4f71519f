"""NIQE against an independent float64 implementation, MATLAB's published value, and its own promises."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage, special
from skimage import data

from blindsr_env import metrics
from blindsr_env.metrics import luminance, niqe_features
from blindsr_env.metrics import niqe as niqe_module

SHARED = Path(os.environ.get("BLINDSR_SHARED", Path(__file__).parents[3] / "shared"))


# --- the reference: NumPy and SciPy in float64, step by step as in the paper and the MATLAB release -------------------


def imresize_half(image):
    """MATLAB's imresize(image, 0.5): bicubic, antialiased, with its index arithmetic."""

    def cubic(x):
        x = np.abs(x)
        return np.where(
            x <= 1, 1.5 * x**3 - 2.5 * x**2 + 1, np.where(x <= 2, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2, 0.0)
        )

    for axis in (0, 1):
        length = image.shape[axis]
        u = np.arange(1, length // 2 + 1) / 0.5 + 0.5 * (1 - 1 / 0.5)  # 1-based centres in the source
        indices = np.floor(u - 4)[:, None] + np.arange(10)
        weights = 0.5 * cubic(0.5 * (u[:, None] - indices))
        weights /= weights.sum(1, keepdims=True)
        mirror = np.concatenate((np.arange(length), np.arange(length)[::-1]))
        source = mirror[np.mod(indices.astype(int) - 1, 2 * length)]
        image = np.moveaxis(np.einsum("ok,ok...->o...", weights, np.moveaxis(image, axis, 0)[source]), 0, axis)
    return image


def aggd(values):
    gam = np.arange(200, 10001) / 1000
    r_gam = special.gamma(2 / gam) ** 2 / (special.gamma(1 / gam) * special.gamma(3 / gam))
    with np.errstate(all="ignore"):
        left = np.sqrt(np.sum(values[values < 0] ** 2) / np.sum(values < 0))
        right = np.sqrt(np.sum(values[values > 0] ** 2) / np.sum(values > 0))
        g = left / right
        rhat = np.mean(np.abs(values)) ** 2 / np.mean(values**2)
        rhatnorm = rhat * (g**3 + 1) * (g + 1) / (g**2 + 1) ** 2
    alpha = gam[np.argmin((r_gam - rhatnorm) ** 2)]
    width = np.sqrt(special.gamma(1 / alpha) / special.gamma(3 / alpha))
    return alpha, left * width, right * width


def block_features(block):
    alpha, left, right = aggd(block.ravel())
    features = [alpha, (left + right) / 2]
    for shift in ((0, 1), (1, 0), (1, 1), (1, -1)):
        alpha, left, right = aggd((block * np.roll(block, shift, (0, 1))).ravel())
        features += [alpha, (right - left) * special.gamma(2 / alpha) / special.gamma(1 / alpha), left, right]
    return features


def grey_levels(rgb8):
    """MATLAB's rgb2ycbcr, luminance only, of a uint8 picture, in whole numbers."""
    total = rgb8.astype(np.int64) @ np.array([65481, 128553, 24966])
    return ((2 * total + 255000) // (2 * 255000) + 16).astype(np.float64)


def reference_niqe(rgb8, threshold):
    image = grey_levels(rgb8)
    rows, columns = image.shape[0] // 96, image.shape[1] // 96
    image = image[: rows * 96, : columns * 96]
    window = np.exp(-(np.arange(-3, 4) ** 2)[:, None] / (2 * (7 / 6) ** 2) - np.arange(-3, 4) ** 2 / (2 * (7 / 6) ** 2))
    window /= window.sum()
    features = []
    for size in (96, 48):
        mu = ndimage.correlate(image, window, mode="nearest")
        sigma = np.sqrt(np.abs(ndimage.correlate(image * image, window, mode="nearest") - mu * mu))
        mscn = (image - mu) / (sigma + 1)
        mscn[np.abs(mscn) < threshold] = 0
        features.append(
            [
                block_features(mscn[r * size : (r + 1) * size, c * size : (c + 1) * size])
                for r in range(rows)
                for c in range(columns)
            ]
        )
        image = imresize_half(image)
    features = np.concatenate(features, 1)
    whole = features[~np.isnan(features).any(1)]
    pristine = np.load(Path(niqe_module.__file__).with_name("niqe_pristine.npz"))
    difference = pristine["mu_pris_param"][0] - np.nanmean(features, 0)
    covariance = (pristine["cov_pris_param"] + np.cov(whole, rowvar=False)) / 2
    return float(np.sqrt(difference @ np.linalg.pinv(covariance) @ difference))


# --- the tests --------------------------------------------------------------------------------------------------------


def tensor(*rgb8):
    return torch.from_numpy(np.stack(rgb8)).permute(0, 3, 1, 2).float() / 255


@pytest.fixture(scope="module")
def crops():
    """Four 200x212 crops of one photo: whole blocks end before the border on both sides.

    None has flat areas, so that even without the conditioning two float64 implementations must agree.
    """
    photo = data.astronaut()
    return [photo[top : top + 200, left : left + 212] for top, left in ((200, 50), (240, 0), (280, 100), (0, 200))]


@pytest.fixture(scope="module")
def baboon():
    path = SHARED / "data/eval/Set14/img_001.png"
    if not path.exists():
        pytest.skip("needs ../shared")
    cv2 = pytest.importorskip("cv2")
    return tensor(cv2.imread(str(path))[..., ::-1].copy())


@pytest.mark.parametrize(("name", "threshold", "tolerance"), [("niqe", 3e-4, 3e-3), ("niqe:official", 0.0, 1e-3)])
def test_equals_the_independent_implementation(crops, name, threshold, tolerance):
    expected = np.array([reference_niqe(crop, threshold) for crop in crops])
    actual = metrics.get(name)(tensor(*crops)).numpy()
    assert np.ptp(expected) > 0.5  # the crops do differ
    np.testing.assert_allclose(actual, expected, atol=tolerance)
    assert np.abs(actual - expected).mean() < 1e-3


def test_golden_small_crop():
    """The value that the independent implementation above gives (192x192 of scikit-image's astronaut)."""
    crop = data.astronaut()[0:192, 160:352]
    assert metrics.get("niqe")(tensor(crop)).item() == pytest.approx(5.4140, abs=1e-3)
    assert metrics.get("niqe:official")(tensor(crop)).item() == pytest.approx(5.4160, abs=1e-3)


@pytest.mark.parametrize(("name", "golden"), [("niqe", 5.7310), ("niqe:official", 5.7296)])
def test_golden_baboon(baboon, name, golden):
    """5.7296 is MATLAB's value, quoted by BasicSR; 5.7310 is the conditioned variant's, measured twice."""
    assert metrics.get(name)(baboon).item() == pytest.approx(golden, abs=1e-4)


def test_float32_is_enough(crops):
    """What the conditioning is for."""
    pictures = tensor(*crops)
    single, double = (niqe_module.Niqe(dtype=dtype)(pictures) for dtype in (torch.float32, torch.float64))
    assert (single - double).abs().max() < 1e-3


def test_conditioning_where_it_matters():
    """Flat areas: float32, float64 and the reference agree; without the conditioning they differ by rounding noise."""
    corners = [(top, left) for top in range(0, 321, 80) for left in (60, 190, 320)]
    photo = data.astronaut()  # the upper right of it is black
    crops = [photo[top : top + 192, left : left + 192] for top, left in corners]
    pictures = tensor(*crops)
    expected = np.array([reference_niqe(crop, 3e-4) for crop in crops])
    double = niqe_module.Niqe(dtype=torch.float64)(pictures).numpy()
    np.testing.assert_allclose(double, expected, atol=1e-5)
    error = np.abs(metrics.get("niqe")(pictures).numpy() - expected)
    assert error.mean() < 1e-4 and error.max() < 3e-3
    noise = np.abs(metrics.get("niqe:official")(pictures).numpy() - [reference_niqe(crop, 0.0) for crop in crops])
    assert noise.max() > 0.01


def test_luminance_is_exact_where_halves_and_near_halves_are():
    generator = np.random.default_rng(0)
    rgb8 = generator.integers(0, 256, (512, 512, 3), dtype=np.uint8)
    total = rgb8.astype(np.int64) @ np.array([65481, 128553, 24966])
    distance = np.abs(2 * (total % 255000) - 255000)  # to the next half, in 1/510000
    assert (distance <= 12).sum() > 10  # float32 without care rounds some of these wrong
    actual = luminance.rounded(tensor(rgb8))[0].numpy() + 128
    np.testing.assert_array_equal(actual, grey_levels(rgb8))
    corners = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]]], dtype=np.uint8)
    np.testing.assert_array_equal(luminance.rounded(tensor(corners))[0] + 128, grey_levels(corners))


def test_halving_equals_imresize():
    y = np.random.default_rng(0).integers(16, 236, (2, 96, 192)).astype(np.float64)
    actual = niqe_features.halved(torch.from_numpy(y)).numpy()
    np.testing.assert_allclose(actual, np.stack([imresize_half(image) for image in y]), atol=1e-10)


def test_batch_equals_one_by_one(crops, monkeypatch):
    pictures = tensor(*crops)
    metric = metrics.get("niqe")
    alone = torch.cat([metric(picture[None]) for picture in pictures])
    monkeypatch.setattr(niqe_module, "CACHED_PIXELS", 3 * 192 * 192)  # parts of 3 and 1
    torch.testing.assert_close(metric(pictures), alone, atol=1e-5, rtol=0)
    monkeypatch.setattr(niqe_module, "CACHED_PIXELS", 1)
    torch.testing.assert_close(metric(pictures), alone, atol=1e-5, rtol=0)


def test_deterministic_in_any_memory_layout(crops):
    pictures = tensor(*crops)
    metric = metrics.get("niqe")
    score = metric(pictures)
    assert score.dtype == torch.float32 and score.shape == (4,)
    assert torch.equal(metric(pictures), score)
    assert torch.equal(metrics.get("niqe")(pictures.contiguous(memory_format=torch.channels_last)), score)
    assert torch.equal(metric(pictures, torch.zeros_like(pictures)), score)  # a reference is ignored


@pytest.mark.parametrize("gradient", [False, True])
def test_leaves_its_input_alone(crops, gradient):
    pictures = tensor(*crops[:1]).requires_grad_(gradient)
    before = pictures.detach().clone()
    score = metrics.get("niqe")(pictures)
    assert torch.equal(pictures, before) and score.requires_grad is gradient


def test_sees_eight_bits(crops):
    """Clamped and rounded like a saved picture."""
    pictures = tensor(*crops[:2])
    noise = torch.rand(pictures.shape, generator=torch.Generator().manual_seed(0))
    near = pictures + (noise - 0.5) * 0.9 / 255
    assert torch.equal(metrics.get("niqe")(near), metrics.get("niqe")(pictures))
    bright = (pictures * 1.5).clamp(0, 1)
    assert torch.equal(metrics.get("niqe")(pictures * 1.5), metrics.get("niqe")((bright * 255).round() / 255))


@pytest.mark.parametrize("name", ["niqe", "niqe:official"])
def test_flat_picture_is_nan_for_itself_alone(crops, name):
    pictures = tensor(*crops)
    expected = metrics.get(name)(pictures)
    pictures[1] = 77 / 255
    pictures[3] = 0.0
    score = metrics.get(name)(pictures)
    assert score.isnan().tolist() == [False, True, False, True]
    assert torch.equal(score[[0, 2]], expected[[0, 2]])


def test_nan_picture_is_nan_for_itself_alone(crops):
    pictures = tensor(*crops)
    expected = metrics.get("niqe")(pictures)
    pictures[2] = torch.nan
    score = metrics.get("niqe")(pictures)
    assert score.isnan().tolist() == [False, False, True, False]
    assert torch.equal(score[[0, 1, 3]], expected[[0, 1, 3]])


def test_a_flat_block_drops_out_as_in_the_reference(crops):
    """Its shape, 0.2, still counts in the mean of the shapes: MATLAB's min over NaN."""
    crop = crops[0].copy()
    crop[:104, :104] = 90
    expected = reference_niqe(crop, 3e-4)
    assert metrics.get("niqe")(tensor(crop)).item() == pytest.approx(expected, abs=3e-3)


def test_smallest_picture():
    photo = tensor(data.astronaut()[:96, 200:296])
    metric = metrics.get("niqe")
    assert metric.min_size == 96
    assert metric(photo).isfinite().all()  # one block, no covariance
    with pytest.raises(ValueError, match="at least 96x96 pixels, got 95x96"):
        metric(photo[:, :, 1:])


def test_worse_pictures_score_worse(crops):
    pictures = tensor(*crops)
    blurred = torch.nn.functional.avg_pool2d(pictures, 7, stride=1, padding=3)
    noise = torch.randn(pictures.shape, generator=torch.Generator().manual_seed(0))
    metric = metrics.get("niqe")
    assert (metric(blurred) > metric(pictures) + 1).all()
    assert (metric((pictures + 0.15 * noise).clamp(0, 1)) > metric(pictures) + 1).all()


def test_nearest_shape_is_the_argmin_of_the_table():
    ratio, found = niqe_features.shapes(torch.device("cpu"))
    assert (ratio.diff() > 0).all()  # what makes a binary search possible
    generator = torch.Generator().manual_seed(0)
    r = torch.rand(2000, generator=generator, dtype=torch.float64) * 0.95 - 0.05  # both ends and beyond
    r = torch.cat((r, ratio[::500], torch.tensor([torch.nan, torch.inf])))
    expected = (ratio - r[:, None]).abs().nan_to_num(nan=torch.inf, posinf=torch.inf).argmin(1)
    expected[-1] = len(ratio) - 1
    shape, _, _ = niqe_features.nearest_shape(r)
    assert torch.equal(shape, found[expected, 0])


@pytest.mark.gpu
def test_gpu_equals_cpu(crops):
    pictures = tensor(*crops)
    for name in ("niqe", "niqe:official"):
        score = metrics.get(name)(pictures.cuda())
        assert score.is_cuda
        tolerance = 3e-3 if name == "niqe" else 0.02  # rounding noise in flat areas
        torch.testing.assert_close(score.cpu(), metrics.get(name)(pictures), atol=tolerance, rtol=0)


@pytest.mark.gpu
def test_does_not_wait_for_the_gpu(crops):
    pictures = tensor(*crops).cuda()
    metric = metrics.get("niqe")
    metric(pictures)  # the tables go to the device once
    torch.cuda.set_sync_debug_mode("error")
    try:
        metric(pictures)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_forked_process_scores_though_its_parent_has_done_so():
    code = """
import multiprocessing, sys, torch
from blindsr_env import metrics
torch.set_num_threads(2)
niqe = metrics.get("niqe")
def work():
    niqe(torch.rand(4, 3, 256, 256))
work()
child = multiprocessing.get_context("fork").Process(target=work)
child.start()
child.join(60)
stuck = child.is_alive()
child.kill()
sys.exit(1 if stuck else child.exitcode)
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
