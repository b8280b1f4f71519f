"""Agents that learn after each step of the environment: one method brings an algorithm, `iterate`."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from agents.agent import Agent, Config
from agents.watch import Watch


class SteppedAgent(Agent[Config]):
    """An agent whose algorithm acts in every row of the environment once, learns from it, and so on.

    Its actor's moving average and the schedule of its learning rates are kept here, and so is the state of its scenes,
    where the environment has one: a run that goes on then equals one that was not stopped. See `Agent.save`.
    """

    @abstractmethod
    def iterate(self, observation: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Act once in every row and learn.

        Args:
            observation: `(N, H, W, 3)` uint8, of the scenes to act in.

        Returns:
            The next scenes' observations, and figures as scalars on the device; `reward` is among them.
        """

    def run(self, watch: Watch, reset_num_timesteps: bool) -> None:
        """Learn by `iterate`; see `Agent.run`."""
        assert self.world is not None
        observation = self.world.see(self.scenes_seed(), None if reset_num_timesteps else self.scenes)
        seen: list[dict[str, Tensor]] = []
        try:
            while self.num_timesteps < self.total_timesteps and not self.interrupted:
                self._set_learning_rates()
                observation, figures = self.iterate(observation)
                figures |= self.world.shares
                self._update_average()
                seen.append(figures)
                if watch.count(self.num_timesteps + self.world.num_envs):
                    self.scenes = self.world.state()  # before the report, which may save the agent
                    watch.report(self._means(seen))
                    seen = []
        except BaseException:
            self.scenes = self.world.state()  # an agent that is saved all the same has rendered the ones before
            raise

    def learning(self) -> list[nn.Parameter]:
        """List the actor's parameters that learn."""
        return [parameter for parameter in self.actor.parameters() if parameter.requires_grad]

    def adam(self, name: str, parameters: Any, lr: float) -> torch.optim.Adam:
        """Make an optimiser that is scheduled and saved with the agent."""
        optimiser = torch.optim.Adam(parameters, lr=lr)
        optimiser.param_groups[0]["initial_lr"] = lr
        self.optimisers[name] = optimiser
        return optimiser

    def descend(self, name: str, loss: Tensor) -> None:
        """Take one optimiser's step down the loss."""
        optimiser = self.optimisers[name]
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(optimiser.param_groups[0]["params"], self.config.max_grad_norm)
        optimiser.step()

    def _set_learning_rates(self) -> None:
        decay = self.config.lr_final**self.progress
        for optimiser in self.optimisers.values():
            for group in optimiser.param_groups:
                group["lr"] = group["initial_lr"] * decay

    @torch.no_grad()
    def _update_average(self) -> None:
        if self.averaged is not self.actor:
            averages: list[Tensor] = list(self.averaged.parameters())
            parameters: list[Tensor] = list(self.actor.parameters())
            torch._foreach_lerp_(averages, parameters, 1 - self.config.average)

    def _means(self, seen: list[dict[str, Tensor]]) -> dict[str, float]:
        """Means over iterations, brought to the host in one go."""
        by_name: dict[str, list[Tensor]] = {}
        for figures in seen:
            for name, value in figures.items():
                by_name.setdefault(name, []).append(value.detach().float())
        values = torch.stack([torch.stack(each).mean() for each in by_name.values()]).tolist()
        means: dict[str, float] = dict(zip(by_name, values, strict=True))
        if not np.isfinite(values).all():
            broken = ", ".join(name for name, value in means.items() if not np.isfinite(value))
            raise ValueError(
                f"{broken} not finite at step {self.num_timesteps}: lower the learning rates or check the metric"
            )
        return means | {"timesteps": self.num_timesteps}
