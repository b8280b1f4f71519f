"""PSNR of a generator on whole photos, with the true code or a predicted one."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from blindsr_env import degradation, images, kernels, metrics
from experiments.widths import default_widths
from generators import Generator


class Validation:
    """Scores on the same degraded photos each time.

    Args:
        folder: photos, cropped to a multiple of the scale from the top left.
        widths: isotropic kernel widths; None for `experiments.widths`' choice.
        generator: one of those to score: all have its scale and know the widths that it knows.
        device: where it runs.
        setting: what the widths were given as, for messages.

    Raises:
        ImageError: there is no photo, or one that cannot be read or is too small to blur.
        ValueError: a width that the generator does not know.
    """

    def __init__(
        self,
        folder: str,
        widths: tuple[float, ...] | None,
        generator: Generator,
        device: torch.device,
        setting: str = "validation_widths",
    ) -> None:
        scale, known = generator.scale, generator.codec.width_range
        self.widths = default_widths(known) if widths is None else widths
        for each in self.widths:
            kernels.check_width(each, known, generator.name, setting)
        self._psnr = metrics.get("psnr", scale=scale)
        self._scenes: list[tuple[Tensor, Tensor, Tensor]] = []
        sigma = torch.tensor(self.widths, dtype=torch.float64, device=device)
        for photo in images.load(folder):
            height, width = photo.pixels.shape[:2]
            check_blurred(photo.name, height, width, scale)
            hr = torch.from_numpy(photo.pixels).to(device).permute(2, 0, 1)[None].float() / 255
            height, width = (side - side % scale for side in hr.shape[-2:])
            hr = hr[..., :height, :width].expand(len(self.widths), -1, -1, -1)
            lr = degradation.degrade(hr, kernels.gaussian_profile(sigma), scale)
            self._scenes.append((hr, lr, kernels.gaussian(sigma)))

    @torch.inference_mode()
    def __call__(self, generator: Generator, predictor: Callable[[Tensor], Tensor] | None = None) -> dict[str, float]:
        """Give the mean PSNR (dB, Y, border s) over the photos, for each width.

        Args:
            generator: G, float32.
            predictor: LR to action; the true action without it.
        """
        total = torch.zeros(len(self.widths))
        for hr, lr, kernel in self._scenes:
            action = generator.codec.encode(kernel) if predictor is None else predictor(lr)
            total += self._psnr(degradation.quantize(generator(lr, action)), hr).cpu()
        mean = (total / len(self._scenes)).tolist()
        return {f"psnr_width_{width:g}": round(value, 4) for width, value in zip(self.widths, mean, strict=True)}


def check_blurred(name: str, height: int, width: int, scale: int) -> None:
    """Raise an ImageError where an HR photo is too small to blur, once it is cropped to a multiple of the scale."""
    least = scale * kernels.least_side(scale)
    if min(height, width) < least:
        raise images.ImageError(
            f"{name} of {width}x{height} is too small to blur: remove it, each side must be at least {least}"
        )
