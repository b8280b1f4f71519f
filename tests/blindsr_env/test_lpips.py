"""LPIPS: against documented values where the public weights are at hand, else against a plain re-computation."""

import copy
import os
import pickle

import gymnasium
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import blindsr_env  # noqa: F401  registers the environment
from blindsr_env import metrics
from blindsr_env.metrics import squeezenet
from blindsr_env.metrics.lpips import Lpips, _unit

WEIGHTS = os.environ.get("BLINDSR_WEIGHTS", "")
needs_weights = pytest.mark.skipif(
    not os.path.isfile(os.path.join(WEIGHTS, "lpips_squeeze_lin.safetensors")),
    reason="set BLINDSR_WEIGHTS to a folder of squeezenet1_1.safetensors and lpips_squeeze_lin.safetensors",
)


def made_up(folder, seed=0):
    """Random weights under the public files' names, half precision as a converter may leave them."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        state = squeezenet.SqueezeNet().state_dict()
        state = {name: (tensor * 2).half().contiguous() for name, tensor in state.items()}
        state |= {"classifier.1.weight": torch.zeros(1000, 512, 1, 1), "classifier.1.bias": torch.zeros(1000)}
        linear = {f"lin{i}.model.1.weight": torch.rand(1, c, 1, 1) for i, c in enumerate(squeezenet.CHANNELS)}
    save_file(state, str(folder / "squeezenet1_1.safetensors"))
    save_file(linear, str(folder / "lpips_squeeze_lin.safetensors"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    made_up(folder)
    return folder


@pytest.fixture
def pictures():
    rng = torch.Generator().manual_seed(0)
    hr = torch.rand(3, 3, 40, 35, generator=rng)
    return (hr + 0.2 * torch.randn(hr.shape, generator=rng)).clamp(0, 1), hr


@needs_weights
def test_the_documented_values():
    """torchmetrics' documentation: the same pictures in [-1, 1] there, 0.1008; and one by one, 0.1024 and 0.0938."""
    metric = metrics.get(f"lpips@{WEIGHTS}")
    with torch.random.fork_rng():
        torch.manual_seed(123)
        first, second = torch.rand(10, 3, 100, 100), torch.rand(10, 3, 100, 100)
    assert metric(first, second).mean().item() == pytest.approx(0.1008, abs=5.1e-5)
    rng = torch.Generator().manual_seed(42)
    first, second = (torch.rand(2, 3, 100, 100, generator=rng) for _ in range(2))
    assert metric(first, second).tolist() == pytest.approx([0.1024, 0.0938], abs=5.1e-5)


def convolve(x, weight, bias, stride=1, pad=0):
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(x, weight.shape[2:], axis=(1, 2))[:, ::stride, ::stride]
    return np.einsum("chwij,ocij->ohw", windows, weight) + bias[:, None, None]


def pool(x):
    """3x3, stride 2, the last window may hang over the edge."""
    height, width = (-(-(side - 3) // 2) * 2 + 3 for side in x.shape[1:])
    x = np.pad(x, ((0, 0), (0, height - x.shape[1]), (0, width - x.shape[2])), constant_values=-np.inf)
    return np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2))[:, ::2, ::2].max((3, 4))


def features(picture, w):
    """The network as its paper draws it, in float64 NumPy: what comes after each of LPIPS's seven layers."""

    def relu(x):
        return np.maximum(x, 0)

    def fire(x, i):
        x = relu(convolve(x, w[f"features.{i}.squeeze.weight"], w[f"features.{i}.squeeze.bias"]))
        one = convolve(x, w[f"features.{i}.expand1x1.weight"], w[f"features.{i}.expand1x1.bias"])
        three = convolve(x, w[f"features.{i}.expand3x3.weight"], w[f"features.{i}.expand3x3.bias"], pad=1)
        return relu(np.concatenate([one, three]))

    x = (picture - np.array([0.485, 0.456, 0.406])[:, None, None]) / np.array([0.229, 0.224, 0.225])[:, None, None]
    x = relu(convolve(x, w["features.0.weight"], w["features.0.bias"], stride=2))
    yield x
    x = fire(fire(pool(x), 3), 4)
    yield x
    x = fire(fire(pool(x), 6), 7)
    yield x
    x = pool(x)
    for i in (9, 10, 11, 12):
        x = fire(x, i)
        yield x


def test_a_plain_computation_agrees(folder, pictures):
    read = {name: load_file(folder / f"{name}.safetensors") for name in ("squeezenet1_1", "lpips_squeeze_lin")}
    w, linear = ({name: tensor.double().numpy() for name, tensor in tensors.items()} for tensors in read.values())
    expected = []
    pictures = [x[:2, :, :26, :23] for x in pictures]
    for a, b in zip(*(x.double().numpy() for x in pictures), strict=True):
        total = 0.0
        for i, (f, g) in enumerate(zip(features(a, w), features(b, w), strict=True)):
            f, g = (x / (np.sqrt((x**2).sum(0)) + 1e-10) for x in (f, g))
            total += (linear[f"lin{i}.model.1.weight"][0] * (f - g) ** 2).sum(0).mean()
        expected.append(total)
    score = metrics.get(f"lpips@{folder}")(*pictures)
    assert min(expected) > 0.1
    np.testing.assert_allclose(score.numpy(), expected, rtol=1e-4)


def test_contract(folder, pictures):
    metric = metrics.get(f"lpips@{folder}")
    sr, hr = pictures
    assert isinstance(metric, metrics.Metric) and metric.name == "lpips"
    assert metric.lower_is_better is True and metric.needs_reference is True
    score = metric(sr, hr)
    assert score.shape == (3,) and score.dtype == torch.float32
    assert torch.equal(metric(sr, hr), score)
    alone = torch.cat([metric(a[None], b[None]) for a, b in zip(sr, hr, strict=True)])
    torch.testing.assert_close(alone, score, atol=1e-6, rtol=1e-5)
    assert torch.equal(metric(hr, hr), torch.zeros(3)) and metric(sr[:0], hr[:0]).shape == (0,)
    assert (metric(hr + 0.3 * (sr - hr), hr) < score).all(), "a smaller difference"
    small = metric.min_size
    assert metric(sr[..., :small, :small], hr[..., :small, :small]).isfinite().all()
    with pytest.raises(ValueError, match=f"lpips: .* at least {small}x{small} pixels, got {small}x{small - 1}"):
        metric(sr[..., :small, : small - 1], hr[..., :small, : small - 1])
    with pytest.raises(RuntimeError):
        metric.network(sr[..., :small, : small - 1])  # the minimum is the network's own
    with pytest.raises(ValueError, match="compares with a reference"):
        metric(sr)


def test_environments_of_a_device_share_one_network(folder, tmp_path):
    made_up(tmp_path)
    cpu = torch.device("cpu")
    first = metrics.get(f"lpips@{tmp_path}", device=cpu)
    assert metrics.get(f"lpips@{tmp_path}/../{tmp_path.name}", device=cpu) is first
    mixed = metrics.get(f"psnr+0.5*lpips@{tmp_path}", device=cpu)
    assert mixed.parts[1][1] is first
    assert metrics.get(f"lpips@{tmp_path}", device=torch.device("meta")) is not first
    assert metrics.get(f"lpips@{folder}", device=cpu) is not first, "other weights"
    assert metrics.get(f"lpips@{tmp_path}") is not first, "one's own"
    for copied in (copy.deepcopy(first), pickle.loads(pickle.dumps(first))):
        assert copied.network is not first.network
    made_up(tmp_path, seed=1)
    os.utime(tmp_path / "squeezenet1_1.safetensors", ns=(1, 1))
    assert metrics.get(f"lpips@{tmp_path}", device=cpu) is not first, "weights that were written anew"
    settings = {"metric": f"lpips@{folder}", "generator": "amnet_s", "patch_size": 24}
    one, two = (gymnasium.make("BlindSR-v0", **settings).unwrapped.core for _ in range(2))
    assert one.metric is two.metric


def test_it_has_a_gradient(folder, pictures):
    """Also where all features of a place are 0."""
    metric = Lpips(folder)
    sr, hr = pictures[0].clone().requires_grad_(), pictures[1]
    metric(sr, hr).sum().backward()
    assert sr.grad.isfinite().all() and sr.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in metric.network.parameters())
    with torch.no_grad():
        metric.network.features["12"].expand1x1.weight.zero_(), metric.network.features["12"].expand3x3.weight.zero_()
        metric.network.features["12"].expand1x1.bias.fill_(-1), metric.network.features["12"].expand3x3.bias.fill_(-1)
    sr.grad = None
    score = metric(sr, hr)
    score.sum().backward()
    assert score.isfinite().all() and sr.grad.isfinite().all()
    nothing = torch.zeros(1, 4, 2, 2, requires_grad=True)
    _unit(nothing).sum().backward()
    assert nothing.grad.isfinite().all()


def test_its_gradient_passes_where_it_was_made_in_inference_mode(folder, pictures):
    with torch.inference_mode():
        metric = Lpips(folder)
    sr = pictures[0].clone().requires_grad_()
    metric(sr, pictures[1]).sum().backward()
    assert sr.grad.abs().sum() > 0


def test_a_state_dict_of_pytorch_serves_as_well(folder, tmp_path, pictures):
    for name in ("squeezenet1_1", "lpips_squeeze_lin"):
        torch.save(load_file(folder / f"{name}.safetensors"), tmp_path / f"{name}.pth")
    assert torch.equal(Lpips(tmp_path)(*pictures), Lpips(folder)(*pictures))


def test_one_of_two_files_of_the_same_weights_serves(folder, tmp_path, pictures):
    made_up(tmp_path)
    torch.save(load_file(folder / "squeezenet1_1.safetensors"), tmp_path / "squeezenet1_1.pth")
    assert torch.equal(Lpips(tmp_path)(*pictures), Lpips(folder)(*pictures))
    (tmp_path / "lpips_squeeze_lin.safetensors").unlink()
    with pytest.raises(ValueError, match="lpips needs squeezenet1_1.safetensors and lpips_squeeze_lin"):
        Lpips(tmp_path)


def test_weights_that_lack_are_named(folder, tmp_path):
    with pytest.raises(ValueError, match="unknown metric 'lpips': did you mean 'lpips@FOLDER'"):
        metrics.get("lpips")
    with pytest.raises(ValueError, match="squeezenet1_1.safetensors and lpips_squeeze_lin.safetensors") as error:
        metrics.get(f"lpips@{tmp_path}")
    assert "\n" not in str(error.value)
    made_up(tmp_path)
    swapped = {"lin0.model.1.weight": torch.rand(1, 3, 1, 1)}
    save_file(swapped, str(tmp_path / "lpips_squeeze_lin.safetensors"))
    with pytest.raises(ValueError, match="has no lin0.model.1.weight of 64 channels"):
        Lpips(tmp_path)
    save_file(swapped, str(tmp_path / "squeezenet1_1.safetensors"))
    with pytest.raises(ValueError, match="lacks features.0.weight"):
        Lpips(tmp_path)
    (tmp_path / "squeezenet1_1.safetensors").write_bytes(b"PK not tensors")
    with pytest.raises(ValueError, match="cannot be read .*: it is damaged"):
        Lpips(tmp_path)


class Evil:
    def __reduce__(self):
        return os.abort, ()


def test_a_pickle_runs_no_code(folder, tmp_path):
    made_up(tmp_path)
    (tmp_path / "squeezenet1_1.safetensors").unlink()
    torch.save({"features.0.weight": Evil()}, tmp_path / "squeezenet1_1.pth")
    with pytest.raises(ValueError, match="holds more than tensors"):
        Lpips(tmp_path)


def test_the_name_may_be_shortened(folder, monkeypatch):
    monkeypatch.setattr(metrics, "_factories", dict(metrics._factories))
    metrics.register("lpips", lambda scale: Lpips(folder))
    assert metrics.get("lpips").name == "lpips"
    with pytest.raises(ValueError, match="taken"):
        metrics.register(f"lpips@{folder}", lambda scale: Lpips(folder))


@pytest.mark.gpu
def test_it_does_not_wait_for_the_gpu(folder, pictures):
    metric = Lpips(folder)
    sr, hr = (x.cuda() for x in pictures)
    first = metric(sr, hr)  # takes the weights there
    torch.cuda.set_sync_debug_mode("error")
    try:
        again = metric(sr, hr)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(again, first)


def test_a_folder_in_the_home_folder(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    assert metrics.get(f"psnr+lpips@~/{folder.name}").min_size == squeezenet.MIN_SIZE
    monkeypatch.setenv("HOME", str(folder))
    assert metrics.get("lpips@~").name == "lpips"


def test_the_default_dtype_changes_nothing(folder, pictures):
    plain = Lpips(folder)(*pictures)
    torch.set_default_dtype(torch.float64)
    try:
        other = Lpips(folder)(*pictures)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(other, plain)
