"""Agents that learn after each step of the environment: one method brings an algorithm, `iterate`."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from agents.agent import Agent
from agents.checkpoints import only, under
from agents.config import SteppedConfig
from agents.networks import answer, named_state
from agents.watch import Watch

Config = TypeVar("Config", bound=SteppedConfig)


class SteppedAgent(Agent[Config]):
    """An agent whose algorithm acts in every row of the environment once, learns from it, and so on.

    Its actor's moving average and the schedule of its learning rates are kept here, and so is the state of its scenes,
    where the environment has one: a run that goes on then equals one that was not stopped. See `Agent.save`.

    Attributes:
        averaged: the network that `predict` uses: the moving average of the actor, or the actor itself.
        optimisers: by the name of what they optimise.
        rng: source of exploration and of the replay's draws, on the device.
        scenes: where the scenes to act in next come from, in plain values; None where the environment cannot go back to
            them, and before the first `learn`.
    """

    def setup(self) -> None:
        """Make the actor's average and the sources of chance; algorithms add their networks and optimisers."""
        if self.config.constant:
            self.actor.requires_grad_(False).last.bias.requires_grad_(True)
        self.averaged = copy.deepcopy(self.actor).requires_grad_(False) if self.config.average else self.actor
        self.optimisers: dict[str, torch.optim.Optimizer] = {}
        self.rng = torch.Generator(self.device).manual_seed(self.seed)
        self._asked = torch.Generator(self.device).manual_seed(self.seed)  # of `predict`: watching changes no training
        self.scenes: dict[str, Any] | None = None

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

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[Any, None]:
        """Choose actions; see `Agent.predict`."""

        def choose(lr: Tensor) -> Tensor:
            action = self.averaged(lr)
            return action if deterministic else self.explore(action, self._asked)

        return answer(observation, self.device, choose), None

    def explore(self, action: Tensor, rng: torch.Generator | None = None) -> Tensor:
        """Add Gaussian noise, of the agent's random numbers or others: `(N, actions)` -> the same, in [-1, 1]."""
        eps = torch.randn(action.shape, generator=rng or self.rng, device=self.device)
        return (action + self.deviation() * eps).clamp(-1, 1)

    def deviation(self) -> Tensor:
        """Give the exploration noise's standard deviation now, `(actions,)`."""
        return self.noise

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Give the actor's average where that is another network, optimisers, random numbers and scenes."""
        tensors = {"rng": self.rng.get_state()}
        if self.averaged is not self.actor:
            tensors |= named_state(self.averaged, "averaged")
        for name, optimiser in self.optimisers.items():
            for index, slots in optimiser.state_dict()["state"].items():
                tensors |= {f"optimiser.{name}.{index}.{slot}": value for slot, value in slots.items()}
        return tensors, {"rng_device": self.device.type, "scenes": self.scenes}

    def load_state(self, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
        """Take over what `state` gave; see `Agent.load_state`."""
        if self.averaged is not self.actor:
            self.averaged.load_state_dict(under(tensors, "averaged"))
        only(under(tensors, "optimiser"), [f"{name}." for name in self.optimisers])
        for name, optimiser in self.optimisers.items():
            _load_adam(optimiser, under(tensors, f"optimiser.{name}"))
        self.scenes = metadata.get("scenes")
        if not isinstance(self.scenes, dict | None):
            raise TypeError(f"the scenes' state is a {type(self.scenes).__name__}")
        if metadata["rng_device"] == self.device.type:
            self.rng.set_state(tensors["rng"])
        else:  # another kind of device has another kind of generator
            self.rng.manual_seed(self.seed + self.num_timesteps)

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


def _load_adam(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Give Adam the state of a file, of all its parameters or, before the first step, of none."""
    shapes: dict[str, torch.Size] = {}
    for index, parameter in enumerate(optimiser.param_groups[0]["params"]):
        slots = {"step": torch.Size(()), "exp_avg": parameter.shape, "exp_avg_sq": parameter.shape}
        shapes |= {f"{index}.{slot}": shape for slot, shape in slots.items()}
    if tensors and {name: tensor.shape for name, tensor in tensors.items()} != shapes:
        raise ValueError("an optimiser's tensors are missing, foreign or of another shape")
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        number, slot = name.split(".", 1)
        state.setdefault(int(number), {})[slot] = tensor
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
