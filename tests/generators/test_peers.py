"""Published networks: their sizes and names of weights, and what they compute, against the formulas in NumPy."""

import numpy as np
import pytest
import scipy.io
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

import generators
from blindsr_env.degradation import blur, downsample
from blindsr_env.env import BlindSREnv
from generators.kernels import gaussian
from generators.peers import IMDN, SRMDNF, USRNetTiny
from generators.peers.usrnet import inverted

NAMES = {"srmdnf": SRMDNF, "usrnet_tiny": USRNetTiny, "imdn": IMDN}
FILES = {"srmdnf": "srmdnf_x4", "usrnet_tiny": "usrnet_tiny", "imdn": "IMDN_x4"}


def random(*shape, seed=0, dtype=torch.float32):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of random weights under the published names; IMDN's and the basis in their authors' formats."""
    folder = tmp_path_factory.mktemp("peers")
    for seed, (name, network) in enumerate(NAMES.items()):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            weights = {key: p.detach() for key, p in network().named_parameters()}
        if name == "imdn":
            torch.save({f"module.{key}": weight for key, weight in weights.items()}, folder / "IMDN_x4.pth")
        else:
            save_file(weights, folder / f"{FILES[name]}.safetensors")
    basis = np.random.default_rng(0).standard_normal((15, 225))
    scipy.io.savemat(folder / "srmd_pca_matlab.mat", {"P": basis})
    return folder


@pytest.mark.parametrize(("name", "count"), [("srmdnf", 1_552_048), ("usrnet_tiny", 590_332), ("imdn", 715_176)])
def test_parameter_counts_are_the_published_ones(name, count):
    assert sum(p.numel() for p in NAMES[name]().parameters()) == count


@pytest.mark.parametrize("name", NAMES)
def test_they_render_photos_of_any_size(folder, name):
    generator = generators.load(f"{name}@{folder}")
    assert generator.name == name and generator.scale == 4 and not generator.training
    assert not any(p.requires_grad for p in generator.parameters())
    action = generator.codec.encode(gaussian(torch.tensor([1.0, 3.0], dtype=torch.float64)))
    for height, width in ((5, 7), (16, 16), (13, 30)):
        assert generator(random(2, 3, height, width), action).shape == (2, 3, 4 * height, 4 * width)


@pytest.mark.parametrize("name", ["srmdnf", "usrnet_tiny"])
def test_they_look_at_the_kernel(folder, name):
    generator = generators.load(f"{name}@{folder}")
    lr, action = random(1, 3, 16, 16), torch.zeros(2, 15, requires_grad=True)
    one, other = generator(lr.expand(2, -1, -1, -1), generator.codec.encode(gaussian(torch.tensor([1.0, 3.0]))))
    assert (one - other).abs().max() > 1e-6
    generator(lr.expand(2, -1, -1, -1), action).mean().backward()
    assert torch.isfinite(action.grad).all() and action.grad.abs().max() > 0


def test_imdn_does_not(folder):
    generator = generators.load(f"imdn@{folder}")
    lr = random(1, 3, 16, 16)
    assert torch.equal(generator(lr, torch.zeros(1, 15)), generator(lr, torch.ones(1, 15)))


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_is_near_full(folder, name):
    full, half = (generators.load(f"{name}@{folder}", dtype=dtype) for dtype in (torch.float32, torch.bfloat16))
    assert full.fingerprint == half.fingerprint is not None
    lr, action = random(2, 3, 16, 16), torch.zeros(2, 15)
    a, b = full(lr, action), half(lr, action)
    assert b.dtype == torch.float32 and 0 < (a - b).abs().max() < 0.05 * a.std() + 0.02


def test_srmdnf_is_twelve_convolutions_of_photo_and_code(folder):
    generator = generators.load(f"srmdnf@{folder}")
    basis = scipy.io.loadmat(folder / "srmd_pca_matlab.mat")["P"]
    kernel = random(1, 21, 21, dtype=torch.float64)
    kernel /= kernel.sum()
    inner = kernel[0].numpy()[3:18, 3:18]
    code = basis @ (inner / inner.sum()).flatten(order="F")
    assert np.allclose(generator.network.code(kernel)[0].numpy(), code, atol=1e-5)
    lr = random(1, 3, 9, 8)
    x = torch.cat([lr, torch.from_numpy(code).float()[None, :, None, None].expand(-1, -1, 9, 8)], 1)
    weights = generator.network.state_dict()
    for i in range(12):
        x = F.conv2d(x, weights[f"model.{2 * i}.weight"], weights[f"model.{2 * i}.bias"], padding=1)
        x = x.relu() if i < 11 else x
    assert torch.allclose(generator.network(lr, kernel.float()), F.pixel_shuffle(x, 4), atol=1e-5)


def test_imdn_is_its_blocks(folder):
    generator = generators.load(f"imdn@{folder}")
    w = torch.load(folder / "IMDN_x4.pth", weights_only=True)
    w = {key.removeprefix("module."): weight for key, weight in w.items()}

    def conv(name, x):
        kernel = w[f"{name}.weight"]
        return F.conv2d(x, kernel, w[f"{name}.bias"], padding=kernel.shape[-1] // 2)

    lr = random(2, 3, 12, 10)
    x = first = conv("fea_conv", lr)
    blocks = []
    for n in range(1, 7):
        a = F.leaky_relu(conv(f"IMDB{n}.c1", x), 0.05)
        b = F.leaky_relu(conv(f"IMDB{n}.c2", a[:, 16:]), 0.05)
        c = F.leaky_relu(conv(f"IMDB{n}.c3", b[:, 16:]), 0.05)
        every = torch.cat([a[:, :16], b[:, :16], c[:, :16], conv(f"IMDB{n}.c4", c[:, 16:])], 1)
        told = every.mean((2, 3), keepdim=True) + every.std((2, 3), correction=0, keepdim=True)
        share = conv(f"IMDB{n}.cca.conv_du.2", conv(f"IMDB{n}.cca.conv_du.0", told).relu()).sigmoid()
        x = x + conv(f"IMDB{n}.c5", every * share)
        blocks.append(x)
    x = conv("LR_conv", F.leaky_relu(conv("c.0", torch.cat(blocks, 1)), 0.05)) + first
    expected = F.pixel_shuffle(conv("upsampler.0", x), 4)
    assert torch.allclose(generator(lr, torch.zeros(2, 15)), expected, atol=1e-5)


def test_usrnets_degradation_is_ours():
    """Away from the border, where it takes photos for periodic and we reflect them; of a kernel that is no Gaussian."""
    network = USRNetTiny().double()
    hr, kernel = random(1, 3, 96, 128, dtype=torch.float64), random(1, 21, 21, seed=1, dtype=torch.float64)
    kernel /= kernel.sum()
    seen = torch.fft.ifft2(torch.fft.fft2(hr) * network.transfer(kernel, (96, 128))).real[:, :, ::4, ::4]
    assert torch.allclose(seen[..., 5:-5, 5:-5], downsample(blur(hr, kernel), 4)[..., 5:-5, 5:-5], atol=1e-7)


def test_usrnets_inversion_is_the_minimum():
    """Where the gradient of |(k * x) kept - y|^2 + alpha |x - near|^2 is zero, by autograd."""
    network = USRNetTiny().double()
    y, near = random(2, 3, 12, 16, dtype=torch.float64), random(2, 3, 48, 64, seed=1, dtype=torch.float64)
    otf = network.transfer(gaussian(torch.tensor([0.8, 2.0], dtype=torch.float64)), (48, 64))
    alpha = torch.tensor(0.03, dtype=torch.float64)
    x = inverted(y, otf, near, alpha).requires_grad_()
    seen = torch.fft.ifft2(torch.fft.fft2(x) * otf).real[:, :, ::4, ::4]
    loss = (seen - y).square().sum() + alpha * (x - near).square().sum()
    assert torch.autograd.grad(loss, x)[0].abs().max() < 1e-10 * loss


def test_usrnet_is_inversion_and_u_net_in_turn(folder):
    network = generators.load(f"usrnet_tiny@{folder}").network
    w = load_file(folder / "usrnet_tiny.safetensors")

    def conv(name, x, **settings):
        return F.conv2d(x, w[f"{name}.weight"], w.get(f"{name}.bias"), **settings)

    def residuals(name, x, places):
        for i in places:
            x = x + conv(f"{name}.{i}.res.2", conv(f"{name}.{i}.res.0", x, padding=1).relu(), padding=1)
        return x

    def denoised(x, level):
        x = torch.cat([x, level.expand(len(x), 1, *x.shape[2:])], 1)
        height, width = x.shape[2:]
        x = F.pad(x, (0, -width % 8, 0, -height % 8), mode="replicate")
        down = [conv("p.m_head", x, padding=1)]
        for n in (1, 2, 3):
            down.append(conv(f"p.m_down{n}.2", residuals(f"p.m_down{n}", down[-1], (0, 1)), stride=2))
        x = residuals("p.m_body", down[3], (0, 1))
        for n in (3, 2, 1):
            x = F.conv_transpose2d(x + down[n], w[f"p.m_up{n}.0.weight"], stride=2)
            x = residuals(f"p.m_up{n}", x, (1, 2))
        return conv("p.m_tail", x + down[0], padding=1)[..., :height, :width]

    given = torch.tensor([0.0, 4.0]).view(1, 2, 1, 1)  # noise level and scale
    strengths = F.softplus(conv("h.mlp.4", conv("h.mlp.2", conv("h.mlp.0", given).relu()).relu())).flatten() + 1e-6
    lr, kernel = random(2, 3, 11, 14), gaussian(torch.tensor([0.8, 2.0]))
    y = F.pad(lr, (8, 8, 8, 8), mode="replicate")
    x = y.repeat_interleave(4, 2).repeat_interleave(4, 3)
    for i in range(6):
        x = denoised(inverted(y, network.transfer(kernel, x.shape[2:]), x, strengths[i]), strengths[6 + i])
    expected = x[..., 32:-32, 32:-32]
    assert (network(lr, kernel) - expected).abs().max() < 1e-4 * expected.std()


def test_what_is_missing_or_of_another_network_is_said(folder, tmp_path):
    with pytest.raises(ValueError, match=r"srmdnf needs srmdnf_x4.safetensors or srmdnf_x4.pth.*srmdnf@FOLDER"):
        generators.load(f"srmdnf@{tmp_path}")
    with pytest.raises(ValueError, match="imdn needs"):
        generators.load("imdn@nowhere")
    save_file({"a": torch.zeros(1)}, tmp_path / "usrnet_tiny.safetensors")
    with pytest.raises(ValueError, match="lacks"):
        generators.load(f"usrnet_tiny@{tmp_path}")
    (tmp_path / "srmdnf_x4.safetensors").write_bytes((folder / "srmdnf_x4.safetensors").read_bytes())
    np.savez(tmp_path / "srmd_pca.npz", P=np.zeros((15, 441)))
    with pytest.raises(ValueError, match="SRMD's basis"):
        generators.load(f"srmdnf@{tmp_path}")
    (tmp_path / "srmd_pca.npz").write_bytes((tmp_path / "srmd_pca.npz").read_bytes()[:500])
    with pytest.raises(ValueError, match="holds no array P"):
        generators.load(f"srmdnf@{tmp_path}")
    for name in ("srmdnf", "SRMDNF@weights", "srmdn@/weights"):
        with pytest.raises(ValueError, match="did you mean 'srmdnf@FOLDER'"):
            generators.load(name)


def test_a_home_is_found_behind_the_at(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    assert generators.load(f"imdn@~/{folder.name}").name == "imdn"


def test_peers_in_half_precision_are_environments_generators(folder):
    half = generators.load(f"usrnet_tiny@{folder}", dtype=torch.bfloat16)
    env = BlindSREnv(metric="psnr", generator=half, dtype="bfloat16", split="test", patch_size=24)
    env.reset(seed=0)
    assert np.isfinite(env.step(np.zeros(15))[1])
    with pytest.raises(ValueError, match=r"in torch.float32, the environment on cpu in torch.float16"):
        BlindSREnv(metric="psnr", generator=half, dtype="float16", split="test", patch_size=24)


def test_what_ignores_the_action_has_no_gradient(folder):
    env = BlindSREnv(metric="psnr", generator=f"imdn@{folder}", gradient=True, split="test", patch_size=24)
    env.reset(seed=0)
    with pytest.raises(ValueError, match="imdn's pictures have no gradient with respect to the action"):
        env.step(np.zeros(15))


@pytest.mark.parametrize("name", NAMES)
def test_the_default_dtype_changes_nothing(folder, name):
    lr, action = random(1, 3, 12, 12), random(1, 15, seed=1)
    plain = generators.load(f"{name}@{folder}")
    torch.set_default_dtype(torch.float64)
    try:
        other = generators.load(f"{name}@{folder}")
    finally:
        torch.set_default_dtype(torch.float32)
    assert other.fingerprint == plain.fingerprint and torch.equal(other(lr, action), plain(lr, action))
