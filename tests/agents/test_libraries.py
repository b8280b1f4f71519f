"""Other libraries drive the environments: docs/libraries.md's examples run, and what they record is what was played."""

import re
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch

import blindsr_env  # noqa: F401  (registers BlindSR-v0)

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "libraries.md").read_text()
EXAMPLES = re.findall(r"## ([\w-]+)\n.*?```python\n(.*?)```", PAGE, flags=re.DOTALL)
MODULES = {"TorchRL": "torchrl", "skrl": "skrl", "sb3-contrib": "sb3_contrib", "Tianshou": "tianshou"}


def test_every_library_has_its_example():
    assert [name for name, _ in EXAMPLES] == list(MODULES)


@pytest.mark.parametrize("name, example", EXAMPLES, ids=[name for name, _ in EXAMPLES])
def test_example_runs(name, example):
    pytest.importorskip(MODULES[name])
    exec(compile(example, f"docs/libraries.md, {name}", "exec"), {"__name__": "page"})


@pytest.fixture
def arguments(tiny_generator, tiny_photos):
    return {"generator": tiny_generator, "images": tiny_photos, "patch_size": 24, "metric": "psnr"}


def rewards_of(arguments, seed, actions, resets=()):
    """The plain vector environment's rewards for `(T, N, 15)` actions, with a further reset before some steps."""
    env = gymnasium.make_vec("BlindSR-v0", num_envs=actions.shape[1], **arguments)
    env.reset(seed=seed)
    rewards = []
    for step, each in enumerate(actions):
        if step in resets:
            env.reset()
        rewards.append(env.step(each)[1])
    return np.stack(rewards)


@pytest.mark.parametrize("mode", ["same step", "disabled"])
@pytest.mark.parametrize("output", ["numpy", "torch"])
def test_torchrl_records_what_was_played(arguments, mode, output):
    pytest.importorskip("torchrl")
    from torchrl.envs import GymWrapper
    from torchrl.envs.utils import check_env_specs

    env = GymWrapper(gymnasium.make_vec("BlindSR-v0", num_envs=3, autoreset_mode=mode, output=output, **arguments))
    check_env_specs(env)
    actions = np.random.default_rng(0).uniform(-1, 1, (4, 3, 15)).astype(np.float32)
    queue = iter(torch.from_numpy(actions))
    env.set_seed(5, static_seed=True)
    batch = env.rollout(4, policy=lambda td: td.set("action", next(queue)), break_when_any_done=False)
    # A step ends its episode and leaves the photo as it is: the next scene is not what it led to.
    assert batch["next", "terminated"].all()
    assert torch.equal(batch["observation"], batch["next", "observation"])
    assert not torch.equal(batch["observation"][:, 0], batch["observation"][:, 1])
    # A rollout resets at its beginning, and within "same step" also where the environment has done so already.
    expected = rewards_of(arguments, 5, actions, resets=[0] if mode == "disabled" else range(4))
    np.testing.assert_allclose(batch["next", "reward"][..., 0].T, expected, rtol=0, atol=1e-4)


def test_torchrl_takes_the_single_environment(arguments):
    pytest.importorskip("torchrl")
    from torchrl.envs import GymWrapper
    from torchrl.envs.utils import check_env_specs

    env = GymWrapper(gymnasium.make("BlindSR-v0", **arguments))
    check_env_specs(env)
    assert env.rollout(3, break_when_any_done=False)["next", "reward"].shape == (3, 1)


@pytest.mark.filterwarnings("ignore:To copy construct from a tensor")  # skrl's own
@pytest.mark.parametrize("output", ["numpy", "torch"])
def test_skrl_passes_actions_and_rewards_on(arguments, output):
    pytest.importorskip("skrl")
    from skrl.envs.wrappers.torch import wrap_env

    plain = gymnasium.make_vec("BlindSR-v0", num_envs=3, output=output, **arguments)
    env = wrap_env(plain, wrapper="gymnasium", verbose=False)
    actions = np.random.default_rng(0).uniform(-1, 1, (2, 3, 15)).astype(np.float32)
    env.reset()
    plain.reset(seed=5)  # skrl has no way to pass a seed on
    rewards = [env.step(torch.from_numpy(each))[1][:, 0].numpy() for each in actions]
    np.testing.assert_allclose(rewards, rewards_of(arguments, 5, actions), rtol=0, atol=1e-4)


def test_tianshou_records_whole_episodes(arguments):
    pytest.importorskip("tianshou")
    from tianshou.env import DummyVectorEnv

    env = DummyVectorEnv([lambda: gymnasium.make("BlindSR-v0", **arguments) for _ in range(3)])
    actions = np.random.default_rng(0).uniform(-1, 1, (3, 15)).astype(np.float32)
    env.seed(5)  # row i gets 5 + i, as those of the vector environment
    before, _ = env.reset()
    after, reward, terminated, *_ = env.step(actions)
    assert terminated.all() and np.array_equal(before, after)
    np.testing.assert_allclose(reward, rewards_of(arguments, 5, actions[None], resets=[0])[0], rtol=0, atol=1e-4)
