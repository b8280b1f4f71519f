"""What one constant offset wins: every part at a toy budget."""

import json

import numpy as np
import pytest

from agents import shared_offset
from agents.baselines import TrueCode
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


def test_generators_without_common_scenes_are_refused(folders, tiny_checkpoint, twice, tmp_path):
    given, output = [tiny_checkpoint, twice], str(tmp_path / "hack.json")
    with pytest.raises(ValueError, match="x2 is for scale 2 .* compare them apart"):
        hack(Hack(generators=given, metric="psnr", scenes=2, patch_size=16, device="cpu", output=output, **folders))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"repeats": 3}, "repeats must be even"),
        ({"actions": ("width",)}, "code and free-code"),
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
