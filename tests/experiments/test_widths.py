import json
from pathlib import Path

import pytest
import torch
import yaml

import generators
from blindsr_env import images
from blindsr_env.kernels import WIDTH_RANGE
from experiments.benchmark import Benchmark
from experiments.evaluate import Evaluate, evaluate
from experiments.search import Search, search
from experiments.ship import Ship, ship
from experiments.train_generator import train_generator
from experiments.training_settings import TrainingSettings
from experiments.validation import Validation
from experiments.widths import COUNT, default_widths

BOTH = [default_widths(WIDTH_RANGE[scale]) for scale in (4, 2)]


@pytest.fixture
def folder(tmp_path, photo):
    for seed in range(2):
        images.write(tmp_path / "photos" / f"p{seed}.png", photo(101, 120, seed))
    return str(tmp_path / "photos")


def test_they_are_the_papers_where_the_kernels_reach_them_else_the_ends_and_the_middle():
    assert [default_widths(WIDTH_RANGE[scale]) for scale in (4, 3, 2)] == [(0.2, 1.3, 2.6)] * 2 + [(0.2, 1.1, 2.0)]
    assert default_widths((0.5, 4.0)) == (0.5, 2.25, 4.0) and len(default_widths((0.5, 4.0))) == COUNT


@pytest.mark.parametrize("settings", [Evaluate, Search, Ship, Benchmark, TrainingSettings])
def test_help_says_which(settings):
    texts = [" ".join(f"{', '.join(f'{w:g}' for w in widths[:2])} and {widths[2]:g}".split()) for widths in BOTH]
    assert all(text in " ".join(settings.__doc__.split()) for text in texts)


def test_every_command_takes_those_of_its_generator(twice, tiny_checkpoint, folder, tmp_path):
    for checkpoint, scale in ((twice, 2), (tiny_checkpoint, 4)):
        widths = list(default_widths(WIDTH_RANGE[scale]))
        common = {"generator": checkpoint, "images": folder}
        sheet = evaluate(Evaluate(policies=("mean-code",), metrics=("psnr",), output=None, **common))
        assert list(sheet["widths"]) == widths
        whole = {"patch_size": None, "scenes": 3, "output": str(tmp_path / f"{scale}.json"), **common}
        assert list(search(Search(metric="psnr", budgets=(1,), **whole))["widths"]) == widths
        assert json.loads((tmp_path / f"{scale}.json").read_text())["config"]["widths"] is None, "as in earlier results"
        assert ship(Ship(output=str(tmp_path / f"{scale}.safetensors"), **common)).exists()
        assert list(Validation(folder, None, generators.load(checkpoint), torch.device("cpu")).widths) == widths


def test_features_of_another_scale_are_said_to_be_all_that_is_taken(settings, twice, capsys):
    train_generator(settings(steps=1, init=twice))
    assert "x2.safetensors is for scale 2: only its features are taken over to scale 4" in capsys.readouterr().out


def test_a_run_says_which_it_was_validated_at(settings, data, held_out):
    run = settings(steps=1, validation=held_out, scale=2)
    assert run.validation_widths is None
    train_generator(run)
    config = yaml.safe_load((Path(run.output) / "config.yaml").read_text())
    assert config["validation_widths"] == [0.2, 1.1, 2.0]
    figures = json.loads((Path(run.output) / "results.json").read_text())["figures"]
    assert {"psnr_width_0.2", "psnr_width_1.1", "psnr_width_2"} <= set(figures)


def test_crops_are_of_any_width_where_none_is_named(tiny_checkpoint, folder):
    common = {"generator": tiny_checkpoint, "images": folder, "patch_size": 24, "scenes": 2, "output": None}
    assert search(Search(metric="psnr", budgets=(1,), **common))["widths"] is None


@pytest.mark.parametrize("widths", [(), (1.0, 2.6)])
def test_what_a_scale_is_not_trained_for_is_refused(twice, folder, widths):
    message = "^give at least one" if not widths else "^width must lie in 0.2 to 2, as x2's kernels do, got 2.6"
    with pytest.raises(ValueError, match=message):
        evaluate(Evaluate(generator=twice, images=folder, widths=widths, metrics=("psnr",), output=None))
