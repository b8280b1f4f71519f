"""The single environment, `gymnasium.make("BlindSR-v0")`: a shell around the batched core with N = 1."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from numpy.typing import NDArray

from blindsr_env import rendering
from blindsr_env.core import BlindSRCore, DegradationLike
from blindsr_env.images import Source
from blindsr_env.patch import PatchSize
from blindsr_env.scenes import Scenes
from blindsr_env.scorer import MetricLike
from generators import Generator


class BlindSREnv(gymnasium.Env[NDArray[np.uint8], NDArray[np.float32]]):
    """Blind super-resolution as a one-step episode (Hui, Li, Wang, Gao, CVPR 2021).

    A photo was blurred by an unknown kernel k, shrunk by s and rounded to 8 bit. The agent sees the small picture and
    chooses a kernel code; a frozen network G renders the picture s times larger with it, and a metric M judges the
    result.

    ## Observation space

    `Box(0, 255, (64, 64, 3), uint8)`: the low-resolution patch, RGB, height-width-channel. The observation after the
    step is a copy of it.

    ## Action space

    `Box(-1, 1, (15,), float32)`, or `Box(-1, 1, (1,), float32)` with `action="width"`:

    - `"code"`: the kernel's 15 PCA coefficients, scaled so that Gaussian kernels fill 80% of the box.
    - `"free-code"`: the code as the network's layers see it, which reaches far outside the kernels' own box.
    - `"width"`: the width of a Gaussian kernel; -1 is the generator's narrowest, 1 its widest.

    Numbers outside [-1, 1] are clipped, and counted in `info["clipped"]`. NaN and infinity are a ValueError; but in a
    tensor on a GPU, where looking would wait for the device, they fail an assertion there, and the process's CUDA
    context is lost: where they can occur, look for them before.

    ## Reward

    `reward = zeta * (M(G(LR, action)) - M(G(LR, true code)))` (paper, Eq. 8), zeta = -1 where a lower score is better
    and 1 otherwise: 0 means as good as the true kernel. Pictures are clamped and rounded to 8 bit before M sees them.
    Where M has no finite number for the true code's picture (NIQE of a flat photo), the reward is 0 and
    `info["invalid"]` is True. Where it has one for that picture but none for the agent's, the agent broke the metric:
    the reward is -10 (`core.BROKEN_REWARD`), in units of M's score, and `info["broken"]` is True. Rewards have no lower
    bound: of uniformly random codes 6 to 9 in a hundred lose more than 10 NIQE, the worst about 50.

    ## Starting state

    A photo, a place in it, one of eight flips and turns, and a kernel, each uniform among what fits: a photo that holds
    a patch that is no square one way only is always turned that way. `reset(options={...})` fixes any
    of `image` (name or index), `crop` (top, left, in the photo), `flip` (0 to 7: bit 0 left to right, bit 1 top to
    bottom, then bit 2 transposes), and `width` (HR pixels) or `kernel` ((21, 21), sums to 1).

    ## Episode end

    Every episode is one step: `terminated` is True, `truncated` False.

    ## Info

    After `reset`: `image` (index), `image_name`, `crop`, `flip`, `width`, `true_action`, `true_score`. After `step`:
    `score`, `true_score`, `clipped`, `invalid`, `broken`, and for each metric of the report `score_NAME` and
    `gain_NAME`, its own zeta times its difference to the true code's picture: positive is better.

    With `gradient=True` a step also gives `gradient`, float32 of the action's shape: how the reward grows with each
    number of the action, at the clipped action, for metrics that can be followed backwards (`psnr`, `ssim`, `niqe`,
    `grid`, `lpips@FOLDER`, mixtures of them). Rounding to 8 bit is passed over, clamping is not. It is 0 where the
    reward is not the metric's (`invalid`, `broken`), and where the metric has a score and no finite gradient (NIQE of a
    picture with a flat block). Such a step takes about twice as long.

    Where the degradation is anisotropic, `reset` also gives `widths` (two, HR pixels) and `angle` (radians,
    counter-clockwise, of the first), and where it is one given kernel, `kernel`; `width` is then that of the Gaussian
    with the same second moments. For kernels outside the generator's family, `true_action` may lie outside the action
    box, by far where they are no Gaussian: it is then no label to learn from. It is clipped like any other action;
    `true_score` is that of the true code unclipped, of a bad picture, so rewards are high for nothing. A warning says
    so of widths that the generator does not know.

    ## Forked processes

    Processes that are forked once this class, a metric or `generators` is imported, as making an environment does,
    compute with PyTorch in one thread: they lack their parent's others, and would wait for them for ever.

    Args:
        metric: M: a name of `blindsr_env.metrics`, a mixture such as `"niqe+0.1*psnr"`, or a metric.
        generator: G: a name, a checkpoint's path, `"srmdnf@FOLDER"` or `"module:function"` (see `generators.load`), or
            a module; None is `amnet`.
        images: a folder (searched recursively), a file, or a list of `(H, W, 3)` uint8 arrays; None is the built-in
            photos. Photos smaller than an HR crop are left out.
        split: which of the built-in photos, `"train"` or `"test"`.
        patch_size: side of the LR patch, or its height and width; HR is s times that. NIQE scores whole blocks of 96 HR
            pixels and leaves out what is over: 64, the paper's size, has four, as 48 has; 72 has nine.
        degradation: `"isotropic"` (Gaussian kernels, widths uniform over the generator's range), `"anisotropic"`, or a
            dict of the fields of `scenes.Degradation`, such as `{"widths": [1.8, 2.6]}` or `{"width_range": [1, 3],
            "noise": 2}`.
        action: see above.
        report: further metrics for `info`, so that a won reward shows its price.
        device: where networks, photos and metrics live.
        dtype: of the rendering, `"float32"`, `"float16"` or `"bfloat16"`. Half precision changes scores a little,
            float16 least, and is faster on GPUs; bfloat16 also on CPUs with AMX or AVX-512 BF16, elsewhere it
            is slower there.
        gradient: whether `info` gives the reward's gradient, see above.
        cuda_graphs: on a GPU, launch rendering and scores at once, as graphs recorded at the second step and reset: the
            same numbers, several times as fast where the host is slower than the GPU. For row counts that stay the
            same; metrics that wait for the GPU cannot be recorded, and metric and generator must not be changed or
            moved afterwards.
        compile: fuse what the generator does between its convolutions, by `torch.compile`: on several cores of a CPU
            renders take 0.6 to 0.8 of the time, on one core in bfloat16 only; rewards move as much as by adding in
            another order. The first reset, and with `gradient` the first step, take half a minute to a minute; it needs
            a C++ compiler. See `generators.Compiled`.
        render_mode: None, `"rgb_array"` or `"human"` (a window).

    Raises:
        TypeError: `metric`, `generator`, `images` or `degradation` is of a kind that the argument does not take, or
            `report` is no list.
        ValueError: unknown names (the nearest ones are listed); a patch too small for the metric; photos all too small;
            a gradient asked for of a metric that has none.

    Example:
        >>> import gymnasium, blindsr_env
        >>> env = gymnasium.make("BlindSR-v0", metric="niqe")  # doctest: +SKIP
        >>> observation, info = env.reset(seed=0)  # doctest: +SKIP
        >>> env.step(info["true_action"])[1]  # doctest: +SKIP
        0.0
    """

    metadata = {"render_modes": ["rgb_array", "human"], "render_fps": 1}

    def __init__(
        self,
        metric: MetricLike = "niqe",
        generator: str | os.PathLike[str] | Generator | None = None,
        images: Source = None,
        split: str = "train",
        patch_size: PatchSize = 64,
        degradation: DegradationLike = "isotropic",
        action: str = "code",
        report: Sequence[MetricLike] = (),
        device: str | torch.device = "cpu",
        dtype: str = "float32",
        gradient: bool = False,
        cuda_graphs: bool = False,
        compile: bool = False,
        render_mode: str | None = None,
    ) -> None:
        self.render_mode = rendering.checked_mode(render_mode)
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
        self.observation_space = self._core.observation_space
        self.action_space = self._core.action_space
        self.device = self._core.device
        self._scene: Scenes | None = None
        self._action: torch.Tensor | None = None  # the one taken in this episode
        self._window = rendering.Window()
        self._closed = False

    @property
    def core(self) -> BlindSRCore:
        """The batched core: generator, metrics, photos, and scenes and renderings in batches."""
        return self._core

    @property
    def image_names(self) -> list[str]:
        """Names of the photos, in the order of `info["image"]`."""
        return self._core.sampler.names

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """Draw a scene.

        Args:
            seed: starts the stream of scenes anew.
            options: what to fix in the scene, see the class.

        Returns:
            The LR patch and `info`.

        Raises:
            ValueError: an unknown or impossible option.
        """
        self._check_open()
        fixed = self._core.sampler.fix(options, 1)
        before = self._np_random, self._np_random_seed
        try:
            super().reset(seed=seed)
            self._scene, self._action = self._core.scenes([self.np_random], fixed), None
        except BaseException:  # a reset that fails changes nothing
            self._np_random, self._np_random_seed = before
            raise
        info = _plain(self._core.info(self._scene))
        info["image_name"] = self.image_names[info["image"]]
        if self.render_mode == "human":
            self._show()
        return self._observation(), info

    def step(self, action: Any) -> tuple[NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        """Render the patch with a code and end the episode.

        Args:
            action: of `action_space`; clipped to it.

        Returns:
            The same LR patch, the reward, True, False, and `info`.

        Raises:
            ResetNeeded: no episode is running.
            ValueError: the action has another shape, or is not finite (for tensors on a GPU see the class).
        """
        self._check_open()
        if self._scene is None or self._action is not None:
            raise ResetNeeded("an episode of BlindSR is one step long: call reset() before each step()")
        assert self.action_space.shape is not None
        action = self._core.to_action(action, self.action_space.shape)
        played = action[None].clone()  # (1, d); kept for `render`, and the caller may use its tensor again
        reward, info = self._core.play(self._scene, played)
        self._action = played  # only now is the episode over: a metric may have failed
        if self.render_mode == "human":
            self._show()
        return self._observation(), float(reward), True, False, _plain(info)

    def render(self) -> NDArray[np.uint8] | None:
        """Draw LR, SR, SR with the true code, HR, the kernels and the scores.

        Returns:
            `(H, W, 3)` uint8 in mode `"rgb_array"`; None otherwise (a window shows every reset and step in mode
            `"human"`). Before the step, SR is blank.
        """
        self._check_open()
        if self.render_mode == "human":
            self._show()
        return self._picture() if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        """Close the window; a closed environment cannot be used again."""
        self._window.close()
        self._closed = True

    def _observation(self) -> NDArray[np.uint8]:
        assert self._scene is not None
        return self._scene.lr[0].cpu().numpy().copy()

    def _picture(self) -> NDArray[np.uint8]:
        if self._scene is None:
            raise ResetNeeded("nothing to render yet: call reset() before render()")
        return rendering.pictures(self._core, self._scene, self._action)[0]

    def _show(self) -> None:
        self._window.show(self._picture())

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedEnvironmentError("this environment was closed: make a new one")


def _plain(info: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Turn the core's info for one row into Python numbers and NumPy arrays."""
    host = {key: value[0].cpu() for key, value in info.items()}
    return {key: value.item() if value.ndim == 0 else value.numpy() for key, value in host.items()}
