import pytest
import torch

from blindsr_env import images
from blindsr_env.kernels import WIDTH_RANGE
from experiments.evaluate import Evaluate, evaluate
from experiments.search import Search, search
from experiments.ship import Ship, ship
from experiments.validation import Validation
from experiments.widths import COUNT, of_scale


@pytest.fixture
def folder(tmp_path, photo):
    for seed in range(2):
        images.write(tmp_path / "photos" / f"p{seed}.png", photo(101, 120, seed))
    return str(tmp_path / "photos")


def test_they_are_the_papers_where_the_scales_kernels_reach_them():
    assert [of_scale(scale) for scale in (4, 3, 2)] == [(0.2, 1.3, 2.6), (0.2, 1.3, 2.6), (0.2, 1.1, 2.0)]
    for scale, (low, high) in WIDTH_RANGE.items():
        assert len(of_scale(scale)) == COUNT and low <= min(of_scale(scale)) and max(of_scale(scale)) <= high


def test_every_command_takes_those_of_its_generators_scale(twice, tiny_checkpoint, folder, tmp_path):
    for checkpoint, scale in ((twice, 2), (tiny_checkpoint, 4)):
        widths = list(of_scale(scale))
        common = {"generator": checkpoint, "images": folder}
        sheet = evaluate(Evaluate(policies=("mean-code",), metrics=("psnr",), output=None, **common))
        assert list(sheet["widths"]) == widths
        whole = {"patch_size": None, "scenes": 3, "metric": "psnr", "budgets": (1,), "output": None, **common}
        assert list(search(Search(**whole))["widths"]) == widths
        assert ship(Ship(output=str(tmp_path / f"{scale}.safetensors"), **common)).exists()
        assert list(Validation(folder, None, scale, torch.device("cpu")).widths) == widths


def test_crops_are_of_any_width_where_none_is_named(tiny_checkpoint, folder):
    common = {"generator": tiny_checkpoint, "images": folder, "patch_size": 24, "scenes": 2, "output": None}
    assert search(Search(metric="psnr", budgets=(1,), **common))["widths"] is None


@pytest.mark.parametrize("widths", [(), (1.0, 2.6)])
def test_what_a_scale_is_not_trained_for_is_refused(twice, folder, widths):
    message = "^give at least one" if not widths else "^width must lie in 0.2 to 2, as x2's kernels do, got 2.6"
    with pytest.raises(ValueError, match=message):
        evaluate(Evaluate(generator=twice, images=folder, widths=widths, metrics=("psnr",), output=None))
