"""Residual reinforcement learning: another library's agent moves the action that a predictor names.

An agent that starts from random weights would spend its renders on learning to see a blur, which a predictor does
already. Here it is shown what the predictor measures, and its action is added to the predictor's (Silver et al.,
Residual policy learning, 2018; Johannink et al., Residual reinforcement learning for robot control, ICRA 2019).
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box
from gymnasium.vector import VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray
from torch import Tensor

from agents.networks import Actor, from_observation


class Residual(VectorWrapper):
    """A one-step vector environment whose observations are an actor's features, and whose actions lie around its own.

    Observations: `Box(-inf, inf, (actor.pooled_size,), float32)`, NumPy. Actions: `Box(-1, 1)`, of the environment's
    length; what is played is the actor's action plus `reach` times these, clamped to the box. 0 is the actor itself.

    Args:
        env: with image observations, NumPy or torch, of episodes of one step, reset within the step.
        actor: frozen; a copy of it is used.
        reach: how far an action of 1 moves.
        device: where the actor works.
    """

    def __init__(
        self, env: VectorEnv[Any, Any, Any], actor: Actor, *, reach: float = 0.5, device: torch.device | str = "cpu"
    ) -> None:
        super().__init__(env)
        self.device, self.reach = torch.device(device), reach
        self.actor = copy.deepcopy(actor).to(self.device).eval().requires_grad_(False)
        self.single_observation_space = Box(-np.inf, np.inf, (actor.pooled_size,), np.float32)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self._named: Tensor  # the actor's actions in the present scenes
        self._seen: NDArray[np.float32]
        self._torch = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Draw all scenes anew: their features `(N, pooled_size)`, and the environment's info."""
        observation, infos = self.env.reset(seed=seed, options=options)
        return self._see(observation), infos

    def step(self, actions: Any) -> Any:
        """Play the actor's actions, moved; the observation after an episode is, as before it, the scene's own."""
        moved = around(self._named, torch.as_tensor(actions).to(self.device), self.reach)
        before = self._seen
        observation, reward, terminated, truncated, infos = self.env.step(moved if self._torch else moved.cpu().numpy())
        if "final_obs" in infos:
            infos = {**infos, "final_obs": before}
        return self._see(observation), reward, terminated, truncated, infos

    def _see(self, observation: Any) -> NDArray[np.float32]:
        self._torch = isinstance(observation, Tensor)
        with torch.no_grad():
            pooled = self.actor.pooled(from_observation(torch.as_tensor(observation).to(self.device)))
            self._named = self.actor.act(pooled)
        self._seen = pooled.cpu().numpy()
        return self._seen


def around(named: Tensor, offset: Tensor, reach: float) -> Tensor:
    """Move actions `(N, A)` by `reach` times offsets `(N, A)`, within the box."""
    return (named + reach * offset.to(named)).clamp(-1, 1)
