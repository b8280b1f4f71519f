"""A user's own photos, made larger: the kernel is unknown, so a policy chooses the code."""

from __future__ import annotations

import os
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agents import policies
from agents.part import parted
from blindsr_env import kernels, sharing
from blindsr_env.core import BlindSRCore, dtype_of
from blindsr_env.env import BlindSREnv
from generators import Generator, memory
from generators.tiles import OVERLAP

BLIND = ("predictor", "mean-code")
"""Policies without a file of their own that need to know nothing but the photo."""


class Upscaler:
    """Makes photos larger by the generator's scale: 4, or 2 with `amnet_s_x2`.

    Args:
        policy: what chooses the code: `predictor`, `mean-code`, a shipped agent (`amgan_rl`, `amgan_rl_niqe`,
            `amgan_rl_s`), the file or run folder of a predictor or an agent, or `module:function` of your own.
            `NAME@0.5` goes half of the way from the prediction to what NAME chooses. None where every photo comes with
            its width.
        generator: what renders: a name (`amnet`, `amnet_l`, `amnet_s`, `amgan`, `amgan_s`, `amnet_s_open`,
            `amnet_s_x2`), a checkpoint file, `srmdnf@FOLDER` (or `usrnet_tiny`, `imdn`) or `module:function` (see
            `generators.load`), or a frozen module of yours; None is the one that the agent was trained on, or `amnet`.
        action: the action space of the policy: `code`, `free-code` or `width`.
        tile: side, LR pixels, of the tiles in which larger photos are rendered (see `generators.tiles`); `"auto"` is
            that of the training, 64 at scale 4 and 128 at scale 2; None renders photos whole, which costs PSNR and
            memory.
        self_ensemble: render each photo flipped and turned in eight ways and take the mean.
        dtype: precision of rendering, `float32`, `float16` or `bfloat16`.
        compile: fuse what the generator does between its convolutions, by `torch.compile`.
        device: where to compute.

    Attributes:
        core: the generator, and what actions mean to it.
        policy: what chooses the code, as `agents.load` gives it; None where nothing does.

    Raises:
        ValueError: unknown names, tiles too small to overlap, or a policy that would have to know more than the photo.
        CheckpointError: a file that cannot be used.

    Example:
        >>> from agents import Upscaler
        >>> from blindsr_env import images
        >>> sr = Upscaler(generator="amnet_s")(images.read("photo.jpg"))  # doctest: +SKIP
    """

    def __init__(
        self,
        policy: str | os.PathLike[str] | None = "predictor",
        generator: str | os.PathLike[str] | Generator | None = None,
        *,
        action: str = "code",
        tile: int | Literal["auto"] | None = "auto",
        self_ensemble: bool = False,
        dtype: str = "float32",
        compile: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        check_tile(tile)
        precision = dtype_of(dtype)
        if policy is not None:
            check_blind(policy)
        source = policies.generator_of([] if policy is None else [policy], device) if generator is None else generator
        env = BlindSREnv(
            metric="psnr",  # none is asked for
            generator=sharing.wrapped(source, tile, self_ensemble, device, precision, compile),
            action=action,
            dtype=dtype,
            device=device,
            images=[np.zeros((256, 256, 3), np.uint8)],  # nor are scenes
        )
        self.core: BlindSRCore = env.core
        self.policy: policies.Policy | None = None if policy is None else policies.load(policy, env)

    def __call__(self, photo: NDArray[np.uint8], width: float | None = None) -> NDArray[np.uint8]:
        """Upscale a photo.

        Args:
            photo: low resolution, RGB, `(H, W, 3)` uint8, any size. One without colour stays so.
            width: of the Gaussian blur kernel (standard deviation, pixels of the result) if it is known; the policy is
                not asked then.

        Returns:
            `(s H, s W, 3)` uint8, RGB, s being the scale.

        Raises:
            ValueError: no kernel of the generator has that width, or the array is no such photo.
            MemoryError: that of the device does not suffice.
        """
        if self.policy is None and width is None:
            raise ValueError("there is no policy to choose the code: give the blur's width, or a policy to Upscaler")
        is_array = isinstance(photo, np.ndarray)
        if not is_array or photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3 or photo.size == 0:
            got = f"{photo.shape} {photo.dtype}" if is_array else f"{type(photo).__name__}"
            raise ValueError(f"a photo is (H, W, 3) uint8, RGB, got {got}: blindsr_env.images.read gives it so")
        if width is not None:
            self.core.check_width(width)
        try:
            plain = np.require(photo, requirements=["C", "W"])  # what PyTorch takes: not turned, not read-only
            seen = self.core.to_device(plain)[None]  # (1, H, W, 3)
            sr = self._render(seen, width)
            if (photo == photo[..., :1]).all():
                sr = sr.mean(1, keepdim=True).expand(-1, 3, -1, -1)
            pixels = (sr[0] * 255).round().to(torch.uint8).permute(1, 2, 0)
            return np.ascontiguousarray(pixels.cpu().numpy())
        except RuntimeError as error:
            if memory.exhausted(error):
                raise MemoryError("memory ran out: take tiles, or cut the photo in parts") from None
            raise

    def _render(self, seen: Tensor, width: float | None) -> Tensor:
        """Render with the code of a Gaussian of that width, or without one with the code that the policy chooses."""
        if width is None:
            assert self.policy is not None  # __call__ looked
            action, _ = self.policy.predict(seen)
            return self.core.render(seen, torch.as_tensor(action))
        kernel = kernels.gaussian(torch.tensor([width], dtype=torch.float64, device=self.core.device))
        return self.core.render_code(seen, self.core.codec.encode(kernel))


def check_blind(policy: str | os.PathLike[str]) -> None:
    """Raise a ValueError if a policy would have to know more than the photo."""
    if parted(os.fspath(policy))[0] in set(policies.NAMES) - set(BLIND):
        raise ValueError(f"{policy!r} cannot choose for a photo alone: take predictor or an agent, or give the width")


def check_tile(tile: int | Literal["auto"] | None) -> None:
    """Raise a ValueError if tiles of that side, LR pixels, could not overlap."""
    if tile not in ("auto", None) and not (isinstance(tile, int) and tile > 2 * OVERLAP):
        raise ValueError(f"tile must be above {2 * OVERLAP}, got {tile}: take auto, or null for whole photos")
