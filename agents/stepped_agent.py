"""Agents that learn after each step of the environment: one method brings an algorithm, `iterate`."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from agents.agent import Agent, Callback, Config
from agents.interruption import Interruption


class SteppedAgent(Agent[Config]):
    """An agent whose algorithm acts in every row of the environment once, learns from it, and so on.

    Its actor's moving average and the schedule of its learning rates are kept here.
    """

    @abstractmethod
    def iterate(self, observation: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Act once in every row and learn.

        Args:
            observation: `(N, H, W, 3)` uint8, of the scenes to act in.

        Returns:
            The next scenes' observations, and figures as scalars on the device; `reward` is among them.
        """

    def learn(
        self,
        total_timesteps: int,
        callback: Callback | None = None,
        progress_bar: bool = False,
        *,
        log_interval: int = 10,
        reset_num_timesteps: bool = True,
    ) -> Self:
        """Learn by `iterate`; see `Agent.learn`."""
        if self.world is None:
            raise ValueError("this agent has no environment to learn in: give one, load(path, env=env)")
        self.num_timesteps = 0 if reset_num_timesteps else self.num_timesteps
        self.total_timesteps = self.num_timesteps + total_timesteps
        self.interrupted = False
        for network in (self.actor, self.averaged):
            network.train()
        # Scenes follow from the seed and the place in the schedule, so a resumed run sees new ones.
        scenes = np.random.SeedSequence([self.seed, self.num_timesteps]).generate_state(1)
        observation = self.world.see(int(scenes[0] >> 1))
        seen: list[dict[str, Tensor]] = []
        with Interruption() as interruption, self._bar(progress_bar) as bar:
            while self.num_timesteps < self.total_timesteps and not self.interrupted:
                self._set_learning_rates()
                observation, figures = self.iterate(observation)
                if self.world.invalid is not None:
                    figures["invalid"] = self.world.invalid
                self._update_average()
                self.num_timesteps += self.world.num_envs
                seen.append(figures)
                bar.update(min(self.world.num_envs, self.total_timesteps - bar.n))
                self.interrupted = interruption.requested
                if len(seen) == log_interval or self.interrupted or self.num_timesteps >= self.total_timesteps:
                    means = self._means(seen)
                    seen = []
                    bar.set_postfix(reward=f"{means['reward']:+.3f}")
                    if callback is not None and callback(self, means) is False:
                        self.interrupted = True
        return self

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
            pairs = zip(self.averaged.parameters(), self.actor.parameters(), strict=True)
            for average, parameter in pairs:
                average.lerp_(parameter, 1 - self.config.average)

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
