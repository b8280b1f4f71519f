"""Stable-Baselines3's algorithms as agents like ours: trained, saved, loaded and scored by the same commands.

Each is a small network on what a frozen predictor measures, which moves the predictor's action; see `Residual`. It
begins at the predictor, with the exploration that ours have. Files are safetensors as ours, without pickles.
Stable-Baselines3 is imported when one is made.
"""

from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
import torch
import yaml
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray
from torch import Tensor, nn

from agents.agent import Agent
from agents.config import ABOVE_0, AgentConfig
from agents.networks import answer
from agents.residual import Residual, add_residual
from agents.watch import Watch
from agents.worlds import SHARES, OneStepWorld
from generators.nearest import unknown

OFF_POLICY = {"buffer_size": 20_000, "learning_starts": 0, "batch_size": 256, "train_freq": 1, "gradient_steps": -1}
"""As many updates as renders, and no uniform actions first; the library's own settings are for millions of steps."""

REFILL = 1_000
"""Transitions that an agent which learned before collects for a new replay before it learns from it."""

OLDER = (("average", 0), ("constant", False))

OWN = ("self", "policy", "env", "learning_rate", "seed", "device", "action_noise", "max_grad_norm", "use_sde")
"""Arguments of the library's classes that the agent gives itself."""


@dataclass(frozen=True, kw_only=True)
class SB3Config(AgentConfig):
    """Settings of an algorithm of Stable-Baselines3.

    Attributes:
        noise: initial standard deviations of the actions of PPO, A2C and SAC, which then learn them; action noise of
            DDPG and TD3.
        actor_lr: the library's `learning_rate`, for all of the algorithm's networks.
        max_grad_norm: gradient-norm clip of PPO and A2C; the others do not clip.
        reach: how far from the predictor's action the agent can go, in each component.
        arguments: further arguments of the library's class, such as `{gradient_steps: 4}`, in plain values, which
            files can hold; an `activation_fn` of `policy_kwargs` is named, as `ReLU` of `torch.nn`.
    """

    noise: tuple[float, ...] = (0.1,) * 8 + (0.03,)
    actor_lr: float = 3e-4
    lr_final: float = 0.03
    reach: float = 0.5
    arguments: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.demand(ABOVE_0, "reach", "noise")
        try:
            json.dumps(self.arguments)
        except TypeError as error:
            raise ValueError(
                f"arguments in {type(self).__name__} must be plain values, which a file can hold ({error}): give an "
                "activation_fn by its name in torch.nn"
            ) from None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Make a config of plain values; see `AgentConfig.from_dict`."""
        # Older files name two settings that had to be so, since no algorithm of the library knows them.
        return super().from_dict({key: value for key, value in values.items() if (key, value) not in OLDER})


class SB3Agent(Agent[SB3Config]):
    """An algorithm of Stable-Baselines3 around a predictor, which is the `actor` and stays as it is.

    A saved agent keeps its networks, not the library's optimizers, replay and (SAC) entropy coefficient: where it goes
    on, these begin anew. An off-policy algorithm then makes no updates until its policy has filled the replay with
    1,000 transitions, or with a quarter of the renders to come where that is less, and with a batch at the least.
    Learning seeds the global random numbers of Python, NumPy and torch, as the library does.

    Attributes:
        policy: the library's, on the CPU.
        model: the library's algorithm, from the first `learn` on.

    Raises:
        ValueError: `arguments` of the config that the library's class does not take.
    """

    config_class: ClassVar[type[AgentConfig]] = SB3Config
    library_class: ClassVar[str]
    defaults: ClassVar[dict[str, Any]] = {}
    """Arguments of the library's class, where `arguments` of the config does not say otherwise."""
    policy_defaults: ClassVar[dict[str, Any]] = {}
    """What the library's class itself tells its policy."""

    def check_world(self, world: OneStepWorld) -> None:
        """Refuse environments that do not reset themselves, as the library's do."""
        if world.env.metadata.get("autoreset_mode") is not AutoresetMode.SAME_STEP:
            raise ValueError(f'{self.algorithm} learns where autoreset_mode="same step": make the environment with it')

    def setup(self) -> None:
        """Make the policy, which moves nothing yet; the predictor learns nothing."""
        self.model: Any = None
        self.actor.eval().requires_grad_(False)
        self._arguments = self._checked()
        make = self._library().policy_aliases["MlpPolicy"]
        try:
            self.policy: Any = make(
                Box(-np.inf, np.inf, (self.actor.pooled_size,), np.float32),
                Box(-1, 1, (int(self.actor.settings["actions"]),), np.float32),
                lambda left: self.config.actor_lr,
                **{**self.policy_defaults, **self._arguments.get("policy_kwargs", {})},
            )
        except TypeError as error:
            raise ValueError(f"policy_kwargs in arguments of {self.algorithm}: {error}") from None
        with torch.no_grad():
            self.start_at_predictor(self._deviation())

    def start_at_predictor(self, deviation: Tensor) -> None:
        """Set the policy's last layers: mean residual 0, and this deviation, `(actions,)`, where it has one."""
        _zero(self.policy.action_net)
        self.policy.log_std.copy_(deviation.log())

    def networks(self) -> dict[str, nn.Module]:
        """Give the predictor and the policy."""
        return {**super().networks(), "policy": self.policy}

    def run(self, watch: Watch, reset_num_timesteps: bool) -> None:
        """Learn as the library does; see `Agent.run`.

        PPO and A2C end with a whole rollout; an interrupted one is rendered and not learned from.
        """
        left = self.total_timesteps - self.num_timesteps
        if self.model is None:
            self.model = self._model()
            if self.learned and hasattr(self.model, "replay_buffer"):
                _fill_first(self.model, max(self.model.batch_size, min(REFILL, left // 4)))
        # The library would seed by the agent's seed alone, and remembers scenes that are shown no more where it was
        # stopped, or the environment was used since.
        self.model.get_env().seed(self.scenes_seed())
        self.model._last_obs = None
        self.model.num_timesteps = self.num_timesteps
        self.model.learn(left, _callback(watch), log_interval=None, reset_num_timesteps=False)

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[Any, None]:
        """Choose actions; see `Agent.predict`. Not deterministic, it draws from torch's global random numbers."""

        def choose(lr: Tensor) -> Tensor:
            pooled = self.actor.pooled(lr)
            residual, _ = self.policy.predict(pooled.cpu().numpy(), deterministic=deterministic)
            if not deterministic:
                residual = self.explored(residual)
            return add_residual(self.actor.act(pooled), torch.from_numpy(residual), self.config.reach)

        return answer(observation, self.device, choose), None

    def explored(self, residual: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give residuals `(N, actions)` that the policy drew as they are; where it draws none, with noise."""
        return residual

    def exploration(self) -> dict[str, Any]:
        """Give the library's arguments that the config's noise and clipping become."""
        return {"max_grad_norm": self.config.max_grad_norm}

    def _model(self) -> Any:
        """Give the library's algorithm around the policy, in the world."""
        from agents.sb3 import SB3VecEnv

        assert self.world is not None
        config = self.config
        env = SB3VecEnv(Residual(self.world.env, self.actor, reach=config.reach, device=self.device))
        try:
            model = self._library()(
                "MlpPolicy",
                env,
                learning_rate=lambda left: config.actor_lr * config.lr_final ** min(1.0, 1 - left),
                seed=self.seed,
                device="cpu",
                **{**self.defaults, **self.exploration(), **copy.deepcopy(self._arguments)},  # A2C writes in it
            )
        except (TypeError, AssertionError) as error:
            raise ValueError(f"arguments of {self.algorithm}: {' '.join(str(error).split())}") from None
        model.policy.load_state_dict(self.policy.state_dict())
        self.policy = model.policy
        return model

    def _library(self) -> Any:
        import stable_baselines3

        return getattr(stable_baselines3, self.library_class)

    def _deviation(self) -> Tensor:
        return self.noise.cpu() / self.config.reach

    def _checked(self) -> dict[str, Any]:
        """Give the config's arguments, texts of the command line as what YAML reads in them."""
        known = [name for name in inspect.signature(self._library().__init__).parameters if name not in OWN]
        arguments = self.config.arguments
        for name in arguments:
            if name not in known:
                raise ValueError(unknown(f"argument of {self.algorithm}", name, known))
        read = {name: _value(each) for name, each in arguments.items()}
        policy = read.get("policy_kwargs")
        if isinstance(policy, Mapping) and isinstance(name := policy.get("activation_fn"), str):
            if not isinstance(getattr(nn, name, None), type):
                raise ValueError(f"activation_fn must be the name of a class of torch.nn, got {name!r}")
            read["policy_kwargs"] = {**policy, "activation_fn": getattr(nn, name)}
        return read


class SB3PPO(SB3Agent):
    """Proximal policy optimisation (Schulman et al., 2017)."""

    algorithm: ClassVar[str] = "sb3-ppo"
    library_class: ClassVar[str] = "PPO"
    defaults: ClassVar[dict[str, Any]] = {"n_steps": 12, "batch_size": 64}


class SB3A2C(SB3Agent):
    """Advantage actor-critic (Mnih et al., 2016)."""

    algorithm: ClassVar[str] = "sb3-a2c"
    library_class: ClassVar[str] = "A2C"


class SB3SAC(SB3Agent):
    """Soft actor-critic (Haarnoja et al., 2018)."""

    algorithm: ClassVar[str] = "sb3-sac"
    library_class: ClassVar[str] = "SAC"
    defaults: ClassVar[dict[str, Any]] = {**OFF_POLICY, "ent_coef": "auto_0.02"}  # rewards here are below 1

    def start_at_predictor(self, deviation: Tensor) -> None:
        """Set the last layers of the actor."""
        _zero(self.policy.actor.mu)
        _zero(self.policy.actor.log_std)
        self.policy.actor.log_std.bias.copy_(deviation.log())

    def exploration(self) -> dict[str, Any]:
        """Give nothing: its own deviation explores."""
        return {}


class SB3TD3(SB3Agent):
    """Twin delayed DDPG (Fujimoto et al., 2018)."""

    algorithm: ClassVar[str] = "sb3-td3"
    library_class: ClassVar[str] = "TD3"
    defaults: ClassVar[dict[str, Any]] = OFF_POLICY

    def start_at_predictor(self, deviation: Tensor) -> None:
        """Set the last layers of the actor and of its target."""
        for actor in (self.policy.actor, self.policy.actor_target):
            _zero([layer for layer in actor.mu if isinstance(layer, nn.Linear)][-1])

    def exploration(self) -> dict[str, Any]:
        """Give the action noise."""
        from stable_baselines3.common.noise import NormalActionNoise

        deviation = self._deviation().numpy()
        return {"action_noise": NormalActionNoise(np.zeros_like(deviation), deviation)}

    def explored(self, residual: NDArray[np.float32]) -> NDArray[np.float32]:
        """Add the action noise to residuals `(N, actions)`, within the library's box."""
        noisy = residual + torch.randn(residual.shape).mul(self._deviation()).numpy()
        return noisy.clip(-1, 1).astype(np.float32)


class SB3DDPG(SB3TD3):
    """The library's DDPG (Lillicrap et al., 2016), without the paper's sign penalty."""

    algorithm: ClassVar[str] = "sb3-ddpg"
    library_class: ClassVar[str] = "DDPG"
    policy_defaults: ClassVar[dict[str, Any]] = {"n_critics": 1}


def _value(text: Any) -> Any:
    """Give a text of the command line as what YAML reads in it, and a number that YAML does not know, 5e-3, as one."""
    value = yaml.safe_load(text) if isinstance(text, str) else text
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _fill_first(model: Any, transitions: int) -> None:
    """Have an off-policy algorithm skip its updates until the replay holds so many transitions, or is full.

    The library's own `learning_starts` would take uniform actions meanwhile, which tell nothing near the policy.
    """
    train, replay = model.train, model.replay_buffer

    def train_when_filled(*arguments: Any, **named: Any) -> None:
        if replay.full or replay.size() * model.n_envs >= transitions:
            train(*arguments, **named)

    model.train = train_when_filled


def _zero(layer: nn.Linear) -> None:
    layer.weight.zero_()
    layer.bias.zero_()


def _callback(watch: Watch) -> Any:
    """Give what the library calls after each step of the environment."""
    from stable_baselines3.common.callbacks import BaseCallback

    class Check(BaseCallback):
        def __init__(self) -> None:
            super().__init__()
            self.rewards: list[float] = []
            self.shares: dict[str, list[float]] = {}

        def _on_step(self) -> bool:
            self.rewards.append(float(self.locals["rewards"].mean()))
            if not np.isfinite(self.rewards[-1]):
                raise ValueError("the environment gave a reward that is not finite: check its metric")
            infos = self.locals["infos"]
            for name in SHARES:
                if all(name in info for info in infos):
                    self.shares.setdefault(name, []).append(float(np.mean([info[name] for info in infos])))
            if watch.count(int(self.num_timesteps)):
                told = self.model.logger.name_to_value  # the library's losses, of its last update
                figures = {
                    name.removeprefix("train/"): float(value) for name, value in told.items() if "train/" in name
                }
                means = {"reward": self.rewards, **self.shares}
                figures |= {name: float(np.mean(values)) for name, values in means.items()}
                watch.report({**figures, "timesteps": watch.agent.num_timesteps})
                self.rewards, self.shares = [], {}
            return not watch.agent.interrupted

    return Check()
