"""Pathwise policy gradient: the actor climbs the reward's own gradient, through the metric and the generator.

The actor's action plus noise is rendered and scored, and the environment says how the reward grows with it
(`gradient=True`, `info["gradient"]`). Handed on to the actor, that is the gradient of the expected reward
(reparameterisation: Kingma and Welling 2014; the stochastic value gradient of Heess et al. 2015 with the true reward in
place of a learned one), but for two deliberate biases: steep scenes are cut to a length, and where noise leaves the box
and is clamped, the slope at the edge still counts, or a mean near the edge could not come back. One render, forward and
back, tells the slopes of all components, where a black-box estimate tells that of one direction for each pair of
renders. The noise smooths a reward that is rough at close range.

Only metrics with a gradient serve. NIQE has one: see `blindsr_env.metrics.niqe_gradient`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from agents import wrapping
from agents.config import ABOVE_0, AgentConfig, SteppedConfig
from agents.networks import from_observation
from agents.stepped_agent import SteppedAgent
from agents.worlds import OneStepWorld

NO_GRADIENT = (
    "pathwise climbs the reward's own gradient: make the environment with gradient=True, or take group-pg or ddpg, "
    "which need none"
)


@dataclass(frozen=True, kw_only=True)
class PathwiseConfig(SteppedConfig):
    """Settings of the pathwise policy gradient.

    Attributes:
        lr_final: the learning rates decay exponentially to this share of themselves over `learn`.
        average: decay of the moving average of the actor's weights, which `predict` uses; 0 for none.
        slope_clip: norm to which each scene's reward gradient is clipped: a few scenes are steep and would outvote the
            rest.
    """

    noise: tuple[float, ...] = (0.1,) * 8 + (0.03,)
    actor_lr: float = 1e-3
    lr_final: float = 0.03
    average: float = 0.98
    slope_clip: float = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.demand(ABOVE_0, "slope_clip")


class Pathwise(SteppedAgent[PathwiseConfig]):
    """Pathwise policy gradient; the environment must give the reward's gradient, `gradient=True`."""

    algorithm: ClassVar[str] = "pathwise"
    config_class: ClassVar[type[AgentConfig]] = PathwiseConfig
    needs_gradient: ClassVar[bool] = True

    def check_world(self, world: OneStepWorld) -> None:
        """Refuse wrappers that the gradient knows nothing of, and a BlindSR environment that gives none.

        Whether other environments give one is known after their first step.
        """
        finders = (wrapping.action_wrapper, wrapping.reward_wrapper, wrapping.step_wrapper)
        wrapper = next(filter(None, (find(world.env) for find in finders)), None)
        if wrapper is not None:
            raise ValueError(
                f"the reward's gradient is the bare environment's, and {wrapper} changes its actions or rewards, or "
                "may: take it off and change the metric instead, as in metric='niqe+0.2*psnr', or take group-pg or ddpg"
            )
        if world.core is not None and not world.core.gradient:
            raise ValueError(NO_GRADIENT)

    def setup(self) -> None:
        """Make the optimiser."""
        super().setup()
        self.adam("actor", self.learning(), self.config.actor_lr)

    def iterate(self, observation: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Render one noisy action a row and move the actor along the reward's gradient."""
        assert self.world is not None
        mean = self.actor(from_observation(observation))  # (N, A)
        reward, following = self.world.act(self.explore(mean.detach()))
        if self.world.gradient is None:
            raise ValueError(NO_GRADIENT)
        slope = clipped(self.world.gradient, self.config.slope_clip)
        self.descend("actor", -(mean * slope).sum(1).mean())
        return following, {"reward": reward.mean(), "slope": slope.norm(dim=1).mean()}


def clipped(gradient: Tensor, length: float) -> Tensor:
    """Cut each row of a gradient `(N, A)` to at most this length."""
    return gradient * (length / gradient.norm(dim=1, keepdim=True).clamp(min=length))
