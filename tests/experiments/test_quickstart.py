"""The main job at a toy budget: every part is real, only the numbers are small."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import agents
from agents import agent_file
from blindsr_env import images
from blindsr_env.env import BlindSREnv
from blindsr_env.vector_env import BlindSRVectorEnv
from experiments import digests
from experiments.bench import Bench
from experiments.evaluate import Evaluate
from experiments.extremes import captions, extremes
from experiments.hack import Hack
from experiments.held_out import HeldOut
from experiments.intervals import Interval
from experiments.pictures import comparison, gallery
from experiments.quickstart import Quickstart, quickstart
from experiments.run_folder import RunFolder
from experiments.search import Search
from experiments.train_agent import TrainAgent, _Keeper, learn, train_agent
from generators import checkpoint

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path, photo):
    for seed in range(2):
        images.write(tmp_path / "photos" / f"p{seed}.png", photo(290, 300, seed))
    return str(tmp_path / "photos")


@pytest.fixture
def other_folder(tmp_path, photo):
    for seed, name in enumerate(("a/h", "b/h", "extremes")):
        images.write(tmp_path / "held-out" / f"{name}.png", photo(290, 300, 10 + seed))
    return str(tmp_path / "held-out")


def test_quickstart_writes_all_that_it_promises(tmp_path, folder, other_folder, tiny_checkpoint, capsys):
    output = tmp_path / "out"
    settings = Quickstart(
        renders=48,
        scenes=6,
        patch_size=64,
        images=folder,
        held_out=other_folder,
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
    pictures = [output / "extremes.png"]
    for row, name in enumerate(("a/h", "b/h", "extremes")):
        assert saved["difference_by_photo"][name] == pytest.approx(difference[row::3].mean())
        pictures.append(output / "pictures" / f"{name}.png")
    assert all(images.read(path).std() > 10 for path in pictures)
    assert len({path.read_bytes() for path in pictures}) == 4
    assert set(saved["after"]["gain"]) == {"niqe", "psnr", "grid"}, "a mixture's parts are told apart"
    printed = capsys.readouterr().out
    assert "after minus before" in printed
    assert saved["difference"]["count"] == saved["before"]["reward"]["count"] == 3, "photos are what is independent"
    assert "6 held-out scenes of 3 photos" in printed and "interval over photos" in printed
    with pytest.raises(ValueError, match="has learned from 48 renders already, and 32 are asked for"):
        quickstart(replace(settings, renders=32))
    assert "scoring" not in capsys.readouterr().out, "what is refused is refused before minutes of scoring"


def test_results_do_not_depend_on_pictures(tmp_path, folder, other_folder, tiny_checkpoint, monkeypatch, capsys):
    def full(*arguments):
        raise OSError("No space left on device")

    monkeypatch.setattr("experiments.quickstart.comparison", full)
    common = dict(images=folder, held_out=other_folder, output=str(tmp_path), generator=tiny_checkpoint, device="cpu")
    with pytest.raises(OSError, match="No space"):
        quickstart(Quickstart(renders=16, scenes=3, patch_size=64, **common))
    assert (tmp_path / "results.json").exists() and "after minus before" in capsys.readouterr().out


def test_held_out_scenes_are_the_same_each_time_and_spread_over_photos(folder, tiny_checkpoint, monkeypatch):
    class Zero:
        def predict(self, observation, info=None):
            return 0 * info["true_action"], None

    environment = {"images": folder, "generator": tiny_checkpoint}
    one, two = (HeldOut.crops(18, metric="psnr", report=("grid",), environment=environment) for _ in range(2))
    place = np.concatenate([scenes.place.numpy() for scenes in one.parts])
    assert (place[:, 0] == np.arange(18) % 2).all()
    np.testing.assert_array_equal(one.score(Zero()).reward, two.score(Zero()).reward)
    monkeypatch.setattr("experiments.held_out.ROWS", 5)
    few = HeldOut.crops(18, metric="psnr", report=("grid",), environment=environment)
    np.testing.assert_allclose(one.score(Zero()).reward, few.score(Zero()).reward, atol=1e-4)
    env = BlindSREnv(metric="psnr", **environment)
    for row in (0, 11, 17):
        observation, info = env.reset(seed=2021 + row, options={"image": row % 2})
        for scene in (one.scene(row), few.scene(row)):
            assert (scene.place.numpy() == place[row]).all() and float(scene.width[0]) == pytest.approx(info["width"])
            np.testing.assert_array_equal(scene.lr[0].numpy(), observation)
    assert HeldOut.crops(1, metric="psnr", environment=environment).photos == ["p0"], "those that scenes are of"


def test_captions_tell_a_mixtures_parts(folder, tiny_checkpoint):
    environment = {"images": folder, "generator": tiny_checkpoint}
    mixed = HeldOut.crops(1, metric="niqe+0.4*psnr", report=("niqe", "psnr", "grid"), environment=environment)
    assert captions(mixed, [-6.0, 5.0, 27.5, 2e-5]) == "niqe 5.00, psnr 27.50 dB, grid 0.02e-3"
    one = HeldOut.crops(1, metric="niqe+0.4*psnr", report=("psnr",), environment=environment)
    assert captions(one, [-6.0, 27.5]) == "niqe+0.4*psnr -6.00, psnr 27.50 dB", "not all parts are there"
    plain = HeldOut.crops(1, metric="niqe", report=("psnr",), environment=environment)
    assert captions(plain, [5.0, 27.5]) == "niqe 5.00, psnr 27.50 dB"


def test_extremes_are_the_best_and_the_worst(folder, tiny_checkpoint, tmp_path, monkeypatch):
    held_out = HeldOut.crops(8, metric="psnr", environment={"images": folder, "generator": tiny_checkpoint})

    class Opposite:
        def predict(self, observation, info=None):
            return -info["true_action"], None

    scored = held_out.score(Opposite())
    scored.reward[:] = [3.0, 7.0, np.nan, 2.0, -6.0, -1.0, 5.0, 4.0]
    drawn = []
    monkeypatch.setattr("experiments.extremes.gallery", lambda path, rows, title: drawn.extend(rows))
    extremes(tmp_path / "e.png", held_out, scored, "")
    assert [row["HR"][1] for row in drawn] == [f"reward {r:+.2f}" for r in (7, 5, 4, 2, -1, -6)]
    lowest = []
    for row, shown in zip((1, 6, 7, 3, 5, 4), drawn, strict=True):
        one = held_out.core.pictures(held_out.scene(row), torch.from_numpy(scored.action[row : row + 1]))
        for title, name in (("LR", "lr"), ("SR", "sr"), ("SR, true kernel", "true"), ("HR", "hr")):
            np.testing.assert_array_equal(shown[title][0], one[name][0])
        assert [shown[title][1] for title in ("SR", "SR, true kernel")] == [
            captions(held_out, one[name][0]) for name in ("scores", "true_scores")
        ]
        kernels = {title: one[name][0].astype(float) for title, name in (("true", "kernel"), ("chosen", "chosen"))}
        low, high = min(0, kernels["chosen"].min()), max(kernel.max() for kernel in kernels.values())
        for title, kernel in kernels.items():  # on one scale of greys, which goes below 0 where a kernel does
            grey = (kernel - low) / (high - low) * 255
            assert np.abs(shown[f"{title} kernel"][0] - grey[..., None]).max() < 0.51
        lowest.append(low)
    assert min(lowest) < -1e-3
    drawn.clear()
    scored.reward[:5] = np.nan
    extremes(tmp_path / "e.png", held_out, scored, "")
    assert [row["HR"][1] for row in drawn] == [f"reward {r:+.2f}" for r in (5, 4, -1)], "not one without a score"
    scored.reward[:] = np.nan
    extremes(tmp_path / "e.png", held_out, scored, "")
    assert len(drawn) == 3


@pytest.mark.parametrize("algorithm", ["ddpg", "group-pg", "pathwise", "sb3-ppo"])
def test_training_goes_on_where_it_stopped(tmp_path, folder, other_folder, tiny_checkpoint, algorithm, capsys):
    settings = {
        "algorithm": algorithm,
        "num_envs": 4,
        "repeats": 2,
        "images": folder,
        "held_out": other_folder,
        "held_out_scenes": 2,
        "generator": tiny_checkpoint,
        "output": str(tmp_path / "run"),
        "device": "cpu",
    }
    if algorithm == "sb3-ppo":
        settings["agent"] = {"arguments": {"n_steps": 1, "batch_size": 4}}
    path = train_agent(TrainAgent(total_timesteps=4, **settings))
    assert agents.load(path).num_timesteps == 4
    first = json.loads((tmp_path / "run" / "results.json").read_text())["figures"]
    train_agent(TrainAgent(total_timesteps=12, **settings))
    assert agents.load(path).num_timesteps == 12
    figures = json.loads((tmp_path / "run" / "results.json").read_text())["figures"]
    assert figures["before"] == first["before"], "of the predictor, not of the agent that went on"
    with pytest.raises(ValueError, match="has learned from 12 renders already, and 8 are asked for"):
        train_agent(TrainAgent(total_timesteps=8, **settings))
    assert "total_timesteps: 12" in (tmp_path / "run" / "config.yaml").read_text()
    out = capsys.readouterr().out
    assert f"2 scenes of 2 photos: before {Interval(**figures['before']['reward'])}, after " in out
    assert f"grid, 1e-3 {Interval(**figures['gain']['grid']).times(1e3)}" in out and f"{tmp_path}/run/" in out


def test_an_agent_of_codes_may_go_on_to_learn_free_ones(tmp_path, folder, other_folder, tiny_checkpoint):
    settings = {"algorithm": "pathwise", "total_timesteps": 4, "num_envs": 4, "repeats": 1, "images": folder}
    settings |= {"held_out": other_folder, "held_out_scenes": 2, "generator": tiny_checkpoint, "device": "cpu"}
    first = train_agent(TrainAgent(**settings, output=str(tmp_path / "code")))
    train_agent(TrainAgent(**settings, output=str(tmp_path / "free"), action="free-code", actor=str(first)))
    ended, begun = (json.loads((tmp_path / run / "results.json").read_text())["figures"] for run in ("code", "free"))
    assert begun["before"]["reward"]["mean"] == pytest.approx(
        ended["reward"]["mean"], abs=0.05
    )  # it began where that one ended


@pytest.mark.parametrize("metric", [{"psnr": 1.0}, "1*psnr"])
def test_a_mixture_of_one_is_no_second_metric(tmp_path, folder, other_folder, tiny_checkpoint, metric):
    settings = {"algorithm": "group-pg", "total_timesteps": 4, "num_envs": 4, "repeats": 2, "images": folder}
    settings |= {"held_out": other_folder, "held_out_scenes": 2, "generator": tiny_checkpoint, "device": "cpu"}
    train_agent(TrainAgent(**settings, metric=metric, output=str(tmp_path)))
    assert set(json.loads((tmp_path / "results.json").read_text())["figures"]["gain"]) == {"grid"}


def test_what_could_not_be_scored_is_not_trained(tmp_path, folder, photo, tiny_checkpoint):
    images.write(tmp_path / "small" / "s.png", photo(40, 40, 0))
    settings = {"num_envs": 4, "repeats": 2, "images": folder, "generator": tiny_checkpoint, "device": "cpu"}
    with pytest.raises(images.ImageError, match="no photo is large enough"):
        train_agent(TrainAgent(**settings, held_out=str(tmp_path / "small"), output=str(tmp_path / "run")))
    assert not (tmp_path / "run").exists()


def test_training_does_not_go_on_with_another_generator(tmp_path, folder, tiny_checkpoint, louder):
    """The same name, other weights: what was learned would no longer be what the pictures are worth."""
    own = tmp_path / "g.safetensors"
    shutil.copy(tiny_checkpoint, own)
    few = {"num_envs": 2, "repeats": 2, "held_out_scenes": 1, "images": folder, "generator": str(own), "device": "cpu"}
    train_agent(TrainAgent(total_timesteps=2, output=str(tmp_path / "run"), **few))
    moved = shutil.copy(own, tmp_path / "moved.safetensors")
    shutil.copy(louder, own)
    with pytest.raises(
        ValueError, match="began to learn on tiny, and .*g.safetensors is not, or no longer, that network"
    ):
        train_agent(TrainAgent(total_timesteps=4, output=str(tmp_path / "run"), **few))
    train_agent(TrainAgent(total_timesteps=4, output=str(tmp_path / "run"), **few | {"generator": str(moved)}))


def test_an_untrained_actor_has_no_before(tmp_path, folder, tiny_checkpoint, capsys):
    few = {"actor": "untrained:predictor_s", "total_timesteps": 4, "num_envs": 2, "repeats": 2, "held_out_scenes": 1}
    train_agent(TrainAgent(images=folder, generator=tiny_checkpoint, output=str(tmp_path), device="cpu", **few))
    assert json.loads((tmp_path / "results.json").read_text())["figures"]["before"] is None
    assert "held-out reward, niqe gained over the true code" in (out := capsys.readouterr().out)
    assert "1 scenes of 1 photos: after " in out


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (Quickstart, {"algorithm": "pathwize"}, "unknown algorithm 'pathwize': did you mean 'pathwise'\\?$"),
        (TrainAgent, {"algorithm": "grup-pg"}, "unknown algorithm 'grup-pg': did you mean 'group-pg'"),
        (TrainAgent, {"agent": {"actr_lr": 1}}, "actor_lr.*; `agent` holds group-pg's settings, another algorithm"),
        (TrainAgent, {"dtype": "float33"}, "unknown dtype 'float33': did you mean 'float32'"),
        (TrainAgent, {"action": "kode"}, "unknown action space 'kode': did you mean 'code'"),
        (TrainAgent, {"checkpoint_seconds": float("nan")}, "checkpoint_seconds must be at least 0, got nan"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_loaded(kind, settings, message):
    with pytest.raises(ValueError, match=message):
        kind(**settings)


@pytest.mark.parametrize("kind", [Bench, Evaluate, Hack, Quickstart, Search, TrainAgent])
@pytest.mark.parametrize("seed", [-1, 2**64])
def test_seeds_that_random_numbers_cannot_take_are_refused(kind, seed):
    with pytest.raises(ValueError, match=rf"^seed must be at least 0 and below 2\*\*32, got {seed}$"):
        kind(seed=seed)


def test_results_tell_of_the_photos_that_were_learned_from(tmp_path, folder, tiny_checkpoint, monkeypatch):
    def learn_and_change(settings, run):
        agent = learn(settings, run)
        shutil.copy(Path(folder, "p0.png"), Path(folder, "p2.png"))
        return agent

    before = digests.of_photos(folder)
    monkeypatch.setattr("experiments.train_agent.learn", learn_and_change)
    few = {"metric": "psnr", "total_timesteps": 2, "num_envs": 2, "repeats": 2, "held_out_scenes": 1, "device": "cpu"}
    train_agent(TrainAgent(images=folder, generator=tiny_checkpoint, output=str(tmp_path / "run"), **few))
    identity = json.loads((tmp_path / "run" / "results.json").read_text())["identity"]
    assert identity["images"] == before != digests.of_photos(folder)


def test_a_run_under_other_settings_is_not_continued(tmp_path, folder, tiny_checkpoint, monkeypatch):
    settings = {"images": folder, "held_out_scenes": 1, "generator": tiny_checkpoint, "output": str(tmp_path / "run")}
    few = {"num_envs": 2, "repeats": 2, "total_timesteps": 2}
    train_agent(TrainAgent(metric="psnr", **settings, **few))
    monkeypatch.setattr(images, "load", lambda *_: pytest.fail("photos were decoded"))
    with pytest.raises(ValueError, match="begun with metric='psnr', not 'ssim'"):
        train_agent(TrainAgent(metric="ssim", **settings, **few))


def test_photos_are_not_learned_and_held_out_at_once(tmp_path, folder, tiny_checkpoint):
    with pytest.raises(ValueError, match="the held-out photo p0 is the training photo p0"):
        quickstart(Quickstart(images=folder, held_out=folder, output=str(tmp_path / "o"), generator=tiny_checkpoint))


@pytest.mark.parametrize(("seconds", "written"), [(600, [20, 62]), (-1, [20, 40, 60, 62, 62])])
def test_a_replay_is_saved_seldom_and_at_a_stop(tmp_path, folder, tiny_checkpoint, monkeypatch, seconds, written):
    path, saved = tmp_path / "agent.safetensors", []

    class Stopping:
        def add_scalar(self, name, value, step):
            if step == 60 and name == "train/reward":
                os.kill(os.getpid(), signal.SIGTERM)

        def close(self):
            pass

    save_replay = agent_file.save_replay
    monkeypatch.setattr(
        agent_file, "save_replay", lambda agent, path: (saved.append(agent.num_timesteps), save_replay(agent, path))
    )
    monkeypatch.setattr("experiments.train_agent.REPLAY_SECONDS", seconds)
    few = {"batch_size": 4, "critic_updates": 1, "actor_updates": 1}
    settings = TrainAgent(
        **dict(algorithm="ddpg", agent=few, num_envs=2, repeats=1, total_timesteps=80, held_out_scenes=1, device="cpu"),
        **dict(images=folder, generator=tiny_checkpoint, output=str(tmp_path), metric="psnr", checkpoint_seconds=0.0),
    )
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "log", lambda self, done: Stopping())
        train_agent(settings)
    assert saved == written and agents.load(path).num_timesteps == 62
    env = BlindSRVectorEnv(2, metric="psnr", images=folder, generator=tiny_checkpoint, patch_size=settings.patch_size)
    assert len(agents.DDPG.load(path, env).replay) == 62
    train_agent(settings)
    assert agents.load(path).num_timesteps == 80
    assert sorted(each.name for each in tmp_path.glob("*.safetensors")) == ["agent.safetensors"]


@pytest.mark.parametrize(
    ("metric", "told"),
    [("lpips@/a/w", "lpips"), ({"niqe": 1, "lpips@/a/w": 0.1}, {"niqe": 1, "lpips": 0.1}), ("niqe+0.1*psnr",) * 2],
)
def test_an_agents_file_tells_of_no_folder(tmp_path, metric, told):
    agent = agents.GroupPG(BlindSRVectorEnv(2, metric="psnr", repeats=2, generator="amnet_s", patch_size=24))
    keeper = _Keeper(tmp_path / "agent.safetensors", None, TrainAgent(metric=metric, actor="/a/start.safetensors"))
    keeper.save(agent, with_replay=False)
    training = checkpoint.read(keeper.path)[1]["training"]
    assert training["metric"] == told and "/a/" not in json.dumps(training)


def test_ctrl_c_leaves_an_agent_that_learns_on(tmp_path, folder, tiny_checkpoint):
    output = tmp_path / "run"
    arguments = ["--images", folder, "--generator", tiny_checkpoint, "--output", str(output), "--device", "cpu"]
    command = [sys.executable, "-m", "experiments.cli", "train-agent", *arguments, "--total_timesteps", "1000000"]
    pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, env={**os.environ, "TQDM_MININTERVAL": "0.1"}, **pipes) as process:
        assert process.stderr is not None
        while "renders/s, reward" not in (line := process.stderr.readline(400)):
            assert line or process.poll() is None
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 130 and "the same command goes on" in out
    learned = agents.load(output / "agent.safetensors").num_timesteps
    assert 0 < learned < 1_000_000


def test_names_of_photos_are_no_formulas(tmp_path):
    picture = np.zeros((8, 8, 3), np.uint8)
    title = "from $5_to_$6.png"
    gallery(tmp_path / "gallery.png", [{title: (picture, title)}], title)
    panels, kernels = {title: (picture, title), "HR": (picture, "")}, {title: np.ones((21, 21), np.float32)}
    comparison(tmp_path / "comparison.png", panels, kernels, title)
    assert all(images.read(path).std() > 1 for path in tmp_path.iterdir()) and len(list(tmp_path.iterdir())) == 2
