"""LPIPS v0.1 on SqueezeNet: how far apart two pictures look, by features weighted to agree with people."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor

from blindsr_env.metrics.metric import check
from blindsr_env.metrics.squeezenet import CHANNELS, MIN_SIZE, SqueezeNet
from generators import state_dict

FEATURES, LINEAR = "squeezenet1_1", "lpips_squeeze_lin"
"""Names of the two weight files without their endings."""

FORM = "lpips@FOLDER"
"""How the metric is asked for by name."""


class Lpips:
    """Zhang et al., "The unreasonable effectiveness of deep features as a perceptual metric", CVPR 2018, version 0.1.

    Features at seven depths of SqueezeNet 1.1, each position's scaled to length 1; squared differences weighted by
    channel, mean over positions, sum over depths. 0 for equal pictures; lower is better. It has a gradient. Whole
    pictures are compared, in RGB, without taking off a border.

    The package ships no weights. With the public ones it gives torchmetrics' documented values.

    Args:
        folder: holds `squeezenet1_1` (torchvision's ImageNet weights) and `lpips_squeeze_lin` (`squeeze.pth` of version
            0.1 in richzhang/PerceptualSimilarity), each as `.safetensors` or `.pth`.

    Raises:
        ValueError: a file is missing, damaged, or of another network; one line.
    """

    name = "lpips"
    lower_is_better = True
    needs_reference = True
    differentiable = True
    min_size = MIN_SIZE

    @torch.inference_mode(False)  # the caller's, whose tensors no gradient could pass later
    def __init__(self, folder: str | os.PathLike[str]) -> None:
        features, linear = _find(Path(folder))
        self.network = SqueezeNet()
        state_dict.fill(self.network, state_dict.read(features), str(features))
        self.network.to(device="cpu", memory_format=torch.channels_last)  # type: ignore[call-overload]
        tensors = state_dict.read(linear)
        self.linear: list[Tensor] = []
        for depth, channels in enumerate(CHANNELS):
            weight = tensors.get(f"lin{depth}.model.1.weight")
            if weight is None or weight.shape != (1, channels, 1, 1):
                raise ValueError(
                    f"{linear} has no lin{depth}.model.1.weight of {channels} channels: "
                    "give LPIPS's weights for SqueezeNet"
                )
            self.linear.append(weight)

    def __call__(self, sr: Tensor, hr: Tensor | None = None) -> Tensor:
        """Score `sr` against `hr`, both `(N, 3, H, W)` in [0, 1]: `(N,)` float32, 0 for equal pictures."""
        check(self, sr, hr)
        assert hr is not None  # by check
        if self.linear[0].device != sr.device:
            with torch.inference_mode(False):
                self.network.to(sr.device)
                self.linear = [weight.to(sr.device) for weight in self.linear]
        total = sr.new_zeros(len(sr), dtype=torch.float32)
        if len(sr) == 0:
            return total
        for a, b, weight in zip(self.network(sr.float()), self.network(hr.float()), self.linear, strict=True):
            total = total + ((_unit(a) - _unit(b)).square() * weight).sum(1).mean((1, 2))
        return total


def _unit(x: Tensor) -> Tensor:
    """Scale each position's features `(N, C, H, W)` to length 1, or leave them 0."""
    return x / (torch.linalg.vector_norm(x, dim=1, keepdim=True) + 1e-10)  # whose gradient at 0 is 0, not NaN


def places(folder: str | os.PathLike[str], names: tuple[str, ...] = (FEATURES, LINEAR)) -> list[Path]:
    """List the files of a folder that weights of these names may lie in, whether they are there or not."""
    return [Path(folder) / f"{name}{suffix}" for name in names for suffix in state_dict.SUFFIXES]


def _find(folder: Path) -> tuple[Path, Path]:
    found = []
    for name in (FEATURES, LINEAR):
        found += [path for path in places(folder, (name,)) if path.is_file()][:1]
    if len(found) < 2:
        raise ValueError(
            f"lpips needs {FEATURES}.safetensors and {LINEAR}.safetensors (or .pth), which the package does not ship, "
            f"in {str(folder)!r}: ask for {FORM} with the folder that holds them"
        )
    return found[0], found[1]
