"""Several seeds of an algorithm, trained and scored in one go."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

import generators
from agents.checkpoints import shipped_predictor_file
from blindsr_env import images, metrics
from experiments import benchmark as module
from experiments import cli, recipes
from experiments.benchmark import Benchmark, benchmark
from experiments.evaluate import Evaluate, evaluate
from experiments.train_agent import TrainAgent, train_agent
from generators import checkpoint


@pytest.fixture
def settings(tmp_path, photo, tiny_checkpoint):
    """Makes settings of a small benchmark, its photos written."""
    for folder, first in (("training", 0), ("test", 10)):
        for seed in range(2):
            images.write(tmp_path / folder / f"p{first + seed}.png", photo(101, 130, first + seed))

    def make(**changes):
        base = dict(algorithm="group-pg", agent={"actor_lr": 1e-2}, metric="psnr", num_envs=4, repeats=2, patch_size=24)
        base |= dict(total_timesteps=40, images=str(tmp_path / "training"), test=str(tmp_path / "test"))
        base |= dict(held_out=str(tmp_path / "test"), held_out_scenes=2, generator=tiny_checkpoint, device="cpu")
        base |= dict(metrics=("psnr", "grid"), widths=(0.7, 2.0), seeds=2, seed=3, output=str(tmp_path / "runs"))
        return Benchmark(**base | changes)

    return make


def test_it_is_the_trainings_and_their_evaluation(settings, tmp_path, capsys):
    figures = benchmark(settings())
    assert "group-pg, psnr" in capsys.readouterr().out
    runs = [tmp_path / "runs" / f"seed_{seed}" for seed in (3, 4)]
    assert [json.loads((run / "results.json").read_text())["seed"] for run in runs] == [3, 4]
    by_hand = evaluate(
        Evaluate(
            policies=("predictor",),
            recipes={"group-pg, psnr": [str(run) for run in runs]},
            images=str(tmp_path / "test"),
            widths=(0.7, 2.0),
            metrics=("psnr", "grid"),
            generator=settings().generator,
            output=None,
            device="cpu",
            seed=3,
        )
    )
    assert figures["recipes"] == by_hand["recipes"] and figures["policies"] == by_hand["policies"]
    assert json.loads((tmp_path / "runs" / "benchmark.json").read_text())["figures"]["recipes"] == figures["recipes"]
    assert figures["recipes"]["group-pg, psnr"]["metrics"]["psnr"]["gain"]["count"] == 2


def test_side_by_side_is_one_after_another(settings, tmp_path):
    """The same agents, to the bit: each has one thread either way."""
    runs = [settings().run(seed) for seed in (3, 4)]
    one_by_one = benchmark(settings())
    before = [load_file(Path(run.output) / "agent.safetensors") for run in runs]
    for run in runs:
        shutil.rmtree(run.output)
    figures = benchmark(settings(jobs=2))
    assert figures["recipes"]["group-pg, psnr"]["metrics"] == one_by_one["recipes"]["group-pg, psnr"]["metrics"]
    for run, agent in zip(runs, before, strict=True):
        after = load_file(Path(run.output) / "agent.safetensors")
        assert after.keys() == agent.keys() and all(torch.equal(after[key], agent[key]) for key in agent)
    assert "held-out reward" in (tmp_path / "runs" / "seed_4" / "train.log").read_text()


def test_what_is_trained_is_not_trained_again(settings, tmp_path, capsys, monkeypatch):
    train_agent(settings().run(3))
    before = (tmp_path / "runs" / "seed_3" / "agent.safetensors").read_bytes()
    trained = []
    monkeypatch.setattr(module, "train_agent", lambda run: trained.append(run.seed) or train_agent(run))
    benchmark(settings())
    assert trained == [4] and "seed_3 is trained already" in capsys.readouterr().out
    assert (tmp_path / "runs" / "seed_3" / "agent.safetensors").read_bytes() == before
    with pytest.raises(ValueError, match="was begun with patch_size=24, not 20"):
        benchmark(settings(patch_size=20))


def test_it_stops_and_goes_on(settings, tmp_path, monkeypatch):
    def stopped(run):  # a training that Ctrl-C ended leaves its agent, and no results
        path = train_agent(run)
        (path.parent / "results.json").unlink()
        return path

    with monkeypatch.context() as context:
        context.setattr(module, "train_agent", stopped)
        assert benchmark(settings()) is None
    assert not (tmp_path / "runs" / "seed_4").exists() and not (tmp_path / "runs" / "benchmark.json").exists()
    assert benchmark(settings())["recipes"]


def test_it_compares_with_what_was_trained_before(settings, tmp_path):
    benchmark(settings())
    beside = {"first": str(tmp_path / "runs" / "seed_*")}
    figures = benchmark(settings(output=str(tmp_path / "more"), agent={"actor_lr": 1e-3}, beside=beside, name="slow"))
    assert list(figures["recipes"]) == ["first", "slow"]
    assert set(figures["recipes"]["slow"]["metrics"]["psnr"]["over"]) == {"first"}
    with pytest.raises(ValueError, match="'first' is already a name in beside: give another name"):
        settings(beside=beside, name="first")


def test_what_cannot_be_compared_is_refused_before_any_training(settings, tmp_path):
    with pytest.raises(ValueError, match="the held-out photo p0 is the training photo p0"):
        benchmark(settings(test={"Mine": str(tmp_path / "training")}))
    with pytest.raises(ValueError, match="seeds must be at least 1"):
        settings(seeds=0)
    assert not (tmp_path / "runs").exists()
    assert settings(metric={"niqe": 1, "psnr": 0.1}).title == "group-pg, niqe+0.1*psnr"
    with pytest.raises(ValueError, match="nothing at .*nowhere"):
        benchmark(settings(beside={"other": str(tmp_path / "nowhere_*")}))
    with pytest.raises(ValueError, match="unknown metric 'nique'"):
        benchmark(settings(metrics=("nique",)))
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("action", "policies"), [("code", ("predictor",)), ("width", ("true-code",))])
def test_agents_are_scored_as_the_settings_say(settings, tmp_path, action, policies):
    made = settings(action=action, seed=7, beside={"old": "runs/old"}, test={"Mine": str(tmp_path / "test")})
    expected = Evaluate(
        policies=policies,
        images={"Mine": str(tmp_path / "test")},
        widths=(0.7, 2.0),
        metrics=("psnr", "grid"),
        generator=made.generator,
        action=action,
        recipes={"old": "runs/old", "group-pg, psnr": ["a", "b"]},
        output=str(tmp_path / "runs" / "benchmark.json"),
        device="cpu",
        seed=7,
    )
    assert made.evaluation(["a", "b"]) == expected
    assert list(made.evaluation([]).recipes) == ["old", "group-pg, psnr"], "the last is compared with those before it"


def test_an_agent_learns_in_the_environment_of_its_settings(settings, tmp_path, monkeypatch):
    from experiments import train_agent as module

    made = settings(algorithm="pathwise", agent={}, action="width", dtype="bfloat16", compile=True).run(3)
    monkeypatch.setattr(module.gymnasium, "make_vec", lambda name, **given: (name, given))
    shared = {"generator": made.generator, "action": "width", "patch_size": 24, "device": "cpu"}
    assert module._environment(made) == (
        "BlindSR-v0",
        {
            **{"num_envs": 4, "repeats": 2, "metric": "psnr", "images": str(tmp_path / "training"), "split": "train"},
            **{"output": "torch", "gradient": True, "dtype": "bfloat16", "cuda_graphs": False, "compile": True},
            **shared,
        },
    )
    monkeypatch.setattr(module.HeldOut, "crops", lambda *given, **named: (given, named))
    found = replace(made, metric="niqe+0.1*ssim", held_out=None).held_out_set()
    told = {"metric": "niqe+0.1*ssim", "report": ("niqe", "ssim", "psnr", "grid")}
    assert found == ((2,), {**told, "environment": {"images": None, "split": "test", **shared}})


def test_what_it_scores_beside_the_agents(settings, twice, tmp_path):
    assert settings(action="width").evaluation([]).policies == ("true-code",)
    assert settings(generator=twice).evaluation([]).policies == ("predictor",)
    generators.save(tmp_path / "x3.safetensors", generators.build("amnet_s", scale=3), {})
    thrice = settings(generator=str(tmp_path / "x3.safetensors"))
    assert thrice.evaluation([]).policies == ("true-code",), "no predictor is for scale 3"
    assert settings(actor="untrained:predictor_s").evaluation([]).policies == ("true-code",)
    named = settings(actor="amgan_rl_s").evaluation([])
    assert (named.policies, named.predictor) == (("predictor",), "amgan_rl_s")
    mine = shutil.copy(shipped_predictor_file(), tmp_path / "mine.safetensors")
    own = settings(actor=str(mine)).evaluation([])
    assert (own.policies, own.predictor) == (("predictor",), str(mine))
    assert settings(metrics=None, metric="ssim").evaluation([]).metrics == ("ssim", "niqe", "psnr", "grid")
    assert settings(metrics=None, metric="niqe+0.1*psnr").evaluation([]).metrics == ("niqe", "psnr", "grid")


@pytest.mark.parametrize(
    "metric", ["lpips@weights", "0.5*lpips@weights", {"lpips@weights": 1.0}, "pyiqa:musiq@weights", "2*grid"]
)
def test_what_the_reward_is_made_of_is_scored(settings, metric, monkeypatch):
    def made(name):
        return SimpleNamespace(name=name, lower_is_better=True, needs_reference=False, min_size=1)

    monkeypatch.setattr(metrics, "Lpips", lambda folder: made("lpips"))
    monkeypatch.setattr(metrics, "Iqa", lambda name, weights: made(f"pyiqa:{name}"))
    scored = settings(metrics=None, metric=metric).evaluation([]).metrics
    written = metric if isinstance(metric, str) else next(iter(metric))
    assert scored == tuple(dict.fromkeys((written.rpartition("*")[2], "niqe", "psnr", "grid")))
    assert metrics.get(scored[0]).name == scored[0].partition("@")[0]


def test_the_command_and_its_seeds_keep_their_names(settings, tmp_path, monkeypatch, capsys):
    """Agents are called by their seeds, whatever the order of the files, so that tables know them again."""
    monkeypatch.chdir(tmp_path)
    benchmark(settings(seed=9, output="first", name="first"))
    made = settings(seed=10, output="second")
    options = {field: getattr(made, field) for field in ("algorithm", "num_envs", "repeats", "patch_size", "seeds")}
    options |= {field: getattr(made, field) for field in ("total_timesteps", "images", "test", "held_out", "seed")}
    options |= {field: getattr(made, field) for field in ("held_out_scenes", "generator", "device", "metric", "output")}
    arguments = [part for key, value in options.items() for part in (f"--{key}", str(value))]
    arguments += ["--agent", "{actor_lr: 0.01}", "--widths", "[0.7, 2.0]", "--metrics", "[psnr, grid]"]
    assert cli.main(["benchmark", *arguments, "--beside", "{first: 'first/seed_*'}"]) == 0
    policies = json.loads((tmp_path / "second" / "benchmark.json").read_text())["figures"]["policies"]
    assert set(policies) == {
        "true-code",
        "predictor",
        "first/9",
        "first/10",
        *(f"group-pg, psnr/{s}" for s in (10, 11)),
    }
    assert cli.main(["tables", "--results", "[first, second]", "--output", "tables"]) == 0  # they agree
    assert "first" in capsys.readouterr().out


@pytest.mark.parametrize("changes", [{"cuda_graphs": True}, {"dtype": "float16"}])
def test_a_gpus_settings_are_refused_on_a_cpu_before_anything_is_written(settings, tmp_path, changes):
    one = TrainAgent(output=str(tmp_path / "one"), device="cpu", **changes)
    for refused in (lambda: train_agent(one), lambda: benchmark(settings(output=str(tmp_path / "all"), **changes))):
        with pytest.raises(ValueError, match="for a GPU, and device is cpu: take another config"):
            refused()
    assert not (tmp_path / "one").exists() and not (tmp_path / "all").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"widths": (1.0, 5.0)}, "width must lie in 0.2 to 4"),
        ({"metrics": ("psnr", "niqe"), "test": "small"}, "is 88x80, the metrics need 96"),
        ({"metrics": ("psnr", "psnr")}, "named twice"),
        ({"metrics": ("psnr", "niqo")}, "did you mean 'niqe'"),
    ],
)
def test_what_the_evaluation_would_refuse_is_refused_first(settings, tmp_path, photo, changes, message):
    images.write(tmp_path / "small" / "p9.png", photo(80, 88, 9))
    if "test" in changes:
        changes = {**changes, "test": str(tmp_path / "small")}
    with pytest.raises(ValueError, match=message):
        benchmark(settings(**changes))
    assert not (tmp_path / "runs").exists()


def test_agents_that_learned_from_other_photos_are_not_taken_for_these(settings, tmp_path, photo):
    train_agent(settings().run(3))
    images.write(tmp_path / "training" / "p7.png", photo(101, 130, 7))
    with pytest.raises(ValueError, match="seed_3 learned on other photos or weights than are there now"):
        benchmark(settings())


def test_a_budget_that_would_mix_schedules_is_refused_before_training(settings, tmp_path):
    """Agents that went on have had another learning rate than one that learns as much at once."""
    benchmark(settings(total_timesteps=8))
    with pytest.raises(ValueError, match=r"seed_3 would have .* 8, then 16 renders, .*seed_5 from 16, by other sche"):
        benchmark(settings(total_timesteps=16, seeds=3))
    assert not (tmp_path / "runs" / "seed_5" / "agent.safetensors").exists()
    whole = benchmark(settings(total_timesteps=16))
    assert whole["recipes"]["group-pg, psnr"]["metrics"]["psnr"]["gain"]["count"] == 2
    train_agent(settings(total_timesteps=16).run(5))
    with pytest.raises(ValueError, match="differ in renders, 16 and 8, then 16: give agents that differ in their"):
        recipes.files(str(tmp_path / "runs" / "seed_*"))


def test_agents_that_began_elsewhere_are_not_taken_for_these(settings, tmp_path, predictors):
    start = shutil.copy(predictors[0], tmp_path / "start.safetensors")
    benchmark(settings(total_timesteps=8, seeds=1, actor=str(start)))
    shutil.copy(predictors[1], start)
    with pytest.raises(ValueError, match="learned on other photos or weights than are there now"):
        benchmark(settings(total_timesteps=8, seeds=1, actor=str(start)))
    results = tmp_path / "runs" / "seed_3" / "results.json"
    older = json.loads(results.read_text())
    del older["identity"]["actor"]
    results.write_text(json.dumps(older))
    benchmark(settings(total_timesteps=8, seeds=1, actor=str(start)))  # what it does not tell is passed over


@pytest.fixture
def predictors(tmp_path, tiny_checkpoint):
    """Two predictors of the same shape with other weights."""
    found = []
    for seed in range(2):
        tensors, metadata = checkpoint.read(shipped_predictor_file())
        name = next(name for name in tensors if name.endswith("bias"))
        tensors[name] = tensors[name] + 0.01 * seed
        checkpoint.save(tmp_path / f"predictor_{seed}.safetensors", tensors, metadata)
        found.append(tmp_path / f"predictor_{seed}.safetensors")
    return found
