"""What one constant offset wins: every part at a toy budget."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import generators
from agents import shared_offset
from agents.baselines import Constant, TrueCode
from blindsr_env import images
from blindsr_env.core import BROKEN_REWARD
from experiments import offsets
from experiments.hack import Hack, _means, hack
from experiments.held_out import HeldOut


@pytest.fixture
def folders(tmp_path, photo):
    for name, first in (("train", 0), ("held-out", 10)):
        for seed in range(2):
            images.write(tmp_path / name / f"{name}{seed}.png", photo(80, 90, first + seed))
    return {"images": str(tmp_path / "train"), "held_out": str(tmp_path / "held-out")}


def test_figures_table_and_pictures(folders, tiny_checkpoint, louder, tmp_path, monkeypatch):
    monkeypatch.setattr("experiments.hack.SHOWN", 1)  # pictures cost most of the time
    output = tmp_path / "out" / "hack.json"
    settings = Hack(
        generators=[tiny_checkpoint, louder],
        metric="ssim",
        scenes=2,
        renders=11,
        num_envs=4,
        repeats=4,
        patch_size=16,
        output=str(output),
        device="cpu",
        **folders,
    )
    figures = hack(settings)
    saved = json.loads(output.read_text())
    assert saved["figures"] == figures and str(tmp_path) not in output.read_text()
    plain, loud = figures["generators"].values()
    assert list(figures["generators"]) == ["tiny (tiny)", "tiny (louder)"]
    for space in ("code", "free-code"):
        rewards = plain["actions"][space]["rewards"]
        assert plain["actions"][space]["reward"]["mean"] == pytest.approx(np.mean(rewards))
        gained = plain["actions"][space]["scores"]["ssim"] - plain["true_code"]["ssim"]
        assert gained == pytest.approx(np.mean(rewards), abs=1e-6)
        offset = np.array(plain["actions"][space]["offset"])
        assert offset.shape == (15,) and 0 < np.abs(offset).max() <= 1
    assert figures["renders"] == 8, "what is left of the budget does not suffice for all environments"
    (difference,) = figures["differences"]
    cost = loud["true_code"]["psnr"] - plain["true_code"]["psnr"]
    assert difference["true_psnr"]["mean"] == pytest.approx(cost) and cost < 0
    paired = np.subtract(loud["actions"]["code"]["rewards"], plain["actions"]["code"]["rewards"])
    assert difference["reward"]["code"]["mean"] == pytest.approx(paired.mean())
    page = offsets.page([figures])
    assert "2 held-out scenes of 2 photos of held-out, patches of 16 x 16;" in page
    assert page.count("\n| tiny (louder) | tiny (tiny) |") == 3 and "have no" not in page
    assert len(list(output.parent.glob("hack_*.png"))) == 2


def test_the_offset_learned_on_training_photos_is_what_is_scored_and_drawn(
    folders, tiny_checkpoint, tmp_path, monkeypatch
):
    asked, drawn, constant = [], [], 0.1

    def learned(env, policy, renders, seed):
        asked.append((env._core.sampler.names, env.num_envs, env.repeats, env._core.action, renders, seed))
        return torch.full((15,), constant)

    class Shifted:
        def predict(self, observation, info):
            return (info["true_action"] + constant).clamp(-1, 1), None

    monkeypatch.setattr("experiments.hack.learn_offset", learned)
    monkeypatch.setattr("experiments.hack.gallery", lambda path, rows, title: drawn.append(rows))
    settings = dict(metric="psnr", scenes=3, renders=9, num_envs=8, repeats=2, patch_size=16, seed=5, device="cpu")
    figures = hack(Hack(generators=tiny_checkpoint, output=str(tmp_path / "hack.json"), **settings, **folders))
    assert asked == [(["train0", "train1"], 8, 2, space, 9, 5) for space in ("code", "free-code")]
    (entry,), (rows,) = figures["generators"].values(), drawn
    for space in ("code", "free-code"):
        environment = dict(images=folders["held_out"], generator=tiny_checkpoint, patch_size=16, action=space)
        held_out = HeldOut.crops(3, metric="psnr", environment=environment)
        scored = held_out.score(Shifted())
        assert entry["actions"][space]["rewards"] == pytest.approx(scored.reward.tolist(), abs=1e-4)
        for row, shown in enumerate(rows):
            action = torch.from_numpy(scored.action[row : row + 1])
            one = held_out.core.pictures(held_out.scene(row), action)
            for title, name in (
                ("SR, true code", "true"),
                (f"SR, offset in {space}", "sr"),
                ("HR", "hr"),
                ("LR", "lr"),
            ):
                np.testing.assert_array_equal(shown[title][0], one[name][0])
    assert list(rows[0]) == ["LR", "SR, true code", "SR, offset in code", "SR, offset in free-code", "HR"]


def test_photos_that_were_learned_on_are_refused(folders, tiny_checkpoint):
    with pytest.raises(ValueError, match="the held-out photo train0 is the training photo train0"):
        hack(Hack(generators=tiny_checkpoint, device="cpu", **folders | {"held_out": folders["images"]}))


def test_other_photos_of_the_same_name_get_a_file_of_their_own(folders, tiny_checkpoint, tmp_path, photo, monkeypatch):
    monkeypatch.setattr("experiments.hack.SHOWN", 1)
    images.write(tmp_path / "other" / "held-out" / "held-out0.png", photo(80, 90, 20))
    few = dict(actions=("code",), metric="psnr", scenes=1, renders=4, num_envs=4, repeats=4, patch_size=16)
    common = dict(generators=tiny_checkpoint, output=str(tmp_path / "h.json"), device="cpu", **few)
    for _ in range(2):
        hack(Hack(**common, **folders))
    assert not (tmp_path / "h_2.json").exists()
    first = (tmp_path / "h.json").read_bytes()
    hack(Hack(**common, **folders | {"held_out": str(tmp_path / "other" / "held-out")}))
    assert (tmp_path / "h_2.json").exists() and (tmp_path / "h.json").read_bytes() == first


def test_generators_without_common_scenes_are_refused(folders, tiny_checkpoint, tiny_generator, twice, tmp_path):
    narrow = replace(tiny_generator.codec, width_range=(0.2, 3.0))
    path = str(tmp_path / "narrow.safetensors")
    generators.save(path, generators.AMNet(tiny_generator.architecture, narrow, "narrow"), {})
    for other, message in (
        (twice, "x2 is for scale 2 .*"),
        (path, r"narrow is for scale 4 and widths \(0.2, 3.0\), .*"),
    ):
        with pytest.raises(ValueError, match=f"{message} compare them apart"):
            hack(
                Hack(
                    generators=[tiny_checkpoint, other],
                    metric="psnr",
                    scenes=2,
                    patch_size=16,
                    output=str(tmp_path / "h.json"),
                    device="cpu",
                    **folders,
                )
            )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"repeats": 3}, "repeats must be even"),
        ({"actions": ("width",)}, "code and free-code"),
        ({"actions": ("code", "code")}, "^the action space 'code' is given twice: give each once$"),
        ({"generators": []}, r"^give at least one generator, as \[amnet\]$"),
        ({"renders": 0}, "renders must be at least 1"),
        ({"renders": 23}, "renders must be at least 24, got 23"),
        ({"num_envs": 20}, "repeats must divide num_envs=20, got 6"),
    ],
)
def test_impossible_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        Hack(**settings)


def test_what_was_measured_is_kept_when_stopped(folders, tiny_checkpoint, louder, tmp_path, monkeypatch):
    learn, calls = shared_offset.learn_offset, []

    def stops(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return learn(*arguments)

    monkeypatch.setattr("experiments.hack.learn_offset", stops)
    output = tmp_path / "hack.json"
    settings = dict(metric="psnr", scenes=2, renders=4, num_envs=4, repeats=4, patch_size=16, device="cpu", **folders)
    with pytest.raises(KeyboardInterrupt):
        hack(Hack(generators=[tiny_checkpoint, louder], actions=("code",), output=str(output), **settings))
    assert list(json.loads(output.read_text())["figures"]["generators"]) == ["tiny (tiny)"]


def test_a_generator_twice_is_refused(folders, tiny_checkpoint, tmp_path):
    settings = dict(metric="psnr", output=str(tmp_path / "hack.json"), scenes=2, patch_size=16, device="cpu", **folders)
    with pytest.raises(ValueError, match="the generator 'tiny .*' is given twice"):
        hack(Hack(generators=[tiny_checkpoint, tiny_checkpoint], **settings))


def test_scenes_that_an_offset_breaks_are_told_and_left_out_on_both_sides(folders, tiny_checkpoint, tmp_path):
    environment = dict(images=folders["held_out"], generator=tiny_checkpoint, patch_size=16, device="cpu")
    held_out = HeldOut.crops(4, metric=Fragile(), report=("psnr", "grid"), environment=environment)
    result = held_out.score(TrueCode())
    assert result.broken == {"fragile": 1, "psnr": 0, "grid": 0}
    assert result.reward[0] == BROKEN_REWARD and np.isnan(result.gain["psnr"]).sum() == 0
    assert np.isfinite(result.reward[1:]).all() and np.isnan(result.scores["fragile"]).tolist() == [True] + [False] * 3
    assert (result.photo == [0, 1, 0, 1]).all()
    true, of_space = _means(held_out, {"code": result})
    scores = held_out.true_scores["fragile"]
    assert true["fragile"] == pytest.approx((scores[2] + scores[[1, 3]].mean()) / 2)
    assert of_space["code"]["fragile"] == pytest.approx(true["fragile"])
    assert true["psnr"] == pytest.approx(held_out.true_scores["psnr"].mean())


def test_scenes_whose_true_code_has_no_score_have_no_reward_and_nobody_broke_them(folders, tiny_checkpoint):
    environment = dict(images=folders["held_out"], generator=tiny_checkpoint, patch_size=16, device="cpu")
    flat = Fragile()
    flat.calls = 1  # the first picture of the true codes has none either
    held_out = HeldOut.crops(4, metric=flat, report=("psnr",), environment=environment)
    result = held_out.score(Constant(torch.full((15,), 0.3)))
    assert result.broken == {"fragile": 0, "psnr": 0} and np.isnan(result.reward).tolist() == [True] + [False] * 3
    figures = result.figures(seed=0)
    for found, each in ((figures["reward"], result.reward), (figures["gain"]["psnr"], result.gain["psnr"])):
        first = each[2] if np.isnan(each[0]) else (each[0] + each[2]) / 2
        assert found["mean"] == pytest.approx((first + (each[1] + each[3]) / 2) / 2) and found["count"] == 2
    assert figures["scenes"] == 4


class Fragile:
    """A metric that gives the first picture no score from the second call on."""

    name, lower_is_better, needs_reference, min_size = "fragile", True, False, 1
    calls = 0

    def __call__(self, sr, hr=None):
        self.calls += 1
        scores = sr.mean((1, 2, 3))
        if self.calls > 1:
            scores[0] = float("nan")
        return scores
