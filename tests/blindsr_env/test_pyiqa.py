"""The adapter to pyiqa: with a stand-in for pyiqa, and with the real one where it is installed."""

import sys
import types
from urllib.error import URLError

import pytest
import torch

from blindsr_env import metrics
from blindsr_env.metrics.iqa import PyiqaMissingError

CONFIGS = {
    "lpips": {"metric_opts": {"type": "LPIPS"}, "metric_mode": "FR", "lower_better": True},
    "niqe": {"metric_opts": {"type": "NIQE"}, "metric_mode": "NR", "lower_better": True},
    "musiq": {"metric_opts": {"type": "MUSIQ"}, "metric_mode": "NR"},
    "fid": {"metric_opts": {"type": "FID"}, "metric_mode": "NR", "lower_better": True},
    "inception_score": {"metric_opts": {"type": "InceptionScore"}, "metric_mode": "NR"},
    "timmy": {"metric_opts": {"type": "TIMMY"}, "metric_mode": "NR"},
    "plain": {"metric_opts": {"type": "PLAIN"}, "metric_mode": "NR"},
}


class Network(torch.nn.Module):
    """Gives (N, 1) where there are several pictures and a bare number where there is one, as pyiqa's do."""

    def forward(self, sr, hr=None):
        score = sr.double().mean((1, 2, 3)) if hr is None else (sr - hr).double().abs().mean((1, 2, 3))
        return score[:, None].squeeze()


def create_metric(name, device=None, check_input_range=True, **options):
    assert torch.device(device).type == "cpu" and not check_input_range
    if name == "timmy":
        raise ModuleNotFoundError("No module named 'timm'", name="timm")
    if name == "plain" and options:
        raise TypeError("PLAIN.__init__() got an unexpected keyword argument 'pretrained_model_path'")
    if name == "musiq" and "pretrained_model_path" not in options:
        raise URLError("no network")
    network = Network()
    network.options = options
    return network


@pytest.fixture
def fake(monkeypatch):
    """A module that looks like pyiqa from where the adapter stands."""
    package, configs = types.ModuleType("pyiqa"), types.ModuleType("pyiqa.default_model_configs")
    package.create_metric, package.__path__, configs.DEFAULT_CONFIGS = create_metric, [], CONFIGS
    monkeypatch.setitem(sys.modules, "pyiqa", package)
    monkeypatch.setitem(sys.modules, "pyiqa.default_model_configs", configs)
    return package


@pytest.fixture
def pictures():
    return torch.rand(2, 2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def test_direction_and_reference_are_pyiqas(fake, pictures):
    sr, hr = pictures
    lpips = metrics.get("pyiqa:lpips")
    assert isinstance(lpips, metrics.Metric)
    assert (lpips.name, lpips.lower_is_better, lpips.needs_reference) == ("pyiqa:lpips", True, True)
    torch.testing.assert_close(lpips(sr, hr), (sr - hr).abs().mean((1, 2, 3)))
    with pytest.raises(ValueError, match="pyiqa:lpips: compares with a reference"):
        lpips(sr)
    niqe = metrics.get("pyiqa:niqe")
    assert (niqe.lower_is_better, niqe.needs_reference) == (True, False)
    plain = metrics.get("pyiqa:plain")
    assert (plain.lower_is_better, plain.needs_reference) == (False, False)


def test_shape_dtype_and_gradient(fake, pictures):
    metric = metrics.get("pyiqa:niqe")
    for n in (1, 2):
        score = metric(pictures[0, :n].clone().requires_grad_())
        assert score.shape == (n,) and score.dtype == torch.float32 and not score.requires_grad


def test_the_network_moves_only_where_the_device_is_another(fake, pictures, monkeypatch):
    metric, moves = metrics.get("pyiqa:niqe", device=torch.device("cpu")), []
    assert metrics.get("pyiqa:niqe", device=torch.device("cpu")) is metric
    assert metrics.get("pyiqa:plain", device=torch.device("cpu")) is not metric
    monkeypatch.setattr(metric.network, "to", moves.append)
    for device in ("cpu", "cpu", "meta", "meta", "cpu"):
        metric(pictures[0].to(device))
    assert moves == [torch.device("meta"), torch.device("cpu")]


def test_local_weights(fake, tmp_path):
    weights = tmp_path / "musiq@home.pth"
    weights.touch()
    metric = metrics.get(f"pyiqa:musiq@{weights}")
    assert metric.name == "pyiqa:musiq@musiq@home"
    assert metric.network.options == {"pretrained_model_path": str(weights)}
    shared = metrics.get("pyiqa:lpips", device=torch.device("cpu"))
    for name, device in (("musiq", None), ("lpips", torch.device("cpu"))):
        with pytest.raises(FileNotFoundError, match=rf"pyiqa:{name}: no weights file '.*nowhere.pth'"):
            metrics.get(f"pyiqa:{name}@nowhere.pth", device=device)
    assert metrics.get("pyiqa:lpips", device=torch.device("cpu")) is shared
    with pytest.raises(ValueError, match=r"pyiqa:plain cannot use the weights .*unexpected keyword"):
        metrics.get(f"pyiqa:plain@{weights}")


def test_weights_in_the_home_folder(fake, tmp_path, monkeypatch):
    (tmp_path / "mine.pth").touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert metrics.get("pyiqa:musiq@~/mine.pth").name == "pyiqa:musiq@mine"


def test_missing_weights(fake):
    with pytest.raises(OSError, match=r"not in pyiqa's cache and cannot be downloaded \(URLError.*pyiqa:musiq@FILE"):
        metrics.get("pyiqa:musiq")


def test_unknown_name(fake):
    with pytest.raises(ValueError, match="unknown metric of pyiqa 'lpip': did you mean 'lpips'"):
        metrics.get("pyiqa:lpip")
    with pytest.raises(ValueError, match=r"pyiqa.list_models\(\) has them all"):
        metrics.get("pyiqa:")


@pytest.mark.parametrize("name", ["fid", "inception_score"])
def test_metrics_of_sets_are_refused(fake, name):
    with pytest.raises(ValueError, match=f"pyiqa:{name} scores sets of pictures"):
        metrics.get(f"pyiqa:{name}")


def test_missing_package(fake):
    with pytest.raises(PyiqaMissingError, match=r"pyiqa needs the package 'timm'; pip install -e \"\.\[pyiqa\]\" in"):
        metrics.get("pyiqa:timmy")


def test_missing_pyiqa(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "pyiqa"]:
        monkeypatch.delitem(sys.modules, name)

    class Absent:
        """An import hook for which pyiqa is not installed."""

        @staticmethod
        def find_spec(name, path=None, target=None):
            if name.split(".")[0] == "pyiqa":
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(sys, "meta_path", [Absent, *sys.meta_path])
    with pytest.raises(
        PyiqaMissingError, match=r"^pyiqa is not installed; pip install -e \"\.\[pyiqa\]\" in a clone of blindsr$"
    ) as caught:
        metrics.get("pyiqa:niqe")
    assert isinstance(caught.value, ImportError) and isinstance(caught.value, ValueError)


def test_broken_pyiqa(monkeypatch):
    """As with a torchvision that was built for another torch."""

    class Broken:
        """An import hook for which pyiqa's import fails."""

        @staticmethod
        def find_spec(name, path=None, target=None):
            if name.split(".")[0] == "pyiqa":
                raise RuntimeError("operator torchvision::nms does not exist\nmore")

    for name in [name for name in sys.modules if name.split(".")[0] == "pyiqa"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Broken, *sys.meta_path])
    with pytest.raises(PyiqaMissingError, match=r"cannot be imported \(RuntimeError: operator .* exist\); pip install"):
        metrics.get("pyiqa:niqe")


def test_real_pyiqa():
    """PSNR needs no weights; pyiqa's is of RGB unless told otherwise, so equal pictures are what can be compared."""
    try:
        import pyiqa  # noqa: F401
    except Exception as error:
        pytest.skip(f"needs a working pyiqa ({error})")
    generator = torch.Generator().manual_seed(0)
    hr = torch.rand(2, 3, 64, 64, generator=generator)
    near, far = ((hr + a * torch.randn(hr.shape, generator=generator)).clamp(0, 1) for a in (0.01, 0.1))
    psnr = metrics.get("pyiqa:psnr")
    assert psnr.needs_reference and not psnr.lower_is_better
    assert psnr(near, hr).shape == (2,) and (psnr(near, hr) > psnr(far, hr)).all()
    assert metrics.get("pyiqa:gmsd").lower_is_better
    assert (metrics.get("pyiqa:gmsd")(near, hr) < metrics.get("pyiqa:gmsd")(far, hr)).all()
