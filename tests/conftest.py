"""Fixtures for all rooms: a tiny untrained generator and a few small photos made of nothing."""

import numpy as np
import pytest
import torch

import generators
from generators import AMNet, Architecture, KernelCodec
from generators.compiled import _layers as compiled_layers


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Sums over threads come in another order on another machine."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_generator():
    """A frozen network of one block and eight channels, scale 4: nearest neighbours and a texture led by the code."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = AMNet(Architecture(blocks=1, width=8), KernelCodec.isotropic(4), name="tiny")
        with torch.no_grad():
            network.tail.weight.mul_(0.2)
            network.tail.bias.zero_()
            for layer in (network.body[0].modulate1, network.body[0].modulate2, network.modulate):
                layer.gamma.weight[:, :16].mul_(10)
                layer.beta.weight[:, :16].mul_(10)
    return network.eval().requires_grad_(False).to(memory_format=torch.channels_last)


@pytest.fixture(scope="session")
def tiny_checkpoint(tiny_generator, tmp_path_factory):
    """The path of a file that holds `tiny_generator`."""
    path = tmp_path_factory.mktemp("generator") / "tiny.safetensors"
    generators.save(path, tiny_generator, {"data": "none"})
    return str(path)


@pytest.fixture(scope="session")
def louder(tiny_generator, tmp_path_factory):
    """The path of another generator of the same name, whose texture is stronger."""
    other = generators.AMNet(tiny_generator.architecture, tiny_generator.codec, name="tiny")
    other.load_state_dict(tiny_generator.state_dict())
    with torch.no_grad():
        other.tail.weight.mul_(2)
    path = tmp_path_factory.mktemp("generator") / "louder.safetensors"
    generators.save(path, other, {"data": "none"})
    return str(path)


@pytest.fixture(scope="session")
def twice(tmp_path_factory):
    """The path of a generator of scale 2, called x2."""
    path = tmp_path_factory.mktemp("generator") / "x2.safetensors"
    generators.save(path, AMNet(Architecture(blocks=1, width=8, scale=2), KernelCodec.isotropic(2), "x2"), {})
    return str(path)


def made_up_photo(height, width, seed):
    """`(height, width, 3)` uint8: noise of all sizes, so that it has edges and texture as a photo does."""
    rng = np.random.default_rng(seed)
    picture = np.zeros((height, width, 3))
    for step in (32, 16, 8, 4, 2, 1):
        coarse = rng.standard_normal((-(-height // step), -(-width // step), 3))
        picture += step**0.7 * coarse.repeat(step, axis=0).repeat(step, axis=1)[:height, :width]
    picture = (picture - picture.mean()) / picture.std()
    return np.clip(128 + 50 * picture, 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def tiny_photos():
    """Three photos of odd sizes; the smallest side is 97."""
    return [made_up_photo(97, 130, 0), made_up_photo(151, 113, 1), made_up_photo(200, 171, 2)]


@pytest.fixture(scope="session")
def photo():
    """Makes a photo: `photo(height, width, seed)`."""
    return made_up_photo


@pytest.fixture
def compiled(monkeypatch):
    """What was handed to `torch.compile`, which compiles nothing here."""
    functions = []
    monkeypatch.setattr(torch, "compile", lambda function: functions.append(function) or function)
    compiled_layers.cache_clear()
    yield functions
    compiled_layers.cache_clear()


@pytest.fixture
def uncompilable():
    """A function of a tensor that gives it back, and whose backward pass cannot be compiled."""
    from torch._inductor.exc import InductorError, InvalidCxxCompiler  # slow to import

    class Uncompilable(torch.autograd.Function):
        @staticmethod
        def forward(context, x):
            return x.clone()

        @staticmethod
        def backward(context, gradient):
            raise InductorError(InvalidCxxCompiler(), None)

    return Uncompilable.apply
