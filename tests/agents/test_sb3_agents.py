"""Stable-Baselines3's algorithms as agents: they move what a predictor names, learn, and come back from files."""

import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import data_equivalence
from toy_worlds import ColourWorld

from agents import policies
from agents.checkpoints import load_predictor
from agents.networks import Actor, Predictor, from_observation
from agents.residual import Residual
from agents.sb3_agents import SB3Config
from generators.checkpoint import CheckpointError

NAMES = ("sb3-ppo", "sb3-a2c", "sb3-sac", "sb3-td3", "sb3-ddpg")
FEW = {
    "sb3-ppo": {"n_steps": 2, "batch_size": 8, "n_epochs": 2},
    "sb3-a2c": {"n_steps": 2},
    "sb3-sac": {"learning_starts": 8, "batch_size": 8, "gradient_steps": 1},
    "sb3-td3": {"learning_starts": 8, "batch_size": 8, "gradient_steps": 1},
    "sb3-ddpg": {"learning_starts": 8, "batch_size": 8, "gradient_steps": 1},
}


@pytest.fixture
def actor():
    torch.manual_seed(0)
    return Predictor(width=8, blocks=1, actions=3)


def make(name, world, actor, **changes):
    kind = policies.algorithm(name)
    library = {"policy_kwargs": {"net_arch": [16]}, **FEW[name]} if "library" not in changes else changes.pop("library")
    return kind(world, SB3Config(library=library, **changes), actor=actor, seed=3)


@pytest.mark.parametrize("output", ["numpy", "torch"])
def test_residual_plays_the_actors_actions_moved(actor, output):
    plain, env = ColourWorld(4, output="numpy"), Residual(ColourWorld(4, output=output), actor, reach=0.5)
    image, _ = plain.reset(seed=5)
    seen, infos = env.reset(seed=5)
    rng = np.random.default_rng(0)
    for _ in range(3):
        with torch.no_grad():
            lr = from_observation(torch.from_numpy(image))
            pooled, named = actor.pooled(lr).numpy(), actor(lr).numpy()
        np.testing.assert_allclose(seen, pooled, rtol=1e-5, atol=1e-6)
        assert env.single_observation_space.contains(seen[0]) and np.asarray(infos["colour"]).shape == (4, 3)
        offset = rng.uniform(-1, 1, (4, 3)).astype(np.float32)
        image, expected, _, _, _ = plain.step(np.clip(named + 0.5 * offset, -1, 1))
        before = seen
        seen, reward, terminated, _, infos = env.step(offset)
        np.testing.assert_allclose(np.asarray(reward), expected, rtol=1e-4, atol=1e-6)
        assert np.asarray(terminated).all() and data_equivalence(infos["final_obs"], before)


@pytest.mark.parametrize("name", NAMES)
def test_agents_begin_near_the_predictor_and_stay_in_reach(name, actor):
    world = ColourWorld(4)
    agent = make(name, world, actor, reach=0.25)
    image, _ = world.reset(seed=0)
    with torch.no_grad():
        named = actor(from_observation(image))
    action, _ = agent.predict(image)
    assert isinstance(action, torch.Tensor) and (action - named).abs().max() < 0.1
    noisy, _ = agent.predict(image, deterministic=False)
    assert (noisy - named).abs().max() <= 0.25 + 1e-6 and noisy.abs().max() <= 1
    single, _ = agent.predict(image[0].numpy())
    np.testing.assert_allclose(single, action[0].numpy(), atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_they_learn_report_save_and_come_back(name, actor, tmp_path):
    agent, told = make(name, ColourWorld(4), actor), []
    before = {key: value.clone() for key, value in agent.policy.state_dict().items()}
    agent.learn(32, lambda agent, figures: told.append(figures), log_interval=2)
    assert agent.num_timesteps == 32 and not agent.interrupted
    assert [figures["timesteps"] for figures in told] == [8, 16, 24, 32]
    assert all(np.isfinite(figures["reward"]) and figures["reward"] < 0 for figures in told)
    assert any(not torch.equal(before[key], value) for key, value in agent.policy.state_dict().items())
    assert all(torch.equal(a, b) for a, b in zip(actor.parameters(), agent.actor.parameters(), strict=True))
    path = tmp_path / "agent.safetensors"
    agent.save(path, metric="none")
    image, _ = ColourWorld(4).reset(seed=1)
    loaded = policies.load(path)
    torch.testing.assert_close(loaded.predict(image)[0], agent.predict(image)[0])
    assert type(loaded) is policies.algorithm(name) and loaded.config == agent.config
    again = type(agent).load(path, ColourWorld(4)).learn(8, reset_num_timesteps=False)
    assert (again.num_timesteps, again.total_timesteps) == (40, 40)
    with pytest.raises(CheckpointError, match="to learn in|use agents.load"):
        policies.algorithm("ddpg").load(path)


@pytest.mark.parametrize("name", ["sb3-ppo", "sb3-sac"])
def test_they_get_better(name, actor):
    world = ColourWorld(24)
    library = {"policy_kwargs": {"net_arch": [32]}}
    library |= {"n_steps": 4, "batch_size": 32} if name == "sb3-ppo" else {"learning_starts": 48, "gradient_steps": 8}
    agent = make(name, world, actor, reach=1.0, noise=(0.3,), actor_lr=3e-3, library=library)
    told = []
    agent.learn(2_400, lambda agent, figures: told.append(figures["reward"]), log_interval=20)
    assert told[-1] > told[0] + 0.2


def test_learning_is_the_seeds(actor):
    image, _ = ColourWorld(4).reset(seed=1)
    first, second = (make("sb3-ppo", ColourWorld(4), actor).learn(24).predict(image)[0] for _ in range(2))
    assert torch.equal(first, second)


def test_a_callback_ends_the_learning(actor):
    agent = make("sb3-ppo", ColourWorld(4), actor).learn(400, lambda agent, figures: False, log_interval=1)
    assert agent.interrupted and agent.num_timesteps == 4


def test_first_deviations_are_the_configs(actor):
    agent = make("sb3-ppo", ColourWorld(4), actor, noise=(0.2, 0.1), reach=0.5)
    torch.testing.assert_close(agent.policy.log_std.exp(), torch.tensor([0.4, 0.2, 0.2]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"average": 0.9}, "average in SB3Config must be 0"),
        ({"reach": 0.0}, "reach in SB3Config must be above 0"),
        ({"noise": (0.1, 0.0)}, "noise in SB3Config must be above 0"),
        ({"library": 3}, "library in SB3Config must be settings by name, got 3"),
    ],
)
def test_mistakes(changes, message):
    with pytest.raises(ValueError, match=message):
        SB3Config(**changes)


def test_without_an_environment_nothing_is_learned(actor):
    with pytest.raises(ValueError, match="no environment to learn in"):
        policies.algorithm("sb3-ppo")(None, actor=actor).learn(8)


def test_the_shipped_predictor_has_features():
    predictor, _ = load_predictor(policies.SHIPPED_PREDICTOR)
    assert isinstance(predictor, Actor) and predictor.pooled_size == 189
