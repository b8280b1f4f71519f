"""Policies of other libraries, named `module:function`."""

import itertools
import json
import re
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from agents import Upscaler, policies
from blindsr_env.env import BlindSREnv
from experiments import cli

counter = itertools.count()
PAGE = Path(__file__).resolve().parents[2] / "docs" / "libraries.md"

MODULE = """
import numpy as np

def bright(env):
    size = env.action_space.shape[0]
    return lambda seen: np.tile(seen.mean((1, 2, 3))[:, None] / 255, (1, size))

def short(env):
    return lambda seen: np.zeros((len(seen), 3))

def one(env):
    return lambda seen: np.zeros((1, 15))

def edge(env):
    return lambda seen: np.where(np.arange(15) < 7, -1.0, 1.0)[None].repeat(len(seen), axis=0)

def none(env):
    return None

def pair(env):
    return lambda seen: (np.zeros((len(seen), 15)), None)

def bad(env):
    return lambda seen: np.full((len(seen), 15), np.nan)

def words(env):
    return lambda seen: "no"

def far(env):
    return lambda seen: np.full((len(seen), 15), 3.0)

def broken(env):
    return lambda seen: seen @ np.zeros((7, 15))  # the shapes do not fit

def deep(env):
    import torch

    layer = torch.nn.Linear(7, 15)
    return lambda seen: layer(torch.from_numpy(seen).float())  # raised inside of torch

def large(env):
    def choose(seen):
        raise MemoryError("too large")

    return choose

def fitted(env):
    import torch

    def choose(seen):  # as kernel estimators that are optimised on each photo
        action = torch.full((len(seen), 15), 0.5, requires_grad=True)
        action.square().sum().backward()
        return action - 0.5 * action.grad

    return choose

def greedy(env):
    import torch

    def choose(seen):
        seen[:] = 0
        return torch.zeros(len(seen), 15, requires_grad=True)

    return choose


def direct(observations):
    return np.zeros((len(observations), 15))
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    name = f"their_policy_{next(counter)}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    yield name
    sys.modules.pop(name, None)


@pytest.fixture
def env(tiny_generator, tiny_photos):
    return BlindSREnv(metric="psnr", generator=tiny_generator, images=tiny_photos, patch_size=16)


def test_actions_outside_the_box_are_told_of(module, env):
    with pytest.warns(UserWarning, match=f"{module}:far answered with actions outside .-1, 1., which are clipped"):
        policies.load(f"{module}:far", env).predict(np.zeros((2, 16, 16, 3), np.uint8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        policies.load(f"{module}:edge", env).predict(np.zeros((2, 16, 16, 3), np.uint8))


def test_a_function_of_another_module_acts(module, env):
    policy = policies.load(f"{module}:bright", env)
    seen = np.random.default_rng(0).integers(0, 256, (3, 16, 20, 3), np.uint8)
    action, _ = policy.predict(seen)
    assert action.dtype == np.float32 and np.allclose(action, seen.mean((1, 2, 3))[:, None] / 255)
    alone, _ = policy.predict(seen[1])
    assert alone.shape == (15,) and np.array_equal(alone, action[1])
    as_tensor, _ = policy.predict(torch.from_numpy(seen))
    assert isinstance(as_tensor, torch.Tensor) and np.array_equal(as_tensor, action)


def test_it_may_write_to_what_it_sees_and_answer_with_a_tensor(module, env):
    seen = torch.full((2, 16, 16, 3), 7, dtype=torch.uint8)
    action, _ = policies.load(f"{module}:greedy", env).predict(seen)
    assert not action.requires_grad and action.tolist() == [[0.0] * 15] * 2 and (seen == 7).all()


def test_it_may_learn_on_each_photo(module):
    upscaler = Upscaler(f"{module}:fitted", "amnet_s")
    seen = np.random.default_rng(0).integers(0, 256, (20, 24, 3), np.uint8)
    expected = upscaler.core.render(torch.from_numpy(seen)[None], torch.zeros(1, 15))
    assert np.abs(upscaler(seen) - 255 * expected[0].permute(1, 2, 0).numpy()).max() < 0.01


def test_it_is_scored_like_any_other(module, photo, tmp_path, tiny_checkpoint):
    from blindsr_env import images

    images.write(tmp_path / "p.png", photo(40, 44, 0))
    arguments = ["--images", "p.png", "--generator", tiny_checkpoint, "--metrics", "[psnr]", "--device", "cpu"]
    assert cli.main(["evaluate", "--policies", f"[{module}:bright]", *arguments]) == 0
    scored = json.loads((tmp_path / "results" / "evaluate.json").read_text())["figures"]["policies"]
    env = BlindSREnv(metric="psnr", generator=tiny_checkpoint)
    scenes = env.core.whole(images.read("p.png"), (0.2, 1.3, 2.6))
    bright = scenes.lr.float().mean((1, 2, 3))[:, None].expand(-1, 15) / 255
    expected = env.core.scores(env.core.render(scenes.lr, bright), scenes.hr)[:, 0]
    assert scored[f"{module}:bright"]["psnr"]["scores"] == [pytest.approx(expected.tolist(), abs=1e-3)]


def test_the_example_of_the_page_takes_part(photo, tiny_checkpoint, tmp_path, monkeypatch):
    from blindsr_env import images

    example = re.search(r"## An agent trained elsewhere\n.*?```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "of_the_page.py").write_text(example[1])
    images.write(tmp_path / "p.png", photo(40, 44, 0))
    arguments = ["--images", "p.png", "--generator", tiny_checkpoint, "--metrics", "[psnr]", "--device", "cpu"]
    assert cli.main(["evaluate", "--policies", "[of_the_page:policy, true-code]", *arguments]) == 0
    scored = json.loads((tmp_path / "results" / "evaluate.json").read_text())["figures"]["policies"]
    assert scored["of_the_page:policy"]["psnr"]["scores"] != scored["true-code"]["psnr"]["scores"]


def test_what_is_wrong_with_it_is_said(module, env):
    with pytest.raises(ValueError, match="no module absent: is it in the working directory"):
        policies.load("absent:policy", env)
    with pytest.raises(ValueError, match=f"{module} has no function 'brigth'"):
        policies.load(f"{module}:brigth", env)
    with pytest.raises(ValueError, match="gave a NoneType: it should give a function of observations"):
        policies.load(f"{module}:none", env)
    with pytest.raises(
        ValueError, match=rf"direct\(env\) failed with TypeError: .*{module}.py:.* is called with the env"
    ):
        policies.load(f"{module}:direct", env)
    with pytest.raises(ValueError, match=r"unknown policy 'predictor,random'.* Several are given as '\[A, B\]'"):
        policies.load("predictor,random", env)
    for what, message in (("pair", "should give the actions alone"), ("bad", "NaN"), ("words", "no array of numbers")):
        with pytest.raises(ValueError, match=message):
            policies.load(f"{module}:{what}", env).predict(np.zeros((2, 8, 8, 3), np.uint8))
    where = 1 + next(i for i, line in enumerate(MODULE.splitlines()) if "np.zeros((7, 15))" in line)
    with pytest.raises(
        ValueError, match=rf"{module}:broken failed with ValueError: .*mismatch.* \(.*{module}.py:{where}\)"
    ):
        policies.load(f"{module}:broken", env).predict(np.zeros((2, 8, 8, 3), np.uint8))
    where = 1 + next(i for i, line in enumerate(MODULE.splitlines()) if "inside of torch" in line)
    with pytest.raises(ValueError, match=rf"{module}:deep failed with RuntimeError: .* \(.*{module}.py:{where}\)"):
        policies.load(f"{module}:deep", env).predict(np.zeros((2, 8, 8, 3), np.uint8))
    with pytest.raises(MemoryError):  # upscale leaves out the photo and goes on
        policies.load(f"{module}:large", env).predict(np.zeros((2, 8, 8, 3), np.uint8))
    with pytest.raises(ValueError, match="Or give the path of a .safetensors file|no such|12:30"):
        policies.load("./runs/12:30/agent", env)
    with pytest.raises(ValueError, match=r"answered with \(2, 3\), not with \(2, 15\)"):
        policies.load(f"{module}:short", env).predict(np.zeros((2, 8, 8, 3), np.uint8))
    with pytest.raises(ValueError, match=r"answered with \(1, 15\), not with \(2, 15\)"):
        policies.load(f"{module}:one", env).predict(np.zeros((2, 8, 8, 3), np.uint8))
    several = SyncVectorEnv([lambda: env] * 2, autoreset_mode=AutoresetMode.SAME_STEP)
    with pytest.raises(ValueError, match=r"answered with \(2, 3\), not with \(2, 15\)"):
        policies.load(f"{module}:short", several).predict(np.zeros((2, 8, 8, 3), np.uint8))


def test_a_package_named_as_one_of_ours_is_told_of(module, env, tmp_path):
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / "__init__.py").write_text("class Mine: pass")
    (tmp_path / f"{module}.py").write_text("from agents import Mine")
    with pytest.raises(ValueError, match="'Mine' from 'agents'.* agents is blindsr's package, .*: rename its folder"):
        policies.load(f"{module}:policy", env)
    (tmp_path / f"{module}.py").write_text("import agents.mine")
    with pytest.raises(ValueError, match="No module named 'agents.mine'.* rename its folder"):
        policies.load(f"{module}:policy", env)
    (tmp_path / f"{module}.py").write_text("from blindsr_env.metrics import niqee")  # a slip, with no such folder there
    with pytest.raises(ImportError, match="^cannot import name 'niqee'"):
        policies.load(f"{module}:policy", env)
    (tmp_path / f"{module}.py").write_text("from json import nothing")
    with pytest.raises(ImportError, match="nothing"):
        policies.load(f"{module}:policy", env)
