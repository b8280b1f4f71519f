"""The batched core: scenes, renderings, scores and rewards against ones computed step by step."""

import copy
import os
import pickle
import re
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch

import generators
from blindsr_env import metrics, recording, sharing
from blindsr_env.core import BROKEN_REWARD, BlindSRCore
from blindsr_env.degradation import blur, degrade, downsample, quantize
from blindsr_env.images import ImageError, write
from blindsr_env.kernels import GAUSSIAN8, anisotropic, gaussian
from blindsr_env.recording import KEPT, Recordings
from blindsr_env.reset_options import OPTIONS
from blindsr_env.scenes import Degradation


@pytest.fixture
def make(tiny_generator, tiny_photos):
    def make(**changes):
        settings = dict(
            metric="psnr",
            generator=tiny_generator,
            images=tiny_photos,
            split="train",
            patch_size=24,
            degradation="isotropic",
            action="code",
            report=(),
            device="cpu",
            dtype="float32",
        )
        return BlindSRCore(**(settings | changes))

    return make


def streams(count, seed=0):
    return [np.random.default_rng(seed + i) for i in range(count)]


def crop_of(photo, top, left, size, flip):
    """A scene's HR crop of that height and width, by NumPy's own flips."""
    rows, columns = size[::-1] if flip & 4 else size
    crop = photo[top : top + rows, left : left + columns]
    assert crop.shape[:2] == (rows, columns), "a crop leaves its photo"
    crop = crop[:, ::-1] if flip & 1 else crop
    crop = crop[::-1] if flip & 2 else crop
    return crop.transpose(1, 0, 2) if flip & 4 else crop


def seen(sr):
    return torch.floor(sr.clamp(0, 1) * 255 + 0.5) / 255


# Scenes


@pytest.mark.parametrize("patch", [24, (24, 30), (30, 24)])
def test_lr_is_the_degraded_crop_that_info_names(make, tiny_photos, patch):
    core = make(patch_size=patch)
    scenes = core.scenes(streams(12))
    info = core.info(scenes)
    assert len(info["flip"].unique()) > 3
    for i in range(12):
        top, left = info["crop"][i].tolist()
        hr = crop_of(tiny_photos[info["image"][i]], top, left, core.crop, info["flip"][i].item())
        assert np.array_equal(scenes.hr[i].permute(1, 2, 0).numpy(), hr)
        kernel = gaussian(info["width"][i : i + 1].double())  # the whole kernel, not its profile
        lr = degrade(torch.from_numpy(hr.copy()).permute(2, 0, 1)[None].double() / 255, kernel, 4)
        difference = (scenes.lr[i].float() - 255 * lr[0].permute(1, 2, 0)).abs()
        assert difference.max() <= 1 and (difference > 0.5).float().mean() < 1e-3


@pytest.mark.parametrize("patch", [24, (24, 30)])
@pytest.mark.parametrize("flip", range(8))
def test_turned_scenes_are_the_turned_crops(make, tiny_photos, flip, patch):
    """`place` says how to cut them out of the photo, whatever flip they had, and codes and blurs are what they were."""
    core = make(patch_size=patch)
    image, before = np.arange(8) % len(tiny_photos) if patch == 24 else 2, np.arange(8)
    scenes = core.scenes(streams(8), core.sampler.fix({"image": image, "flip": before}, 8))
    turned = core.turned(scenes, flip)
    for hr, expected, (photo, top, left, both) in zip(turned.hr, scenes.hr, turned.place.tolist(), strict=True):
        size = tuple(hr.shape[-2:])
        crop = crop_of(tiny_photos[photo], top, left, size, both)
        assert np.array_equal(hr.permute(1, 2, 0).numpy(), crop)
        assert np.array_equal(crop, crop_of(expected.permute(1, 2, 0).numpy(), 0, 0, size, flip))
    assert torch.equal(turned.code, scenes.code) and torch.equal(turned.true_action, scenes.true_action)
    lr = torch.stack(
        [torch.from_numpy(crop_of(lr.numpy(), 0, 0, turned.lr.shape[1:3], flip).copy()) for lr in scenes.lr]
    )
    assert (turned.lr.int() - lr.int()).abs().max() <= 1  # isotropic kernels blur a turned photo as the photo
    assert (core.play(turned, turned.true_action)[0]).abs().max() < 1e-4
    again = core.turned(core.turned(scenes, 3), 3)
    assert torch.equal(again.hr, scenes.hr) and torch.equal(again.place, scenes.place)
    assert torch.equal(again.lr, scenes.lr) and torch.equal(again.true_scores, scenes.true_scores)


@pytest.mark.parametrize("patch", [24, (24, 30)])
def test_kernels_are_not_turned_with_the_photos(make, patch):
    core = make(degradation="anisotropic", patch_size=patch)
    scenes = core.scenes(streams(4))
    turned = core.turned(scenes, 1)
    assert torch.equal(turned.kernel, scenes.kernel) and torch.equal(turned.code, scenes.code)
    lr = degrade(scenes.hr.flip(3).double() / 255, scenes.kernel.double(), 4)
    assert (turned.lr.permute(0, 3, 1, 2).double() / 255 - lr).abs().max() < 1.01 / 255


def test_a_kernel_that_options_fixed_blurs_the_turned_photo_too(make):
    core = make()
    kernel = anisotropic(*torch.tensor([[0.6], [3.0], [0.7]], dtype=torch.float64))[0].numpy()
    scenes = core.scenes(streams(2), core.sampler.fix({"kernel": kernel}, 2))
    assert torch.equal(core.turned(scenes, 0).lr, scenes.lr)


def test_what_cannot_be_turned(make):
    core = make()
    with pytest.raises(ValueError, match="flip must be 0 to 7, got 8"):
        core.turned(core.scenes(streams(1)), 8)
    noisy = make(degradation={"noise": 2.0})
    with pytest.raises(ValueError, match="scenes with noise cannot be turned"):
        noisy.turned(noisy.scenes(streams(1)), 1)


def test_scenes_cover_photos_crops_flips_and_widths(make, tiny_photos):
    info = make().info(make().scenes(streams(400)))
    assert sorted(info["image"].unique().tolist()) == [0, 1, 2]
    assert sorted(info["flip"].unique().tolist()) == list(range(8))
    rooms = torch.tensor([[photo.shape[0] - 96, photo.shape[1] - 96] for photo in tiny_photos])
    assert (info["crop"] >= 0).all() and (info["crop"] <= rooms[info["image"]]).all()
    first = info["crop"][info["image"] == 0]
    assert set(first[:, 0].tolist()) == {0, 1}  # 97 rows have two places for 96
    width = info["width"]
    assert 0.2 <= width.min() < 0.3 and 3.9 < width.max() <= 4.0
    assert abs(width.mean() - 2.1) < 4 * 3.8 / 12**0.5 / 400**0.5


@pytest.mark.parametrize("degradation", ["isotropic", {"widths": [1.0, 2.0, 4.0]}])
def test_a_scene_is_five_numbers_of_its_stream(make, tiny_photos, degradation):
    """In the order that is promised, so that a seed means the same scene in all versions."""
    core, drawn = make(degradation=degradation), streams(40)
    info = core.info(core.scenes(drawn))
    for i, expected in enumerate(streams(40)):
        image, flip, top, left, width = expected.random(5)
        number, width = (
            int(3 * image),
            [1.0, 2.0, 4.0][int(3 * width)] if "widths" in degradation else 0.2 + 3.8 * width,
        )
        rows, columns = (side - 96 + 1 for side in tiny_photos[number].shape[:2])
        place = [info["image"][i].item(), info["flip"][i].item(), *info["crop"][i].tolist()]
        assert place == [number, int(8 * flip), int(top * rows), int(left * columns)]
        assert info["width"][i].item() == pytest.approx(width, rel=1e-6)
        assert drawn[i].random() == expected.random()  # and no more


def test_patches_that_are_no_squares_cover_photos_whichever_way_they_fit(make, tiny_photos):
    """Of the photos 97x130, 151x113 and 200x171 the first holds 96x120 upright, the second turned, the third both."""
    core = make(patch_size=(24, 30))
    assert core.observation_space.shape == (24, 30, 3)
    scenes = core.scenes(streams(200))
    assert scenes.lr.shape == (200, 24, 30, 3) and scenes.hr.shape == (200, 3, 96, 120)
    image, top, left, flip = scenes.place.unbind(1)
    turned = [sorted({f >= 4 for f in flip[image == i].tolist()}) for i in range(3)]
    assert turned == [[False], [True], [False, True]] and len(flip.unique()) == 8
    for hr, (number, y, x, turn) in zip(scenes.hr, scenes.place.tolist(), strict=True):
        assert np.array_equal(hr.permute(1, 2, 0).numpy(), crop_of(tiny_photos[number], y, x, (96, 120), turn))
    assert {0, 1} == set(top[image == 0].tolist()) and top[image == 1].max() > 25


@pytest.mark.parametrize(
    "options",
    [{"flip": 0}, {"flip": 6}, {"crop": (0, 60)}, {"crop": (50, 0)}, {"image": 2, "crop": (0, 60)}, {"crop": (50, 70)}],
)
def test_what_is_not_fixed_fits_what_is(make, tiny_photos, options):
    """Photos 97x130, 151x113 and 200x171 hold crops of 96x120 in different ways, from different corners on."""
    core = make(patch_size=(24, 30))
    places = core.scenes(streams(60), core.sampler.fix(options, 60)).place
    for number, top, left, flip in places.tolist():
        rows, columns = (120, 96) if flip >= 4 else (96, 120)
        assert top + rows <= tiny_photos[number].shape[0] and left + columns <= tiny_photos[number].shape[1]
    image, corner, flip = places[:, 0], places[:, 1:3], places[:, 3]
    free = core.scenes(streams(60)).place[:, 0]
    kept = torch.isin(free, image.unique())
    assert torch.equal(image[kept], free[kept]), "a photo that holds it stays the one that is drawn"
    assert (flip == options["flip"]).all() if "flip" in options else len(flip.unique()) >= 4
    assert (corner == torch.tensor(options["crop"])).all() if "crop" in options else len(corner.unique()) > 9
    possible = {(0, 60): {2}, (50, 0): {2}, (50, 70): {2}}.get(options.get("crop"), {0, 2})
    if "flip" in options:
        possible = {0, 2} if options["flip"] < 4 else {1, 2}
    assert set(image.tolist()) == possible


def test_what_is_not_fixed_is_uniform_among_what_fits(make, photo):
    """Two photos of four hold the crop, the first and the last."""
    photos = [photo(130, 130, 0), photo(100, 100, 1), photo(100, 100, 2), photo(130, 130, 3)]
    sampler = make(images=photos, patch_size=24).sampler
    image = sampler.draw(streams(2000), sampler.fix({"crop": (30, 30)}, 2000)).image
    assert set(image.tolist()) == {0, 3} and 900 < (image == 0).sum() < 1100


def test_a_flip_that_does_not_fit(make):
    core, (one, two) = make(patch_size=(24, 30)), (streams(2), streams(2))
    for options, message in (
        ({"image": 0, "flip": 5}, "option 'flip' 5 needs 120x96 pixels, and photo 'array-0' lacks them"),
        ({"crop": (90, 60), "flip": 5}, "no photo holds a crop of 96x120 from (90, 60) on with option 'flip' 5"),
        ({"crop": (99, 60)}, "no photo holds a crop of 96x120 from (99, 60) on"),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            core.scenes(one, core.sampler.fix(options, 2))
    for seed in range(6):  # whatever flip is drawn, it is not to blame
        with pytest.raises(ValueError, match="option 'crop' .* leaves photo 'array-0'"):
            core.scenes(streams(1, seed), core.sampler.fix({"image": 0, "crop": (30, 0)}, 1))
    assert torch.equal(core.scenes(one).place, core.scenes(two).place)  # a refused draw changes nothing
    fixed = core.sampler.fix({"image": 1, "flip": 5}, 2)
    assert core.scenes(one, fixed).place[:, 3].tolist() == [5, 5]


def test_batch_is_the_same_as_one_by_one(make):
    core = make(report=("grid",))
    action = torch.rand(5, 15, generator=torch.Generator().manual_seed(1)) * 2 - 1
    together = core.scenes(streams(5))
    rewards, info = core.play(together, action)
    for i in range(5):
        alone = core.scenes(streams(1, seed=i))
        assert (alone.lr[0].int() - together.lr[i].int()).abs().max() <= 1
        reward, one = core.play(together.take(torch.tensor([i])), action[i : i + 1])
        assert torch.allclose(reward[0], rewards[i], atol=1e-3)
        assert torch.allclose(one["score_grid"][0], info["score_grid"][i], rtol=1e-2)


@pytest.mark.parametrize("size", [(24, 24), (24, 32), (30, 24)])
def test_a_whole_photo_is_a_crop_of_its_size(make, tiny_photos, size):
    core = make(report=("grid",), patch_size=size)
    height, width = core.crop
    number = 1 if height > width else 0
    photo = np.ascontiguousarray(tiny_photos[number][: height + 3, : width + 2])  # beyond a multiple of the scale
    whole = core.whole(photo, (0.5, 2.0), image=7)
    fixed = core.sampler.fix({"image": number, "crop": (0, 0), "flip": 0, "width": [0.5, 2.0]}, 2)
    crops = core.scenes(streams(2), fixed)
    for name in ("hr", "lr", "width", "axes", "kernel", "code", "true_action"):
        assert torch.equal(getattr(whole, name), getattr(crops, name)), name
    assert torch.allclose(whole.true_scores, crops.true_scores)
    assert whole.place.tolist() == [[7, 0, 0, 0]] * 2
    with pytest.raises(ValueError, match="width must lie in 0.2 to 4, as tiny's kernels do, got 4.1"):
        core.whole(photo, (0.5, 4.1))
    lean = core.without_report()
    (reward, info), (same, full) = (each.play(whole, -whole.true_action) for each in (lean, core))
    assert torch.equal(reward, same) and "gain_grid" not in info and "gain_grid" in full


def test_a_whole_photo_is_checked_and_copied(make, tiny_photos):
    core, photo = make(), tiny_photos[0][:96, :128].copy()  # of whole multiples of the scale: none is cut off
    scenes, kept = core.whole(photo, (1.0,)), photo.copy()
    photo[:] = 0
    assert scenes.hr.any(), "the scenes have a photo of their own"
    kept.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # PyTorch's, of arrays that are not writable
        assert torch.equal(core.whole(kept, (1.0,)).lr, scenes.lr)
    levels = kept.astype(np.float32)
    with pytest.raises(ImageError, match=r"is float32 of shape \(96, 128, 3\): give uint8 of shape"):
        core.whole(levels, (1.0,))
    assert np.array_equal(levels, kept)


def test_a_degradation_is_the_same_whatever_becomes_of_what_it_was_made_from(make):
    kernel, widths, bounds = gaussian(torch.tensor([1.3]).double())[0].numpy() * 1.0001, [1.0, 2.0], [0.5, 1.5]
    cores = [
        (
            make(degradation=Degradation(kind="kernel", kernel=kernel)),
            make(degradation=dict(kind="kernel", kernel=kernel.copy())),
        ),
        (make(degradation=Degradation(widths=widths)), make(degradation=dict(widths=[1.0, 2.0]))),
        (make(degradation=Degradation(width_range=bounds)), make(degradation=dict(width_range=(0.5, 1.5)))),
    ]
    own = Degradation(kind="kernel", kernel=kernel).kernel
    assert np.array_equal(own, kernel / kernel.sum()), "it is divided once"
    with pytest.raises(ValueError, match="read-only"):
        own[0, 0] = 1
    kernel[:], widths[:], bounds[:] = np.nan, [3.0], [np.nan, 1.0]
    for changed, expected in cores:
        assert torch.equal(changed.scenes(streams(4)).lr, expected.scenes(streams(4)).lr)


@pytest.mark.parametrize("kind", ["isotropic", "anisotropic"])
def test_noisy_scenes_are_those_of_eq_1_spelt_out(make, kind, monkeypatch):
    """Up to the rounding of floats, which rarely moves a pixel by a level: blur and downsampling may be one product."""
    seen = {}

    def spied(hr, kernel, s, noise):
        seen["expected"] = quantize(downsample(blur(hr, kernel), s) + noise)
        return degrade(hr, kernel, s, noise)

    monkeypatch.setattr("blindsr_env.core.degrade", spied)
    scenes = make(degradation={"kind": kind, "noise": 5.0}).scenes(streams(8))
    difference = (scenes.lr.permute(0, 3, 1, 2) / 255 - seen["expected"]).abs() * 255
    assert difference.max() < 1.01 and (difference > 0.5).float().mean() < 1e-3


def test_degradation_kinds(make):
    widths = make(degradation={"widths": GAUSSIAN8}).scenes(streams(64)).width
    assert {round(width, 3) for width in widths.tolist()} == set(GAUSSIAN8)
    narrow = make(degradation=Degradation(width_range=(1.0, 1.5))).scenes(streams(64)).width
    assert narrow.min() >= 1 and narrow.max() <= 1.5
    kernel = gaussian(1.7)[0].numpy()
    given = make(degradation={"kind": "kernel", "kernel": kernel.tolist()}).scenes(streams(2))
    same = make(degradation={"widths": [1.7]}).scenes(streams(2))
    assert torch.allclose(given.width, same.width, atol=1e-3)
    aside = make(degradation={"kind": "kernel", "kernel": np.roll(kernel, (2, -1), axis=(0, 1))}).scenes(streams(2))
    assert torch.allclose(aside.width, same.width, atol=1e-3)  # wherever its middle lies
    assert (given.lr.int() - same.lr.int()).abs().max() <= 1
    assert torch.allclose(given.true_action[:, :5], same.true_action[:, :5], atol=1e-3)
    oblong = make(degradation="anisotropic").scenes(streams(8))
    assert (oblong.kernel - oblong.kernel.transpose(1, 2)).abs().amax(dim=(1, 2)).min() > 1e-4
    assert torch.allclose(oblong.kernel.sum(dim=(1, 2)), torch.ones(8))


def test_info_tells_the_shape_of_other_kernels(make):
    core = make(degradation="anisotropic")
    scenes = core.scenes(streams(6))
    info = core.info(scenes)
    assert info["widths"].shape == (6, 2) and info["angle"].shape == (6,) and "kernel" not in info
    width_x, width_y = info["widths"].double().unbind(1)
    again = anisotropic(width_x, width_y, info["angle"].double())
    assert (again - scenes.kernel).abs().max() < 1e-6 and (width_x - width_y).abs().min() > 1e-3
    angle = core.sampler.draw(streams(200)).axes[:, 2]
    assert 0 <= angle.min() < 0.1 and np.pi - 0.1 < angle.max() < np.pi, "half a turn is all there is"
    fixed = core.info(core.scenes(streams(2), core.sampler.fix({"width": [1.5, 2.5]}, 2)))
    assert fixed["widths"].tolist() == [[1.5, 1.5], [2.5, 2.5]] and fixed["angle"].tolist() == [0, 0]
    kernel = anisotropic(*(torch.tensor([v]) for v in (3.0, 1.0, 0.3)))[0]
    core = make(degradation={"kind": "kernel", "kernel": kernel})
    given = core.info(core.scenes(streams(1)))
    assert "widths" not in given and (given["kernel"][0] - kernel).abs().max() < 1e-6
    assert not {"kernel", "widths", "angle"} & set(make().info(make().scenes(streams(1))))


def test_a_kernels_own_code_is_rendered_unclipped(make, tiny_generator):
    kernel = anisotropic(*(torch.tensor([v], dtype=torch.float64) for v in (4.0, 0.3, 0.0)))
    for action in ("code", "free-code", "width"):
        core = make(action=action)
        scenes = core.scenes(streams(1), core.sampler.fix({"kernel": kernel[0]}, 1))
        assert scenes.code.abs().max() > 1  # outside the box
        sr = core.render_code(scenes.lr, scenes.code)
        own = seen(tiny_generator(scenes.lr.permute(0, 3, 1, 2) / 255, tiny_generator.codec.encode(kernel)))
        assert (sr - own).abs().max() < 1.5 / 255 and ((sr - own).abs() > 0.5 / 255).float().mean() < 1e-3
        assert torch.equal(core.scores(sr, scenes.hr), scenes.true_scores)
    assert not torch.equal(make().render(scenes.lr, scenes.code), sr)


def test_autocast_of_the_caller_changes_nothing(make):
    core = make(report=("grid",))
    plain = core.scenes(streams(3))
    action = torch.rand(3, 15, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.autocast("cpu", torch.bfloat16):
        cast = core.scenes(streams(3))
        rewards = core.play(cast, action)[0]
    assert torch.equal(plain.lr, cast.lr) and torch.equal(plain.true_scores, cast.true_scores)
    assert torch.equal(rewards, core.play(plain, action)[0])


@pytest.mark.parametrize("patch", [(24, 24), (20, 30)])
def test_noise_has_the_asked_deviation_and_comes_from_the_stream(make, photo, patch):
    grey = [np.full((120, 120, 3), 128, np.uint8)]
    core = make(images=grey, degradation={"noise": 5.0}, patch_size=patch)
    noisy = core.scenes(streams(4)).lr
    assert noisy.shape == (4, *patch, 3)
    for stream, row in zip(streams(4), noisy.numpy(), strict=True):
        stream.random(5)  # photo, flip, corner and width
        drawn = stream.standard_normal((3, *patch), dtype=np.float32).transpose(1, 2, 0)
        expected = np.floor(128 + 5 * drawn.astype(np.float64) + 0.5)
        assert (row != expected).mean() < 1e-3  # halves fall either way in float32
    assert torch.equal(noisy, core.scenes(streams(4)).lr)
    assert not torch.equal(noisy[0], noisy[1])


@pytest.mark.parametrize(
    "degradation",
    [
        {"width_range": (1, 6)},
        {"widths": [0.1, 2.0]},
        {"kind": "anisotropic", "width_range": (1, 4.5)},
        {"kind": "kernel", "kernel": gaussian(torch.tensor([6.0]))[0]},
    ],
)
def test_widths_that_the_generator_does_not_know_bring_a_warning(make, degradation):
    with pytest.warns(UserWarning, match="go beyond the generator's, 0.2 to 4"):
        make(degradation=degradation)


def test_a_fixed_width_that_the_generator_does_not_know_brings_a_warning(make):
    def draw(sampler, options):
        sampler.draw(streams(2), sampler.fix(options, 2))

    with pytest.warns(UserWarning, match="kernel widths 6 to 6 go beyond the generator's, 0.2 to 4"):
        draw(make().sampler, {"width": 6.0})
    with pytest.warns(UserWarning, match="kernel widths 4.* to 4.* go beyond the generator's, 0.2 to 4"):  # cut off
        draw(make().sampler, {"kernel": gaussian(torch.tensor([6.0]))[0]})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw(make(degradation={"widths": [0.2, 4.0]}).sampler, {"width": [0.2, 4.0]})


def test_a_width_range_may_be_an_array(make):
    core = make(degradation={"width_range": np.array([1.0, 1.5])})
    assert ((core.scenes(streams(20)).width - 1.25).abs() <= 0.25).all()
    assert make(degradation={"width_range": (1.5, 1.5)}).scenes(streams(2)).width.tolist() == [1.5, 1.5]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("isotopic", "did you mean 'isotropic'"),
        ({"width": [1]}, "did you mean 'widths'"),
        ({"widths": []}, "widths must be"),
        ({"widths": ["wide"]}, "widths must be"),
        ({"width_range": "1,3"}, "width_range must be 0 < low <= high, got '1,3'"),
        ({"noise": True}, "noise must be 0 or more grey levels, got True"),
        ({"widths": [1.0, -1.0]}, "above 0"),
        ({"width_range": (2, 1)}, "low <= high"),
        ({"width_range": (1, 2), "widths": [1]}, "drop the others"),
        ({"kind": "kernel"}, "belong together"),
        ({"kind": "kernel", "kernel": np.full((21, 21), 1 / 441), "widths": [1]}, "drop the others"),
        ({"kind": "kernel", "kernel": np.ones((21, 21))}, "sum to 1"),
        ({"kind": "kernel", "kernel": np.ones((5, 5)) / 25}, r"\(21, 21\)"),
        ({"noise": -1}, "noise must be"),
        ({"noise": "2"}, "noise must be"),
        ({"noise": float("nan")}, "noise must be"),
        ({"width_range": (0, 2)}, "0 < low"),
    ],
)
def test_impossible_degradations(value, message):
    with pytest.raises(ValueError, match=message):
        Degradation.parse(value)


def test_options_fix_a_part_and_leave_the_rest_of_the_stream(make):
    core = make()
    free_streams, fixed_streams = streams(3), streams(3)
    free = core.scenes(free_streams)
    fixed = core.scenes(fixed_streams, core.sampler.fix({"width": [1.0, 2.0, 3.0], "flip": 5}, 3))
    assert fixed.width.tolist() == [1, 2, 3] and fixed.place[:, 3].tolist() == [5, 5, 5]
    assert torch.equal(free.place[:, :3], fixed.place[:, :3])
    assert torch.equal(core.scenes(free_streams).lr, core.scenes(fixed_streams).lr)
    fixed = core.scenes(streams(3), core.sampler.fix({"image": ["array-2", "array-0", 1], "crop": (1, 17)}, 3))
    assert fixed.place[:, :3].tolist() == [[2, 1, 17], [0, 1, 17], [1, 1, 17]]
    named = core.sampler.fix({"image": np.array(["array-2", "array-0", "array-1"])}, 3)
    assert named["image"].tolist() == [2, 0, 1]
    learned = core.sampler.fix({"width": torch.tensor([1.0, 2.0, 3.0], requires_grad=True)}, 3)
    assert learned["width"].tolist() == [1, 2, 3]
    kernel = np.zeros((21, 21))
    kernel[10, 10] = 1
    sharp = core.scenes(streams(3), core.sampler.fix({"kernel": kernel}, 3))
    assert torch.equal(sharp.kernel[1], torch.from_numpy(kernel).float()) and sharp.width.tolist() == [0, 0, 0]
    bright = core.scenes(streams(3), core.sampler.fix({"kernel": 1.0009 * kernel}, 3))
    assert torch.equal(bright.kernel, sharp.kernel) and torch.equal(bright.lr, sharp.lr)
    assert torch.equal(core.scenes(streams(3), core.sampler.fix(dict.fromkeys(OPTIONS), 3)).lr, free.lr)  # None is free


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"widht": 1.0}, "did you mean 'width'"),
        ({"image": "aray-1"}, "did you mean 'array-1'"),
        ({"image": 3}, "0 to 2"),
        ({"image": -1}, "0 to 2"),
        ({"image": 1.5}, "whole numbers"),
        ({"crop": (0, 0, 0)}, "must have shape"),
        ({"crop": (0, -1)}, r"no photo holds a crop of 96x96 from \(0, -1\) on"),
        ({"image": 1, "crop": (0, -1)}, "leaves photo"),
        ({"image": 0, "crop": (2, 0)}, r"leaves photo 'array-0': crops of 96x96 start at \(0, 0\) to \(1, 34\)"),
        ({"flip": 8}, "0 to 7"),
        ({"flip": -1}, "0 to 7"),
        ({"flip": True}, "whole numbers"),
        ({"width": 0.0}, "above 0"),
        ({"width": float("nan")}, "above 0"),
        ({"width": float("inf")}, "option 'width' must be above 0"),
        ({"width": [1.0, 2.0, 3.0]}, "one for each scene"),
        ({"width": "wide"}, "takes numbers"),
        ({"kernel": np.ones((21, 21))}, "sum to 1"),
        ({"kernel": np.full((21, 21), 1.002 / 441)}, "got a sum of 1.002"),
        ({"kernel": np.full((21, 21), np.nan)}, "finite"),
        ({"width": 1.0, "kernel": np.full((21, 21), 1 / 441)}, "give one of them"),
    ],
)
def test_impossible_options(make, options, message):
    core = make()
    with pytest.raises(ValueError, match=message):
        core.scenes(streams(2), core.sampler.fix(options, 2))


# Actions, scores, rewards


@pytest.mark.parametrize("name", ["psnr", "niqe", "grid"])
def test_reward_is_equation_8(make, tiny_generator, name):
    others = {"psnr", "grid"} - {name}
    core = make(metric=name, report=sorted(others))
    scenes = core.scenes(streams(3))
    action = torch.rand(3, 15, generator=torch.Generator().manual_seed(2)) * 2 - 1
    reward, info = core.play(scenes, action)
    lr, hr = scenes.lr.permute(0, 3, 1, 2) / 255, scenes.hr / 255
    true = tiny_generator.codec.encode(gaussian(scenes.width.double()))
    assert (scenes.code - true).abs().max() < 1e-6  # in the last components too, which float32 kernels have lost
    pictures = [seen(tiny_generator(lr, code)) for code in (action, true)]
    for key, metric in [("", metrics.get(name))] + [("_" + other, metrics.get(other)) for other in others]:
        chosen, best = (metric(sr, hr) for sr in pictures)
        zeta = -1 if metric.lower_is_better else 1
        assert torch.allclose(info["score" + key], chosen, rtol=1e-3)
        gain = info["gain" + key] if key else reward
        assert torch.allclose(gain, zeta * (chosen - best), rtol=1e-2, atol=1e-3)
    assert torch.equal(info["true_score"], core.info(scenes)["true_score"])
    assert reward.abs().min() > 1e-4 and not info["invalid"].any() and not info["broken"].any()


@pytest.mark.parametrize("action", ["code", "free-code", "width"])
def test_the_true_action_earns_nothing(make, action):
    core = make(action=action)
    scenes = core.scenes(streams(4))
    true = core.info(scenes)["true_action"]
    assert core.action_space.contains(true[0].numpy())
    reward, info = core.play(scenes, true)
    assert reward.abs().max() < (1e-2 if action == "width" else 1e-4)
    assert core.play(scenes, -true)[0].abs().max() > 1e-2


def test_action_spaces_agree(make, tiny_generator):
    scenes = make().scenes(streams(3))
    width = torch.tensor([0.2, 1.15, 4.0])
    code = tiny_generator.codec.encode(gaussian(width.double()))
    by_code = make().play(scenes, code)[1]["score"]
    by_free_code = make(action="free-code").play(scenes, tiny_generator.codec.code(code))[1]["score"]
    by_width = make(action="width").play(scenes, torch.tensor([[-1.0], [-0.5], [1.0]]))[1]["score"]
    assert torch.allclose(by_code, by_free_code, atol=1e-3) and torch.allclose(by_code, by_width, atol=1e-2)
    # and a free code reaches what no action does
    assert not torch.allclose(make(action="free-code").play(scenes, torch.ones(3, 15))[1]["score"], by_code, atol=1e-3)


@pytest.mark.parametrize("action", ["code", "free-code", "width"])
def test_pictures_show_the_kernel_that_was_chosen(make, action):
    core = make(action=action, report=("grid",))
    scenes = core.scenes(streams(3))
    shown = core.pictures(scenes, scenes.true_action)
    assert np.abs(shown["chosen"] - shown["kernel"]).max() < 1e-4
    assert np.abs(shown["sr"].astype(int) - shown["true"]).max() <= 1
    _, info = core.play(scenes, scenes.true_action)
    assert np.allclose(shown["scores"], torch.stack([info["score"], info["score_grid"]], dim=1), rtol=1e-4)
    assert shown["lr"].shape == (3, 24, 24, 3) and shown["hr"].shape == shown["sr"].shape == (3, 96, 96, 3)
    assert not np.allclose(core.pictures(scenes, -scenes.true_action)["chosen"], shown["chosen"], atol=1e-2)


def test_a_free_code_reaches_as_far_in_every_rare_component(make, tiny_generator):
    core = make(action="free-code")
    scenes = core.scenes(streams(2)).take(torch.tensor([0, 0]))
    one = torch.zeros(2, 15)
    one[0, 9] = one[1, 14] = 1.0
    moved = core.pictures(scenes, one)["chosen"] - core.pictures(scenes, torch.zeros(2, 15))["chosen"]
    distance = 1e-3 * float(tiny_generator.codec.half_range.max()) / 0.8  # gain = h / (1e-3 largest h)
    assert np.allclose(np.linalg.norm(moved.reshape(2, -1), axis=1), distance, rtol=1e-2)


def test_actions_are_clipped_and_counted(make):
    core = make()
    scenes = core.scenes(streams(2))
    action = torch.zeros(2, 15)
    action[0, :4] = torch.tensor([1.0, -1.0, 1.5, -30.0])
    reward, info = core.play(scenes, action)
    assert info["clipped"].tolist() == [2, 0]
    assert torch.equal(reward, core.play(scenes, action.clamp(-1, 1))[0])


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (np.zeros((2, 14)), r"shape \(2, 15\), got \(2, 14\)"),
        (np.zeros(15), r"got \(15,\)"),
        (np.full((2, 15), np.nan), "30 NaN or infinite of 30"),
        (torch.full((2, 15), float("inf")), "finite"),
        ("left", "must be numbers"),
        (None, "got"),
    ],
)
def test_impossible_actions(make, action, message):
    with pytest.raises(ValueError, match=message):
        make().to_action(action, (2, 15))


def test_action_forms(make):
    core = make()
    backwards = np.zeros((1, 15), np.float32)[:, ::-1]  # which PyTorch takes no view of
    double = torch.zeros(1, 15, dtype=torch.float64, requires_grad=True)
    for action in (np.zeros((1, 15)), backwards, [[0] * 15], double):
        taken = core.to_action(action, (1, 15))
        assert taken.dtype == torch.float32 and not taken.requires_grad


def test_a_flat_picture_earns_zero_and_is_marked(make, tiny_photos):
    core = make(metric="niqe", images=[np.full((96, 96, 3), 90, np.uint8), tiny_photos[2]])
    core.generator = Nearest(core.generator)  # the tiny network prints a texture on everything
    scenes = core.scenes(streams(2), core.sampler.fix({"image": [0, 1], "crop": (0, 0)}, 2))
    reward, info = core.play(scenes, torch.zeros(2, 15))
    assert info["invalid"].tolist() == [True, False]
    assert reward[0] == 0 and torch.isfinite(reward).all() and scenes.true_scores[0].isnan()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("lower_is_better", [False, True])
def test_a_score_that_is_no_number(make, bad, lower_is_better):
    """Row 0: for the agent's picture alone; row 1: for the true code's; row 2: for both; row 3: for neither."""

    class Fragile:
        name, needs_reference, min_size = "fragile", False, 1

        def __call__(self, sr, hr=None):
            return next(scores).clone()

    Fragile.lower_is_better = lower_is_better
    scores = iter(torch.tensor([[1, bad, bad, 3.0], [bad, 1, bad, 5.0]]))
    core = make(metric=Fragile())
    reward, info = core.play(core.scenes(streams(4)), torch.zeros(4, 15))
    assert info["broken"].tolist() == [True, False, False, False]
    assert info["invalid"].tolist() == [False, True, True, False]
    assert reward.tolist() == [BROKEN_REWARD, 0, 0, -2 if lower_is_better else 2] and BROKEN_REWARD == -10


class Nearest(torch.nn.Module):
    """Enlarges, and adds the first component of the action as contrast."""

    def __init__(self, like):
        super().__init__()
        self.codec, self.scale, self.name = like.codec, 4, "nearest"
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, lr, action):
        return torch.nn.functional.interpolate(lr, scale_factor=4.0) * (1 + 0.1 * action[:, :1, None, None])


def test_bfloat16_is_near(make, tiny_checkpoint):
    plain, half = (make(generator=tiny_checkpoint, dtype=dtype) for dtype in ("float32", "bfloat16"))
    scenes = plain.scenes(streams(3))
    action = torch.zeros(3, 15)
    scores = [core.play(scenes, action)[1]["score"] for core in (plain, half)]
    assert not torch.equal(*scores) and torch.allclose(*scores, atol=0.1)
    assert scores[1].dtype == torch.float32


def test_a_metric_of_ones_own(make):
    class Brightness:
        name, lower_is_better, needs_reference, min_size = "brightness", False, False, 1

        def __call__(self, sr, hr=None):
            assert hr is None and sr.shape[1:] == (3, 96, 96)
            assert torch.equal(sr, seen(sr))  # 8 bit, in range
            return sr.mean((1, 2, 3)).double()

    core = make(metric=Brightness())
    scenes = core.scenes(streams(2))
    reward, info = core.play(scenes, torch.ones(2, 15))
    assert reward.abs().min() > 0 and reward.dtype == info["score"].dtype == torch.float32


def test_metrics_are_of_the_generators_scale(make, twice):
    core = make(generator=twice, report=["ssim", "grid+psnr"])
    scenes = core.scenes(streams(2))
    sr = torch.from_numpy(core.pictures(scenes, scenes.true_action)["true"]).permute(0, 3, 1, 2) / 255
    for i, name in enumerate(("psnr", "ssim", "grid+psnr")):
        score = metrics.get(name, scale=2)(sr, scenes.hr / 255)
        torch.testing.assert_close(scenes.true_scores[:, i], score, rtol=1e-5, atol=1e-5)
        assert not torch.allclose(score, metrics.get(name, scale=4)(sr, scenes.hr / 255), rtol=1e-4)


@pytest.mark.parametrize(
    ("give", "what"),
    [
        (lambda sr: sr.mean((1, 2, 3))[:, None], r"a tensor of shape \(2, 1\) for 2 pictures"),
        (lambda sr: sr.mean()[None], r"a tensor of shape \(1,\) for 2 pictures"),
        (lambda sr: sr.mean(), r"a tensor of shape \(\) for 2 pictures"),
        (lambda sr: sr.mean((1, 2, 3)).detach().numpy(), "ndarray for 2 pictures"),
        (lambda sr: None, "NoneType for 2 pictures"),
        (lambda sr: sr.mean((1, 2, 3)).to("meta"), "scores on meta of pictures on cpu: return scores.to"),
    ],
)
@pytest.mark.parametrize("gradient", [False, True])
def test_a_metric_that_gives_no_score_for_each_picture(make, give, what, gradient):
    class Odd:
        name, lower_is_better, needs_reference, min_size, differentiable = "odd", False, False, 1, True

        def __call__(self, sr, hr=None):
            return give(sr) if wrong else sr.mean((1, 2, 3))

    core, wrong = make(metric=Odd(), gradient=gradient), False
    scenes = core.scenes(streams(2))
    wrong = True
    for play in (lambda: core.play(scenes, torch.ones(2, 15)), lambda: core.scenes(streams(2))):
        with pytest.raises(ValueError, match=f"the metric 'odd' gave {what}"):
            play()


# Settings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metric": "nique"}, "did you mean 'niqe'"),
        (
            {"metric": "niqe", "patch_size": 20},
            "'niqe' needs pictures of at least 96 .* take a patch_size of at least 24",
        ),
        ({"report": ["niqe"], "patch_size": 23}, "'niqe' needs"),
        ({"patch_size": 2}, "too small to blur"),
        ({"patch_size": 0}, "patch_size must be"),
        ({"patch_size": 6.5}, "patch_size must be"),
        ({"patch_size": (24, 2)}, "too small to blur"),
        ({"patch_size": (24, 51)}, r"'array-0' is 97x130 pixels, smaller than the 96x204 crop"),
        ({"metric": "niqe", "patch_size": (30, 20)}, "patch_size 20 gives 80: take a patch_size of at least 24"),
        ({"generator": "amnet_xs"}, "did you mean 'amnet_s'"),
        ({"generator": "nowhere/g.safetensors"}, "nowhere"),
        ({"images": None, "split": "tests"}, "split must be"),
        ({"images": "no/such/folder"}, "no/such/folder"),
        ({"images": [np.zeros((90, 200, 3), np.uint8)]}, "'array-0' is 90x200 pixels, smaller than the 96x96"),
        ({"images": []}, "empty"),
        ({"action": "freecode"}, "did you mean 'free-code'"),
        ({"dtype": "flaot16"}, "did you mean 'float16'"),
        ({"cuda_graphs": True}, "give device='cuda'"),
        ({"dtype": "bfloat16"}, "move it with"),
        ({"device": "cuda:77"}, "try device='cpu'"),
        ({"device": "gpu"}, "try device='cpu'"),
    ],
)
def test_impossible_settings(make, changes, message):
    with pytest.raises(ValueError, match=message):
        make(**changes)


@pytest.mark.parametrize("way", ["torch", "numpy"])
@pytest.mark.parametrize("needs_reference", [False, True])
def test_a_metric_that_works_in_place_leaves_the_others_their_pictures(make, way, needs_reference, monkeypatch):
    class Greedy:
        name, lower_is_better, min_size = "greedy", False, 1

        def __init__(self):
            self.needs_reference = needs_reference

        def __call__(self, sr, hr=None):
            x = hr if self.needs_reference else sr
            (x if way == "torch" else x.numpy())[:] *= 0.5
            return x.mean(dim=(1, 2, 3))

    monkeypatch.setitem(metrics._factories, "greedy", lambda scale: Greedy())
    expected = make(metric="psnr").scenes(streams(2)).true_scores[:, 0]
    for mode in (torch.no_grad(), torch.inference_mode()):
        with mode:
            scenes = make(metric=Greedy(), report=["psnr"]).scenes(streams(2))
            torch.testing.assert_close(scenes.true_scores[:, 1], expected)
            mixed = make(metric="1e-9*greedy+psnr").scenes(streams(2))
            torch.testing.assert_close(mixed.true_scores[:, 0], expected)


def test_a_report_is_a_list(make):
    for wrong, right in (("grid", r"\['grid'\]"), (None, r"\[\]")):
        with pytest.raises(TypeError, match=f"report must be a list of metrics, got {wrong!r}: write {right}"):
            make(report=wrong)


@pytest.mark.parametrize(("metric", "report"), [("psnr", ["grid", "psnr"]), ("psnr", ["grid", "grid"])])
def test_each_metric_is_named_once(make, metric, report):
    with pytest.raises(ValueError, match=f"the metric '{report[1]}' is named twice"):
        make(metric=metric, report=report)


def test_generators_of_ones_own(make, tiny_generator):
    class Plain(torch.nn.Module):
        """A generator without parameters."""

        codec, scale, name = tiny_generator.codec, 4, "plain"

        def forward(self, lr, action):
            return self.render(lr, self.codec.code(action))

        def render(self, lr, code):
            return torch.nn.functional.interpolate(lr, scale_factor=4.0) + 0.1 * code[:, :1, None, None]

    core = make(generator=Plain().eval())
    assert core.play(core.scenes(streams(2)), torch.ones(2, 15))[0].abs().min() > 0
    with pytest.raises(ValueError, match=r"training mode: .* generator.eval\(\).requires_grad_\(False\)"):
        make(generator=Plain())
    halfway = Plain().eval()
    halfway.part = torch.nn.Dropout()
    with pytest.raises(ValueError, match="training mode"):
        make(generator=halfway)
    with pytest.raises(ValueError, match="the generator Conv2d lacks scale, codec, name, render: give it"):
        make(generator=torch.nn.Conv2d(3, 3, 1).eval())


def test_small_photos_of_a_folder_are_left_out_with_a_warning(make, photo, tmp_path):
    write(tmp_path / "large.png", photo(100, 120, 0))
    (tmp_path / "thumbs").mkdir()
    write(tmp_path / "thumbs" / "small.png", photo(64, 120, 1))
    with pytest.warns(UserWarning, match="1 of 2 photos left out: 'thumbs/small' is 64x120"):
        core = make(images=tmp_path)
    assert core.sampler.names == ["large"]
    (tmp_path / "large.png").unlink()
    with pytest.raises(ImageError, match="no photo is large enough: 'thumbs/small'"):
        make(images=str(tmp_path), split="test", patch_size=25)


def test_builtin_photos(make):
    train, test = (make(images=None, split=split, patch_size=64) for split in ("train", "test"))
    assert train.sampler.names and not set(train.sampler.names) & set(test.sampler.names)
    assert make(images=None, patch_size=64).pool is train.pool
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        large = make(images=None, patch_size=105)
    assert set(train.sampler.names) - set(large.sampler.names) == {"coffee"}, "left out without a word"


def test_environments_share_what_is_frozen(make, tiny_checkpoint, tiny_generator, photo, tmp_path):
    first, second = make(generator=tiny_checkpoint), make(generator=tiny_checkpoint)
    assert first.generator is second.generator is not tiny_generator
    assert make().generator is tiny_generator
    write(tmp_path / "a.png", photo(100, 100, 0))
    held = make(images=str(tmp_path))
    assert make(images=tmp_path).pool is held.pool
    assert make(images=tmp_path, patch_size=25).pool is not held.pool


def test_photos_that_were_changed_are_loaded_anew(make, photo, tmp_path):
    write(tmp_path / "a.png", photo(100, 100, 0))
    held = make(images=tmp_path)
    write(tmp_path / "a.png", photo(110, 100, 1))
    write(tmp_path / "b.png", photo(100, 100, 2))
    anew = make(images=tmp_path)
    assert held.pool.names == ["a"] and anew.pool.names == ["a", "b"]
    assert anew.pool.heights.tolist() == [110, 100]
    one = make(images=tmp_path / "a.png")
    write(tmp_path / "a.png", photo(120, 100, 3))
    assert make(images=tmp_path / "a.png").pool.heights.tolist() == [120] != one.pool.heights.tolist()
    (tmp_path / "c").mkdir()
    write(tmp_path / "c" / "p.bmp", photo(100, 100, 4))
    one, before = make(images=tmp_path / "c"), (tmp_path / "c" / "p.bmp").stat()
    write(tmp_path / "c" / "p.bmp", photo(100, 100, 5))
    other = make(images=tmp_path / "c")
    assert other.pool is not one.pool and (tmp_path / "c" / "p.bmp").stat().st_size == before.st_size


def test_photos_lie_once_on_each_device(photo, tmp_path):
    write(tmp_path / "a.png", photo(100, 100, 0))
    pools = [sharing.pool(tmp_path, "train", torch.device(device), (96, 96)) for device in ("cpu", "meta", "meta")]
    assert [pool.device.type for pool in pools] == ["cpu", "meta", "meta"] and pools[1] is pools[2]


def test_a_generator_of_ones_own_is_shared_until_it_is_another(tiny_checkpoint, louder, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.path", [str(tmp_path), *sys.path])
    (tmp_path / "mine_of_a_file.py").write_text(
        "import generators, os\ndef network():\n    return generators.load(os.environ['MINE'])\n"
    )
    found = []
    for path in (tiny_checkpoint, tiny_checkpoint, louder):
        monkeypatch.setenv("MINE", path)
        found.append(sharing.generator("mine_of_a_file:network", "cpu", torch.float32))
    assert found[0] is found[1] is not found[2]
    sys.modules.pop("mine_of_a_file")


def test_a_checkpoint_written_anew_is_loaded_anew(tiny_generator, tmp_path):
    path = tmp_path / "g.safetensors"
    cpu = torch.device("cpu")
    generators.save(path, tiny_generator, {"steps": 1})
    first, before = sharing.generator(path, cpu, torch.float32), path.stat()
    generators.save(path, tiny_generator, {"steps": 2})
    second, after = sharing.generator(path, cpu, torch.float32), path.stat()
    assert second is not first and after.st_size == before.st_size
    generators.save(path, tiny_generator, {"steps": 3, "note": "longer" * 9})
    os.utime(path, ns=(after.st_atime_ns, after.st_mtime_ns))  # as a copy that keeps its time
    assert sharing.generator(path, cpu, torch.float32) is not second


def test_one_network_by_all_its_names(tiny_checkpoint, monkeypatch):
    default = sharing.generator(None, "cpu", torch.float32)
    assert sharing.generator("amnet", torch.device("cpu"), torch.float32) is default
    assert sharing.generator(generators.find("amnet"), torch.device("cpu"), torch.float32) is default
    path = Path(tiny_checkpoint)
    monkeypatch.chdir(path.parent)
    tiny = sharing.generator(path.name, "cpu", torch.float32)
    assert sharing.generator(path, "cpu", torch.float32) is tiny and tiny.name == "tiny"


@pytest.mark.gpu
def test_one_network_by_all_names_of_a_device():
    first = sharing.generator("amnet_s", "cuda", torch.float32)
    assert sharing.generator("amnet_s", torch.device("cuda:0"), torch.float32) is first
    assert sharing.generator(first, torch.device("cuda"), torch.float32) is first


def test_copies_of_recordings_start_empty():
    full = Recordings()
    full._met.add(("function",))
    for other in (copy.copy(full), copy.deepcopy(full), pickle.loads(pickle.dumps(full))):
        assert isinstance(other, Recordings) and not other._met


@pytest.mark.parametrize(("call", "told"), [(2, "waits for the GPU"), (3, "cannot be recorded as a CUDA graph")])
def test_a_network_that_cannot_be_recorded_is_told_to_leave_the_graphs_out(monkeypatch, call, told):
    stand_in = SimpleNamespace(cuda=MagicMock(), OutOfMemoryError=torch.OutOfMemoryError, empty_like=torch.empty_like)
    monkeypatch.setattr(recording, "torch", stand_in)
    calls = []

    def network(lr, kernel):
        calls.append(lr)
        if len(calls) == call:
            raise RuntimeError("operation not permitted when stream is capturing")
        return lr.repeat(1, 1, 4, 4)

    module = torch.nn.Module()
    module.forward = network
    generator = generators.ByKernel(module, "odd")
    with pytest.raises(ValueError, match=f"{told}.*: leave cuda_graphs=True out .*odd failed with RuntimeError"):
        recording._record(generator.forward, (torch.zeros(1, 3, 8, 8), torch.zeros(1, 15)), None, MagicMock())


class Doubling(torch.nn.Module):
    """A generator of one's own, which has no idea of dtypes."""

    name, scale = "doubling", 4

    def __init__(self, codec):
        super().__init__()
        self.codec, self.conv = codec, torch.nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, lr, action):
        return torch.nn.functional.interpolate(self.conv(lr), scale_factor=4.0)

    render = forward


def test_generators_of_ones_own_get_photos_in_their_dtype(make, tiny_generator):
    network = Doubling(tiny_generator.codec).eval().requires_grad_(False).bfloat16()
    core = make(generator=network, dtype="bfloat16", metric="psnr")
    assert core.scenes(streams(2)).true_scores.isfinite().all()


def on_gpu(make, tiny_checkpoint, **changes):
    settings = {"generator": tiny_checkpoint, "metric": "niqe", "device": "cuda", "report": ("psnr", "grid")}
    return [make(**(settings | changes), cuda_graphs=recorded) for recorded in (False, True)]


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("gradient", [False, True])
def test_recorded_graphs_give_the_same_numbers(make, tiny_checkpoint, dtype, gradient):
    plain, recorded = on_gpu(make, tiny_checkpoint, dtype=dtype, gradient=gradient)
    rng = torch.Generator().manual_seed(0)
    for count in (4, 4, 4, 6, 6, 4):  # plainly, recorded, replayed; of another size; of the first again
        scenes, again = (core.scenes(streams(count)) for core in (plain, recorded))
        assert torch.equal(scenes.true_scores, again.true_scores)
        action = (torch.rand(count, 15, generator=rng) * 2 - 1).cuda()
        (reward, info), (same, seen) = plain.play(scenes, action), recorded.play(again, action)
        assert torch.equal(reward, same) and reward.abs().max() > 0
        assert info.keys() == seen.keys() and ("gradient" in info) == gradient
        for name in info:
            torch.testing.assert_close(info[name], seen[name], rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.gpu
def test_recorded_graphs_of_a_lean_core_are_its_own(make, tiny_checkpoint):
    _, core = on_gpu(make, tiny_checkpoint)
    scenes = core.scenes(streams(4))
    lean = core.without_report()
    for each in (lean, core, lean, core, lean, core):  # recorded in turn, then replayed
        info = each.play(scenes, scenes.true_action)[1]
        assert ("gain_psnr" in info) == (each is core)
        assert torch.equal(info["score"], scenes.true_scores[:, 0])


@pytest.mark.gpu
def test_a_metric_that_waits_for_the_gpu_is_not_recorded(make, tiny_checkpoint):
    class Waiting:
        name, lower_is_better, needs_reference, min_size = "waiting", False, False, 1

        def __call__(self, sr, hr=None):
            return sr.mean((1, 2, 3)) * float(sr.max().item())

    plain, core = on_gpu(make, tiny_checkpoint, metric=Waiting(), report=())
    stream = torch.cuda.current_stream()
    core.scenes(streams(2))  # at first sight nothing is recorded
    with pytest.raises(ValueError, match="waits for the GPU.*leave cuda_graphs=True out"):
        core.scenes(streams(2))
    assert torch.cuda.current_stream() == stream and torch.cuda.get_sync_debug_mode() == 0
    plain.scenes(streams(2))


@pytest.mark.gpu
def test_graphs_that_were_dropped_are_recorded_anew_and_memory_stays(make, tiny_checkpoint):
    plain, core = on_gpu(make, tiny_checkpoint)
    scenes = plain.scenes(streams(KEPT + 2))
    held = []
    for _ in range(6):
        for count in range(1, KEPT + 3):
            some = scenes.take(torch.arange(count, device="cuda"))
            assert torch.equal(core.play(some, some.true_action)[0], plain.play(some, some.true_action)[0])
        held.append(torch.cuda.memory_allocated())
    assert held[-1] <= held[1] * 1.1, held


@pytest.mark.gpu
def test_the_gpu_agrees_with_the_cpu(make, tiny_checkpoint):
    host, device = (make(generator=tiny_checkpoint, metric="niqe", device=name) for name in ("cpu", "cuda"))
    scenes = [core.scenes(streams(8)) for core in (host, device)]
    assert (scenes[0].lr.int() - scenes[1].lr.cpu().int()).abs().max() <= 1
    action = torch.zeros(8, 15)
    rewards = [
        core.play(s, core.to_action(action, (8, 15)))[0].cpu() for core, s in zip((host, device), scenes, strict=True)
    ]
    equal = (scenes[0].lr == scenes[1].lr.cpu()).flatten(1).all(dim=1)
    assert torch.allclose(rewards[0][equal], rewards[1][equal], atol=0.02)


@pytest.mark.gpu
def test_a_policy_on_the_gpu_plays_an_environment_on_the_cpu(make):
    core = make()
    action = torch.rand(64, 15, device="cuda") * 2 - 1
    torch.cuda._sleep(50_000_000)
    late = action * 0.5
    assert torch.equal(core.to_action(late, (64, 15)), action.cpu() * 0.5)
    with pytest.raises(ValueError, match="an action must be finite"):
        core.to_action(torch.full((1, 15), float("nan"), device="cuda"), (1, 15))
