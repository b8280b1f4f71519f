"""The native vector environment, `gymnasium.make_vec("BlindSR-v0")`: a shell around the batched core."""

from __future__ import annotations

import copy
import inspect
import os
from collections.abc import Iterable, Mapping, Sequence
from operator import index
from typing import Any

import numpy as np
import torch
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray
from torch import Tensor

from blindsr_env import autoreset, rendering, reset_options
from blindsr_env.answers import Answers
from blindsr_env.core import BlindSRCore, DegradationLike
from blindsr_env.images import Source
from blindsr_env.patch import PatchSize
from blindsr_env.scenes import Scenes
from blindsr_env.scorer import MetricLike
from blindsr_env.streams import DAMAGED, Streams
from generators import Generator


class BlindSRVectorEnv(VectorEnv[Any, Any, Any]):
    """`num_envs` BlindSR environments that render and score in one batch.

    Observations, actions, rewards and `info` are those of `BlindSREnv`, one a row; photos have no `image_name` in
    `info`, but `image_names[i]` is the name of photo `i`. Every array of `info` has its mask `_key`: the rows that it
    holds for.

    **Seeds.** Row i under seed S sees the scenes of the single environment under seed S + i. With `repeats`, group g of
    rows (`repeats` consecutive ones, which share a scene) uses the stream of seed S + g. A list gives one seed for each
    group.

    **Autoreset.** `"same step"` (default): a step also draws the next scenes; it returns their observations and `info`,
    while `info["final_obs"]` and `info["final_info"]` hold the episodes that ended. `"next step"`: the step after an
    episode's end ignores the action, draws a scene and gives reward 0. `"disabled"`: the caller resets, by `reset()` or
    `reset(options={"reset_mask": mask})`.

    **State.** `state()` says in plain values which scenes are shown and which follow, and `set_state(state)` goes back
    there: a training that was stopped goes on as if it had not been.

    **Output.** With `output="torch"` everything returned is a tensor on `device`, and `step` never waits for the
    device. Tensors and arrays are new on every call. Gymnasium's own vector wrappers need `"numpy"`.

    **Actions** that are NaN or infinite are a ValueError; but in a tensor on a GPU, where looking would wait for the
    device, they fail an assertion there, and the process's CUDA context is lost: where they can occur, look for them
    before.

    **Options** of `reset` are the single environment's, each one value for all, or a sequence of one for each group;
    and `reset_mask`, `(num_envs,)` bool, the rows to reset (whole groups).

    **Arguments** that are not named below are those of `BlindSREnv`.

    Args:
        num_envs: number of rows.
        repeats: this many consecutive rows share one scene, whose true score is computed once; divides `num_envs`.
        output: `"numpy"` (arrays) or `"torch"` (tensors on the device).
        autoreset_mode: a member of `AutoresetMode` or its name: `"same step"`, `"next step"`, `"disabled"`.
        render_mode: None, `"rgb_array"` or `"human"` (a window with the first rows).

    Raises:
        TypeError: as `BlindSREnv`.
        ValueError: as `BlindSREnv`, and sizes that do not divide.
    """

    metadata = {"render_modes": ["rgb_array", "human"], "render_fps": 1, "autoreset_mode": AutoresetMode.SAME_STEP}

    def __init__(
        self,
        num_envs: int = 1,
        metric: MetricLike = "niqe",
        generator: str | os.PathLike[str] | Generator | None = None,
        images: Source = None,
        split: str = "train",
        patch_size: PatchSize = 64,
        degradation: DegradationLike = "isotropic",
        action: str = "code",
        repeats: int = 1,
        report: Sequence[MetricLike] = (),
        device: str | torch.device = "cpu",
        dtype: str = "float32",
        gradient: bool = False,
        cuda_graphs: bool = False,
        compile: bool = False,
        output: str = "numpy",
        autoreset_mode: AutoresetMode | str = "same step",
        render_mode: str | None = None,
    ) -> None:
        num_envs, repeats = _count("num_envs", num_envs), _count("repeats", repeats)
        if num_envs % repeats:
            raise ValueError(f"repeats must divide num_envs={num_envs}, got {repeats!r}")
        self.render_mode = rendering.checked_mode(render_mode)
        self.autoreset_mode = autoreset.mode(autoreset_mode)
        self.metadata = {**type(self).metadata, "autoreset_mode": self.autoreset_mode}
        self._core = BlindSRCore(
            metric=metric,
            generator=generator,
            images=images,
            split=split,
            patch_size=patch_size,
            degradation=degradation,
            action=action,
            report=report,
            device=device,
            dtype=dtype,
            gradient=gradient,
            cuda_graphs=cuda_graphs,
            compile=compile,
        )
        self.num_envs, self.repeats, self.output, self.device = num_envs, repeats, output, self._core.device
        self._out = Answers(num_envs, output, self._core)
        self.single_observation_space = self._core.observation_space
        self.single_action_space = self._core.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._streams = Streams(self._core, num_envs // repeats, repeats)
        self._source: np.random.Generator | None = None  # the `np_random` that the streams were last started from
        self._ended = np.zeros(num_envs, dtype=np.bool_)  # rows whose episode is over and that wait for a reset
        self._shown: tuple[Scenes, Tensor | None, NDArray[np.bool_]] | None = None  # a row each: scene, action, played
        self._window = rendering.Window()

    @property
    def core(self) -> BlindSRCore:
        """The batched core: generator, metrics, photos, and scenes and renderings in batches."""
        return self._core

    @property
    def image_names(self) -> list[str]:
        """Names of the photos, in the order of `info["image"]`."""
        return self._core.sampler.names

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Draw a scene for each group of rows.

        Args:
            seed: starts the streams anew: group g gets `seed + g`, or `seed[g]` of a list (None there leaves a stream
                as it is).
            options: `reset_mask`, and what to fix in the scenes; see the class.

        Returns:
            LR patches `(num_envs, h, w, 3)` uint8, of all rows, and `info`, of those that were reset.

        Raises:
            ValueError: unknown or impossible options, a wrong number of seeds.
            ResetNeeded: a first reset with a mask that leaves rows without a scene.
        """
        self._check_open()
        mask = reset_options.read_mask(options, self.num_envs, self.repeats)
        groups = mask[:: self.repeats]
        if isinstance(options, Mapping):
            options = {key: value for key, value in options.items() if key != reset_options.MASK}
        fixed = self._core.sampler.fix(options, len(groups), known=(*reset_options.OPTIONS, reset_options.MASK))
        if self._streams.rows is None and not mask.all():
            raise ResetNeeded("the first reset must be of all rows: leave reset_mask out")
        before = self._np_random, self._np_random_seed
        try:
            self._streams.draw(groups, self._seeds(seed, len(groups)), fixed)
        except BaseException:  # a reset that fails changes nothing
            self._np_random, self._np_random_seed = before
            raise
        self._source = self.np_random
        self._ended = self._ended & ~mask
        self._show(self._rows(), self._shown[1] if self._shown else None, self._ended)
        return self._seen(), self._out.infos((self._core.info(self._rows(mask)), mask))

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Render each row's patch with its code.

        Args:
            actions: `(num_envs, d)`, NumPy array or tensor; clipped to the action space.

        Returns:
            Observations `(num_envs, h, w, 3)` uint8; rewards `(num_envs,)`, float64 in NumPy as Gymnasium has them and
            float32 in torch; terminated and truncated `(num_envs,)` bool; `info`.

        Raises:
            ResetNeeded: before the first reset; in the mode `"disabled"`, also where an episode is over.
            ValueError: the actions have another shape, or are not finite (for tensors on a GPU see the class).
        """
        self._check_open()
        if self._streams.rows is None:
            raise ResetNeeded("call reset() before the first step()")
        if self.autoreset_mode is AutoresetMode.DISABLED and self._ended.any():
            rows = np.flatnonzero(self._ended).tolist()
            raise ResetNeeded(f"the episodes of rows {rows} are over: call reset(), or reset them with reset_mask")
        assert self.action_space.shape is not None
        playing, resting = ~self._ended, self._ended
        actions = self._core.to_action(self._without(resting, actions), self.action_space.shape)
        rewards = torch.zeros(self.num_envs, dtype=torch.float32, device=self.device)
        played: dict[str, Tensor] = {}
        if playing.all():
            rewards, played = self._core.play(self._rows(), actions)
        elif playing.any():
            index = self._out.index(playing)
            some, played = self._core.play(self._rows(playing), actions[index])
            rewards = rewards.index_copy(0, index, some)

        if self.autoreset_mode is AutoresetMode.SAME_STEP:  # where no row ever rests
            ended = self._rows()
            self._streams.draw(playing[:: self.repeats])
            self._show(ended, actions, playing)
            infos = self._out.infos((self._core.info(self._rows()), playing))
            infos |= {"final_obs": self._out.values(ended.lr.clone()), "_final_obs": self._out.mask(playing)}
            infos |= {"final_info": self._out.infos((played, playing)), "_final_info": self._out.mask(playing)}
        else:
            parts = [(played, playing)] if playing.any() else []
            if resting.any():
                self._streams.draw(resting[:: self.repeats])
                parts.append((self._core.info(self._rows(resting)), resting))
            self._ended = playing
            self._show(self._rows(), actions, playing)
            infos = self._out.infos(*parts)
        truncated = np.zeros(self.num_envs, dtype=np.bool_)
        if self.output == "numpy":
            rewards = rewards.double()
        return (
            self._seen(),
            self._out.values(rewards),
            self._out.mask(playing),
            self._out.mask(truncated),
            infos,
        )

    def render(self) -> tuple[NDArray[np.uint8], ...] | None:
        """Draw each row: LR, SR, SR with the true code, HR, the kernels and the scores.

        Returns:
            `num_envs` pictures `(H, W, 3)` uint8 in mode `"rgb_array"`; None otherwise. After a step in the mode
            `"same step"` they show the episodes that ended, not the scenes drawn since.
        """
        self._check_open()
        if self.render_mode == "human":
            self._show_window()
        return self._pictures(self.num_envs) if self.render_mode == "rgb_array" else None

    def state(self) -> dict[str, Any]:
        """Give what fixes the present scenes and all that will be drawn after them.

        Returns:
            Plain values, which JSON can hold, for `set_state` of an environment with the same arguments.

        Raises:
            ResetNeeded: before the first reset.
            ValueError: options of `reset` fixed the scene of a group, which is not kept.
        """
        if self._streams.rows is None:
            raise ResetNeeded("call reset() before state(): there is no scene yet")
        return {**self._identity(), "streams": self._streams.state(), "ended": self._ended.tolist()}

    def mismatch(self, state: Mapping[str, Any]) -> str | None:
        """Say in what the environment of a state differs from this one; None where the state can be set here.

        Photos are compared by names and sizes, so their folder may have moved. Of what a state does not tell, as those
        of older versions, nothing is said.
        """
        for name, own in self._identity().items():
            if (theirs := state.get(name, own)) != own:
                return f"the state is of {name}={theirs!r}, the environment's is {own!r}: make it with the state's"
        if self.autoreset_mode is AutoresetMode.SAME_STEP and np.any(state.get("ended")):  # older states tell no mode
            return "the state has rows that wait for a reset: make the environment with its autoreset_mode"
        return None

    def set_state(self, state: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Go back to where `state` was called: to the same scenes, with the same ones to follow.

        Scenes that were drawn together come back to the bit. Where some rows were reset alone, their true scores are
        now computed in another batch, and may differ in the last bits.

        Args:
            state: what `state` gave, in an environment with the same arguments.

        Returns:
            LR patches and `info` of all rows, as `reset` gives them.

        Raises:
            ValueError: the state is of an environment that differs (see `mismatch`), or damaged.
        """
        self._check_open()
        if not isinstance(state, Mapping):
            raise ValueError(f"the state must be what state() gave, got {type(state).__name__}")
        if different := self.mismatch(state):
            raise ValueError(different)
        try:
            ended = np.array(state["ended"], dtype=np.bool_).reshape(self.num_envs)
            streams = state["streams"]
        except (KeyError, ValueError) as error:
            raise ValueError(DAMAGED) from error
        self._streams.restore(streams)
        self._ended, self._source = ended, self.np_random
        self._show(self._rows(), None, np.zeros_like(ended))
        return self._seen(), self._out.infos((self._core.info(self._rows()), np.ones_like(ended)))

    def close_extras(self, **kwargs: Any) -> None:
        """Close the window."""
        self._window.close()

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Return an attribute of the environment, or what its method gives, once for each row.

        Raises:
            ValueError: a method that all rows take part in at once.
        """
        if name in ("reset", "step", "render", "close"):
            raise ValueError(f"the rows of a BlindSR vector environment {name} together: call its own {name}()")
        value = self.get_attr(name)[0]
        return (value(*args, **kwargs) if callable(value) else value,) * self.num_envs

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """Return an attribute of the environment once for each row; spaces are those of one row."""
        name = f"single_{name}" if name in ("action_space", "observation_space") else name
        return (getattr(self, name),) * self.num_envs

    def set_attr(self, name: str, values: Any) -> None:
        """Set an attribute: one value, or a list of `num_envs` equal ones, since the rows are one object.

        Raises:
            ValueError: the rows' values differ, there are not as many as rows, or the attribute is an argument that the
                environment was made with.
        """
        if name in inspect.signature(type(self)).parameters:
            raise ValueError(f"{name} of a BlindSR vector environment stays as it was made: make another one")
        if isinstance(values, list | tuple):
            if len(values) != self.num_envs or not all(np.array_equal(value, values[0]) for value in values):
                raise ValueError(f"the rows of a BlindSR vector environment share {name!r}: give one value for all")
            values = values[0]
        setattr(self, name, values)

    def _identity(self) -> dict[str, Any]:
        """What scenes, and whose turn it is, depend on beside a state's streams: plain values, which JSON keeps."""
        sizes = {"num_envs": self.num_envs, "repeats": self.repeats, "scale": self._core.scale}
        return {**sizes, "autoreset_mode": self.autoreset_mode.value, **copy.deepcopy(self._core.sampler.description)}

    def _seeds(self, seed: int | Sequence[int | None] | None, groups: int) -> list[int | None]:
        """Give each group's seed, as far as there are any; `np_random_seed` is group 0's."""
        if seed is None or isinstance(seed, int | np.integer):
            super().reset(seed=None if seed is None else int(seed))
            first = self.np_random_seed  # drawn now, where there was none; -1 where `np_random` was set from outside
            if self._np_random is self._source or first is None:
                return [None] * groups
            if first < 0:
                return self.np_random.integers(2**32, size=groups).tolist()
            return [*range(first, first + groups)]
        if isinstance(seed, str) or not isinstance(seed, Iterable):
            raise ValueError(f"seed must be a whole number, or a list of one for each scene, got {seed!r}")
        try:
            seeds = [None if one is None else index(one) for one in seed]
        except TypeError:
            raise ValueError(f"a list of seeds must have whole numbers or None, got {seed!r}") from None
        if len(seeds) != groups:
            raise ValueError(f"a list of seeds must have one for each scene, {groups}, got {len(seeds)}")
        super().reset(seed=seeds[0])
        return seeds

    def _without(self, resting: NDArray[np.bool_], actions: Any) -> Any:
        """Put 0 where a row ignores its action, whatever that is."""
        if not resting.any() or np.ndim(actions) != 2 or len(actions) != self.num_envs:
            return actions
        if isinstance(actions, Tensor):
            here, rows = actions.device, resting[:, None]
            ignored = self._core.to_device(rows).to(here) if actions.is_cuda else torch.from_numpy(rows)
            return actions.masked_fill(ignored, 0)
        return np.where(resting[:, None], np.float32(0), np.asarray(actions))

    def _seen(self) -> Any:
        """Each row's observation."""
        return self._out.values(self._rows().lr.clone())

    def _rows(self, mask: NDArray[np.bool_] | None = None) -> Scenes:
        """Each row's scene, or those of the rows in the mask."""
        rows = self._streams.rows
        assert rows is not None
        return rows if mask is None or mask.all() else rows.take(self._out.index(mask))

    def _show(self, scenes: Scenes, actions: Tensor | None, played: NDArray[np.bool_]) -> None:
        """Remember what `render` is to draw."""
        if self.render_mode is not None:
            self._shown = (scenes, None if actions is None else actions.clone(), played)
        if self.render_mode == "human":
            self._show_window()

    def _pictures(self, rows: int) -> tuple[NDArray[np.uint8], ...]:
        if self._shown is None:
            raise ResetNeeded("nothing to render yet: call reset() before render()")
        scenes, actions, played = self._shown
        first = self._core.to_device(np.arange(rows))
        actions = None if actions is None else actions[first]
        return rendering.pictures(self._core, scenes.take(first), actions, played[:rows])

    def _show_window(self) -> None:
        self._window.show(np.concatenate(self._pictures(min(self.num_envs, 4))))

    def _check_open(self) -> None:
        if self.closed:
            raise ClosedEnvironmentError("this environment was closed: make a new one")


def _count(name: str, value: Any) -> int:
    """Return a whole number above 0, of NumPy's too, as Python's own, or raise a ValueError."""
    try:
        count = 0 if isinstance(value, bool) else index(value)
    except TypeError:
        count = 0
    if count < 1:
        raise ValueError(f"{name} must be a whole number above 0, got {value!r}")
    return count
