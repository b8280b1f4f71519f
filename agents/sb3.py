"""The native vector environment as a Stable-Baselines3 `VecEnv`: one batch for the network and the metric, not N."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv, VectorEnv, VectorWrapper
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from agents import wrapping

OF_SINGLES = (SyncVectorEnv, AsyncVectorEnv)
"""Vector environments whose rows are environments of their own."""


class SB3VecEnv(VecEnv):
    """Adapter of a Gymnasium vector environment that resets itself within the step.

    Rewards and scenes are the environment's own. What Stable-Baselines3 expects beside them is in each row's `info`:
    `terminal_observation`, `TimeLimit.truncated`, and the finished episode's `info`; `reset_infos` are the new scenes'.

    Episode returns (`rollout/ep_rew_mean`) are logged where `VecMonitor` is around this: Stable-Baselines3 adds a
    monitor to single environments alone. Rows are one object, so attributes are set and methods called for all of them
    at once, in the outermost wrapper that has them, or else in the environment. Options that differ between rows
    (`set_options` with a list) become lists of one value for each scene, as BlindSR's vector environment takes them.

    >>> import blindsr_env, gymnasium
    >>> env = VecMonitor(SB3VecEnv(gymnasium.make_vec("BlindSR-v0", num_envs=8)))   # doctest: +SKIP
    >>> DDPG("CnnPolicy", env, buffer_size=20_000).learn(10_000)   # doctest: +SKIP

    Args:
        env: the environment; NumPy or torch output.

    Raises:
        ValueError: its autoreset mode is not "same step", or its infos are a list.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        wrapping.check_infos(env)
        wrapping.check_same_step(env, "Stable-Baselines3 resets within the step, this environment")
        self.env = env
        self._actions: Any = None
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)

    def reset(self) -> NDArray[Any]:
        """Draw all scenes anew; a seed given before by `seed`, and options by `set_options`, are used now.

        Raises:
            ValueError: the rows' options cannot be given at once: they name different things, or rows that share a
                scene differ.
        """
        options = _merged(self._options, int(getattr(self.env.unwrapped, "repeats", 1)))
        # SB3 seeds row i with seed + i, as Gymnasium's vector environments do with one number.
        observation, infos = self.env.reset(seed=self._seeds[0], options=options)
        self.reset_infos = _rows(infos, self.num_envs)
        self._reset_seeds()
        self._reset_options()
        return _numpy(observation).copy()  # the environment may write the next step's into the same memory

    def step_async(self, actions: NDArray[Any]) -> None:
        """Keep the actions for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], list[dict[str, Any]]]:
        """Play one step: observations (of the new scenes where one ended), rewards float32, dones, infos."""
        observation, reward, terminated, truncated, infos = self.env.step(self._actions)
        terminated, truncated = _numpy(terminated), _numpy(truncated)
        done = terminated | truncated
        rows = _rows(infos, self.num_envs)
        if done.any():
            ended, last = _rows(infos["final_info"], self.num_envs), _numpy(infos["final_obs"])
            for i in np.flatnonzero(done).tolist():
                self.reset_infos[i], rows[i] = rows[i], ended[i]
                rows[i]["terminal_observation"] = last[i]
                if "episode" in self.reset_infos[i]:  # where RecordEpisodeStatistics says what the finished one earned
                    rows[i]["episode"] = self.reset_infos[i].pop("episode")
        for i, row in enumerate(rows):
            row["TimeLimit.truncated"] = bool(truncated[i] and not terminated[i])
        return _numpy(observation).copy(), _numpy(reward).astype(np.float32), done, rows

    def close(self) -> None:
        """Close the environment."""
        self.env.close()

    def get_images(self) -> Sequence[NDArray[np.uint8] | None]:
        """Give every row's picture, where the render mode is "rgb_array"."""
        pictures: Any = self.env.render()
        return list(pictures) if pictures is not None else [None] * self.num_envs

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Give an attribute of the environment, once for each row asked for; of single environments each one's own."""
        if isinstance(self.env.unwrapped, OF_SINGLES):
            values = self.env.unwrapped.get_attr(attr_name)
        else:
            holder = self._holder(attr_name)
            # Stable-Baselines3 asks every environment for a render mode.
            value = getattr(holder, attr_name, None) if attr_name == "render_mode" else getattr(holder, attr_name)
            values = (value,) * self.num_envs
        return [values[i] for i in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set an attribute, which all rows share; of single environments that of each.

        Raises:
            ValueError: `indices` leave rows out.
        """
        self._check_all(indices, "set_attr")
        inner = self.env.unwrapped
        if isinstance(inner, OF_SINGLES):
            inner.set_attr(attr_name, [value] * self.num_envs)
        else:
            setattr(self._holder(attr_name), attr_name, value)

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        """Call a method of the environment, once for all rows, whose result is what it returned; or of each single one.

        Raises:
            ValueError: `indices` leave rows out.
        """
        self._check_all(indices, "env_method")
        if isinstance(self.env.unwrapped, OF_SINGLES):
            results = self.env.unwrapped.call(method_name, *method_args, **method_kwargs)
        else:
            method = getattr(self._holder(method_name), method_name)
            results = (method(*method_args, **method_kwargs),) * self.num_envs
        return [results[i] for i in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type[gymnasium.Wrapper], indices: Any = None) -> list[bool]:
        """Say whether single environments have a wrapper; rows of a native vector environment have none of theirs."""
        envs = self.env.unwrapped.envs if isinstance(self.env.unwrapped, SyncVectorEnv) else [None] * self.num_envs
        return [_has(envs[i], wrapper_class) for i in self._get_indices(indices)]

    def _holder(self, name: str) -> VectorEnv[Any, Any, Any]:
        """Find the outermost layer that has an attribute of its own; the innermost where none has."""
        layer = self.env
        while isinstance(layer, VectorWrapper) and (not hasattr(layer, name) or _passed_on(layer, name)):
            layer = layer.env
        return layer

    def _check_all(self, indices: Any, method: str) -> None:
        left_out = sorted(set(range(self.num_envs)) - set(self._get_indices(indices)))
        if left_out:
            raise ValueError(f"{method} reaches all {self.num_envs} rows, which are one object: leave indices out")


def _passed_on(wrapper: VectorWrapper, name: str) -> bool:
    """Say whether a wrapper only shows an attribute of what it wraps, and cannot set it."""
    shown = getattr(VectorWrapper, name, None)
    return isinstance(shown, property) and shown.fset is None and getattr(type(wrapper), name) is shown


def _has(env: Any, wrapper_class: type[gymnasium.Wrapper]) -> bool:
    """Say whether an environment is wrapped so."""
    while isinstance(env, gymnasium.Wrapper):
        if isinstance(env, wrapper_class):
            return True
        env = env.env
    return False


def _merged(rows: Sequence[dict[str, Any]], repeats: int) -> dict[str, Any] | None:
    """Make one dict of the rows' options: of values for all, or of lists with one value for each scene."""
    first = rows[0] if rows else {}
    if all(row is first for row in rows):
        return first or None
    for i, row in enumerate(rows):
        scene = rows[i - i % repeats]
        if row.keys() != first.keys():
            raise ValueError(
                f"options of row 0 fix {sorted(first)}, of row {i} {sorted(row)}: fix the same in all rows"
            )
        if not all(np.array_equal(row[key], scene[key]) for key in row):
            raise ValueError(
                f"rows {i - i % repeats} and {i} share a scene, but their options differ: give them the same"
            )
    return {key: [row[key] for row in rows[::repeats]] for key in first} or None


def _numpy(x: Any) -> NDArray[Any]:
    return x.cpu().numpy() if isinstance(x, Tensor) else np.asarray(x)


def _rows(infos: dict[str, Any], n: int) -> list[dict[str, Any]]:
    """Split Gymnasium's arrays with `_key` masks into one dict a row, dicts of arrays into one dict each."""
    rows: list[dict[str, Any]] = [{} for _ in range(n)]
    for key, values in infos.items():
        if key.startswith("_") or key in ("final_obs", "final_info"):
            continue
        values = _rows(values, n) if isinstance(values, dict) else _numpy(values)
        held = _numpy(infos.get("_" + key, np.ones(n, bool)))
        for i in np.flatnonzero(held).tolist():
            rows[i][key] = values[i]
    return rows
