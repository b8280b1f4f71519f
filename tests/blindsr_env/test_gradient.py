"""The reward's gradient: NIQE's against exact fits, the environments' against finite differences of what they pay."""

import numpy as np
import pytest
import torch
from scipy import optimize, special, stats
from skimage import data

import generators
from blindsr_env import metrics, sharing
from blindsr_env.core import BROKEN_REWARD
from blindsr_env.env import BlindSREnv
from blindsr_env.metrics import luminance, niqe, niqe_features, niqe_gradient
from blindsr_env.vector_env import BlindSRVectorEnv

CROPS = [
    photo[top : top + 200, left : left + 300]
    for photo, top, left in (
        (data.astronaut(), 0, 0),
        (data.astronaut(), 200, 200),
        (data.chelsea(), 40, 60),
        (data.chelsea(), 80, 140),
        (data.coffee(), 100, 100),
        (data.coffee(), 150, 250),
        (data.rocket(), 220, 170),
    )
]


def pictures(crops=CROPS):
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float() / 255


def exact_fit(values):
    """The asymmetric generalised Gaussian's three numbers by its moments, the shape as an exact root."""
    left, right = (np.sqrt(np.mean(values[side] ** 2)) for side in (values < 0, values > 0))
    g = left / right
    r = np.mean(np.abs(values)) ** 2 / np.mean(values**2) * (g**3 + 1) * (g + 1) / (g**2 + 1) ** 2

    def miss(a):
        return np.exp(2 * special.gammaln(2 / a) - special.gammaln(1 / a) - special.gammaln(3 / a)) - r

    a = optimize.brentq(miss, 0.2, 10, xtol=1e-14)
    width = np.exp((special.gammaln(1 / a) - special.gammaln(3 / a)) / 2)
    mean = (right - left) * width * np.exp(special.gammaln(2 / a) - special.gammaln(1 / a))
    return np.array([a, mean, left * width, right * width])


def test_fits_have_the_slopes_of_exact_fits():
    rng = np.random.default_rng(0)
    x = stats.gennorm.rvs(1.5, size=(5, 200_000), random_state=rng) + 0.1
    direction = 1 + 0.3 * x + 0.5 * rng.standard_normal(x.shape)  # across zero too: counts change
    t = torch.zeros((), dtype=torch.float64, requires_grad=True)
    found = niqe_gradient.fitted(torch.from_numpy(x)[None, None] + t * torch.from_numpy(direction))[0, 0]
    step = 0.01
    up, down = (np.stack([exact_fit(row) for row in x + sign * step * direction]) for sign in (1, -1))
    slopes = (up - down) / (2 * step)
    expected = np.concatenate([[slopes[0, 0], (slopes[0, 2] + slopes[0, 3]) / 2], slopes[1:].ravel()])
    own = [torch.autograd.grad(feature, t, retain_graph=True)[0].item() for feature in found]
    np.testing.assert_allclose(own, expected, rtol=0.05, atol=0.02)


def plain_fit(x):
    """`niqe_gradient.fitted` in single steps, each of which autograd follows by itself."""
    right, left = x.relu(), (-x).relu()
    squares = [side.square().sum(-1) for side in (left, right)]
    step = niqe_gradient.STEP * x.detach().square().mean(-1, keepdim=True).sqrt()
    crossing = torch.sigmoid(x / step).sum(-1)
    crossing = crossing - crossing.detach()
    left_count, right_count = (x.detach() < 0).sum(-1) - crossing, (x.detach() > 0).sum(-1) + crossing
    deviations = (squares[0] / left_count).sqrt(), (squares[1] / right_count).sqrt()
    r = (right + left).sum(-1).square() / sum(squares) / x.shape[-1]
    return niqe_features.fit_features(*deviations, r, niqe_gradient.shape_at)


def test_moments_have_the_slopes_of_single_steps():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 5, 400, dtype=torch.float64, generator=generator)
    x[0, 0] = x[0, 0] * (x[0, 0].abs() > 0.5)  # zeros, as thresholds leave them
    x.requires_grad_()
    weights = torch.randn(2, 3, 18, dtype=torch.float64, generator=generator)
    found, expected = (
        torch.autograd.grad((fit(x) * weights).sum(), x, create_graph=True)[0]
        for fit in (niqe_gradient.fitted, plain_fit)
    )
    torch.testing.assert_close(found, expected)
    direction = torch.randn(x.shape, dtype=torch.float64, generator=generator)
    second = [torch.autograd.grad((g * direction).sum(), x)[0] for g in (found, expected)]
    smooth = x != 0  # where it is bent there is no second derivative
    torch.testing.assert_close(second[0][smooth], second[1][smooth])


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # of vmap, which nothing here uses
def test_mscn_has_exact_derivatives():
    y = torch.rand(2, 9, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 20
    torch.testing.assert_close(niqe_gradient.mscn(y, 0.5), niqe_features.mscn(y, 0.5))
    y.requires_grad_()
    assert torch.autograd.gradcheck(lambda y: niqe_gradient.mscn(y, 0.0), y)
    assert torch.autograd.gradcheck(lambda y: niqe_gradient.mscn(y, 0.5), y)  # no slope below the threshold
    assert torch.autograd.gradgradcheck(lambda y: niqe_gradient.mscn(y, 0.0), y)
    (gradient,) = torch.autograd.grad(niqe_gradient.mscn(y, 0.5).square().sum(), y)
    alone = torch.func.vmap(torch.func.grad(lambda one: niqe_gradient.mscn(one[None], 0.5).square().sum()))
    torch.testing.assert_close(alone(y.detach()), gradient)
    (followed,) = torch.autograd.grad(niqe_gradient.mscn(y, 0.5).square().sum(), y, create_graph=True)
    torch.testing.assert_close(followed, gradient)  # computed in another way


def test_flat_areas_have_no_slope_of_their_own():
    y = torch.full((1, 20, 20), 7.0)
    y[:, :, 10:] = torch.randint(-50, 50, (1, 20, 10), generator=torch.Generator().manual_seed(0)).float()
    y.requires_grad_()
    x = niqe_gradient.mscn(y, 3e-4)
    (gradient,) = torch.autograd.grad(x.square().sum(), y)
    assert gradient.isfinite().all() and gradient[:, :, :4].abs().max() == 0 < gradient[:, :, 13:].abs().min()


@pytest.mark.parametrize("name", ["niqe", "niqe:official"])
def test_scores_with_a_gradient_are_the_scores(name):
    metric = metrics.get(name)
    flat = torch.full((1, 3, 200, 300), 0.5)
    partly_flat = pictures(CROPS[:1])
    partly_flat[..., :110, :110] = 0.5
    x = torch.cat([pictures(), flat, partly_flat])
    score = metric(x.requires_grad_())
    assert score.requires_grad and score.dtype == torch.float32
    torch.testing.assert_close(score.detach(), metric(x.detach()), rtol=0, atol=2e-4, equal_nan=True)
    with torch.no_grad():
        assert torch.equal(metric(x).nan_to_num(-1), metric(x.detach()).nan_to_num(-1))


def test_the_gradient_is_the_slope_of_niqe_along_a_blur(monkeypatch):
    # Of pictures that are not rounded: rounding is rough at close range.
    monkeypatch.setattr(niqe_gradient, "rounded", lambda sr: luminance.luminance(sr) - 128)
    x = pictures()[..., :192, :288].double()
    blur = torch.nn.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False) - x

    def score(step):
        with torch.no_grad():
            return niqe_gradient.score(x + step * blur, 3e-4, torch.float64)

    y = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(niqe_gradient.score(y, 3e-4, torch.float64).sum(), y)
    slope = (gradient * blur).sum((1, 2, 3)).float()
    expected = (score(0.1) - score(-0.1)) / 0.2
    assert np.corrcoef(slope, expected)[0, 1] > 0.9
    assert (slope - expected).abs().mean() < 0.25 * expected.abs().mean()


def test_each_picture_has_its_own_gradient():
    x = pictures()
    together, alone = x.clone().requires_grad_(), x[1:2].clone().requires_grad_()
    metric = niqe.Niqe()
    (both,) = torch.autograd.grad(metric(together)[1], together)
    (one,) = torch.autograd.grad(metric(alone).sum(), alone)
    assert both[[0, 2, 3, 4, 5, 6]].abs().max() == 0 and one.abs().max() > 0
    torch.testing.assert_close(both[1:2], one, rtol=1e-3, atol=1e-5)


def test_pixels_that_are_clamped_have_no_slope():
    rng = torch.Generator().manual_seed(0)
    sr = (1.6 * torch.rand(1, 3, 96, 192, generator=rng) - 0.3).requires_grad_()
    (slope,) = torch.autograd.grad(metrics.get("niqe")(sr).sum(), sr)
    clamped = (sr < 0) | (sr > 1)
    assert clamped.any() and (slope[clamped] == 0).all() and (slope[~clamped] != 0).any()


def test_what_is_differentiable_says_so():
    known = {name: metrics.differentiable(metrics.get(name)) for name in ("psnr", "ssim", "niqe", "grid")}
    assert all(known.values())
    assert metrics.differentiable(metrics.get("niqe+0.1*psnr"))

    class Opaque:
        name, lower_is_better, needs_reference, min_size = "opaque", False, False, 1

        def __call__(self, sr, hr=None):
            return sr.mean((1, 2, 3))

    assert not metrics.differentiable(Opaque())
    assert not metrics.Mixture([(1.0, metrics.get("psnr")), (1.0, Opaque())]).differentiable
    with pytest.raises(ValueError, match="'opaque' has no gradient: leave gradient=True out"):
        BlindSREnv(metric=Opaque(), gradient=True)


@pytest.fixture
def settings(tiny_generator, tiny_photos):
    return dict(metric="psnr", generator=tiny_generator, images=tiny_photos, patch_size=(24, 28))


@pytest.mark.parametrize(("action", "white"), [("code", 0), ("free-code", 0), ("width", 0), ("code", 40)])
def test_the_environments_gradient_is_the_slope_of_its_reward(settings, action, white):
    # Of float64 pictures that are not rounded: the gradient passes over rounding. Not over clamping, so on photos with
    # white stripes too.
    photos = [photo.copy() for photo in settings["images"]]
    for photo in photos:
        for top in range(0, len(photo), 80):
            photo[top : top + white] = 255
    core = BlindSREnv(**settings | {"images": photos}, action=action, gradient=True).core
    rng = np.random.default_rng(4)
    scenes = core.scenes([np.random.default_rng(i) for i in range(11)])  # more than are followed back at once
    d = core.action_space.shape[0]
    at = torch.from_numpy(rng.uniform(-0.8, 0.8, (11, d))).float()
    reward, info = core.play(scenes, at)
    assert info["gradient"].shape == (11, d) and info["gradient"].dtype == torch.float32
    assert not info["gradient"].requires_grad and not reward.requires_grad

    plain = generators.AMNet(core.generator.architecture, core.codec)
    plain.load_state_dict(core.generator.state_dict())
    plain = plain.double().eval()
    lr, hr = scenes.lr.permute(0, 3, 1, 2).double() / 255, scenes.hr.double() / 255

    def psnr(action_):
        code = core.actions.generator_input(action_)
        with torch.no_grad():
            sr = plain.render(lr, code.double()) if action == "free-code" else plain(lr, code.double())
        error = ((sr.clamp(0, 1) - hr) * torch.tensor([65.481, 128.553, 24.966]).view(3, 1, 1))[..., 4:-4, 4:-4].sum(1)
        return 10 * torch.log10(255**2 / error.square().mean((1, 2)))

    step = 1e-2 if action == "width" else 1e-3
    for component in range(min(d, 3)):
        shift = torch.zeros(d)
        shift[component] = step
        slope = (psnr(at + shift) - psnr(at - shift)) / (2 * step)
        torch.testing.assert_close(info["gradient"][:, component].double(), slope, rtol=0.05, atol=2e-3)


def test_rewards_are_the_same_with_and_without(settings):
    with_, without = (BlindSRVectorEnv(4, **settings, gradient=gradient) for gradient in (True, False))
    action = np.random.default_rng(0).uniform(-1.2, 1.2, (4, 15)).astype(np.float32)
    for env in (with_, without):
        env.reset(seed=5)
    ours, theirs = with_.step(action), without.step(action)
    np.testing.assert_allclose(ours[1], theirs[1], atol=2e-3)  # rounding of a level here and there
    info = ours[4]["final_info"]
    assert info["gradient"].shape == (4, 15) and "gradient" not in theirs[4]["final_info"]
    single = BlindSREnv(**settings, gradient=True)
    single.reset(seed=5)
    end = single.step(action[0])[4]
    assert end["gradient"].dtype == np.float32 and end["gradient"].shape == (15,)
    np.testing.assert_allclose(end["gradient"], info["gradient"][0], rtol=0.02, atol=1e-3)


class Nearest(torch.nn.Module):
    """Enlarges, and adds the first component of the action as contrast: flat photos stay flat."""

    def __init__(self, codec):
        super().__init__()
        self.codec, self.scale, self.name = codec, 4, "nearest"

    def forward(self, lr, action):
        return torch.nn.functional.interpolate(lr, scale_factor=4.0) * (1 + 0.1 * action[:, :1, None, None])

    render = forward


class Brightness:
    """A metric with a number for pictures between two levels alone, and a slope of 1 for all."""

    name, lower_is_better, needs_reference, min_size, differentiable = "brightness", False, False, 1, True
    low, high = 0.3, 0.515

    def __call__(self, sr, hr=None):
        mean = sr.mean((1, 2, 3))
        return mean + torch.where((mean < self.low) | (mean > self.high), torch.inf, 0.0)


def flat(level):
    return np.full((200, 200, 3), level, np.uint8)


def test_where_there_is_no_score_the_gradient_is_zero(tiny_generator):
    settings = dict(generator=Nearest(tiny_generator.codec).eval(), patch_size=48, gradient=True, output="torch")
    env = BlindSRVectorEnv(3, metric=Brightness(), images=[flat(20), flat(120)], **settings)
    env.reset(seed=0, options={"image": [0, 1, 1]})  # 20 is too dark; 120 is 0.47, within 0.51 for any true kernel
    action = torch.zeros(3, 15)
    action[1, 0] = 1  # 0.5176: too bright
    _, reward, _, _, infos = env.step(action)
    info = infos["final_info"]
    assert info["invalid"].tolist() == [True, False, False] and info["broken"].tolist() == [False, True, False]
    assert reward[:2].tolist() == [0, BROKEN_REWARD]
    assert (info["gradient"][:2] == 0).all() and info["gradient"][2, 0] > 0.04
    env = BlindSRVectorEnv(2, metric="niqe", images=[flat(90)], **settings)
    env.reset(seed=0)
    info = env.step(torch.zeros(2, 15))[4]["final_info"]
    assert info["invalid"].all() and (info["gradient"] == 0).all()


def test_a_metric_that_detaches_is_named(settings):
    class Liar:
        name, lower_is_better, needs_reference, min_size, differentiable = "liar", False, False, 1, True

        def __call__(self, sr, hr=None):
            return sr.detach().mean((1, 2, 3))

    env = BlindSREnv(**settings | {"metric": Liar()}, gradient=True)
    env.reset(seed=0)
    with pytest.raises(ValueError, match="'liar' says differentiable = True, but its scores have no gradient"):
        env.step(np.zeros(15, np.float32))


def test_gradients_in_inference_mode(settings):
    env = BlindSRVectorEnv(3, **settings, gradient=True, output="torch")
    action = torch.linspace(-0.5, 0.5, 45).view(3, 15)
    env.reset(seed=0)
    plain = env.step(action)[4]["final_info"]["gradient"]
    with torch.inference_mode():
        env.reset(seed=0)
        inside = env.step(action)[4]["final_info"]["gradient"]
    assert inside.abs().sum() > 0
    torch.testing.assert_close(inside, plain)


@pytest.mark.parametrize("metric", ["psnr", "niqe", "psnr+0.1*niqe"])
def test_gradients_of_an_environment_made_in_inference_mode(settings, tiny_checkpoint, metric):
    with torch.inference_mode():
        generator = generators.load(tiny_checkpoint)
        env = BlindSRVectorEnv(
            2, **settings | {"metric": metric, "generator": generator, "patch_size": 24}, gradient=True
        )
        env.reset(seed=0)
        assert np.abs(env.step(np.zeros((2, 15), np.float32))[4]["final_info"]["gradient"]).sum() > 0
    assert np.abs(env.step(np.zeros((2, 15), np.float32))[4]["final_info"]["gradient"]).sum() > 0


def test_gradients_by_a_generator_loaded_in_inference_mode(tiny_checkpoint):
    settings = dict(metric="psnr", generator=tiny_checkpoint, images=CROPS, patch_size=24)
    sharing._load_generator.cache_clear()
    with torch.inference_mode():
        BlindSREnv(**settings).reset(seed=0)
    env = BlindSREnv(**settings, gradient=True)
    env.reset(seed=0)
    assert np.abs(env.step(np.zeros(15, np.float32))[4]["gradient"]).sum() > 0


@pytest.mark.parametrize("name", ["niqe", "psnr"])
def test_half_precision_holds_gradients_of_any_weight(name):
    def gradient(metric, dtype):
        env = BlindSRVectorEnv(8, metric=metric, generator="amgan_s", patch_size=24, dtype=dtype, gradient=True)
        env.reset(seed=3)
        given = np.random.default_rng(0).uniform(-1, 1, (8, 15)).astype(np.float32)
        return env.step(given)[4]["final_info"]["gradient"]

    half, full = gradient(name, "float16"), gradient(name, "float32")
    cosine = np.sum(half * full, axis=1) / np.linalg.norm(half, axis=1) / np.linalg.norm(full, axis=1)
    # Pictures are rounded otherwise in places, which NIQE of four blocks sees: single ones may differ by much.
    assert np.median(cosine) > 0.99, cosine
    for weight in (3e4, 1e-4):
        error = gradient(f"{weight}*{name}", "float16") / weight - half
        assert (np.linalg.norm(error, axis=1) < 0.02 * np.linalg.norm(half, axis=1)).all()


def test_gradients_after_scenes_of_inference_mode(tiny_generator):
    # What is kept between calls must not be made in inference mode: a backward pass could not use it.
    settings = dict(metric="niqe", generator=tiny_generator, images=CROPS, patch_size=48)
    core = BlindSREnv(**settings, gradient=True).core
    for function in (niqe_features.alternate, niqe_features.shapes, niqe_features.pristine, niqe_gradient.slopes):
        function.cache_clear()
    with torch.inference_mode():
        core.scenes([np.random.default_rng(0)])
    scenes = core.scenes([np.random.default_rng(0)])
    assert core.play(scenes, torch.zeros(1, 15))[1]["gradient"].abs().sum() > 0
