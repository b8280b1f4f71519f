"""What is said of a folder of photos."""

import numpy as np
import pytest

from blindsr_env import images
from experiments import cli
from experiments.data import Data, data


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for name, shape in {"a": (40, 60, 3), "b": (64, 50, 3), "sub/c": (24, 30, 3)}.items():
        path = tmp_path / "photos" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        images.write(path, rng.integers(0, 256, shape, np.uint8))
    return tmp_path / "photos"


def test_counts_sizes_and_what_is_large_enough(folder, capsys):
    figures = data(Data(images=str(folder), patch_sizes=(4, 10, 12)))
    assert figures["photos"] == 3 and figures["shorter_side"] == [24, 40, 50]
    assert figures["megapixels"] == pytest.approx((40 * 60 + 64 * 50 + 24 * 30) / 1e6)
    assert figures["usable"] == {4: 3, 10: 2, 12: 1} and figures["equal"] == []
    wide = data(Data(images=str(folder), patch_sizes=((10, 15), (16, 10), (16, 11))))
    assert wide["usable"] == {(10, 15): 2, (16, 10): 1, (16, 11): 1}
    twice = data(Data(images=str(folder), patch_sizes=(12,), scale=2))
    assert twice["usable"] == {12: 3}
    out = capsys.readouterr().out
    assert "patch_size  12, HR crops of     48x48: 1 large enough" in out
    assert "patch_size [10, 15], HR crops of     40x60: 2 large enough" in out


def test_photos_that_are_there_twice_are_named(folder, capsys):
    for number in range(7):
        images.write(folder / f"z{number}.png", images.read(folder / "a.png"))
    for name, shape in (("high", (60, 40, 3)), ("wide", (40, 60, 3))):  # the same bytes in another shape
        images.write(folder / f"{name}.png", np.zeros(shape, np.uint8))
    figures = data(Data(images=str(folder)))
    assert figures["equal"] == [("a", f"z{number}") for number in range(7)]
    out = capsys.readouterr().out
    assert "z0 is a duplicate of a" in out and "z6" not in out and "2 more duplicates" in out


def test_held_out_photos_among_them_are_refused(folder, tmp_path, capsys):
    other = tmp_path / "test"
    other.mkdir()
    images.write(other / "new.png", np.zeros((40, 60, 3), np.uint8))
    assert data(Data(images=str(folder), held_out=(str(other),)))["held_out"] == {str(other): 1}
    images.write(other / "old.png", images.read(folder / "a.png"))
    assert cli.main(["data", "--images", str(folder), "--held_out", f"[{other}]"]) == 2
    assert "held-out photo old is the training photo a" in capsys.readouterr().err


def test_the_built_in_photos_and_what_is_no_size():
    assert data(Data())["photos"] == 7
    with pytest.raises(ValueError, match="patch_size must be a whole number above 0"):
        Data(patch_sizes=(0,))
    with pytest.raises(ValueError, match="scale must be at least 1, got 0"):
        Data(scale=0)
