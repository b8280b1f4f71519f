"""Networks for known blur as generators: the kernel that an action names, in both action spaces, and its gradient."""

import gymnasium
import numpy as np
import pytest
import torch
from torch.nn import functional as F

import blindsr_env  # noqa: F401  registers the environment
import generators
from generators import ByKernel
from generators.kernels import gaussian


class Sum(torch.nn.Module):
    """Adds the kernel's middle to the photo."""

    def forward(self, lr, kernel):
        return F.interpolate(lr, scale_factor=4, mode="nearest") + kernel[:, 10, 10, None, None, None]


WIDTHS = torch.tensor([0.2, 1.3, 2.6, 4.0], dtype=torch.float64)


def lr(count=4):
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(0))


class Kept(torch.nn.Module):
    """Keeps the kernels that it was given."""

    def forward(self, lr, kernel):
        self.kernel = kernel
        return F.interpolate(lr, scale_factor=4, mode="nearest")


def test_the_network_is_given_the_kernel_that_the_action_names():
    network = Kept()
    generator = ByKernel(network, "kept").eval()
    kernel = gaussian(WIDTHS)
    action = generator.codec.encode(kernel)
    sr = generator(lr(), action)
    assert sr.shape == (4, 3, 64, 64) and network.kernel.dtype == torch.float32
    assert (network.kernel - kernel).abs().max() < 1e-6
    generator.render(lr(), generator.codec.code(action))  # the same in the free-code space
    assert (network.kernel - kernel).abs().max() < 1e-6


def test_free_codes_reach_a_thousandth_beyond_the_family():
    network = Kept()
    generator = ByKernel(network, "kept").eval()
    code = torch.zeros(1, 15)
    generator.render(lr(1), code)
    middle = network.kernel
    code[0, 14] = 1
    generator.render(lr(1), code)
    moved = (network.kernel - middle).norm() / generator.codec.half_range.max() * 0.8
    assert moved == pytest.approx(1e-3, rel=1e-3)


def test_the_gradient_reaches_the_action():
    generator = ByKernel(Sum(), "sum").eval()
    action = torch.zeros(2, 15, requires_grad=True)
    generator(lr(2), action).mean(dim=(1, 2, 3)).sum().backward()
    codec = generator.codec
    middle = codec.basis.view(15, 21, 21)[:, 10, 10] * codec.half_range / 0.8
    assert torch.allclose(action.grad.double(), middle.expand(2, -1), rtol=1e-4, atol=1e-9)


def test_want_of_memory_is_the_callers():
    """Who renders photos of any size tells it apart from a network that fails, and renders in tiles."""

    class Greedy(torch.nn.Module):
        def forward(self, lr, kernel):
            raise torch.OutOfMemoryError

    with pytest.raises(torch.OutOfMemoryError):
        ByKernel(Greedy(), "greedy")(lr(1), torch.zeros(1, 15))


def test_it_is_in_the_networks_mode():
    assert ByKernel(Sum(), "sum").training and not ByKernel(Sum().eval(), "sum").training


def test_it_is_an_environments_generator():
    env = gymnasium.make("BlindSR-v0", metric="psnr", generator=ByKernel(Sum(), "sum").eval(), gradient=True)
    env.reset(seed=0)
    _, reward, *_, info = env.step(np.zeros(15, np.float32))
    assert np.isfinite(reward) and np.abs(info["gradient"]).max() > 0
    with pytest.raises(ValueError, match="training mode"):
        gymnasium.make("BlindSR-v0", generator=ByKernel(Sum(), "sum"))


def test_networks_get_float32_whatever_the_precision():
    class Halved(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.gain = torch.nn.Parameter(torch.ones((), dtype=torch.bfloat16), requires_grad=False)

        def forward(self, lr, kernel):
            assert lr.dtype == kernel.dtype == torch.float32
            return F.interpolate(lr, scale_factor=4, mode="nearest") * self.gain

    env = gymnasium.make(
        "BlindSR-v0", metric="psnr", generator=ByKernel(Halved(), "halved").eval(), dtype="bfloat16", split="test"
    )
    env.reset(seed=0)
    env.step(np.zeros(15, np.float32))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda lr, kernel: None, "gave a NoneType, not"),
        (lambda lr, kernel: lr, r"gave pictures of \(1, 3, 16, 16\), not of \(1, 3, 64, 64\): at scale 4"),
        (lambda lr, kernel: lr @ kernel, "failed with RuntimeError: .*test_by_kernel.py"),
    ],
)
def test_what_is_no_picture_is_said(function, message):
    network = torch.nn.Module()
    network.forward = function
    with pytest.raises(ValueError, match=f"the network odd {message}"):
        ByKernel(network, "odd")(lr(1), torch.zeros(1, 15))


def test_it_stands_inside_wrappers():
    generator = ByKernel(Kept(), "kept").eval()
    tiled = generators.Tiled(generator, tile=24)
    assert (tiled.scale, tiled.name, tiled.codec) == (4, "kept", generator.codec)
    large = lr(1).repeat(1, 1, 2, 2)
    assert torch.allclose(tiled(large, torch.zeros(1, 15)), generator(large, torch.zeros(1, 15)), atol=1e-6)
    with pytest.raises(TypeError, match="an AMNet"):
        generators.Compiled(generator)
