"""Gymnasium's wrappers around an environment, as far as they change actions, rewards, infos or when rows are reset."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium
import gymnasium.wrappers as single
import gymnasium.wrappers.vector as several
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorActionWrapper, VectorRewardWrapper, VectorWrapper

WRAPPERS = (gymnasium.Wrapper, VectorWrapper)
ACTIONS = (gymnasium.ActionWrapper, VectorActionWrapper)
CLIPPING = (single.ClipAction, several.ClipAction)
"""Actions are clipped anyway."""

RESCALING = (single.RescaleAction, several.RescaleAction)
REWARDS = (gymnasium.RewardWrapper, VectorRewardWrapper, single.NormalizeReward, several.NormalizeReward)
KNOWN = ("gymnasium.", "stable_baselines3.")
"""Modules whose steps change no rewards unless their wrappers are among those."""


def action_wrapper(env: Any) -> str | None:
    """Name the outermost wrapper that makes another action of an action; None where there is none.

    A wrapper of one's own is known by its base, Gymnasium's `ActionWrapper` or `VectorActionWrapper`.
    """
    for layer in _layers(env):
        if isinstance(layer, RESCALING) and _same_box(layer):
            continue
        if isinstance(layer, ACTIONS) and not isinstance(layer, CLIPPING):
            return type(layer).__name__
    return None


def reward_wrapper(env: Any) -> str | None:
    """Name the outermost wrapper that changes rewards, found likewise; None where there is none."""
    return next((type(layer).__name__ for layer in _layers(env) if isinstance(layer, REWARDS)), None)


def step_wrapper(env: Any) -> str | None:
    """Name the outermost wrapper with a `step` of its own, which may change anything; None where there is none."""
    return next((type(layer).__name__ for layer in _layers(env) if _steps(layer)), None)


def check_infos(env: Any) -> None:
    """Raise a ValueError where a wrapper makes a list of infos, one for each row, of Gymnasium's dict of arrays."""
    if any(isinstance(layer, several.DictInfoToList) for layer in _layers(env)):
        raise ValueError("the environment's infos are a list, one for each row: take the wrapper DictInfoToList off")


def check_same_step(env: Any, whose: str = "the environment") -> None:
    """Raise a ValueError where a vector environment does not reset its rows within the step that ends them.

    Args:
        env: the vector environment.
        whose: autoreset mode it is, for the message.
    """
    mode = env.metadata.get("autoreset_mode")
    if mode is not AutoresetMode.SAME_STEP:
        raise ValueError(
            f'{whose}\'s autoreset mode is {getattr(mode, "value", mode)}: make it with autoreset_mode="same step"'
        )


def innermost(env: Any) -> Any:
    """Take all wrappers off; of single environments side by side, which are all alike, give the first one."""
    inner = getattr(env, "unwrapped", env)
    return inner.envs[0].unwrapped if isinstance(inner, SyncVectorEnv) else inner


def _layers(env: Any) -> Iterator[Any]:
    """Go through the wrappers from outside, and through those of the first of single environments side by side."""
    while isinstance(env, WRAPPERS):
        yield env
        env = env.env
    if isinstance(env, SyncVectorEnv):
        yield from _layers(env.envs[0])


def _steps(layer: Any) -> bool:
    """Say whether a wrapper has a `step` that nobody here knows."""
    return not type(layer).step.__module__.startswith(KNOWN)


def _same_box(layer: Any) -> bool:
    """Say whether a rescaling has the same box inside and outside."""
    mine, inner = layer.action_space, layer.env.action_space
    return all(np.array_equal(getattr(mine, end), getattr(inner, end)) for end in ("low", "high"))
