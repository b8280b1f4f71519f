"""One-step worlds as agents see them: any Gymnasium environment of one-step episodes, in torch.

Agents get scenes and rewards as tensors on their device; whether the environment speaks NumPy or torch, is single or a
vector, and resets itself or not, ends here.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from torch import Tensor

from agents import wrapping
from agents.meaning import ActionMeaning, core_of
from blindsr_env import sharing
from blindsr_env.vector_env import BlindSRVectorEnv

Env = gymnasium.Env[Any, Any] | VectorEnv[Any, Any, Any]

SHARES = ("invalid", "broken")
"""Keys of `info`, bool arrays, whose shares tell how far to trust a mean reward."""


class OneStepWorld:
    """Shows scenes and takes one action for each: `see(seed)`, then `act(actions)` again and again.

    A BlindSR vector environment, not wrapped, can go back to scenes shown before: `see(seed, state)`.

    Attributes:
        core: BlindSR's core, or None of another environment.
        meaning: what actions mean there.
        repeats: rows that share a scene.
        info: what the environment says of the scenes shown last.
        gradient: of the last rewards with respect to their actions, `(N, actions)` on the device; None where the
            environment does not give it.
        shares: what share of the last actions was of no use, by name, scalars on the device: `invalid`, where not even
            the true code's picture has a score (reward 0), and `broken`, where only the action's has none (the
            environment's penalty). Empty where the environment does not say.

    Args:
        env: a vector environment, or a single one. Observations: uint8 images `(H, W, 3)`; actions: a flat float
            `Box(-1, 1)`; every episode ends after one step.
        device: where observations and rewards are wanted.

    Raises:
        ValueError: the spaces or the autoreset mode do not fit, infos are a list, or BlindSR's single environments lie
            in processes of their own, where nobody sees what their actions mean.
    """

    def __init__(self, env: Env, device: torch.device) -> None:
        if isinstance(env.unwrapped, AsyncVectorEnv) and "BlindSR-v0" in _ids(env.unwrapped):
            raise ValueError(
                "agents learn in one batch, not in BlindSR environments of several processes: make it with "
                'gymnasium.make_vec("BlindSR-v0", num_envs=N)'
            )
        wrapping.check_infos(env)
        self.core = core_of(env)
        self.meaning = ActionMeaning.from_core(self.core)
        self.info: Mapping[str, Any] = {}
        self.gradient: Tensor | None = None
        self.shares: dict[str, Tensor] = {}
        self.env = env if isinstance(env, VectorEnv) else _vectorised(env)
        self.device = device
        self.num_envs = self.env.num_envs
        self.repeats = int(getattr(self.env.unwrapped, "repeats", 1))
        self.observation_shape, self.actions = check_spaces(
            self.env.single_observation_space, self.env.single_action_space
        )
        mode = self.env.metadata.get("autoreset_mode")
        if mode not in (AutoresetMode.SAME_STEP, AutoresetMode.DISABLED):
            raise ValueError(
                f"the environment's autoreset mode is {getattr(mode, 'value', mode)}, which wastes every second step: "
                'make it with autoreset_mode="same step" (SyncVectorEnv: AutoresetMode.SAME_STEP)'
            )
        self._native = self.env if isinstance(self.env, BlindSRVectorEnv) else None
        self._resets = mode is AutoresetMode.DISABLED
        self._numpy = True
        self._checked = False

    def see(self, seed: int, state: Mapping[str, Any] | None = None) -> Tensor:
        """Start all rows anew, or go back to where `state` was taken.

        Args:
            seed: of the scenes, where there is no state to go back to.
            state: what `state` gave; passed over where the environment cannot go back, and, with a warning, where it is
                of one that shows other scenes.

        Returns:
            Observations `(N, H, W, 3)` uint8.
        """
        different = self._native.mismatch(state) if state and self._native else None
        if different:
            warnings.warn(f"the scenes are others than before the agent was saved: {different}", stacklevel=2)
        if state and self._native and not different:
            observation, self.info = self._native.set_state(state)
            if any(state.get("ended", ())):  # what it was taken of stopped between a step and the reset after it
                observation, self.info = self.env.reset()
        else:
            observation, self.info = self.env.reset(seed=seed)
        self._numpy = not isinstance(observation, Tensor)
        return self._tensor(observation)

    def state(self) -> dict[str, Any] | None:
        """Say in plain values which scenes are shown and which follow; None where the environment cannot go back."""
        return self._native.state() if self._native else None

    def act(self, action: Tensor) -> tuple[Tensor, Tensor]:
        """Play one step in every row.

        Args:
            action: `(N, actions)`, float32 in [-1, 1].

        Returns:
            Rewards `(N,)` float32, and the next scenes' observations `(N, H, W, 3)` uint8.

        Raises:
            ValueError: an episode does not end, or a reward is not finite. On a GPU rewards, and whether later episodes
                end, are not looked at, so as not to wait for them; agents check the mean reward of several steps there.
        """
        sent = action.cpu().numpy().copy() if self._numpy else action.clone()  # which the environment may change
        observation, reward, terminated, truncated, infos = self.env.step(sent)
        ended = torch.as_tensor(terminated | truncated)
        if not (ended.is_cuda and self._checked):  # a GPU is waited for once
            self._checked = True
            if not bool(ended.all()):
                raise ValueError("an episode did not end after one step: these agents learn one-step environments only")
        reward = self._tensor(reward).float()
        if not reward.is_cuda and not torch.isfinite(reward).all():
            rows = (~torch.isfinite(reward)).nonzero().flatten().tolist()
            raise ValueError(f"the environment gave a reward that is not finite in rows {rows}: check its metric")
        told = infos.get("final_info", infos)
        self.shares = {name: self._tensor(told[name]).float().mean() for name in SHARES if name in told}
        self.gradient = self._tensor(told["gradient"]).float() if "gradient" in told else None
        if self.gradient is not None and not reward.is_cuda and not torch.isfinite(self.gradient).all():
            raise ValueError("the environment gave a gradient that is not finite: check its metric")
        self.info = infos
        if self._resets:
            observation, self.info = self.env.reset()
        return reward, self._tensor(observation)

    def _tensor(self, x: Any) -> Tensor:
        """Bring an array to the device: a copy, since environments may write the next step's into the same memory."""
        waits = self.device.type == "cpu"  # a copy from a GPU that did not would be read before it is there
        return torch.as_tensor(x).to(self.device, non_blocking=not waits, copy=True)


def device_of(env: Env | None, wanted: torch.device | str | None = None) -> torch.device:
    """Give the device to work on: the one that is wanted, or the environment's, or the CPU.

    Raises:
        ValueError: it is not there.
    """
    return sharing.device_of(wanted or getattr(wrapping.innermost(env), "device", None) or "cpu")


def _ids(env: AsyncVectorEnv) -> set[str | None]:
    """Name the environments of several processes, as Gymnasium registered them."""
    return {getattr(spec, "id", None) for spec in env.get_attr("spec")}


def _vectorised(env: gymnasium.Env[Any, Any]) -> VectorEnv[Any, Any, Any]:
    return SyncVectorEnv([lambda: env], autoreset_mode=AutoresetMode.SAME_STEP)


def check_spaces(observation: gymnasium.Space[Any], action: gymnasium.Space[Any]) -> tuple[tuple[int, ...], int]:
    """Give an observation's shape and how many components an action has.

    Args:
        observation: of one row.
        action: likewise.

    Raises:
        ValueError: observations are no uint8 images `(H, W, 3)`, or actions no flat `Box(-1, 1)`.
    """
    if not (
        isinstance(observation, Box)
        and len(observation.shape) == 3
        and observation.shape[2] == 3
        and observation.dtype == np.uint8
    ):
        raise ValueError(f"observations must be uint8 images (H, W, 3), not {observation}")
    if not (
        isinstance(action, Box)
        and len(action.shape) == 1
        and np.allclose(action.low, -1)
        and np.allclose(action.high, 1)
    ):
        unbounded = isinstance(action, Box) and not action.is_bounded()  # as ClipAction makes them
        cure = "take the wrapper ClipAction off" if unbounded else "gymnasium.wrappers.RescaleAction makes one"
        raise ValueError(f"actions must be a flat Box(-1, 1), not {action}: {cure}")
    return observation.shape, action.shape[0]
