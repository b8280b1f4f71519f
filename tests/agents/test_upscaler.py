"""A user's photos in Python."""

from unittest.mock import Mock

import numpy as np
import pytest
import torch

import generators
from agents import Upscaler, checkpoints, policies
from blindsr_env import kernels
from generators import checkpoint

SMALL = dict(generator="amnet_s", tile=None)


@pytest.fixture(scope="module")
def seen(tiny_photos):
    return np.ascontiguousarray(tiny_photos[0][:20, :28])


def test_renders_with_the_predicted_code(seen):
    upscaler = Upscaler(**SMALL)
    lr = torch.from_numpy(seen).permute(2, 0, 1)[None] / 255
    generator = generators.load("amnet_s")
    action, _ = upscaler.policy.predict(seen)
    with torch.inference_mode():
        expected = generator(lr, torch.as_tensor(action)[None])[0].clamp(0, 1).permute(1, 2, 0).numpy() * 255
    sr = upscaler(seen)
    assert sr.shape == (80, 112, 3) and sr.dtype == np.uint8
    assert np.abs(sr - expected).max() < 0.51


def test_a_known_width_replaces_the_policy(seen):
    generator = generators.load("amnet_s")
    code = generator.codec.encode(kernels.gaussian(torch.tensor([2.0], dtype=torch.float64)))
    lr = torch.from_numpy(seen).permute(2, 0, 1)[None] / 255
    with torch.inference_mode():
        expected = generator(lr, code.float())[0].clamp(0, 1).permute(1, 2, 0).numpy() * 255
    alone = Upscaler(None, **SMALL)
    np.testing.assert_array_equal(alone(seen, 2.0), Upscaler(**SMALL)(seen, 2.0))
    assert np.abs(alone(seen, 2.0) - expected).max() < 0.51
    with pytest.raises(ValueError, match="no policy to choose the code: give the blur's width"):
        alone(seen)
    with pytest.raises(ValueError, match="width"):
        alone(seen, 9.0)


def test_a_module_renders_and_an_agent_brings_its_generator(seen, tiny_generator):
    assert Upscaler(generator=tiny_generator)(seen).shape == (80, 112, 3)
    assert Upscaler("amgan_rl_s@0.5").core.generator.name == "amgan_s"


def test_a_generator_of_scale_2_brings_its_predictor(seen):
    upscaler = Upscaler(generator="amnet_s_x2")
    assert upscaler(seen).shape == (40, 56, 3)
    own = policies.load(checkpoints.WEIGHTS / "predictor_s_x2.safetensors")
    np.testing.assert_array_equal(upscaler.policy.predict(seen)[0], own.predict(seen)[0])


@pytest.mark.parametrize(("generator", "side"), [("amnet_s", 64), ("amnet_s_x2", 128)])
def test_tiles_are_as_large_as_the_patches_of_the_training(generator, side):
    training = checkpoint.read(generators.find(generator))[1]["training"]["settings"]
    assert Upscaler(generator=generator).core.generator.tile == side == training["patch_size"]


def test_a_photo_without_colour_stays_so(seen):
    grey = seen[..., :1].repeat(3, axis=2)
    sr = Upscaler(**SMALL)(grey)
    assert (sr == sr[..., :1]).all()


def test_views_and_read_only_arrays_are_photos_too(seen, recwarn):
    upscaler = Upscaler(**SMALL)
    locked = seen.copy()
    locked.setflags(write=False)
    np.testing.assert_array_equal(upscaler.policy.predict(locked)[0], upscaler.policy.predict(seen)[0])
    np.testing.assert_array_equal(upscaler(locked), upscaler(seen))
    turned = seen[..., ::-1]  # as of OpenCV's BGR
    np.testing.assert_array_equal(upscaler(turned), upscaler(turned.copy()))
    assert not recwarn


@pytest.mark.parametrize(
    "wrong",
    ["photo.jpg", *(np.zeros(shape, np.uint8) for shape in ((8, 8), (0, 8, 3), (8, 8, 4))), np.zeros((8, 8, 3))],
    ids=lambda wrong: str(getattr(wrong, "shape", wrong)),
)
def test_other_arrays_are_refused(wrong):
    with pytest.raises(ValueError, match=r"a photo is \(H, W, 3\) uint8, RGB, got .*images.read gives it so"):
        Upscaler(**SMALL)(wrong)


def test_what_cannot_choose_is_refused():
    with pytest.raises(ValueError, match="'true-code' cannot choose for a photo alone"):
        Upscaler("true-code")
    with pytest.raises(ValueError, match="'random@0.5' cannot choose for a photo alone"):
        Upscaler("random@0.5")
    with pytest.raises(ValueError, match="tile must be above"):
        Upscaler(tile=8)


def test_it_renders_as_it_is_told(compiled):
    settings = dict(generator="amnet_s", action="width", tile=24, self_ensemble=True, dtype="bfloat16", compile=True)
    upscaler = Upscaler("mean-code", **settings)
    tiled, core = upscaler.core.generator, upscaler.core
    assert (type(tiled), tiled.tile, core.dtype, core.action) == (generators.Tiled, 24, torch.bfloat16, "width")
    assert type(tiled.generator) is generators.SelfEnsemble
    assert type(tiled.generator.generator) is generators.Compiled
    assert torch.bfloat16 in {weight.dtype for weight in tiled.parameters()}


def test_want_of_memory_is_told_from_other_errors(seen, monkeypatch):
    upscaler = Upscaler("mean-code", **SMALL)
    cure = "^memory ran out: take tiles, or cut the photo in parts$"
    for words, raised, says in (("can't allocate memory", MemoryError, cure), ("a slip", RuntimeError, "^a slip$")):
        monkeypatch.setattr(upscaler.core, "render", Mock(side_effect=RuntimeError(words)))
        with pytest.raises(raised, match=says):
            upscaler(seen)
