"""Gymnasium's wrappers around an environment, as far as they change what actions mean and what is rewarded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium
import gymnasium.wrappers as single
import gymnasium.wrappers.vector as several
import numpy as np
from gymnasium.vector import SyncVectorEnv, VectorActionWrapper, VectorRewardWrapper, VectorWrapper

WRAPPERS = (gymnasium.Wrapper, VectorWrapper)
ACTIONS = (gymnasium.ActionWrapper, VectorActionWrapper)
CLIPPING = (single.ClipAction, several.ClipAction)
"""Actions are clipped anyway."""

RESCALING = (single.RescaleAction, several.RescaleAction)
REWARDS = (gymnasium.RewardWrapper, VectorRewardWrapper, single.NormalizeReward, several.NormalizeReward)
KNOWN = ("gymnasium.", "stable_baselines3.")
"""Modules whose wrappers change no rewards unless they are among those."""


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
    """Name the outermost wrapper that changes rewards, or has a `step` of its own and may; None where there is none."""
    return next((type(layer).__name__ for layer in _layers(env) if isinstance(layer, REWARDS) or _steps(layer)), None)


def _layers(env: Any) -> Iterator[Any]:
    """Go through the wrappers from outside, and through those of the first of single environments side by side."""
    while isinstance(env, WRAPPERS):
        yield env
        env = env.env
    if isinstance(env, SyncVectorEnv):
        yield from _layers(env.envs[0])


def _steps(layer: Any) -> bool:
    """Say whether a wrapper that nobody here knows has a `step` of its own."""
    steps = (gymnasium.Wrapper.step, VectorWrapper.step, *(base.step for base in ACTIONS))
    return type(layer).step not in steps and not type(layer).__module__.startswith(KNOWN)


def _same_box(layer: Any) -> bool:
    """Say whether a rescaling has the same box inside and outside."""
    mine, inner = layer.action_space, layer.env.action_space
    return all(np.array_equal(getattr(mine, end), getattr(inner, end)) for end in ("low", "high"))
