"""The mean of eight views: against the views by NumPy, and what it keeps."""

import copy

import numpy as np
import pytest
import torch

from blindsr_env.env import BlindSREnv
from generators import SelfEnsemble, Tiled


def views(photo):
    """A photo `(3, h, w)` and how to turn a picture of each view back, by NumPy's rotations instead of our flips."""
    for mirrored in (False, True):
        for quarter in range(4):
            seen = np.rot90(photo[:, :, ::-1] if mirrored else photo, quarter, axes=(1, 2))

            def back(sr, quarter=quarter, mirrored=mirrored):
                sr = np.rot90(sr, -quarter, axes=(1, 2))
                return sr[:, :, ::-1] if mirrored else sr

            yield seen, back


@pytest.mark.parametrize("way", ["forward", "render"])
def test_it_is_the_mean_of_eight_views_turned_back(tiny_generator, way):
    lr = torch.rand(2, 3, 20, 13, generator=torch.Generator().manual_seed(0))
    code = torch.rand(2, 15, generator=torch.Generator().manual_seed(1)) * 2 - 1
    sr = getattr(SelfEnsemble(tiny_generator), way)(lr, code)
    assert sr.shape == (2, 3, 80, 52)
    for photo, own, given in zip(lr.numpy(), code, sr.numpy(), strict=True):
        turned = []
        for seen, back in views(photo):
            with torch.no_grad():
                one = getattr(tiny_generator, way)(torch.from_numpy(seen.copy())[None], own[None])[0]
            turned.append(back(one.double().numpy()))
        assert np.abs(np.mean(turned, axis=0) - given).max() < 1e-5
        assert np.std(turned, axis=0).max() > 1e-3, "the network makes the same of all views: nothing was tested"


def test_a_turned_photo_gives_the_turned_picture(tiny_generator):
    lr, code = torch.rand(1, 3, 12, 18, generator=torch.Generator().manual_seed(0)), torch.zeros(1, 15)
    ensemble = SelfEnsemble(tiny_generator)
    sr, turned = ensemble(lr, code), ensemble(lr.rot90(1, (2, 3)), code)
    torch.testing.assert_close(turned, sr.rot90(1, (2, 3)), rtol=0, atol=1e-5)


def test_environments_and_tiles_take_it_for_the_generator(tiny_generator, tiny_photos):
    both = Tiled(SelfEnsemble(tiny_generator), 16, 4)
    assert (both.name, both.scale, both.codec) == ("tiny", 4, tiny_generator.codec) and not both.training
    assert both.fingerprint == tiny_generator.fingerprint and both.architecture == tiny_generator.architecture
    scores = []
    for generator in (tiny_generator, SelfEnsemble(tiny_generator), both):
        env = BlindSREnv(metric="psnr", images=tiny_photos, patch_size=24, generator=generator)
        env.reset(seed=1)
        scores.append(env.step(np.zeros(15, np.float32))[4]["score"])
    assert len(set(scores)) == 3 and max(scores) - min(scores) < 3


@pytest.mark.parametrize("way", ["forward", "render"])
def test_slopes_pass_through_all_views(tiny_generator, way):
    render = getattr(SelfEnsemble(copy.deepcopy(tiny_generator).double()), way)
    random = torch.Generator().manual_seed(0)
    lr, wish = torch.rand(1, 3, 12, 9, generator=random).double(), torch.randn(1, 3, 48, 36, generator=random).double()
    code = torch.full((1, 15), 0.1, dtype=torch.float64, requires_grad=True)
    (slopes,) = torch.autograd.grad((render(lr, code) * wish).sum(), code)
    with torch.no_grad():
        steps = 1e-2 * torch.eye(15, dtype=torch.float64)
        pairs = [(render(lr, code + step) - render(lr, code - step)) * wish for step in steps]
    by_differences = torch.stack([pair.sum() / 2e-2 for pair in pairs])
    # ReLUs bend within a step, so single slopes differ by more.
    assert (slopes[0] - by_differences).norm() < 0.05 * slopes.norm()


def test_half_precision_gives_nearly_the_same_picture(tiny_generator):
    lr = torch.rand(1, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    code = torch.zeros(1, 15)
    half = SelfEnsemble(copy.deepcopy(tiny_generator).to(torch.bfloat16))
    sr = half(lr, code)
    assert sr.dtype == torch.float32
    torch.testing.assert_close(sr, SelfEnsemble(tiny_generator)(lr, code), rtol=0, atol=0.02)


def test_a_name_is_no_generator():
    with pytest.raises(TypeError, match="SelfEnsemble takes a generator, not 'amnet': give generators.load"):
        SelfEnsemble("amnet")
