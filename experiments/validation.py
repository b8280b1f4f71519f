"""PSNR of a generator with the true code on a folder of whole photos."""

from __future__ import annotations

import torch
from torch import Tensor

from blindsr_env import degradation, images, kernels, metrics
from generators import AMNet


class Validation:
    """Scores generators on the same degraded photos each time.

    Args:
        folder: photos, cropped to a multiple of the scale from the top left.
        widths: isotropic kernel widths.
        scale: of the generators to come.
        device: where it runs.
    """

    def __init__(self, folder: str, widths: tuple[float, ...], scale: int, device: torch.device) -> None:
        self.widths = widths
        self._psnr = metrics.get("psnr", scale=scale)
        self._pairs: list[tuple[Tensor, Tensor, Tensor]] = []
        for photo in images.load(folder):
            hr = torch.from_numpy(photo.pixels).to(device).permute(2, 0, 1)[None].float() / 255
            height, width = (side - side % scale for side in hr.shape[-2:])
            hr = hr[..., :height, :width]
            profile = kernels.gaussian_profile(torch.tensor(widths, dtype=torch.float64)).to(device)
            lr = degradation.degrade(hr.expand(len(widths), -1, -1, -1), profile, scale)
            kernel = kernels.gaussian(torch.tensor(widths, dtype=torch.float64)).to(device)
            self._pairs.append((hr, lr, kernel))

    @torch.inference_mode()
    def __call__(self, generator: AMNet, dtype: torch.dtype = torch.float32) -> dict[float, float]:
        """Give the mean PSNR (dB, Y, border s) over the photos for each width."""
        training = generator.training
        generator.eval()
        total = torch.zeros(len(self.widths))
        for hr, lr, kernel in self._pairs:
            sr = generator(lr.to(dtype), generator.codec.encode(kernel)).float()
            total += self._psnr(degradation.quantize(sr), hr.expand(len(sr), -1, -1, -1)).cpu()
        generator.train(training)
        mean = total / len(self._pairs)
        return {width: round(value, 4) for width, value in zip(self.widths, mean.tolist(), strict=True)}
