"""Bicubic upsampling against MATLAB's rule in float64, and originals against the metrics themselves."""

import numpy as np
import pytest
import torch

from agents import policies
from blindsr_env import images, metrics
from blindsr_env.env import BlindSREnv
from experiments import scoring
from experiments.evaluate import Evaluate, evaluate
from experiments.held_out import whole_photo
from experiments.references import score_references
from experiments.scoring import scored


def cubic_matrix(small):
    """MATLAB's imresize(., 4, 'bicubic') along one axis: Keys' cubic, a = -0.5, borders mirrored."""
    matrix = np.zeros((4 * small, small))
    for i in range(4 * small):
        centre = (i + 0.5) / 4 - 0.5
        for j in range(int(np.floor(centre)) - 1, int(np.floor(centre)) + 3):
            x = abs(centre - j)
            near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
            mirrored = -j - 1 if j < 0 else 2 * small - 1 - j if j >= small else j
            matrix[i, mirrored] += near if x <= 1 else far if x < 2 else 0
    return matrix


@pytest.fixture
def core(tiny_checkpoint, tiny_photos):
    env = BlindSREnv(metric="psnr", report=("niqe",), generator=tiny_checkpoint, images=tiny_photos, patch_size=24)
    return env.core


def test_bicubic_is_matlabs(core, photo):
    scenes = whole_photo(core, images.Photo("p", photo(200, 240, 3)), (0.4, 2.6))
    lr = scenes.lr.numpy() / 255.0
    rows, columns = (cubic_matrix(side) for side in lr.shape[1:3])
    up = np.floor(np.einsum("ij,njkc,lk->nilc", rows, lr, columns).clip(0, 1) * 255 + 0.5) / 255
    expected = core.scores(torch.from_numpy(up).permute(0, 3, 1, 2).float(), scenes.hr)
    bicubic = score_references(core, scenes)["bicubic"]
    assert bicubic[:, 0] == pytest.approx(expected[:, 0].numpy(), abs=0.02)  # PyTorch treats borders in another way
    assert bicubic[0, 0] > bicubic[1, 0] + 0.5  # a wider blur loses more


def test_an_original_has_scores_that_need_no_original(core, photo):
    hr = photo(200, 240, 3)
    scenes = whole_photo(core, images.Photo("p", hr), (0.4, 2.6))
    original = score_references(core, scenes)["original"]
    niqe = metrics.get("niqe", scale=4)(torch.from_numpy(hr).permute(2, 0, 1)[None].float() / 255).item()
    assert np.isnan(original[:, 0]).all() and original[:, 1] == pytest.approx([niqe, niqe])


def test_a_policy_called_original_keeps_its_own_scores(core, photo, tiny_checkpoint):
    env = BlindSREnv(metric="psnr", generator=tiny_checkpoint, split="test")
    policy = policies.load("mean-code", env)
    photos = [images.Photo(str(seed), photo(200, 220, seed)) for seed in range(2)]
    expected = scored(core, photos, (1.0,), {"other": policy}, seed=0, title="")["policies"]["other"]
    for name in ("original", "bicubic"):
        figures = scored(core, photos, (1.0,), {name: policy}, seed=0, title="")
        assert figures["policies"][name] == expected
        assert figures["references"]["original"].keys() == {"niqe"}


def test_sheets_hold_them(tiny_checkpoint, tmp_path, photo):
    for seed in range(2):
        images.write(tmp_path / f"{seed}.png", photo(200, 220, seed))
    settings = Evaluate(
        generator=tiny_checkpoint,
        images=str(tmp_path),
        policies=("true-code",),
        metrics=("niqe",),
        widths=(1.0,),
        output=None,
    )
    references = evaluate(settings)["references"]
    assert set(references) == {"bicubic", "original"}
    assert references["original"]["niqe"]["interval"]["count"] == 2
    assert references["bicubic"]["niqe"]["mean"] == references["bicubic"]["niqe"]["mean_by_width"][0]


def test_they_are_scored_once_a_set_however_many_generators_there_are(
    tiny_checkpoint, louder, tmp_path, photo, monkeypatch
):
    for name in ("a", "b"):
        images.write(tmp_path / name / "p.png", photo(100, 110, ord(name)))
    calls = []
    monkeypatch.setattr(scoring, "score_references", lambda *of: calls.append(of) or score_references(*of))
    settings = dict(policies=("true-code",), metrics=("psnr",), widths=(1.0,), output=None)
    folders = {name: str(tmp_path / name) for name in ("a", "b")}
    sheets = evaluate(Evaluate(generators=[tiny_checkpoint, louder], images=folders, **settings))["sheets"]
    assert len(calls) == 2 and len(sheets) == 4
    alone = [evaluate(Evaluate(generator=louder, images=folder, **settings)) for folder in folders.values()]
    mean_a, mean_b, *means = (sheet["references"]["bicubic"]["psnr"]["mean"] for sheet in (*sheets, *alone))
    assert means == [mean_a, mean_b] * 2 and mean_a != mean_b
