"""SqueezeNet 1.1's features, with torchvision's names of weights, for LPIPS and the perceptual loss.

Iandola et al., "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters", 2016; the authors' version 1.1.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)
"""Of ImageNet's RGB in [0, 1], by which torchvision's networks expect their pictures normalised."""

CHANNELS = (64, 128, 256, 384, 384, 512, 512)
"""Channels of the features that `SqueezeNet` gives."""

MIN_SIZE = 17
"""The smallest side whose pooled features are not empty."""

_FIRES = {3: (64, 16, 64), 4: (128, 16, 64), 6: (128, 32, 128), 7: (256, 32, 128)}
_FIRES |= {9: (256, 48, 192), 10: (384, 48, 192), 11: (384, 64, 256), 12: (512, 64, 256)}
_POOLS = (2, 5, 8)
_TAPS = (0, 4, 7, 9, 10, 11, 12)


class Normalize(nn.Module):
    """Shift and scale RGB in [0, 1] as networks trained on ImageNet expect it."""

    mean: Tensor
    deviation: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name, values in (("mean", MEAN), ("deviation", DEVIATION)):  # on the device before the first picture
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, 3, H, W)` to the same shape."""
        return (x - self.mean) / self.deviation


class Fire(nn.Module):
    """Squeeze by 1x1, expand by 1x1 and 3x3 side by side; the last activation is left to whoever goes on."""

    def __init__(self, inputs: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, inputs, H, W)` to `(N, 2 expanded, H, W)`, before the activation."""
        x = F.relu(self.squeeze(x))
        return torch.cat([self.expand1x1(x), self.expand3x3(x)], dim=1)


class SqueezeNet(nn.Module):
    """The convolutional part, giving features at seven depths.

    Args:
        depth: how many of the seven to compute, the shallowest first.
    """

    def __init__(self, depth: int = len(_TAPS)) -> None:
        super().__init__()
        self.taps = _TAPS[:depth]
        layers: dict[str, nn.Module] = {"0": nn.Conv2d(3, 64, 3, stride=2)}
        layers |= {str(i): Fire(*shape) for i, shape in _FIRES.items() if i <= self.taps[-1]}
        self.features = nn.ModuleDict(layers)
        self.normalize = Normalize()

    def forward(self, x: Tensor, activated: bool = True) -> list[Tensor]:
        """Give features of pictures.

        Args:
            x: RGB `(N, 3, H, W)` in [0, 1], sides of at least `MIN_SIZE`.
            activated: after the ReLU, or before it.

        Returns:
            `depth` tensors `(N, CHANNELS[i], h, w)`.
        """
        x, taken = self.normalize(x), []
        for i in range(self.taps[-1] + 1):
            if i in _POOLS:
                x = F.max_pool2d(x, 3, stride=2, ceil_mode=True)
            elif str(i) in self.features:
                raw = self.features[str(i)](x)
                x = F.relu(raw)
                if i in self.taps:
                    taken.append(x if activated else raw)
        return taken


def recognised(tensors: Mapping[str, Tensor]) -> bool:
    """Say whether a weight file is SqueezeNet 1.1's (1.0 has its pools, and so its layers, elsewhere)."""
    return "features.12.expand3x3.weight" in tensors and "features.6.squeeze.weight" in tensors
