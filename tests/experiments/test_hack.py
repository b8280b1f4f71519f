"""What one constant offset wins: every part at a toy budget."""

import json

import numpy as np
import pytest
import torch

import generators
from agents import shared_offset
from blindsr_env import images
from experiments.hack import Hack, hack, table


@pytest.fixture
def folders(tmp_path, photo):
    for name, first in (("train", 0), ("held-out", 10)):
        for seed in range(2):
            images.write(tmp_path / name / f"{name}{seed}.png", photo(80, 90, first + seed))
    return {"images": str(tmp_path / "train"), "held_out": str(tmp_path / "held-out")}


@pytest.fixture
def louder(tmp_path, tiny_generator):
    """Another generator of the same name, whose texture is stronger."""
    other = generators.AMNet(tiny_generator.architecture, tiny_generator.codec, name="tiny")
    other.load_state_dict(tiny_generator.state_dict())
    with torch.no_grad():
        other.tail.weight.mul_(2)
    path = tmp_path / "louder.safetensors"
    generators.save(path, other, {"data": "none"})
    return str(path)


def test_figures_table_and_pictures(folders, tiny_checkpoint, louder, tmp_path, monkeypatch):
    monkeypatch.setattr("experiments.hack.SHOWN", 1)  # pictures cost most of the time
    output = tmp_path / "out" / "hack.json"
    settings = Hack(
        generators=[tiny_checkpoint, louder],
        metric="ssim",
        scenes=2,
        renders=8,
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
    (difference,) = figures["differences"]
    cost = loud["true_code"]["psnr"] - plain["true_code"]["psnr"]
    assert difference["true_psnr"]["mean"] == pytest.approx(cost) and cost < 0
    paired = np.subtract(loud["actions"]["code"]["rewards"], plain["actions"]["code"]["rewards"])
    assert difference["reward"]["code"]["mean"] == pytest.approx(paired.mean())
    assert table(figures).count("\n| tiny (louder) | tiny (tiny) |") == 3
    assert len(list(output.parent.glob("hack_*.png"))) == 2


def test_generators_without_common_scenes_are_refused(folders, tiny_checkpoint, tmp_path):
    twice = tmp_path / "x2.safetensors"
    architecture = generators.Architecture(blocks=1, width=8, scale=2)
    generators.save(twice, generators.AMNet(architecture, generators.KernelCodec.isotropic(2), "x2"), {})
    given = [tiny_checkpoint, str(twice)]
    with pytest.raises(ValueError, match="x2 is for scale 2 .* compare them apart"):
        hack(Hack(generators=given, metric="psnr", scenes=2, patch_size=16, device="cpu", **folders))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"repeats": 3}, "repeats must be even"),
        ({"actions": ("width",)}, "code and free-code"),
        ({"renders": 0}, "renders must be at least 1"),
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
