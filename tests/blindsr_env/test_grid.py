"""The grid metric against NumPy, and what it is for: telling a printed grid from a photo."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage import data

from blindsr_env import metrics


def reference_grid(picture, s):
    y = 16 + np.tensordot([65.481, 128.553, 24.966], np.asarray(picture, dtype=np.float64), 1)
    detail = y - ndimage.uniform_filter(y, 9, mode="mirror")
    detail = detail[: detail.shape[0] // s * s, : detail.shape[1] // s * s]
    means = np.array([[detail[i::s, j::s].mean() for j in range(s)] for i in range(s)])
    return means.var() / detail.var()


@pytest.fixture(scope="module")
def photos():
    crops = [data.astronaut()[0:256, 128:384], data.astronaut()[256:, 256:], data.chelsea()[20:276, 100:356]]
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float() / 255


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_equals_numpy(photos, scale):
    pictures = photos[:, :, :101, :90]  # no multiple of any scale
    expected = [reference_grid(picture, scale) for picture in pictures]
    np.testing.assert_allclose(metrics.get("grid", scale=scale)(pictures), expected, rtol=1e-3, atol=1e-9)


def test_photos_have_none(photos):
    score = metrics.get("grid")(photos)
    assert (score < 1.5e-3).all() and score.mean() < 6e-4


def test_faint_grid_is_seen(photos):
    """Two grey levels on one pixel in sixteen."""
    printed = photos.clone()
    printed[:, :, 1::4, 2::4] += 2 / 255
    printed = (printed.clamp(0, 1) * 255).round() / 255
    assert (metrics.get("grid")(printed) > 3 * metrics.get("grid")(photos)).all()
    strong = photos.clone()
    strong[:, :, 1::4, 2::4] += 8 / 255
    assert (metrics.get("grid")(strong.clamp(0, 1)) > 30 * metrics.get("grid")(photos)).all()


def test_other_periods_are_not(photos):
    printed = photos.clone()
    printed[:, :, ::3, ::3] += 8 / 255
    printed = printed.clamp(0, 1)
    assert (metrics.get("grid", scale=3)(printed) > 20 * metrics.get("grid", scale=4)(printed)).all()


def test_nothing_but_a_grid_is_one():
    picture = torch.full((1, 3, 64, 64), 0.5)
    picture[..., ::4, ::4] = 0.6
    assert metrics.get("grid")(picture).item() > 0.9


def test_the_faintest_picture_that_is_not_flat_has_the_grid_that_numpy_finds():
    picture = torch.full((1, 3, 64, 64), 100 / 255)
    picture[:, 1, 30, 30] = 101 / 255
    expected = reference_grid(picture[0], 4)
    assert metrics.get("grid")(picture).item() == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("level", [0, 77, 200, 255])
def test_flat_picture_has_none(level):
    assert metrics.get("grid")(torch.full((2, 3, 64, 64), level / 255)).tolist() == [0.0, 0.0]
