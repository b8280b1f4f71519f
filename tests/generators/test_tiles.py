"""Tiles: what they cover, how they are blended, and what stays as it is."""

import numpy as np
import pytest
import torch

import generators
from blindsr_env.env import BlindSREnv
from generators.tiles import Tiled


def photos(height, width, count=2):
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(height * width))


def codes(count=2):
    return torch.rand(count, 15, generator=torch.Generator().manual_seed(1)) * 2 - 1


def by_loops(generator, lr, action, tile, overlap, scale=4):
    """Each pixel is the mean of the tiles that cover it, weighted by how deep inside it lies; float64 NumPy."""
    total = np.zeros((len(lr), 3, *(scale * side for side in lr.shape[2:])))
    weights = np.zeros(total.shape[2:])
    starts, depth = [], []
    for side in lr.shape[2:]:
        length = min(tile, side)
        count = int(np.ceil((side - overlap) / (tile - overlap))) if side > tile else 1
        starts.append([round(i * (side - length) / max(count - 1, 1)) for i in range(count)])
        for start in starts[-1]:
            weight = np.ones(scale * length)
            for k in range(scale * overlap):
                if start > 0:
                    weight[k] = min(weight[k], (k + 0.5) / (scale * overlap))
                if start + length < side:
                    weight[-1 - k] = min(weight[-1 - k], (k + 0.5) / (scale * overlap))
            depth.append(weight)
    for i, top in enumerate(starts[0]):
        for j, left in enumerate(starts[1]):
            crop = lr[:, :, top : top + tile, left : left + tile]
            weight = np.outer(depth[i], depth[len(starts[0]) + j])
            where = np.s_[scale * top : scale * (top + crop.shape[2]), scale * left : scale * (left + crop.shape[3])]
            total[(..., *where)] += generator(crop, action).double().numpy() * weight
            weights[where] += weight
    return total / weights


@pytest.mark.parametrize(
    ("height", "width", "tile", "overlap"),
    [(50, 31, 16, 4), (17, 16, 16, 4), (9, 40, 16, 4), (33, 33, 12, 0), (100, 20, 24, 7)],
)
def test_tiles_are_blended_by_their_depth(tiny_generator, height, width, tile, overlap):
    lr, action = photos(height, width), codes()
    sr = Tiled(tiny_generator, tile, overlap)(lr, action)
    expected = by_loops(tiny_generator, lr, action, tile, overlap)
    assert sr.shape == expected.shape and np.abs(sr.numpy() - expected).max() < 1e-5


def test_tiles_of_half_precision_leave_no_seams(tiny_generator):
    class Same(torch.nn.Module):  # each tile is right, so what is off comes of blending
        scale, codec, name = 4, tiny_generator.codec, "nearest"

        def forward(self, lr, code):
            return lr.repeat_interleave(4, 2).repeat_interleave(4, 3)

        render = forward

    lr = torch.full((1, 3, 40, 50), 0.75, dtype=torch.bfloat16)
    sr = Tiled(Same(), 16, 4)(lr, torch.zeros(1, 15))
    assert sr.dtype == torch.bfloat16 and (sr == 0.75).all()


def test_patches_are_rendered_as_ever(tiny_generator):
    for size in ((16, 16), (9, 16)):
        lr, action = photos(*size), codes()
        assert torch.equal(Tiled(tiny_generator, 16, 4)(lr, action), tiny_generator(lr, action))
        assert torch.equal(Tiled(tiny_generator, 16, 4).render(lr, action), tiny_generator.render(lr, action))


def test_a_generator_that_looks_at_no_statistics_needs_no_tiles(tiny_generator):
    class Nearest(torch.nn.Module):
        scale, codec, name = 4, tiny_generator.codec, "nearest"

        def forward(self, lr, action):
            return lr.repeat_interleave(4, 2).repeat_interleave(4, 3) * action[:, :1, None, None]

    lr, action = photos(70, 45, count=3), codes(3)
    tiled = Tiled(Nearest().eval(), 16, 5)
    torch.testing.assert_close(tiled(lr, action), Nearest()(lr, action), rtol=0, atol=1e-6)


def test_photos_share_no_tile(tiny_generator):
    lr, action = photos(40, 30, count=5), codes(5)
    tiled = Tiled(tiny_generator, 12, 3)
    alone = torch.cat([tiled(lr[i : i + 1], action[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(tiled(lr, action), alone, rtol=0, atol=1e-5)
    assert tiled(lr[:0], action[:0]).shape == (0, 3, 160, 120)


def test_the_gradient_of_the_action_passes(tiny_generator):
    lr, action = photos(30, 20), codes().requires_grad_()
    tiled = Tiled(tiny_generator, 12, 3)
    (slope,) = torch.autograd.grad(tiled(lr, action).square().mean(), action)
    step = 1e-2 * slope / slope.norm()
    with torch.no_grad():
        higher, lower = (tiled(lr, action + sign * step).square().double().mean() for sign in (1, -1))
    assert (higher - lower).item() == pytest.approx(2 * (slope * step).sum().item(), rel=0.05)


def test_environments_take_it_for_the_generator(tiny_generator, tiny_photos):
    common = dict(metric="psnr", images=tiny_photos, patch_size=24)
    plain, tiled = (BlindSREnv(generator=g, **common) for g in (tiny_generator, Tiled(tiny_generator, 16, 4)))
    assert tiled.core.generator.name == "tiny"
    rewards = []
    for env in (plain, tiled):
        env.reset(seed=1)
        rewards.append(env.step(np.zeros(15, np.float32))[4]["score"])
    assert rewards[0] != rewards[1] and rewards[0] == pytest.approx(rewards[1], abs=3)


def test_photos_keep_their_precision_where_weights_have_half(tiny_checkpoint, tiny_photos):
    half = generators.load(tiny_checkpoint, dtype=torch.bfloat16)
    common = dict(metric="psnr", images=tiny_photos, patch_size=24, dtype="bfloat16")
    pictures = []
    for generator in (half, Tiled(half, 24, 4)):  # of one tile, which is the generator itself
        env = BlindSREnv(generator=generator, **common)
        env.reset(seed=1)
        pictures.append(env.core.render(torch.from_numpy(env.reset(seed=1)[0])[None], torch.zeros(1, 15)))
    assert torch.equal(*pictures)


@pytest.mark.parametrize(("tile", "overlap"), [(16, 8), (0, 0), (16, -1)])
def test_tiles_too_small_for_their_overlap(tiny_generator, tile, overlap):
    with pytest.raises(ValueError, match="a tile must be larger than two overlaps"):
        Tiled(tiny_generator, tile, overlap)


def test_a_name_is_no_generator():
    with pytest.raises(TypeError, match="takes a generator, not 'amnet': give generators.load"):
        Tiled("amnet")


def test_few_tiles_are_rendered_at_once(tiny_generator, monkeypatch):
    """However many photos there are: memory is bounded."""
    monkeypatch.setattr("generators.tiles.AT_ONCE", 4)
    tiled, sizes = Tiled(tiny_generator, 16, 4), []
    with tiny_generator.head.register_forward_hook(lambda layer, inputs, _: sizes.append(len(inputs[0]))):
        tiled(photos(40, 28, count=2), codes(2))
    assert sum(sizes) == 2 * 3 * 2 and max(sizes) == 4
