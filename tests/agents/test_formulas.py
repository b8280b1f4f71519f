"""Losses and gradients against formulas written out by hand."""

import math

import pytest
import torch
from toy_worlds import ColourWorld

from agents import group_pg
from agents.config import per_component
from agents.ddpg import eq10, eq11
from agents.group_pg import GroupPG, GroupPGConfig
from agents.networks import Predictor, from_observation


@pytest.mark.parametrize("q", [-1.5, -0.25, 0.0, 0.5, 2.0])
@pytest.mark.parametrize("reward", [-0.75, 0.0, 1.25])
def test_critic_losses_are_the_papers(q, reward):
    squared = (reward - q) ** 2
    sign = 0 if reward == 0 else math.copysign(1, reward)
    assert eq10(torch.tensor(q), torch.tensor(reward)).item() == pytest.approx(squared)
    assert eq11(torch.tensor(q), torch.tensor(reward)).item() == pytest.approx(max(0, -sign * q) + squared)


def test_eq11_pushes_a_critic_of_the_wrong_sign_harder():
    q = torch.tensor([-0.5, 0.5], requires_grad=True)
    reward = torch.tensor([1.0, 1.0])
    extra = torch.autograd.grad((eq11(q, reward) - eq10(q, reward)).sum(), q)[0]
    assert extra.tolist() == [-1.0, 0.0]


def test_group_gradient_equals_autograd_over_all_rows():
    """The network runs once a scene; the gradient is that of -advantage * log-density over every row."""
    torch.manual_seed(0)
    scenes, repeats, noise = 3, 4, torch.tensor([0.2, 0.1, 0.05], dtype=torch.float64)
    actor = Predictor(width=8, blocks=1, actions=3).double()
    lr = torch.rand(scenes, 3, 9, 9, dtype=torch.float64)
    reward = torch.randn(scenes, repeats, dtype=torch.float64)
    better = group_pg.advantage(reward, floor=0.02, clip=3.0)

    mean = actor(lr)
    eps = torch.randn(scenes, repeats, 3, dtype=torch.float64)
    action = mean.detach()[:, None] + noise * eps
    ratio = group_pg.likelihood_ratio(mean, action, eps, noise)
    torch.testing.assert_close(ratio, torch.ones_like(ratio), rtol=0, atol=1e-12)
    group_pg.surrogate(ratio, better, clip=0.2).mean().neg().backward()
    ours = [p.grad.clone() for p in actor.parameters()]

    actor.zero_grad()
    rows = lr.repeat_interleave(repeats, 0)
    log_density = torch.distributions.Normal(actor(rows), noise).log_prob(action.flatten(0, 1)).sum(1)
    (-(better.flatten() * log_density)).mean().backward()
    for one, p in zip(ours, actor.parameters(), strict=True):
        torch.testing.assert_close(one, p.grad, rtol=1e-9, atol=1e-12)


def test_ratio_equals_that_of_the_densities_after_the_mean_moved():
    torch.manual_seed(0)
    noise, old, new = torch.tensor([0.2, 0.1]), torch.zeros(5, 2), torch.randn(5, 2) * 0.05
    eps = torch.randn(5, 4, 2)
    action = old[:, None] + noise * eps
    before = torch.distributions.Normal(old[:, None], noise).log_prob(action).sum(-1)
    after = torch.distributions.Normal(new[:, None], noise).log_prob(action).sum(-1)
    torch.testing.assert_close(group_pg.likelihood_ratio(new, action, eps, noise), torch.exp(after - before))


def test_surrogate_stops_where_the_ratio_left_its_range_in_the_right_direction():
    ratio = torch.tensor([1.5, 1.5, 0.5, 0.5], requires_grad=True)
    better = torch.tensor([1.0, -1.0, 1.0, -1.0])
    slope = torch.autograd.grad(group_pg.surrogate(ratio, better, 0.2).sum(), ratio)[0]
    assert slope.tolist() == [0.0, -1.0, 1.0, 0.0]


def test_noise_comes_in_pairs_and_advantages_sum_to_zero():
    rng = torch.Generator().manual_seed(0)
    eps = group_pg.antithetic(torch.zeros(7, 5), 6, rng)
    assert eps.shape == (7, 6, 5) and eps.sum(1).abs().max() < 1e-6 and eps.std() == pytest.approx(1, abs=0.1)
    reward = torch.randn(7, 6) * torch.logspace(-1, 3, 7)[:, None] + 50
    better = group_pg.advantage(reward, floor=1e-6, clip=9.0)
    torch.testing.assert_close(better.mean(1), torch.zeros(7), rtol=0, atol=1e-4)
    torch.testing.assert_close(better.std(1), torch.ones(7), rtol=1e-3, atol=0)
    assert group_pg.advantage(torch.full((1, 6), 2.0), 0.02, 3.0).abs().max() == 0
    found = group_pg.advantage(torch.tensor([[1.0, 2.0, 3.0, 6.0]]), floor=0.5, clip=1.0)
    spread = (14 / 3) ** 0.5 + 0.5  # of -2, -1, 0 and 3
    torch.testing.assert_close(found, torch.tensor([[-2 / spread, -1 / spread, 0, 1]]))


def test_rows_of_a_scene_get_actions_around_one_mean():
    """The worlds' rows and the agent's agree: rows i * repeats ... show one scene and get its antithetic actions."""
    world = ColourWorld(12, repeats=4)
    sent = []
    step = world.step
    world.step = lambda actions: (sent.append(torch.as_tensor(actions).clone()), step(actions))[1]
    actor = Predictor(width=8, blocks=1, actions=3)
    agent = GroupPG(world, GroupPGConfig(noise=(0.1,), actor_lr=1e-12), actor=actor)
    observation = agent.world.see(0)
    agent.iterate(observation)
    with torch.no_grad():
        mean = agent.actor(from_observation(observation[::4]))
    torch.testing.assert_close(sent[0].view(3, 4, 3).mean(1), mean, rtol=0, atol=1e-6)


def test_the_last_setting_holds_for_the_rest():
    assert per_component((0.5, 0.25), 4).tolist() == [0.5, 0.25, 0.25, 0.25]
    assert per_component((0.5, 0.25, 0.125), 2).tolist() == [0.5, 0.25]
