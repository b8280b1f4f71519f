"""Mixed metrics: the formula against its parts, and what the parser takes for a plus."""

import gymnasium
import numpy as np
import pytest
import torch

import blindsr_env  # noqa: F401  registers the environment
from blindsr_env import images, metrics
from blindsr_env.metrics.mixture import Mixture, terms
from blindsr_env.vector_env import BlindSRVectorEnv


class Level:
    """A metric with everything open: the mean of one channel."""

    needs_reference, min_size = False, 1

    def __init__(self, name, channel=0, lower_is_better=True):
        self.name, self.channel, self.lower_is_better = name, channel, lower_is_better

    def __call__(self, sr, hr=None):
        assert hr is None
        return sr[:, self.channel].mean((1, 2))


@pytest.fixture
def pictures():
    rng = torch.Generator().manual_seed(0)
    sr, hr = torch.rand(2, 3, 3, 24, 24, generator=rng)
    return sr, hr


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setattr(metrics, "_factories", dict(metrics._factories))
    for name, channel, lower in (("red", 0, True), ("red+more", 1, False), ("2*blue", 2, False)):
        metrics.register(name, lambda scale, args=(name, channel, lower): Level(*args))


def test_parts_in_the_first_ones_direction_are_added_and_others_subtracted(pictures):
    sr, hr = pictures
    grid, psnr, ssim = (metrics.get(name)(sr, hr) for name in ("grid", "psnr", "ssim"))
    lower = metrics.get("grid+0.1*psnr+2*ssim")
    torch.testing.assert_close(lower(sr, hr), grid - 0.1 * psnr - 2 * ssim)
    assert lower.lower_is_better and lower.needs_reference and lower.name == "grid+0.1*psnr+2*ssim"
    higher = metrics.get("psnr+2*ssim+30*grid")
    torch.testing.assert_close(higher(sr, hr), psnr + 2 * ssim - 30 * grid)
    assert not higher.lower_is_better
    assert isinstance(higher, metrics.Metric) and higher(sr, hr).dtype == torch.float32


def test_better_in_any_part_is_better_in_the_mixture():
    sr = torch.full((2, 3, 8, 8), 0.5)
    for first in (True, False):
        for second in (True, False):
            mixture = Mixture([(1.0, Level("a", 0, first)), (0.5, Level("b", 1, second))])
            for channel, lower in ((0, first), (1, second)):
                changed = sr.clone()
                changed[1, channel] += -0.1 if lower else 0.1  # better in that part alone
                before, after = mixture(changed)
                gain = (after - before) * (-1 if mixture.lower_is_better else 1)
                assert gain == pytest.approx(0.1 * (1.0, 0.5)[channel], abs=1e-6)


def test_attributes_follow_from_the_parts():
    niqe, grid = metrics.get("niqe"), metrics.get("grid", scale=2)
    mixture = metrics.get("grid + 0.50*niqe", scale=2)
    assert mixture.min_size == max(niqe.min_size, grid.min_size) == niqe.min_size
    assert mixture.name == "grid+0.5*niqe" and not mixture.needs_reference
    assert metrics.get(mixture.name, scale=2).name == mixture.name
    assert metrics.get("psnr+ssim", scale=3).parts[1][1].border == 3  # the scale reaches the parts
    with pytest.raises(ValueError, match="psnr: compares with a reference"):
        metrics.get("grid+psnr")(torch.rand(1, 3, 16, 16))


@pytest.mark.parametrize("recipe", ["niqe+0.1*psnr", ["niqe", "0.1*psnr"], {"niqe": 1, "psnr": 0.1}])
def test_three_ways_to_write_one(recipe):
    mixture = metrics.get(recipe)
    assert [(weight, part.name) for weight, part in mixture.parts] == [(1.0, "niqe"), (0.1, "psnr")]
    assert mixture.name == "niqe+0.1*psnr"


@pytest.mark.parametrize(
    ("weight", "term"),
    [
        (0.2, "0.2*psnr"),
        (1.0, "psnr"),
        (2, "2*psnr"),
        (1e6, "1e+06*psnr"),
        (0.12345678, "0.12345678*psnr"),
        (1 / 3, "0.3333333333333333*psnr"),
        (1.0000001, "1.0000001*psnr"),
    ],
)
def test_a_name_tells_the_whole_weight(weight, term):
    mixture = metrics.get({"niqe": 1, "psnr": weight})
    assert mixture.name == f"niqe+{term}"
    assert [each for each, _ in metrics.get(mixture.name).parts] == [1.0, weight]


def test_one_name_is_still_that_metric_itself():
    assert metrics.parts("niqe") == metrics.parts("3*niqe") == metrics.parts(metrics.get("niqe+psnr")) == []
    assert metrics.parts("niqe+0.1*psnr") == metrics.parts({"niqe": 1, "psnr": 2}) == ["niqe", "psnr"]
    assert type(metrics.get("niqe")) is metrics.Niqe
    assert metrics.get("3*niqe").parts[0][0] == 3


KNOWN = ["niqe", "psnr", "red", "red+more", "niqe:official"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("niqe", [(1, "niqe")]),
        ("niqe:official+psnr", [(1, "niqe:official"), (1, "psnr")]),
        (" 2e-1 * niqe + .5*psnr ", [(0.2, "niqe"), (0.5, "psnr")]),
        ("1e+2*psnr+1e-2*niqe", [(100, "psnr"), (0.01, "niqe")]),
        ("niqe+red+more", [(1, "niqe"), (1, "red+more")]),
        ("red+psnr", [(1, "red"), (1, "psnr")]),
        ("red+more+0.1*psnr", [(1, "red+more"), (0.1, "psnr")]),
        ("pyiqa:clipiqa+", [(1, "pyiqa:clipiqa+")]),
        ("pyiqa:clipiqa+_rn50_512", [(1, "pyiqa:clipiqa+_rn50_512")]),
        ("0.3*pyiqa:clipiqa++psnr", [(0.3, "pyiqa:clipiqa+"), (1, "psnr")]),
        ("pyiqa:clipiqa++2*new", [(1, "pyiqa:clipiqa+"), (2, "new")]),
        ("pyiqa:a+pyiqa:b-c", [(1, "pyiqa:a"), (1, "pyiqa:b-c")]),
        ("pyiqa:niqe@/d/a+b*c.pth+0.1*psnr", [(1, "pyiqa:niqe@/d/a+b*c.pth"), (0.1, "psnr")]),
        ("pyiqa:niqe@C:+psnrs", [(1, "pyiqa:niqe@C:+psnrs")]),
        ("niqe+nope+psnr", [(1, "niqe"), (1, "nope"), (1, "psnr")]),
        ("niqe+", [(1, "niqe"), (1, "")]),
        ("niqe+0.1*lpips@/d/c++/w+psnr", [(1, "niqe"), (0.1, "lpips@/d/c++/w"), (1, "psnr")]),
        (["pyiqa:x@a+psnr", "2*psnr"], [(1, "pyiqa:x@a+psnr"), (2, "psnr")]),
        ({"pyiqa:x@2*a+psnr": 0.5}, [(0.5, "pyiqa:x@2*a+psnr")]),
    ],
)
def test_parser(text, expected):
    assert terms(text, KNOWN, metrics.PREFIXES) == expected


def test_names_of_ones_own_inside(registered, pictures):
    sr, _ = pictures
    mixture = metrics.get("red+0.5*red+more+2*blue")  # 2*blue is a name: its term is the third, of weight 1
    assert [(weight, part.name) for weight, part in mixture.parts] == [(1, "red"), (0.5, "red+more"), (1, "2*blue")]
    red, green, blue = sr.mean((2, 3)).unbind(1)
    torch.testing.assert_close(mixture(sr), red - 0.5 * green - blue)
    assert type(metrics.get("red+more")) is Level


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("niqe+0.1*pnsr", "unknown metric 'pnsr': did you mean 'psnr'.*a mixture is written as"),
        ("nique+psnr", "unknown metric 'nique': did you mean 'niqe'"),
        ("niqe+", "unknown metric ''"),
        ("niqe-0.1*psnr", "unknown metric 'niqe-0.1.*a mixture is written as 'niqe"),
        ("niqe-psnr", "unknown metric 'niqe-psnr'.*a mixture is written as 'niqe"),
        (["nique"], "unknown metric 'nique'.*a mixture is written as 'niqe"),
        ("niqe+-0.1*psnr", "the weight of 'psnr' must be a finite number above 0, got -0.1"),
        ("niqe+0*psnr", "above 0, got 0"),
        ({"niqe": 1, "psnr": "0.1"}, "weight of 'psnr' must be a finite number above 0, got '0.1'"),
        ({"niqe": float("nan")}, "weight of 'niqe'"),
        ({"niqe": float("inf")}, "weight of 'niqe' must be a finite number above 0, got inf"),
        ("niqe+0.1*niqe", "'niqe' is twice in the mixture"),
        ({}, "needs at least one metric"),
        ([], "needs at least one metric"),
    ],
)
def test_mistakes_are_one_clear_line(recipe, message):
    with pytest.raises(ValueError, match=message) as caught:
        metrics.get(recipe)
    assert "\n" not in str(caught.value)


def test_weights_may_be_numpys():
    assert metrics.get({"niqe": 1, "psnr": np.float32(0.5)}).name == "niqe+0.5*psnr"


def test_metrics_themselves_are_no_names():
    with pytest.raises(TypeError, match="a mixture's dict holds names and weights, got the name"):
        metrics.get({metrics.get("niqe"): 1, "psnr": 0.1})


def test_a_list_of_metrics_is_no_mixture():
    with pytest.raises(TypeError, match="holds terms such as '0.1\\*psnr', got <"):
        metrics.get([Level("a")])


@pytest.mark.parametrize("recipe", ["grid+0.01*psnr", {"grid": 1, "psnr": 0.01}])
def test_environments_pay_the_weighted_sum_of_the_parts_rewards(recipe, tiny_generator, tiny_photos):
    settings = dict(generator=tiny_generator, images=tiny_photos, patch_size=24, report=("psnr", "grid"))
    env = BlindSRVectorEnv(num_envs=4, metric=recipe, **settings)
    _, info = env.reset(seed=0)
    _, reward, _, _, infos = env.step(np.zeros((4, 15), np.float32))
    final = infos["final_info"]
    assert np.abs(reward).max() > 1e-3
    np.testing.assert_allclose(reward, final["gain_grid"] + 0.01 * final["gain_psnr"], atol=1e-5)


def test_gym_make_and_report_take_mixtures(tiny_checkpoint, photo, tmp_path):
    images.write(tmp_path / "photo.png", photo(110, 120, 3))
    settings = dict(generator=tiny_checkpoint, images=str(tmp_path), patch_size=24)
    env = gymnasium.make("BlindSR-v0", metric="grid+0.01*psnr", report=("psnr+10*ssim",), **settings)
    env.reset(seed=0)
    *_, info = env.step(np.zeros(15, np.float32))
    assert np.isfinite(info["gain_psnr+10*ssim"])
    many = gymnasium.make_vec("BlindSR-v0", num_envs=2, metric=["grid", "0.01*psnr"], output="torch", **settings)
    many.reset(seed=0)
    assert many.step(torch.zeros(2, 15))[1].isfinite().all()
    assert env.spec.to_json() and many.spec.to_json()
