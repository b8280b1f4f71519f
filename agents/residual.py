"""Residual reinforcement learning: another library's agent moves the action that a predictor names.

An agent that starts from random weights would spend its renders on learning to see a blur, which a predictor does
already. Here it is shown what the predictor measures, and its action is added to the predictor's (Silver et al.,
Residual policy learning, 2018; Johannink et al., Residual reinforcement learning for robot control, ICRA 2019).
"""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import torch
from gymnasium.error import ResetNeeded
from gymnasium.spaces import Box
from gymnasium.vector import VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray
from torch import Tensor

from agents import wrapping
from agents.networks import Actor, from_observation
from agents.worlds import check_spaces

INNER = ("true_action", "gradient")
"""What infos say of the environment's own actions, and would be wrong of residuals."""


class Residual(VectorWrapper):
    """A one-step vector environment whose observations are an actor's features, and whose actions are residuals.

    Observations: `Box(-inf, inf, (actor.pooled_size,), float32)`, NumPy. Actions: `Box(-1, 1)`, of the environment's
    length, clipped to it; what is played is the actor's action plus `reach` times these, clamped to the box. 0 is the
    actor itself. Infos are the environment's, without the true action and the gradient, which are of its own actions.

    Args:
        env: with image observations, NumPy or torch, of episodes of one step, reset within the step.
        actor: gives the base actions; a frozen copy of it is used.
        reach: how far a residual of 1 moves.
        device: where the actor works.

    Raises:
        ValueError: the environment's spaces or autoreset mode do not fit, the actor was made for other actions, or
            `reach` is not above 0 and finite.
    """

    def __init__(
        self, env: VectorEnv[Any, Any, Any], actor: Actor, *, reach: float = 0.5, device: torch.device | str = "cpu"
    ) -> None:
        super().__init__(env)
        _, actions = check_spaces(env.single_observation_space, env.single_action_space)
        if actor.settings["actions"] != actions:
            raise ValueError(f"the actor gives {actor.settings['actions']} components, the environment takes {actions}")
        wrapping.check_same_step(env)
        if not 0 < reach < math.inf:
            raise ValueError(f"reach must be above 0 and finite, got {reach}")
        self.device, self.reach = torch.device(device), reach
        self.actor = copy.deepcopy(actor).to(self.device).eval().requires_grad_(False)
        self.single_observation_space = Box(-np.inf, np.inf, (actor.pooled_size,), np.float32)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self._base: Tensor | None = None  # the actor's actions in the present scenes
        self._seen: NDArray[np.float32]
        self._torch = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Draw all scenes anew: their features `(N, pooled_size)`, and the environment's info."""
        observation, infos = self.env.reset(seed=seed, options=options)
        return self._see(observation), _without_inner(infos)

    def step(self, actions: Any) -> Any:
        """Play the actor's actions, moved by residuals; the observation after an episode is the one before it.

        Args:
            actions: `(N, d)`, NumPy or torch.

        Raises:
            ResetNeeded: there is no scene yet.
            ValueError: another shape, or an episode did not end.
        """
        if self._base is None:
            raise ResetNeeded("call reset before step: there is no scene yet")
        residual = torch.as_tensor(actions)
        if residual.shape != self._base.shape:
            raise ValueError(f"actions must have shape {tuple(self._base.shape)}, got {tuple(residual.shape)}")
        played = add_residual(self._base, residual, self.reach)
        before = self._seen
        observation, reward, terminated, truncated, infos = self.env.step(
            played if self._torch else played.cpu().numpy()
        )
        if not bool(torch.as_tensor(terminated | truncated).all()):
            raise ValueError("an episode did not end after one step: residuals are for one-step environments only")
        infos = _without_inner(infos)
        if "final_obs" in infos:
            infos["final_obs"] = before.copy()
        if "final_info" in infos:
            infos["final_info"] = _without_inner(infos["final_info"])
        return self._see(observation), reward, terminated, truncated, infos

    def _see(self, observation: Any) -> NDArray[np.float32]:
        self._torch = isinstance(observation, Tensor)
        with torch.no_grad():
            pooled = self.actor.pooled(from_observation(torch.as_tensor(observation).to(self.device)))
            self._base = self.actor.act(pooled)
        self._seen = pooled.cpu().numpy()
        return self._seen.copy()


def add_residual(base: Tensor, residual: Tensor, reach: float) -> Tensor:
    """Move base actions `(N, d)` by `reach` times residuals `(N, d)` in [-1, 1], within the box."""
    return (base + reach * residual.to(base).clamp(-1, 1)).clamp(-1, 1)


def _without_inner(infos: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in infos.items() if key.removeprefix("_") not in INNER}
