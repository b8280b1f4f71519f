"""Group-relative policy gradient: several actions a scene, each judged against the scene's own mean.

Rewards differ far more between scenes than between actions, so the mean over a scene's actions is a better baseline
than any learned critic, and there is nothing else to learn. Actions come in antithetic pairs, mean + noise and
mean - noise: the pair's difference is the reward's slope along the noise, with its even part gone.

A scene's actions share one mean, so the network runs forward and backward once a scene, however many actions are
rendered: next to the renders, learning is cheap enough to use each of them more than once (clipped ratios, as in PPO).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from agents.config import ABOVE_0, AT_LEAST_1, AgentConfig, SteppedConfig
from agents.networks import from_observation
from agents.stepped_agent import SteppedAgent
from agents.worlds import OneStepWorld


@dataclass(frozen=True, kw_only=True)
class GroupPGConfig(SteppedConfig):
    """Settings of the group-relative policy gradient, which learns only where it explores: `noise` is above 0.

    Attributes:
        lr_final: the learning rates decay exponentially to this share of themselves over `learn`.
        average: decay of the moving average of the actor's weights, which `predict` uses; 0 for none.
        epochs: updates with the renders of each step.
        clip: the ratio of new to old probability is clipped to 1 +- this.
        spread_floor: added to the standard deviation of a scene's rewards before dividing by it: smaller differences
            are noise of the metric.
        advantage_clip: advantages are clipped to +- this.
    """

    lr_final: float = 0.1
    average: float = 0.98
    epochs: int = 2
    clip: float = 0.3
    spread_floor: float = 0.02
    advantage_clip: float = 3.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.demand(ABOVE_0, "noise", "clip", "spread_floor", "advantage_clip")
        self.demand(AT_LEAST_1, "epochs")


class GroupPG(SteppedAgent[GroupPGConfig]):
    """Group-relative policy gradient with a fixed deviation; the environment needs an even `repeats` of 2 or more."""

    algorithm: ClassVar[str] = "group-pg"
    config_class: ClassVar[type[AgentConfig]] = GroupPGConfig

    def check_world(self, world: OneStepWorld) -> None:
        """Refuse an odd number of actions a scene."""
        if world.repeats % 2:
            raise ValueError(
                f"group-pg renders pairs of actions a scene, the environment repeats each {world.repeats} times: "
                "make it with an even repeats, such as repeats=6"
            )

    def setup(self) -> None:
        """Make the optimiser."""
        super().setup()
        self.adam("actor", self.learning(), self.config.actor_lr)

    def iterate(self, observation: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Render `repeats` actions a scene and update the actor."""
        assert self.world is not None
        config, repeats = self.config, self.world.repeats
        lr = from_observation(observation[::repeats])  # (S, 3, H, W): the rows of a scene show the same photo
        mean = self.actor(lr)  # (S, A)
        eps = antithetic(mean, repeats, self.rng)  # (S, R, A)
        action = mean.detach()[:, None] + self.noise * eps
        reward, following = self.world.act(action.flatten(0, 1).clamp(-1, 1))
        reward = reward.unflatten(0, (-1, repeats))  # (S, R)
        better = advantage(reward, config.spread_floor, config.advantage_clip)
        figures = {"reward": reward.mean(), "spread": reward.std(1).mean()}
        for epoch in range(config.epochs):
            if epoch:
                mean = self.actor(lr)
            ratio = likelihood_ratio(mean, action, eps, self.noise)
            loss = -surrogate(ratio, better, config.clip).mean()
            self.descend("actor", loss)
        figures["ratio_deviation"] = (ratio.detach() - 1).abs().mean()
        return following, figures


def antithetic(mean: Tensor, repeats: int, rng: torch.Generator) -> Tensor:
    """Draw standard normal noise in pairs of opposite sign: (S, A) -> (S, repeats, A)."""
    scenes, actions = mean.shape
    half = torch.randn(scenes, repeats // 2, actions, generator=rng, device=mean.device)
    return torch.cat([half, -half], 1)


def advantage(reward: Tensor, floor: float, clip: float) -> Tensor:
    """Take rewards less their scene's mean, over its deviation + floor, cut to +- clip: (S, R) -> (S, R)."""
    centred = reward - reward.mean(1, keepdim=True)
    return (centred / (reward.std(1, keepdim=True) + floor)).clamp(-clip, clip)


def likelihood_ratio(mean: Tensor, action: Tensor, eps: Tensor, noise: Tensor) -> Tensor:
    """Give the density of the actions under N(mean, noise^2) over that under which they were drawn.

    Args:
        mean: (S, A), with gradient.
        action: (S, R, A).
        eps: (S, R, A), the standardised noise that the actions were drawn with.
        noise: (A,).

    Returns:
        (S, R); exactly 1 with the gradient of the log-density where the mean has not moved.
    """
    now = (action - mean[:, None]) / noise
    return torch.exp((eps.square() - now.square()).sum(-1) / 2)


def surrogate(ratio: Tensor, better: Tensor, clip: float) -> Tensor:
    """Give PPO's clipped objective, element by element.

    An action's gain counts until its probability changed by `clip`.
    """
    return torch.minimum(ratio * better, ratio.clamp(1 - clip, 1 + clip) * better)
