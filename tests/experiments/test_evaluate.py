"""Scores of policies on whole photos: the table's figures against a plain computation."""

import json

import numpy as np
import pytest
import torch

import generators
from agents import checkpoints, networks
from blindsr_env import degradation, images, kernels
from experiments.evaluate import Evaluate, evaluate


@pytest.fixture
def folder(tmp_path, photo):
    for seed, shape in enumerate([(101, 130), (120, 98)]):
        images.write(tmp_path / "photos" / f"p{seed}.png", photo(*shape, seed))
    return tmp_path / "photos"


def psnr_y(sr, hr, border):
    weight = np.array([65.481, 128.553, 24.966])

    def y(x):
        return (x @ weight + 16)[border:-border, border:-border]

    return 10 * np.log10(255**2 / np.mean((y(sr) - y(hr)) ** 2))


def test_scores_are_those_of_a_plain_loop(folder, tiny_checkpoint, tmp_path):
    widths = (0.7, 2.0)
    output = tmp_path / "results.json"
    figures = evaluate(
        Evaluate(
            policies=("mean-code",),
            images=str(folder),
            widths=widths,
            metrics=("psnr",),
            generator=tiny_checkpoint,
            output=str(output),
            device="cpu",
        )
    )
    generator = generators.load(tiny_checkpoint)
    for row, path in enumerate(images.find(folder)):
        pixels = images.read(path)
        height, width = (side // 4 * 4 for side in pixels.shape[:2])
        hr = torch.from_numpy(pixels[:height, :width]).permute(2, 0, 1)[None].float() / 255
        for column, sigma in enumerate(widths):
            kernel = kernels.gaussian(torch.tensor([sigma], dtype=torch.float64))
            lr = degradation.degrade(hr, kernel.float(), 4)
            sr = degradation.quantize(generator(lr, generator.codec.encode(kernel)))
            expected = psnr_y(*(x[0].permute(1, 2, 0).numpy().astype(np.float64) for x in (sr, hr)), border=4)
            found = figures["policies"]["true-code"]["psnr"]["scores"][row][column]
            assert found == pytest.approx(expected, abs=0.01)
    saved = json.loads(output.read_text())
    assert saved["figures"]["policies"]["mean-code"]["psnr"]["gain"]["count"] == 2
    assert {"figures", "config", "environment", "seed", "commit"} <= set(saved)


def test_true_code_gains_nothing_and_the_sign_follows_the_metric(folder, tiny_checkpoint):
    figures = evaluate(
        Evaluate(
            policies=("true-code", "random"),
            images=str(folder),
            widths=(2.0,),
            metrics=("psnr", "grid"),
            generator=tiny_checkpoint,
            output=None,
            device="cpu",
        )
    )
    for metric, zeta in (("psnr", 1), ("grid", -1)):
        true, random = (figures["policies"][name][metric] for name in ("true-code", "random"))
        assert true["gain"]["mean"] == 0
        assert random["gain"]["mean"] == pytest.approx(zeta * (random["mean"] - true["mean"]), abs=1e-6)


def test_a_predictor_file_is_a_policy(folder, tiny_checkpoint, tiny_generator, tmp_path):
    path = tmp_path / "predictor.safetensors"
    meaning = checkpoints.ActionMeaning("code", 4, tiny_generator.codec.fingerprint, "tiny")
    checkpoints.save_predictor(path, networks.build("predictor_s"), meaning, {})
    figures = evaluate(
        Evaluate(
            policies=(str(path),),
            images=str(folder),
            widths=(1.0,),
            metrics=("psnr",),
            generator=tiny_checkpoint,
            output=None,
            device="cpu",
        )
    )
    assert np.isfinite(figures["policies"][str(path)]["psnr"]["mean"])


def test_photos_too_small_for_the_metric_are_named(tmp_path, photo, tiny_checkpoint):
    images.write(tmp_path / "small.png", photo(60, 60, 0))
    with pytest.raises(images.ImageError, match="small is 60x60"):
        evaluate(Evaluate(images=str(tmp_path), metrics=("niqe",), generator=tiny_checkpoint, output=None))


def test_unknown_policy_lists_the_nearest(tiny_checkpoint, folder):
    with pytest.raises(ValueError, match="true-code"):
        evaluate(Evaluate(policies=("true-cod",), images=str(folder), generator=tiny_checkpoint, output=None))
