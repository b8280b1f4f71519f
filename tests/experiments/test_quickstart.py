"""The main job at a toy budget: every part is real, only the numbers are small."""

import json

import numpy as np
import pytest

import agents
from blindsr_env import images
from experiments.held_out import HeldOut
from experiments.quickstart import Quickstart, quickstart
from experiments.train_agent import TrainAgent, train_agent


@pytest.fixture
def folder(tmp_path, photo):
    for seed in range(2):
        images.write(tmp_path / "photos" / f"p{seed}.png", photo(260, 270, seed))
    return str(tmp_path / "photos")


def test_quickstart_writes_all_that_it_promises(tmp_path, folder, tiny_checkpoint, capsys):
    output = tmp_path / "out"
    settings = Quickstart(
        renders=48,
        scenes=4,
        images=folder,
        held_out=folder,
        output=str(output),
        generator=tiny_checkpoint,
        device="cpu",
    )
    figures = quickstart(settings)
    saved = json.loads((output / "results.json").read_text())["figures"]
    difference = np.subtract(saved["rewards"]["after"], saved["rewards"]["before"])
    assert saved["difference"]["mean"] == pytest.approx(difference.mean())
    assert saved["difference"]["low"] <= saved["difference"]["mean"] <= saved["difference"]["high"]
    assert figures["timesteps"] == 48
    assert agents.load(output / "agent.safetensors").num_timesteps == 48
    assert list((output / "tensorboard").iterdir())
    for name in ("p0", "p1"):
        assert images.read(output / f"{name}.png").std() > 10
    assert "after minus before" in capsys.readouterr().out


def test_held_out_scenes_are_the_same_each_time_and_spread_over_photos(folder, tiny_checkpoint):
    class Zero:
        def predict(self, observation, info=None):
            return 0 * info["true_action"], None

    environment = {"images": folder, "generator": tiny_checkpoint}
    one, two = (HeldOut(18, metric="psnr", report=("grid",), environment=environment) for _ in range(2))
    place = np.concatenate([scenes.place.numpy() for scenes in one.parts])
    assert (place[:, 0] == np.arange(18) % 2).all()
    np.testing.assert_array_equal(one.score(Zero()).reward, two.score(Zero()).reward)
    assert (one.scene(17).place.numpy() == place[17]).all()


@pytest.mark.parametrize("algorithm", ["ddpg", "group-pg"])
def test_training_goes_on_where_it_stopped(tmp_path, folder, tiny_checkpoint, algorithm):
    settings = {
        "algorithm": algorithm,
        "num_envs": 4,
        "repeats": 2,
        "images": folder,
        "held_out": folder,
        "held_out_scenes": 2,
        "generator": tiny_checkpoint,
        "output": str(tmp_path / "run"),
        "device": "cpu",
    }
    path = train_agent(TrainAgent(total_timesteps=4, **settings))
    assert agents.load(path).num_timesteps == 4
    train_agent(TrainAgent(total_timesteps=12, **settings))
    assert agents.load(path).num_timesteps == 12


def test_unknown_setting_of_the_algorithm_lists_the_nearest(tmp_path, tiny_checkpoint):
    settings = TrainAgent(agent={"actor_rl": 1.0}, output=str(tmp_path), generator=tiny_checkpoint)
    with pytest.raises(ValueError, match="actor_lr"):
        train_agent(settings)
