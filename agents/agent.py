"""What all learning agents share: the manners of Stable-Baselines3, schedules, files and interruptions.

A subclass brings its config and one method, `iterate`: act in every row of the environment once, and learn from it.
"""

from __future__ import annotations

import copy
import dataclasses
import difflib
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from agents.checkpoints import ActionMeaning, Path, check_meaning, load_predictor, under
from agents.interruption import Interruption
from agents.networks import PREDICTORS, Actor, answer, build, named_state, restore
from agents.worlds import Env, OneStepWorld
from generators import checkpoint
from generators.checkpoint import CheckpointError


class Callback(Protocol):
    """Called every `log_interval` iterations of `learn`."""

    def __call__(self, agent: Any, figures: dict[str, float]) -> bool | None:
        """Sees the agent and the means of its figures since the last call; returning False ends `learn`."""


@dataclass(frozen=True, kw_only=True)
class AgentConfig:
    """What every agent needs to know."""

    noise: tuple[float, ...] = (0.15,) * 8 + (0.05,)  # exploration's deviation; the last value holds for the rest
    actor_lr: float = 2e-4  # of Adam
    lr_final: float = 1e-2  # learning rates decay exponentially to this share over `learn`
    average: float = 0.0  # decay of the moving average of the actor's weights, which is what `predict` uses; 0: none
    max_grad_norm: float = 1.0  # gradients are clipped to this length

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Makes a config of plain values, lists for tuples.

        Raises:
            ValueError: If a key is unknown; the nearest names are listed.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        for key in values:
            if key not in known:
                near = difflib.get_close_matches(key, known, 3, 0.4) or known
                raise ValueError(f"unknown key {key!r} in {cls.__name__}; the nearest are {', '.join(near)}")
        plain: dict[str, Any] = {k: tuple(value) if isinstance(value, list) else value for k, value in values.items()}
        return cls(**plain)


Config = TypeVar("Config", bound=AgentConfig)


class Agent(ABC, Generic[Config]):
    """An actor that learns in a one-step environment.

    Attributes:
        env: The environment, or None for a loaded agent that only predicts.
        config: The algorithm's settings.
        actor: The network that learns.
        averaged: The network that `predict` uses: the moving average of the actor, or the actor itself.
        num_timesteps: Actions rendered since the schedule began.
        interrupted: Whether Ctrl-C, SIGTERM or the callback ended the last `learn`.
    """

    algorithm: ClassVar[str]
    config_class: ClassVar[type[AgentConfig]]

    def __init__(
        self,
        env: Env | None,
        config: Config | None = None,
        *,
        actor: Actor | Path = "predictor_s",
        seed: int = 0,
        device: torch.device | str | None = None,
    ) -> None:
        """Makes an agent.

        Args:
            env: Of one-step episodes, with uint8 images and actions in [-1, 1]; see `OneStepWorld`.
            config: The algorithm's settings; its defaults where None.
            actor: Where the actor starts: a predictor (it is copied), the file of a predictor or agent, or the name
                of an untrained one.
            seed: Fixes weights, scenes, exploration and updates.
            device: Where networks are; the environment's where None.

        Raises:
            ValueError: If the environment's spaces do not fit, or the actor was made for other actions.
        """
        self.device = torch.device(device or _device_of(env))
        self.seed = seed
        self.world = OneStepWorld(env, self.device) if env is not None else None
        if self.world is not None:
            self.check_world(self.world)
        self.config: Config = config if config is not None else self.config_class()  # type: ignore[assignment]
        self.num_timesteps = 0
        self.interrupted = False
        self.rng = torch.Generator(self.device).manual_seed(seed)
        self._total = 0  # timesteps at which the schedule ends
        actions = self.world.actions if self.world else None
        self.meaning = self.world.meaning if self.world else None
        with torch.random.fork_rng(devices=[]):  # weights from the seed, without touching the caller's random numbers
            torch.manual_seed(seed)
            self.actor = self._start(actor, actions).to(self.device)
            self.averaged = copy.deepcopy(self.actor).requires_grad_(False) if self.config.average else self.actor
            self.noise = per_component(self.config.noise, self.actor.settings["actions"]).to(self.device)
            self._optimisers: dict[str, torch.optim.Optimizer] = {}
            self.setup()

    @property
    def env(self) -> Env | None:
        """The environment."""
        return self.world.env if self.world else None

    def check_world(self, world: OneStepWorld) -> None:
        """Raises a ValueError where the algorithm cannot learn in this world."""

    @abstractmethod
    def setup(self) -> None:
        """Makes further networks and the optimisers (by `adam`), in `self`."""

    @abstractmethod
    def iterate(self, observation: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Acts once in every row and learns.

        Args:
            observation: (N, H, W, 3) uint8, of the scenes to act in.

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
        """Learns until `total_timesteps` actions have been rendered.

        Ctrl-C or SIGTERM end it after the iteration under way: the agent is whole, and `interrupted` is True.

        Args:
            total_timesteps: Actions, over all rows; schedules run over these.
            callback: See `Callback`.
            progress_bar: Shows the reward and the time left.
            log_interval: Iterations between two calls of the callback.
            reset_num_timesteps: False goes on with the schedule: `total_timesteps` more, as after an interruption.

        Returns:
            The agent.

        Raises:
            ValueError: If there is no environment, or rewards or losses are not finite.
        """
        if self.world is None:
            raise ValueError("this agent has no environment to learn in: give one, load(path, env=env)")
        self.num_timesteps = 0 if reset_num_timesteps else self.num_timesteps
        self._total = self.num_timesteps + total_timesteps
        self.interrupted = False
        for network in (self.actor, self.averaged):
            network.train()
        # Scenes follow from the seed and the place in the schedule, so a resumed run sees new ones.
        scenes = np.random.SeedSequence([self.seed, self.num_timesteps]).generate_state(1)
        observation = self.world.see(int(scenes[0] >> 1))
        seen: list[dict[str, Tensor]] = []
        with Interruption() as interruption, self._bar(progress_bar) as bar:
            while self.num_timesteps < self._total and not self.interrupted:
                self._set_learning_rates()
                observation, figures = self.iterate(observation)
                self._update_average()
                self.num_timesteps += self.world.num_envs
                seen.append(figures)
                bar.update(min(self.world.num_envs, self._total - bar.n))
                self.interrupted = interruption.requested
                if len(seen) == log_interval or self.interrupted or self.num_timesteps >= self._total:
                    means = self._means(seen)
                    seen = []
                    bar.set_postfix(reward=f"{means['reward']:+.3f}")
                    if callback is not None and callback(self, means) is False:
                        self.interrupted = True
        return self

    def predict(self, observation: Any, state: Any = None, deterministic: bool = True) -> tuple[Any, None]:
        """Chooses actions.

        Args:
            observation: (H, W, 3) or (N, H, W, 3) uint8, NumPy or torch, of any size.
            state: Ignored; there is none.
            deterministic: False adds the exploration noise.

        Returns:
            Actions (actions,) or (N, actions) float32 in [-1, 1], of the observation's kind; and None. A second
            positional argument may also be the `info` of the policies' protocol: it is not looked at.
        """

        def choose(lr: Tensor) -> Tensor:
            action = self.averaged(lr)
            return action if deterministic else self.explore(action)

        return answer(observation, self.device, choose), None

    def explore(self, action: Tensor) -> Tensor:
        """Adds Gaussian noise: (N, actions) -> the same, in [-1, 1]."""
        eps = torch.randn(action.shape, generator=self.rng, device=self.device)
        return (action + self.noise * eps).clamp(-1, 1)

    @property
    def progress(self) -> float:
        """Share of the schedule done, in [0, 1]."""
        return min(self.num_timesteps / self._total, 1.0) if self._total else 0.0

    # Files

    def save(self, path: Path, **extra: Any) -> None:
        """Writes the agent, its optimisers and its place in the schedule to one safetensors file.

        Args:
            path: Where.
            extra: Plain values to keep under `training` in the metadata.
        """
        tensors = dict(named_state(self.averaged, "averaged"))
        for name, network in self.networks().items():
            tensors.update(named_state(network, name))
        for name, optimiser in self._optimisers.items():
            for index, slots in optimiser.state_dict()["state"].items():
                tensors.update({f"optimiser.{name}.{index}.{slot}": value for slot, value in slots.items()})
        tensors["rng"] = self.rng.get_state()
        tensors.update(self.extra_state())
        checkpoint.save(
            path,
            tensors,
            {
                "kind": "agent",
                "algorithm": self.algorithm,
                "config": dataclasses.asdict(self.config),
                "settings": self.actor.settings,
                "meaning": dataclasses.asdict(self.meaning) if self.meaning else None,
                "observation": list(self.world.observation_shape) if self.world else None,
                "seed": self.seed,
                "num_timesteps": self.num_timesteps,
                "total_timesteps": self._total,
                "rng_device": self.device.type,
                "training": extra,
            },
        )

    @classmethod
    def load(cls, path: Path, env: Env | None = None, *, device: torch.device | str | None = None) -> Self:
        """Reads an agent back.

        Args:
            path: A file that `save` wrote.
            env: To learn on in, or None to predict only.
            device: As for a new agent.

        Returns:
            The agent, as it was when saved.

        Raises:
            CheckpointError: If the file is missing, damaged, another algorithm's, or of another scale, basis or action
                space than the environment's.
        """
        tensors, metadata = checkpoint.read(path)
        if metadata.get("kind") != "agent":
            raise CheckpointError(f"{path} holds a {metadata.get('kind')}, not an agent: give an agent's checkpoint")
        if metadata["algorithm"] != cls.algorithm:
            raise CheckpointError(f"{path} holds a {metadata['algorithm']} agent, not {cls.algorithm}: use agents.load")
        start = restore(metadata["settings"])
        config: Any = cls.config_class.from_dict(metadata["config"])
        agent = cls(None, config, actor=start, seed=metadata["seed"], device=device or _device_of(env))
        agent.meaning = ActionMeaning.from_metadata(metadata)
        if env is not None:
            agent._enter(os.fspath(path), env)
        for name, network in {**agent.networks(), "averaged": agent.averaged}.items():
            network.load_state_dict(under(tensors, name))
        for name, optimiser in agent._optimisers.items():
            slots: dict[int, dict[str, Tensor]] = {}
            for key, tensor in under(tensors, f"optimiser.{name}").items():
                index, slot = key.split(".", 1)
                slots.setdefault(int(index), {})[slot] = tensor
            optimiser.load_state_dict({**optimiser.state_dict(), "state": slots})
        if metadata["rng_device"] == agent.device.type:
            agent.rng.set_state(tensors["rng"])
        else:  # another kind of device has another kind of generator
            agent.rng.manual_seed(agent.seed + metadata["num_timesteps"])
        agent.num_timesteps, agent._total = metadata["num_timesteps"], metadata["total_timesteps"]
        agent.load_extra_state(tensors)
        return agent

    def networks(self) -> dict[str, nn.Module]:
        """Gives the networks that learn, by name."""
        return {"actor": self.actor}

    def extra_state(self) -> dict[str, Tensor]:
        """Gives a subclass's further tensors for its file."""
        return {}

    def load_extra_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes a subclass's further tensors out of those of a file."""

    # Parts that subclasses use

    def adam(self, name: str, parameters: Any, lr: float) -> torch.optim.Adam:
        """Makes an optimiser that is scheduled and saved with the agent."""
        optimiser = torch.optim.Adam(parameters, lr=lr)
        optimiser.param_groups[0]["initial_lr"] = lr
        self._optimisers[name] = optimiser
        return optimiser

    def descend(self, name: str, loss: Tensor) -> None:
        """Takes one optimiser's step down the loss."""
        optimiser = self._optimisers[name]
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(optimiser.param_groups[0]["params"], self.config.max_grad_norm)
        optimiser.step()

    def _start(self, actor: Actor | Path, actions: int | None) -> Actor:
        """The actor's first weights, checked against the environment."""
        if isinstance(actor, Actor):
            start = copy.deepcopy(actor)
        elif actor in PREDICTORS:
            start = build(str(actor), actions=actions or 15)
        else:
            start, learned = load_predictor(actor)
            start = translated(os.fspath(actor), start, learned, self.world)
        if actions not in (None, start.settings["actions"]):
            raise ValueError(f"the actor gives {start.settings['actions']} components, the environment takes {actions}")
        return start.train().requires_grad_(True)

    def _enter(self, what: str, env: Env) -> None:
        world, own = OneStepWorld(env, self.device), self.actor.settings["actions"]
        self.check_world(world)
        check_meaning(what, self.meaning, world.meaning)
        if world.actions != own:
            raise CheckpointError(f"{what} gives {own} components, the environment takes {world.actions}")
        self.world = world

    def _set_learning_rates(self) -> None:
        decay = self.config.lr_final**self.progress
        for optimiser in self._optimisers.values():
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

    def _bar(self, shown: bool) -> Any:
        return tqdm(
            total=self._total, initial=self.num_timesteps, desc=self.algorithm, unit=" renders", disable=not shown
        )


def _device_of(env: Env | None) -> Any:
    return getattr(getattr(env, "unwrapped", None), "device", None) or "cpu"


def translated(what: str, predictor: Actor, learned: ActionMeaning | None, world: OneStepWorld | None) -> Actor:
    """Makes a loaded predictor speak the environment's action space: one of actions becomes one of free codes.

    Raises:
        CheckpointError: If scale, basis or action space differ otherwise.
    """
    wanted = world.meaning if world else None
    if learned and wanted and (learned.kind, wanted.kind) == ("code", "free-code") and world is not None:
        predictor.to_free_code(world.env.unwrapped.core.codec.gain)  # type: ignore[attr-defined]
        learned = dataclasses.replace(learned, kind="free-code")
    if world is not None:
        check_meaning(what, learned, wanted)
    return predictor


def per_component(values: tuple[float, ...], actions: int) -> Tensor:
    """Spreads settings over an action's components: the last value holds for all that follow.

    >>> per_component((0.5, 0.25), 4).tolist()
    [0.5, 0.25, 0.25, 0.25]
    """
    if not values or min(values) < 0:
        raise ValueError(f"noise needs one or more values of at least 0, not {values}")
    return torch.tensor([values[min(i, len(values) - 1)] for i in range(actions)])
