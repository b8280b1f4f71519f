"""What may be scored on held-out photos, and what cannot."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from blindsr_env import images
from blindsr_env.images import ImageError, Photo
from experiments.disjoint import check_disjoint
from experiments.held_out import HeldOut, _further, check_common, check_size


def core(scale=4, sizes=(1,), widths=(0.2, 4.0), name="g"):
    metric, *report = (SimpleNamespace(min_size=size) for size in sizes)
    generator, codec = SimpleNamespace(name=name), SimpleNamespace(width_range=widths)
    return SimpleNamespace(scale=scale, metric=metric, report=report, generator=generator, codec=codec)


def test_a_folder_of_photos_is_decoded_once_until_it_changes(tmp_path, photo, monkeypatch):
    for place, seed in (("training/a", 0), ("one/b", 1), ("two/c", 2)):
        images.write(tmp_path / f"{place}.png", photo(20, 30, seed))
    training, *held_out = (str(tmp_path / name) for name in ("training", "one", "two"))
    read, decoded = images.read, []
    monkeypatch.setattr(images, "read", lambda path: decoded.append(path.stem) or read(path))
    for _ in range(2):
        for folder in held_out:
            check_disjoint(training, folder)
    assert decoded == ["a", "b", "c"]
    shutil.copy(tmp_path / "two" / "c.png", tmp_path / "training" / "d.png")
    with pytest.raises(ValueError, match="^the held-out photo c is the training photo d: hold out other photos$"):
        check_disjoint(training, held_out[1])
    assert decoded == ["a", "b", "c", "a", "d"]
    for folder, message in ((str(tmp_path / "none"), "no image at .*none"), ("", "images is an empty text")):
        with pytest.raises(ImageError, match=message):
            check_disjoint(training, folder)


@pytest.mark.parametrize(
    ("scale", "sizes", "shape", "message"),
    [
        (4, (1, 96), (99, 200), None),
        (4, (1, 96), (95, 200), "p is 200x92, the metrics need 96"),
        (4, (96, 1), (203, 95), "p is 92x200, the metrics need 96"),
        (2, (1,), (12, 30), None),
        (2, (1,), (11, 30), "p of 30x10 is too small to blur"),  # by the half of a kernel's 21 pixels, mirrored
    ],
)
def test_photos_are_large_enough_for_every_metric_and_the_blur(scale, sizes, shape, message):
    photo = Photo("p", np.zeros((*shape, 3), np.uint8))
    if message is None:
        check_size(core(scale, sizes), photo)
        return
    with pytest.raises(ImageError, match=message):
        check_size(core(scale, sizes), photo)


def test_generators_compared_share_scale_and_drawn_widths():
    narrow = core(widths=(0.2, 3.0), name="narrow")
    check_common([core(), core(), narrow], drawn=False)
    with pytest.raises(ValueError, match=r"^narrow is for scale 4 and widths \(0.2, 3.0\), g for 4 and widths \(0.2, "):
        check_common([core(), core(), narrow], drawn=True)
    for drawn in (False, True):
        with pytest.raises(ValueError, match="^x2 is for scale 2.*, g for 4.*: compare them apart"):
            check_common([core(), core(2, name="x2")], drawn=drawn)


def test_a_report_does_not_repeat_the_reward():
    assert _further(("psnr", "grid", "psnr"), "grid") == _further(("psnr", "grid"), "1*grid") == ["psnr"]
    assert _further(("niqe", "psnr"), "niqe+0.1*psnr") == ["niqe", "psnr"]


def test_a_scene_is_found_in_whichever_batch_it_is(tiny_checkpoint, photo):
    photos = [Photo(str(seed), photo(60, 70, seed)) for seed in range(2)]
    environment = {"generator": tiny_checkpoint, "device": "cpu"}
    held_out = HeldOut.whole(photos, (0.5, 1.0, 2.0), metric="psnr", environment=environment)
    assert held_out.photo.tolist() == [0, 0, 0, 1, 1, 1] and held_out.photos == ["0", "1"]
    for row in range(6):
        scene = held_out.scene(row)
        assert int(scene.place[0, 0]) == row // 3 and float(scene.width[0]) == (0.5, 1.0, 2.0)[row % 3]
        np.testing.assert_array_equal(scene.hr[0].permute(1, 2, 0), photos[row // 3].pixels[:60, :68])
    with pytest.raises(IndexError, match="there are 6 scenes"):
        held_out.scene(6)
