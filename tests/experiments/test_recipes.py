"""Agents of several seeds, scored as recipes."""

import signal
from dataclasses import asdict

import numpy as np
import pytest

from agents.ddpg import DDPG
from blindsr_env import images
from experiments import recipes
from experiments.evaluate import Evaluate, evaluate
from experiments.intervals import seeds_and_photos
from experiments.train_agent import TrainAgent, train_agent
from generators import checkpoint


@pytest.fixture
def photo_folders(tmp_path, photo):
    for folder, first in (("training", 0), ("held-out", 10)):
        for seed in range(2):
            images.write(tmp_path / folder / f"p{first + seed}.png", photo(101, 130, first + seed))
    return str(tmp_path / "training"), str(tmp_path / "held-out")


@pytest.fixture
def runs(tmp_path, photo_folders, tiny_checkpoint):
    """Four runs of two recipes, on other photos than those that are scored."""
    training, held_out = photo_folders
    for recipe, algorithm in (("one", "group-pg"), ("two", "pathwise")):
        for seed in range(2):
            train_agent(
                TrainAgent(
                    algorithm=algorithm,
                    agent={"actor_lr": 1e-2},
                    metric="psnr",
                    num_envs=4,
                    repeats=2,
                    patch_size=24,
                    total_timesteps=80,
                    images=training,
                    held_out=held_out,
                    held_out_scenes=2,
                    generator=tiny_checkpoint,
                    output=str(tmp_path / f"{recipe}_{seed}"),
                    seed=seed,
                )
            )
    return tmp_path


def test_recipes_are_scored_over_seeds(runs, photo_folders, tiny_checkpoint, capsys):
    _, held_out = photo_folders
    one = [str(runs / f"one_{seed}") for seed in range(2)]
    figures = evaluate(
        Evaluate(
            policies=("true-code",),
            recipes={"one": one, "two": str(runs / "two_*")},
            images=held_out,
            widths=(0.7, 2.0),
            metrics=("psnr", "grid"),
            generator=tiny_checkpoint,
            output=str(runs / "results.json"),
            device="cpu",
        )
    )
    assert set(figures["policies"]) == {"true-code", "one/0", "one/1", "two/0", "two/1"}
    # Each label is its file's agent.
    alone = evaluate(
        Evaluate(
            policies=(str(runs / "two_1" / "agent.safetensors"),),
            images=held_out,
            widths=(0.7, 2.0),
            metrics=("psnr", "grid"),
            generator=tiny_checkpoint,
            output=None,
            device="cpu",
        )
    )
    scores = {name: np.array(of["psnr"]["scores"]) for name, of in figures["policies"].items()}
    (agent,) = set(alone["policies"]) - {"true-code"}
    np.testing.assert_allclose(scores["two/1"], alone["policies"][agent]["psnr"]["scores"], atol=1e-4)

    gain = {name: own - scores["true-code"] for name, own in scores.items()}
    one, two = (np.stack([gain[f"{name}/{seed}"].mean(1) for seed in range(2)]) for name in ("one", "two"))
    entry = figures["recipes"]["two"]["metrics"]["psnr"]
    assert entry["gain"] == asdict(seeds_and_photos(two)) and entry["gain"]["mean"] == pytest.approx(two.mean())
    assert entry["over"]["one"]["mean"] == pytest.approx(two.mean() - one.mean())
    assert figures["recipes"]["one"]["metrics"]["psnr"]["over"] == {}
    assert entry["gain_by_seed"] == pytest.approx(two.mean(1))
    assert entry["gain_by_width"][1]["mean"] == pytest.approx(np.mean([gain[f"two/{seed}"][:, 1] for seed in range(2)]))
    curve = figures["recipes"]["two"]["curves"]["reward"]
    assert len(curve["by_seed"]) == 2 and len(curve["renders"]) == recipes.POINTS
    assert "sign_agreement" not in figures["recipes"]["two"]["curves"]  # it has no critic
    assert "2 seeds  |  " in capsys.readouterr().out


def test_curves_are_means_over_stretches(tmp_path):
    from torch.utils.tensorboard import SummaryWriter

    for seed in range(2):
        log = SummaryWriter(str(tmp_path / str(seed) / "tensorboard"))
        for step in range(1, 101):
            log.add_scalar("train/reward", step + 10 * seed, 16 * step)
        log.close()
        checkpoint.save(
            tmp_path / str(seed) / "agent.safetensors", {}, {"kind": "agent", "training": {"metric": "niqe"}}
        )
    found = recipes.curves([str(tmp_path / str(seed) / "agent.safetensors") for seed in range(2)])["reward"]
    assert found["renders"][0] == pytest.approx(16) and found["renders"][-1] == pytest.approx(1584)
    assert (found["metric"], found["generator"]) == ("niqe", None)
    np.testing.assert_allclose(found["by_seed"][0], np.arange(1, 100, 2) + 0.5, atol=1e-5)
    np.testing.assert_allclose(np.subtract(*found["by_seed"]), -10, atol=1e-5)
    assert recipes.curves([str(tmp_path / "elsewhere" / "agent.safetensors")]) == {}


def test_patterns_match_runs_and_files(tmp_path, monkeypatch):
    for name in ("run_1/agent.safetensors", "run_0/agent.safetensors", "run_2.safetensors", "run_0.log"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.setattr(recipes, "_check_alike", lambda found: None)
    found = [str(tmp_path / f"run_{end}") for end in ("0/agent.safetensors", "1/agent.safetensors", "2.safetensors")]
    assert recipes.files(str(tmp_path / "run_*")) == found
    assert recipes.files([str(tmp_path / "run_1"), found[2]]) == found[1:]


def test_a_folder_with_brackets_in_its_name_is_no_pattern(tmp_path, monkeypatch):
    for name in ("run[1]", "run1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "agent.safetensors").touch()
    monkeypatch.setattr(recipes, "_check_alike", lambda found: None)
    assert recipes.files(str(tmp_path / "run[1]")) == [str(tmp_path / "run[1]" / "agent.safetensors")]
    assert recipes.files(str(tmp_path / "run[12]")) == [str(tmp_path / "run1" / "agent.safetensors")]


def test_no_agents_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for recipe in (".", "", "/"):
        with pytest.raises(ValueError, match="no agent at"):
            recipes.files(recipe)
    for recipe in (str(tmp_path / "none_*"), []):
        with pytest.raises(ValueError, match="nothing at"):
            recipes.files(recipe)
    with pytest.raises(ValueError, match="no agent at .*train it to its end"):
        recipes.files([str(tmp_path)])


def test_what_is_no_recipe_is_refused(runs, tmp_path):
    one, other = str(runs / "one_0"), str(runs / "one_1")
    with pytest.raises(ValueError, match="the same seed"):
        recipes.files([one, other, one])
    with pytest.raises(ValueError, match="differ in algorithm, pathwise and group-pg"):
        recipes.files([one, str(runs / "two_1")])
    tensors, metadata = checkpoint.read(runs / "one_1" / "agent.safetensors")
    for changes, message in (
        ({"num_timesteps": 40}, "stopped at 40 renders"),
        ({"training": {**metadata["training"], "metric": "niqe"}}, r"differ in metric, niqe and psnr"),
        ({"training": {**metadata["training"], "photos": "others"}}, "differ in photos, others and training"),
        ({"training": {**metadata["training"], "num_envs": 8}}, "differ in num_envs, 8 and 4"),
        ({"observation": [36, 36, 3]}, r"differ in patch, \[36, 36, 3\] and \[24, 24, 3\]"),
        ({"total_timesteps": 60, "num_timesteps": 60, "schedule": [60]}, "differ in renders, 60 and 80"),
        ({"schedule": [40, 80]}, "differ in renders, 40, then 80 and 80"),
        ({"kind": "predictor"}, "holds a predictor"),
    ):
        checkpoint.save(tmp_path / "odd.safetensors", tensors, {**metadata, **changes})
        with pytest.raises(ValueError, match=message):
            recipes.files([one, str(tmp_path / "odd.safetensors")])
        if "num_timesteps" in changes and "total_timesteps" not in changes:
            with pytest.raises(ValueError, match=message):  # alone, too
                recipes.files([str(tmp_path / "odd.safetensors")])
    for name, folder in (("here", "/a/w"), ("there", "/b/w")):  # older versions also say where weights lay
        trained = {**metadata["training"], "metric": f"lpips@{folder}"}
        changed = {**metadata, "training": trained, "seed": {"here": 7, "there": 8}[name]}
        checkpoint.save(tmp_path / f"{name}.safetensors", tensors, changed)
    assert len(recipes.files([str(tmp_path / "here.safetensors"), str(tmp_path / "there.safetensors")])) == 2
    # Files of older versions do not say of all this.
    config = {name: value for name, value in metadata["config"].items() if name != "constant"}
    old = {**metadata, "training": {"metric": "psnr"}, "config": config}
    del old["schedule"], old["earlier_timesteps"]
    checkpoint.save(tmp_path / "old.safetensors", tensors, old)
    assert len(recipes.files([one, str(tmp_path / "old.safetensors")])) == 2


@pytest.mark.parametrize(("stops_at", "goes_on"), [(48, True), (80, False)])
def test_an_interruption_at_the_very_end_leaves_nothing_to_learn(
    stops_at, goes_on, tmp_path, photo_folders, tiny_checkpoint, capsys, monkeypatch
):
    settings = TrainAgent(
        algorithm="ddpg",
        agent={"batch_size": 16},
        metric="psnr",
        num_envs=16,
        repeats=1,
        patch_size=24,
        total_timesteps=80,
        images=photo_folders[0],
        held_out=photo_folders[1],
        held_out_scenes=2,
        generator=tiny_checkpoint,
        output=str(tmp_path / "run"),
    )
    iterate = DDPG.iterate

    def interrupt(agent, observation):
        if agent.num_timesteps == stops_at - 16:
            signal.raise_signal(signal.SIGINT)
        return iterate(agent, observation)

    monkeypatch.setattr(DDPG, "iterate", interrupt)
    agent = train_agent(settings)
    said, replay = capsys.readouterr().out, tmp_path / "run" / "agent.replay.safetensors"
    assert f"stopped after {stops_at} renders: the same command {'goes on from' if goes_on else 'scores'}" in said
    assert replay.exists() == goes_on
    monkeypatch.setattr(DDPG, "iterate", iterate)
    train_agent(settings)
    said = capsys.readouterr().out
    assert ("nothing left to learn" in said) != goes_on and "held-out reward" in said
    assert not replay.exists() and checkpoint.read(agent)[1]["num_timesteps"] == 80


def test_broken_pictures_are_counted_and_left_out():
    def scores(*rows):
        return {"niqe": {"scores": [list(row) for row in rows]}}

    nan = float("nan")
    entries = {"true-code": scores((5, 5), (5, 5), (5, nan)), "a/0": scores((4, 4), (nan, 3), (2, 1))}
    entries["a/1"] = scores((4, 4), (nan, nan), (2, 2))
    entry = recipes.summary({"a": ["a/0", "a/1"]}, entries, {"niqe": -1.0})["a"]["metrics"]["niqe"]
    assert (entry["broken"], entry["photos"]) == (3, 2)
    assert entry["gain"]["mean"] == pytest.approx((1 + 3) / 2) and entry["gain_by_seed"] == pytest.approx([2, 2])


def test_what_one_recipe_broke_does_not_count_for_the_other():
    """Paired by picture: means over a photo's other widths are not comparable."""
    nan = float("nan")
    all_of_it, part = [[1.0, 1.0, -5.0], [2.0, 0.0, -4.0]], [[1.0, 1.0, nan], [2.0, 0.0, nan]]
    scores = {"true-code": [[0.0] * 3] * 2, "a/0": all_of_it, "a/1": part, "b/0": part}
    entries = {name: {"psnr": {"scores": each}} for name, each in scores.items()}
    found = recipes.summary({"a": ["a/0", "a/1"], "b": ["b/0"]}, entries, {"psnr": 1.0})
    over = found["b"]["metrics"]["psnr"]["over"]["a"]
    assert (over["mean"], over["low"], over["high"]) == pytest.approx((0, 0, 0))
    assert found["a"]["metrics"]["psnr"]["gain_by_seed"] == pytest.approx([1, 1])


def test_what_no_photo_has_a_score_of_is_nan_and_the_rest_is_kept():
    def scores(*rows):
        return {"niqe": {"scores": [list(row) for row in rows]}, "grid": {"scores": [[nan, nan] for _ in rows]}}

    nan = float("nan")
    entries = {
        "true-code": scores((5, 5), (5, 5)),
        "a/0": scores((4, nan), (2, nan)),
        "b/0": scores((nan, 3), (nan, 3)),
    }
    found = recipes.summary({"a": ["a/0"], "b": ["b/0"]}, entries, {"niqe": -1.0, "grid": -1.0})
    entry = found["a"]["metrics"]["niqe"]
    assert entry["gain"]["mean"] == pytest.approx(2)
    assert [(width["count"], np.isnan(width["mean"])) for width in entry["gain_by_width"]] == [(1, False), (0, True)]
    nothing = found["b"]["metrics"]["grid"]
    for interval in (nothing["gain"], nothing["over"]["a"], *nothing["gain_by_width"]):
        assert interval["count"] == 0 and np.isnan([interval[end] for end in ("mean", "low", "high")]).all()
    assert nothing["photos"] == 0 and np.isnan(nothing["gain_by_seed"]).all()
    assert found["b"]["metrics"]["niqe"]["over"]["a"]["count"] == 0, "no picture has scores of both"
    assert "nan [?]  0 seeds" in recipes.table(found)
