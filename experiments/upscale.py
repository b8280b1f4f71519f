"""A user's own photos, rendered sharp: the kernel is unknown, so a policy chooses the code."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from agents import policies
from blindsr_env import images, kernels
from blindsr_env.core import BlindSRCore
from blindsr_env.env import BlindSREnv
from experiments.training import pick_device

BLIND = ("predictor", "mean-code")
"""Policies without a file of their own that need to know nothing but the photo."""


@dataclass(frozen=True, kw_only=True)
class Upscale:
    """Settings of `blindsr upscale`.

    Attributes:
        images: a low-resolution photo, or a folder of them.
        output: folder for the pictures, `NAME_x4.png` each; those of an earlier call are replaced.
        policy: who chooses the code: `predictor`, `mean-code`, an agent that ships (`amgan_rl_s`), or the file of a
            predictor or agent.
        width: the Gaussian kernel's width in pixels of the result, where it is known; then no policy is asked.
        generator: name or checkpoint; None for the best that ships.
        action: action space that the policy acts in: `code`, `free-code` or `width`.
        device: `auto`, `cpu` or `cuda`.
    """

    images: str
    output: str = "upscaled"
    policy: str = "predictor"
    width: float | None = None
    generator: str | None = None
    action: str = "code"
    device: str = "auto"

    def __post_init__(self) -> None:
        """Refuse policies that would need more than the photo, and to write among the photos."""
        if self.policy in policies.NAMES and self.policy not in BLIND:
            raise ValueError(
                f"{self.policy!r} cannot choose for a photo alone: take predictor or an agent, or give width"
            )
        if self.width is not None and not 0 < self.width < float("inf"):
            raise ValueError(f"width must be above 0, in pixels of the result, got {self.width}")
        if Path(self.output).resolve().is_relative_to(Path(self.images).resolve()):
            raise ValueError(f"output {self.output} lies in the folder of photos: give another one")


def upscale(settings: Upscale) -> list[Path]:
    """Render each photo, whole, and write it as PNG.

    Returns:
        The files, in the order of the photos.

    Raises:
        ImageError: the photos cannot be read.
        ValueError: unknown names, or a photo that is too large for the GPU.
        CheckpointError: a file that cannot be used.
    """
    env = BlindSREnv(
        metric="psnr",  # none is asked for
        generator=settings.generator,
        action=settings.action,
        device=pick_device(settings.device),
        split="test",
    )
    policy = None if settings.width is not None else policies.load(settings.policy, env)
    photos = images.load(settings.images)
    written = []
    for photo in tqdm(photos, desc="rendering", unit="photo", leave=False):
        picture = render(env.core, photo, policy, settings.width)
        path = Path(settings.output) / f"{photo.name}_x{env.core.scale}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        images.write(path, picture)
        written.append(path)
        small, large = (f"{side[1]}x{side[0]}" for side in (photo.pixels.shape, picture.shape))
        tqdm.write(f"{photo.name}: {small} to {large}, {path}")
    return written


def render(
    core: BlindSRCore, photo: images.Photo, policy: policies.Policy | None, width: float | None = None
) -> NDArray[np.uint8]:
    """Render a photo with the code that a policy chooses, or with that of a Gaussian kernel of a given width.

    Args:
        core: generator and action space.
        photo: low resolution, any size.
        policy: None where `width` is given.
        width: of the kernel, in pixels of the result.

    Returns:
        `(s H, s W, 3)` uint8, RGB.

    Raises:
        ValueError: the GPU's memory does not suffice.
    """
    seen = core.to_device(photo.pixels)[None]  # (1, H, W, 3)
    try:
        with torch.inference_mode():
            sr = core.render_code(seen, _code(core, width)) if policy is None else core.render(seen, _ask(policy, seen))
            pixels = (sr[0] * 255).round().to(torch.uint8).permute(1, 2, 0)
    except torch.OutOfMemoryError:
        size = f"{photo.pixels.shape[1]}x{photo.pixels.shape[0]}"
        raise ValueError(f"{photo.name}, {size}, does not fit the GPU: cut it in parts, or take --device cpu") from None
    return np.ascontiguousarray(pixels.cpu().numpy())


def _code(core: BlindSRCore, width: float | None) -> Tensor:
    return core.codec.encode(kernels.gaussian(torch.tensor([width], dtype=torch.float64, device=core.device)))


def _ask(policy: policies.Policy, seen: Tensor) -> Tensor:
    action, _ = policy.predict(seen)
    return torch.as_tensor(action)
