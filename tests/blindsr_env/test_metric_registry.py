"""The registry, and what every metric promises."""

import subprocess
import sys

import pytest
import torch

from blindsr_env import metrics


class Brightness:
    """A user's metric."""

    name = "brightness"
    lower_is_better = False
    needs_reference = False
    min_size = 1

    def __call__(self, sr, hr=None):
        return sr.mean((1, 2, 3))


@pytest.fixture
def photos():
    generator = torch.Generator().manual_seed(0)
    smooth = torch.rand(3, 3, 24, 24, generator=generator)
    big = torch.nn.functional.interpolate(smooth, size=(120, 128), mode="bicubic").clamp(0, 1)
    return (big * 255).round() / 255


@pytest.mark.parametrize("name", metrics.names())
def test_contract(name, photos):
    metric = metrics.get(name, scale=4)
    assert isinstance(metric, metrics.Metric)
    assert metric.name == name
    assert type(metric.lower_is_better) is bool and type(metric.needs_reference) is bool
    noise = torch.rand(photos.shape, generator=torch.Generator().manual_seed(1)) * 0.1
    sr = (photos + noise).clamp(0, 1)
    score = metric(sr, photos)
    assert score.shape == (3,) and score.dtype == torch.float32 and score.isfinite().all()
    assert torch.equal(metric(sr, photos), score)
    alone = torch.cat([metric(a[None], b[None]) for a, b in zip(sr, photos, strict=True)])
    torch.testing.assert_close(alone, score, atol=1e-5, rtol=1e-6)
    assert metric(sr[:0], photos[:0]).shape == (0,)


@pytest.mark.parametrize("name", metrics.names())
def test_bad_pictures_are_one_clear_line(name, photos):
    metric = metrics.get(name)
    small = metric.min_size
    assert metric(photos[..., :small, :small], photos[..., :small, :small]).shape == (3,)
    with pytest.raises(ValueError, match=rf"{name}: .* at least {small}x{small} pixels, got {small}x{small - 1}"):
        metric(photos[..., :small, : small - 1], photos[..., :small, : small - 1])
    with pytest.raises(ValueError, match=f"at least {small}x{small} pixels, got {small - 1}x{small}"):
        metric(photos[..., : small - 1, :small], photos[..., : small - 1, :small])
    with pytest.raises(ValueError, match=r"shape \(N, 3, H, W\), got \(3, 120, 128\)"):
        metric(photos[0], photos[0])
    with pytest.raises(ValueError, match=r"shape \(N, 3, H, W\), got \(3, 1, 120, 128\)"):
        metric(photos[:, :1], photos[:, :1])
    with pytest.raises(TypeError, match="float tensor in .*, got a torch.uint8 tensor"):
        metric((photos * 255).byte(), photos)
    with pytest.raises(TypeError, match="got ndarray"):
        metric(photos.numpy(), photos)


@pytest.mark.parametrize("name", ["psnr", "ssim"])
def test_reference_is_asked_for(name, photos):
    metric = metrics.get(name)
    with pytest.raises(ValueError, match="compares with a reference"):
        metric(photos)
    with pytest.raises(ValueError, match="same shape"):
        metric(photos, photos[:1])


def test_unknown_name_lists_the_nearest():
    with pytest.raises(ValueError, match="unknown metric 'nique': did you mean 'niqe'"):
        metrics.get("nique")
    with pytest.raises(ValueError, match="'psnr'"):
        metrics.get("PSNR")
    with pytest.raises(
        ValueError, match="there are 'grid', 'niqe', 'niqe:official', 'psnr', 'ssim', 'lpips@FOLDER', 'pyiqa:NAME'"
    ):
        metrics.get("zzzzzz")
    with pytest.raises(ValueError, match="'pyiqa:NAME'"):
        metrics.get("")


def test_scale_reaches_the_metric():
    assert metrics.get("psnr").border == 4
    assert metrics.get("psnr", scale=2).border == 2
    assert metrics.get("grid", scale=3).scale == 3
    with pytest.raises(ValueError, match="at least 1, got 0"):
        metrics.get("psnr", scale=0)


def test_any_callable(photos):
    mine = Brightness()
    assert metrics.get(mine) is mine
    torch.testing.assert_close(metrics.get(mine)(photos), photos.mean((1, 2, 3)))

    def bare(sr, hr=None):
        return sr.mean((1, 2, 3))

    with pytest.raises(TypeError, match="lacks name, lower_is_better, needs_reference, min_size"):
        metrics.get(bare)
    bare.name, bare.lower_is_better, bare.needs_reference = "bare", True, False
    with pytest.raises(TypeError, match="lacks min_size"):
        metrics.get(bare)
    bare.min_size = 1
    assert metrics.get(bare) is bare
    for wrong in (3, None, Brightness):
        with pytest.raises(TypeError, match="a name or a callable object"):
            metrics.get(wrong)


def test_register(monkeypatch, photos):
    monkeypatch.setattr(metrics, "_factories", dict(metrics._factories))
    scales = []

    def factory(scale):
        scales.append(scale)
        return Brightness()

    metrics.register("brightness", factory)
    assert "brightness" in metrics.names()
    assert metrics.get("brightness", scale=2).name == "brightness"
    assert scales == [2]
    with pytest.raises(ValueError, match="did you mean 'brightness'"):
        metrics.get("brigthness")
    metrics.register("brightness", factory)  # a notebook cell run again
    for taken in ("niqe", "pyiqa:niqe", ""):
        with pytest.raises(ValueError, match="taken"):
            metrics.register(taken, factory)
    with pytest.raises(TypeError, match="function of the scale"):
        metrics.register("other", Brightness.name)
    metrics.register("broken", lambda scale: scale)
    with pytest.raises(TypeError, match="a name or a callable object"):
        metrics.get("broken")


def test_import_pulls_in_no_heavy_package():
    code = (
        "import sys, blindsr_env.metrics as m; m.get('niqe'); m.get('psnr');"
        "print([p for p in ('pyiqa', 'torchvision', 'sklearn', 'skimage', 'scipy') if p in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
