"""Every agent solves a toy world whose optimum is known and that no constant action solves."""

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from toy_worlds import ColourWorld, SingleColour

from agents.baselines import PredictorPolicy
from agents.ddpg import DDPG, DDPGConfig
from agents.group_pg import GroupPG, GroupPGConfig
from agents.networks import Predictor
from agents.pathwise import Pathwise, PathwiseConfig
from agents.shared_offset import OffsetPolicy, learn_offset

BEST_CONSTANT = -0.49  # minus the variance of the best action, three times 0.7^2 / 3


def small_actor():
    torch.manual_seed(1)
    return Predictor(width=16, blocks=1, actions=3)


def score(policy, shift=0.0):
    world = ColourWorld(300, shift=shift)
    observation, _ = world.reset(seed=99)
    action, _ = policy.predict(observation)
    return world.step(action.clamp(-1, 1))[1].mean().item()


def pooled_config(**changes):
    settings = dict(noise=(0.3,), actor_lr=5e-3, lr_final=0.1, critics=2, hidden=64, batch_size=128, critic_updates=2)
    return DDPGConfig(**settings | dict(actor_updates=2, actor_starts=500) | changes)


def cnn_config(**changes):
    settings = dict(frozen_trunk=False, noise=(0.3,), actor_lr=2e-3, critic_lr=3e-3, lr_final=0.1, critics=1)
    sizes = dict(critic_width=16, hidden=32, batch_size=64, critic_updates=2, actor_updates=1, actor_starts=1000)
    return DDPGConfig(**settings | sizes | changes)


def test_no_constant_beats_the_threshold():
    constants = torch.tensor(np.stack(np.meshgrid(*[np.linspace(-0.4, 0.4, 5)] * 3), -1).reshape(-1, 3))

    class Constant:
        def __init__(self, action):
            self.action = action

        def predict(self, observation):
            return self.action.expand(len(observation), -1), None

    assert max(score(Constant(c)) for c in constants) < BEST_CONSTANT + 0.05


@pytest.mark.parametrize("loss", ["eq10", "eq11"])
def test_ddpg_with_frozen_trunk_finds_the_best_actions(loss):
    agent = DDPG(ColourWorld(32), pooled_config(critic_loss=loss), actor=small_actor())
    assert score(agent) < BEST_CONSTANT + 0.05
    trunk = [p.clone() for p in agent.actor.trunk.parameters()]
    agent.learn(32 * 140)
    assert score(agent) > -0.15
    assert all(torch.equal(a, b) for a, b in zip(trunk, agent.actor.trunk.parameters(), strict=True))


def test_ddpg_with_cnn_critic_finds_the_best_actions():
    agent = DDPG(ColourWorld(32), cnn_config(), actor=small_actor())
    agent.learn(32 * 170)
    assert score(agent) > -0.15


def test_group_pg_finds_the_best_actions():
    agent = GroupPG(ColourWorld(48, repeats=6), GroupPGConfig(noise=(0.2,), actor_lr=3e-3), actor=small_actor())
    agent.learn(48 * 100)
    assert score(agent) > -0.06


def test_pathwise_finds_the_best_actions():
    agent = Pathwise(ColourWorld(16), PathwiseConfig(noise=(0.2,), actor_lr=5e-3), actor=small_actor())
    agent.learn(16 * 100)
    assert score(agent) > -0.06


def test_the_offset_is_learned_to_the_known_optimum():
    policy = PredictorPolicy(small_actor())  # untrained: about zero, so the best offset is the shift
    world = ColourWorld(24, repeats=6, shift=0.25)
    offset = learn_offset(world, policy, renders=24 * 150, seed=0)
    actions, _ = policy.predict(ColourWorld(100).reset(seed=5)[0])
    torch.testing.assert_close(offset, 0.25 - actions.mean(0), rtol=0, atol=0.08)
    assert score(OffsetPolicy(policy, offset), shift=0.25) > score(policy, shift=0.25) + 0.1


@pytest.mark.parametrize("make", [SingleColour, lambda: ColourWorld(8, output="numpy", mode=AutoresetMode.DISABLED)])
def test_single_numpy_and_self_resetting_worlds_are_learned_in(make):
    agent = DDPG(make(), pooled_config(critic_updates=1, batch_size=8, actor_starts=8), actor=small_actor())
    agent.learn(40)
    assert agent.num_timesteps == 40 and agent.replay is not None and len(agent.replay) == 40
