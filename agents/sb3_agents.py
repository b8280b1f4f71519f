"""Stable-Baselines3's algorithms as agents like ours: trained, saved, loaded and scored by the same commands.

Each is a small network on what a frozen predictor measures, which moves the predictor's action; see `Residual`.
Files are safetensors as ours, without pickles. Stable-Baselines3 is imported when one is made.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor, nn

from agents.agent import Agent, Callback
from agents.config import ABOVE_0, AgentConfig
from agents.interruption import Interruption
from agents.networks import answer
from agents.residual import Residual, around

OFF_POLICY = {"buffer_size": 20_000, "learning_starts": 256, "batch_size": 256, "train_freq": 1, "gradient_steps": -1}
"""As many updates as renders; the library's own settings are for millions of steps."""


@dataclass(frozen=True, kw_only=True)
class SB3Config(AgentConfig):
    """Settings of an algorithm of Stable-Baselines3.

    Attributes:
        noise: PPO's and A2C's first deviations, DDPG's and TD3's action noise; SAC finds its own.
        actor_lr: the library's `learning_rate`, of all its networks.
        average: none of the library's algorithms has one; 0.
        max_grad_norm: PPO's and A2C's; the others do not clip.
        reach: how far from the predictor's action an agent can go, in each component.
        library: further arguments of the library's class, such as `{gradient_steps: 4}`.
    """

    noise: tuple[float, ...] = (0.1,) * 8 + (0.03,)
    actor_lr: float = 3e-4
    lr_final: float = 0.03
    reach: float = 0.5
    library: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.demand(ABOVE_0, "reach", "noise")
        if self.average:
            raise ValueError(f"average in {type(self).__name__} must be 0, got {self.average}")


class SB3Agent(Agent[SB3Config]):
    """An algorithm of Stable-Baselines3 around a predictor, which is the `actor` and stays as it is.

    A saved agent keeps its networks, not the library's optimisers and replay: where it goes on, these begin anew.
    Learning seeds the global random numbers of Python, NumPy and torch, as the library does.

    Attributes:
        policy: the library's, on the CPU.
    """

    config_class: ClassVar[type[AgentConfig]] = SB3Config
    library: ClassVar[str]
    settings: ClassVar[dict[str, Any]] = {}
    critics: ClassVar[dict[str, Any]] = {}
    """Of the policy; what the library's class would tell it."""

    def setup(self) -> None:
        """Make the policy; the predictor learns nothing."""
        self.actor.eval().requires_grad_(False)
        actions = int(self.actor.settings["actions"])
        kind = self._kind()
        self.policy: Any = kind.policy_aliases["MlpPolicy"](
            Box(-np.inf, np.inf, (self.actor.pooled_size,), np.float32),
            Box(-1, 1, (actions,), np.float32),
            lambda left: self.config.actor_lr,
            **{**self.critics, **self.config.library.get("policy_kwargs", {})},
        )
        if isinstance(deviation := getattr(self.policy, "log_std", None), nn.Parameter):  # PPO's and A2C's
            with torch.no_grad():
                deviation.copy_((self.noise.cpu() / self.config.reach).log())

    def networks(self) -> dict[str, nn.Module]:
        """Give the predictor and the policy."""
        return {"actor": self.actor, "policy": self.policy}

    def iterate(self, observation: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Refuse: the library has a loop of its own, see `learn`."""
        raise NotImplementedError

    def learn(
        self,
        total_timesteps: int,
        callback: Callback | None = None,
        progress_bar: bool = False,
        *,
        log_interval: int = 10,
        reset_num_timesteps: bool = True,
    ) -> Self:
        """Learn as the library does; see `Agent.learn`. PPO and A2C finish the rollout that they are in."""
        from agents.sb3 import SB3VecEnv

        if self.world is None:
            raise ValueError("this agent has no environment to learn in: give one, load(path, env=env)")
        self.num_timesteps = 0 if reset_num_timesteps else self.num_timesteps
        self.total_timesteps = self.num_timesteps + total_timesteps
        self.interrupted = False
        kind, config = self._kind(), self.config
        env = SB3VecEnv(Residual(self.world.env, self.actor, reach=config.reach, device=self.device))
        model = kind(
            "MlpPolicy",
            env,
            learning_rate=lambda left: config.actor_lr * config.lr_final ** (1 - left),
            seed=self.seed + self.num_timesteps,  # a run that goes on sees new scenes
            device="cpu",
            **{**self.settings, **self._exploration(), **copy.deepcopy(config.library)},  # A2C writes in it
        )
        model.policy.load_state_dict(self.policy.state_dict())
        self.policy, model.num_timesteps = model.policy, self.num_timesteps
        with Interruption() as interruption, self._bar(progress_bar) as bar:
            watch = _watch(self, callback, bar, log_interval, lambda: interruption.requested)
            model.learn(total_timesteps, watch, reset_num_timesteps=False)
        return self

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[Any, None]:
        """Choose actions; see `Agent.predict`. Not deterministic, it draws from torch's global random numbers."""

        def choose(lr: Tensor) -> Tensor:
            pooled = self.actor.pooled(lr)
            offset, _ = self.policy.predict(pooled.cpu().numpy(), deterministic=deterministic)
            return around(self.actor.act(pooled), torch.from_numpy(offset), self.config.reach)

        return answer(observation, self.device, choose), None

    def _kind(self) -> Any:
        import stable_baselines3

        return getattr(stable_baselines3, self.library)

    def _exploration(self) -> dict[str, Any]:
        """Give the library's arguments that the config's exploration and clipping become."""
        return {"max_grad_norm": self.config.max_grad_norm}


class PPO(SB3Agent):
    """Proximal policy optimisation (Schulman et al., 2017)."""

    algorithm: ClassVar[str] = "sb3-ppo"
    library: ClassVar[str] = "PPO"
    settings: ClassVar[dict[str, Any]] = {"n_steps": 12, "batch_size": 64}


class A2C(SB3Agent):
    """Advantage actor-critic (Mnih et al., 2016)."""

    algorithm: ClassVar[str] = "sb3-a2c"
    library: ClassVar[str] = "A2C"


class SAC(SB3Agent):
    """Soft actor-critic (Haarnoja et al., 2018)."""

    algorithm: ClassVar[str] = "sb3-sac"
    library: ClassVar[str] = "SAC"
    settings: ClassVar[dict[str, Any]] = {**OFF_POLICY, "ent_coef": "auto_0.02"}  # rewards here are below 1

    def _exploration(self) -> dict[str, Any]:
        return {}


class TD3(SB3Agent):
    """Twin delayed DDPG (Fujimoto et al., 2018)."""

    algorithm: ClassVar[str] = "sb3-td3"
    library: ClassVar[str] = "TD3"
    settings: ClassVar[dict[str, Any]] = OFF_POLICY

    def _exploration(self) -> dict[str, Any]:
        from stable_baselines3.common.noise import NormalActionNoise

        deviation = (self.noise.cpu() / self.config.reach).numpy()
        return {"action_noise": NormalActionNoise(np.zeros_like(deviation), deviation)}


class SB3DDPG(TD3):
    """The library's DDPG (Lillicrap et al., 2016), with its replay and without the paper's sign penalty."""

    algorithm: ClassVar[str] = "sb3-ddpg"
    library: ClassVar[str] = "DDPG"
    critics: ClassVar[dict[str, Any]] = {"n_critics": 1}


def _watch(
    agent: SB3Agent, callback: Callback | None, bar: Any, log_interval: int, requested: Callable[[], bool]
) -> Any:
    """Give what the library calls after each step of the environment: it counts, reports and may end the learning."""
    from stable_baselines3.common.callbacks import BaseCallback

    class Watch(BaseCallback):
        def __init__(self) -> None:
            super().__init__()
            self.rewards: list[float] = []

        def _on_step(self) -> bool:
            agent.num_timesteps = int(self.num_timesteps)
            self.rewards.append(float(self.locals["rewards"].mean()))
            bar.update(min(agent.num_timesteps, agent.total_timesteps) - bar.n)
            agent.interrupted = agent.interrupted or requested()
            due = len(self.rewards) == log_interval or agent.num_timesteps >= agent.total_timesteps
            if due or agent.interrupted:
                means = {"reward": float(np.mean(self.rewards)), "timesteps": agent.num_timesteps}
                self.rewards = []
                bar.set_postfix(reward=f"{means['reward']:+.3f}")
                if callback is not None and callback(agent, means) is False:
                    agent.interrupted = True
            return not agent.interrupted

    return Watch()
