"""What all learning agents share: the manners of Stable-Baselines3, where an actor starts, and files.

How it learns is a subclass's: step by step (`SteppedAgent`), or in a library's own loop (`SB3Agent`).
"""

from __future__ import annotations

import copy
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from operator import index
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

import gymnasium
import numpy as np
import torch
from gymnasium.vector import VectorEnv
from torch import Tensor, nn
from tqdm.auto import tqdm

from agents import agent_file
from agents.checkpoints import SHIPPED_AGENTS, StrPath, is_name, load_predictor, shipped_predictor, whole
from agents.config import AgentConfig, per_component
from agents.interruption import Interruption
from agents.meaning import check_meaning, translated
from agents.networks import KINDS, PREDICTORS, UNTRAINED, Actor, build, from_observation, from_settings
from agents.watch import Watch
from agents.worlds import Env, OneStepWorld, device_of
from generators import checkpoint
from generators.checkpoint import CheckpointError
from generators.nearest import unknown

CALIBRATION = 32
"""Scenes that an untrained actor's constants are adapted to."""


class Callback(Protocol):
    """Called every `log_interval` iterations of `learn`.

    The environment is in use: to look at how the agent acts, make another one.
    """

    def __call__(self, agent: Any, figures: dict[str, float]) -> bool | None:
        """See the agent and the means of its figures since the last call; returning False ends `learn`."""


Config = TypeVar("Config", bound=AgentConfig)


class Agent(ABC, Generic[Config]):
    """An actor that learns in a one-step environment.

    Attributes:
        env: the environment, or None for a loaded agent that only predicts.
        config: the algorithm's settings.
        actor: the network that learns.
        num_timesteps: actions rendered since the schedule began.
        total_timesteps: those at which the schedule ends.
        earlier_timesteps: actions rendered in schedules before this one.
        schedule: every end that the schedule has had, in turn; more than one where a finished run went on.
        learned: whether its networks have learned before, here or in the file that it was read from.
        meaning: what the actions mean, and to which generator, where it learned last; None outside BlindSR.
        replay_mark: what its replay's file bears, to be known as its own; None before one was written.
        training: how it was trained, plain values, as `save` was told last, here or in the file that it was read from.
        interrupted: whether Ctrl-C, SIGTERM or the callback ended the last `learn`.

    Args:
        env: of one-step episodes, with uint8 images and actions in [-1, 1]; see `OneStepWorld`.
        config: the algorithm's settings; its defaults where None.
        actor: where the actor starts: a predictor of `agents.networks` (it is copied), the file of a predictor or
            agent, the name of an agent that ships (`"amgan_rl"`), or an untrained network, `"untrained:predictor"` or
            `"untrained:predictor_s"`. None is the predictor that ships where its actions mean something: in BlindSR's
            `"code"` and `"free-code"` spaces, at its scale and code basis; elsewhere, and where a wrapper changes the
            actions, `"untrained:predictor_s"`.
            Untrained networks are calibrated on the environment's first scenes: it is reset.
        seed: fixes weights, scenes, exploration and updates.
        device: where networks are; the environment's where None.

    Raises:
        ValueError: the environment's spaces do not fit, an unknown name, the actor was made for other actions, a
            config of another algorithm, a negative seed, or a device that is not there.
    """

    algorithm: ClassVar[str]
    config_class: ClassVar[type[AgentConfig]]
    needs_gradient: ClassVar[bool] = False
    """Whether it learns only where the environment gives the reward's gradient."""

    def __init__(
        self,
        env: Env | None,
        config: Config | None = None,
        *,
        actor: Actor | StrPath | None = None,
        seed: int = 0,
        device: torch.device | str | None = None,
    ) -> None:
        if env is not None and not isinstance(env, gymnasium.Env | VectorEnv):
            raise ValueError(f"env must be a Gymnasium environment, got {env!r}: give {type(self).__name__}(env)")
        if config is not None and not isinstance(config, self.config_class):
            raise ValueError(
                f"config of {type(self).__name__} must be a {self.config_class.__name__}, got a {type(config).__name__}"
            )
        self.device = device_of(env, device)
        self.seed = _whole("seed", seed)
        if self.seed < 0:
            raise ValueError(f"seed must be at least 0, got {seed}")
        self.world = OneStepWorld(env, self.device) if env is not None else None
        if self.world is not None:
            self.check_world(self.world)
        self.config: Config = config if config is not None else self.config_class()  # type: ignore[assignment]
        self.num_timesteps = 0
        self.interrupted = False
        self.total_timesteps = 0
        self.earlier_timesteps = 0
        self.schedule: list[int] = []
        self.learned = False
        self.replay_mark: str | None = None
        self.training: dict[str, Any] = {}
        actions = self.world.actions if self.world else None
        self.meaning = self.world.meaning if self.world else None
        with torch.random.fork_rng(devices=[]):  # weights from the seed, without touching the caller's random numbers
            torch.default_generator.manual_seed(self.seed)  # the CPU's, on which networks are made; no GPU's
            self.actor = self._start(actor, actions)
            self.noise = per_component(self.config.noise, self.actor.settings["actions"]).to(self.device)
            self.setup()

    @property
    def env(self) -> Env | None:
        """The environment."""
        return self.world.env if self.world else None

    def check_world(self, world: OneStepWorld) -> None:
        """Raise a ValueError where the algorithm cannot learn in this world."""

    @abstractmethod
    def setup(self) -> None:
        """Make further networks and the optimisers, in `self`; a `SteppedAgent`'s calls that of `super()` first."""

    @abstractmethod
    def run(self, watch: Watch, reset_num_timesteps: bool) -> None:
        """Learn in the world until `total_timesteps` are rendered or `interrupted` is set: the loop of `learn`.

        Args:
            watch: told of each step, and given the figures when it says so.
            reset_num_timesteps: of `learn`.
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
        """Learn until `total_timesteps` actions have been rendered.

        Ctrl-C or SIGTERM end it after the iteration under way: the agent is whole, and `interrupted` is True.

        Called again, it learns from other scenes, with what it has: networks, optimisers, replay.

        Args:
            total_timesteps: actions, over all rows; schedules run over these.
            callback: see `Callback`.
            progress_bar: shows the reward and the time left.
            log_interval: iterations between two calls of the callback; it is called at the end, too.
            reset_num_timesteps: False goes on with the schedule: `total_timesteps` more, as after an interruption. In a
                BlindSR vector environment the scenes go on too; in others they begin anew, from another seed.

        Returns:
            The agent.

        Raises:
            ValueError: there is no environment, nothing to render, or rewards or losses are not finite.
        """
        total_timesteps = _whole("total_timesteps", total_timesteps)
        if total_timesteps < 1:
            raise ValueError(f"total_timesteps must be at least 1, got {total_timesteps}")
        if _whole("log_interval", log_interval) < 1:
            raise ValueError(f"log_interval must be at least 1, got {log_interval}")
        if callback is not None and not callable(callback):
            raise ValueError(f"callback must be a function of the agent and its figures, got {callback!r}")
        if self.world is None:
            raise ValueError(
                f"this agent has no environment to learn in: give one, {type(self).__name__}.load(path, env=env)"
            )
        if reset_num_timesteps:
            self.earlier_timesteps += self.num_timesteps
            self.num_timesteps, self.schedule = 0, []
        self.total_timesteps = self.num_timesteps + total_timesteps
        if self.schedule[-1:] != [self.total_timesteps]:
            self.schedule = [*self.schedule, self.total_timesteps]
        self.interrupted = False
        self.training = {}  # what was said of it holds no longer
        self.meaning = self.world.meaning  # of another generator than before, perhaps, where actions mean the same
        with Interruption() as interruption, self._bar(progress_bar) as bar:
            self.run(Watch(self, callback, bar, interruption, log_interval), reset_num_timesteps)
        self.learned = True
        return self

    @abstractmethod
    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[Any, None]:
        """Choose actions, called as Stable-Baselines3 calls its algorithms.

        Args:
            observation: `(H, W, 3)` or `(N, H, W, 3)` uint8, NumPy or torch, of any size.
            state: ignored, there is none; the `info` of the policies' protocol may stand here.
            episode_start: ignored: every episode is one step.
            deterministic: False explores as the algorithm did last: noise that decays in training has decayed here.

        Returns:
            Actions `(actions,)` or `(N, actions)` float32 in [-1, 1], of the observation's kind; and None.
        """

    def scenes_seed(self) -> int:
        """Give the seed that scenes begin with: made of the agent's seed and of how much it has rendered.

        So a run that goes on without the state of its scenes sees new ones, and runs of neighboring seeds share none,
        though row i has this seed + i.
        """
        rendered = self.earlier_timesteps + self.num_timesteps
        return int(np.random.SeedSequence([self.seed, rendered]).generate_state(1)[0] >> 1)

    @property
    def progress(self) -> float:
        """Share of the schedule done, in [0, 1]."""
        return min(self.num_timesteps / self.total_timesteps, 1.0) if self.total_timesteps else 0.0

    # Files

    def save(self, path: StrPath, *, with_replay: bool = False, training: Mapping[str, Any] | None = None) -> None:
        """Write the agent, its optimisers, its scenes' state and its place in the schedule to a safetensors file.

        For a `SteppedAgent` in a BlindSR vector environment that is not wrapped, a run that was stopped, saved, loaded
        and continued equals one that was never stopped, on a CPU to the bit; an algorithm that keeps transitions needs
        them too (`with_replay`). In other environments the continued run sees other scenes.

        Args:
            path: where to.
            with_replay: whether to write the transitions of an algorithm that keeps them too, to a file beside it,
                `agent.replay.safetensors` beside `agent.safetensors`. Otherwise a replay that this agent wrote there
                before still serves, though it lacks the newest transitions; without any, a loaded agent first fills a
                new one.
            training: how it was trained, plain values; None for what it was saved with before, unless it has learned
                since.

        Raises:
            OSError: a file cannot be written.
        """
        if training is not None:
            self.training = dict(training)
        if with_replay:
            agent_file.mark_replay(self)
        checkpoint.save(path, *agent_file.contents(self))
        if with_replay:
            agent_file.save_replay(self, path)

    @classmethod
    def load(cls, path: StrPath, env: Env | None = None, *, device: torch.device | str | None = None) -> Self:
        """Read an agent back.

        Args:
            path: a file that `save` wrote.
            env: to learn on in, or None to predict only.
            device: as for a new agent.

        Returns:
            The agent, as it was when saved; to learn on, with the replay that was saved beside it, where that is of
            rewards as they are here. Metrics of your own and wrappers are known by their names.

        Raises:
            CheckpointError: the file is missing, damaged, another algorithm's, or of another scale, basis or action
                space than the environment's.
            ValueError: the device is not there.
        """
        agent = cls.from_contents(path, *checkpoint.read(path), env, device=device)
        if env is not None:  # one that only predicts has no use for it
            agent_file.load_replay(agent, path)
        return agent

    @classmethod
    def from_contents(
        cls,
        path: StrPath,
        tensors: Mapping[str, Tensor],
        metadata: Mapping[str, Any],
        env: Env | None = None,
        *,
        device: torch.device | str | None = None,
    ) -> Self:
        """Do `load`'s work on a file's contents; `path` is for messages."""
        if metadata.get("kind") != "agent":
            raise CheckpointError(f"{path} holds a {metadata.get('kind')}, not an agent: give an agent's checkpoint")
        if metadata.get("algorithm") != cls.algorithm:
            raise CheckpointError(
                f"{path} holds a {metadata.get('algorithm')} agent, not {cls.algorithm}: use agents.load"
            )
        place = device_of(env, device)
        with whole(path, "agent"):
            config: Any = cls.config_class.from_dict(metadata["config"])
            start, seed = from_settings(metadata["settings"]), int(metadata["seed"])
            agent = cls(None, config, actor=start, seed=seed, device=place)
            agent_file.take_over(agent, tensors, metadata)
        if env is not None:
            agent._enter(os.fspath(path), env)
        return agent

    def networks(self) -> dict[str, nn.Module]:
        """Give the networks that learn, by name."""
        return {"actor": self.actor}

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Give what else a file keeps of an algorithm: tensors by name, and plain values."""
        return {}, {}

    def load_state(self, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
        """Take over what `state` gave from the contents of a file.

        Raises:
            KeyError: something is missing, or a tensor is of no known name; other errors of `checkpoints.whole` where
                one is of another type or shape.
        """

    def replay_state(self) -> dict[str, Tensor]:
        """Give the tensors of the replay, where there is one."""
        return {}

    def load_replay_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `replay_state` gave."""

    def _start(self, actor: Actor | StrPath | None, actions: int | None) -> Actor:
        """The actor's first weights on the device, checked against the environment."""
        core = self.world.core if self.world else None
        if actor is None:
            actor = shipped_predictor(core) or f"{UNTRAINED}predictor_s"
        if isinstance(actor, nn.Module):
            if type(actor) not in KINDS.values():
                known = " or ".join(kind.__name__ for kind in KINDS.values())
                raise ValueError(f"actor must be a {known}, which files can hold, got a {type(actor).__name__}")
            start = copy.deepcopy(actor).to(self.device)
        elif str(actor).startswith(UNTRAINED):
            start = build(str(actor).removeprefix(UNTRAINED), actions=actions or 15).to(self.device)
            self._calibrate(start)
        else:
            _check_name(actor)
            start, learned = load_predictor(actor)
            if self.world is not None:
                start = translated(os.fspath(actor), start, learned, core)
            start = start.to(self.device)
        if actions not in (None, start.settings["actions"]):
            raise ValueError(f"the actor gives {start.settings['actions']} components, the environment takes {actions}")
        return start.train().requires_grad_(True)

    def _calibrate(self, actor: Actor) -> None:
        """Adapt an untrained actor's constants to the environment's first scenes."""
        if self.world is None:
            return
        scenes = max(self.world.num_envs // self.world.repeats, 1)
        shown = [self.world.see(self.seed + i)[:: self.world.repeats] for i in range(0, CALIBRATION, scenes)]
        actor.calibrate(from_observation(torch.cat(shown)))

    def _enter(self, what: str, env: Env) -> None:
        world, own = OneStepWorld(env, self.device), self.actor.settings["actions"]
        self.check_world(world)
        check_meaning(what, self.meaning, world.meaning)
        if world.actions != own:
            raise CheckpointError(f"{what} gives {own} components, the environment takes {world.actions}")
        self.world = world

    def _bar(self, shown: bool) -> Any:
        return tqdm(
            total=self.total_timesteps,
            initial=self.num_timesteps,
            desc=self.algorithm,
            unit=" renders",
            disable=not shown,
        )


def _whole(name: str, value: Any) -> int:
    """Give a whole number, of NumPy's too, as Python's own, which files can hold."""
    try:
        return index(value)
    except TypeError:
        raise ValueError(f"{name} must be a whole number, got {value!r}") from None


def _check_name(actor: StrPath) -> None:
    """Raise a ValueError where an actor is named, and by no name that ships."""
    name = str(actor)
    if name in PREDICTORS:
        raise ValueError(
            f"actor {name!r} is either a trained predictor or an untrained network: leave actor out for the predictor "
            f"that ships, or give {UNTRAINED + name!r}"
        )
    if is_name(actor) and name not in SHIPPED_AGENTS:
        raise ValueError(unknown("actor", name, (*SHIPPED_AGENTS, *(UNTRAINED + each for each in PREDICTORS))))
