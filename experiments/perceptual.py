"""Perceptual loss: distance between pictures in the features of a pretrained network (Johnson et al., ECCV 2016)."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from blindsr_env.metrics import squeezenet
from generators import state_dict

VGG_CONVOLUTIONS = (2, 7, 16, 25, 34)
"""torchvision's numbers of VGG19's last convolution before each pool: conv1_2, conv2_2, conv3_4, conv4_4, conv5_4."""

SQUEEZENET_DEPTH = 4
"""Features up to its third pool and the layer after it: as coarse as VGG's conv4_4."""

_VGG_WIDTHS = {0: (3, 64), 2: (64, 64), 5: (64, 128), 7: (128, 128), 10: (128, 256), 12: (256, 256), 14: (256, 256)}
_VGG_WIDTHS |= {16: (256, 256), 19: (256, 512), **{i: (512, 512) for i in (21, 23, 25, 28, 30, 32, 34)}}
_VGG_POOLS = (4, 9, 18, 27)


class VGG19(nn.Module):
    """The convolutional part of VGG19 up to conv5_4 (Simonyan, Zisserman, ICLR 2015), with torchvision's names."""

    def __init__(self) -> None:
        super().__init__()
        layers = {str(i): nn.Conv2d(*widths, 3, padding=1) for i, widths in _VGG_WIDTHS.items()}
        self.features = nn.ModuleDict(layers)
        self.normalize = squeezenet.Normalize()

    def forward(self, x: Tensor) -> list[Tensor]:
        """Give five features of RGB `(N, 3, H, W)` in [0, 1], before the activation; sides of at least 16."""
        x, taken = self.normalize(x), []
        for i in range(VGG_CONVOLUTIONS[-1] + 1):
            if i in _VGG_POOLS:
                x = F.max_pool2d(x, 2)
            elif str(i) in self.features:
                raw = self.features[str(i)](x)
                x = F.relu(raw)
                if i in VGG_CONVOLUTIONS:
                    taken.append(raw)
        return taken


class PerceptualLoss:
    """Mean over depths of the L1 distance of features, over their mean size: 0 for equal pictures, 1 far apart.

    Features are taken before the activation, as ESRGAN does (Wang et al., 2018): after it most are 0, deep ones above
    all, and have no gradient. Dividing by the size of HR's features makes depths and networks count alike, so that one
    weight of the loss fits both.

    Args:
        path: weights of VGG19 or of SqueezeNet 1.1 with torchvision's names, `.safetensors` or `.pth`; the names
            tell which network it is.
        device: of the pictures to come.

    Raises:
        ValueError: the file is missing, damaged, or of neither network; one line.
    """

    def __init__(self, path: str | os.PathLike[str], device: torch.device | str = "cpu") -> None:
        tensors = state_dict.read(path)
        self.network: nn.Module
        self.features: Callable[[Tensor], list[Tensor]]
        if squeezenet.recognised(tensors):
            self.name, self.network = "squeezenet1_1", squeezenet.SqueezeNet(SQUEEZENET_DEPTH)
            self.features = partial(self.network, activated=False)
        elif "features.34.weight" in tensors:
            self.name, self.network = "vgg19", VGG19()
            self.features = self.network
        else:
            raise ValueError(
                f"{os.fspath(path)} is neither VGG19's nor SqueezeNet 1.1's: "
                "give torchvision's weights of one of them as `perceptual`"
            )
        state_dict.fill(self.network, tensors, os.fspath(path))
        self.network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def __call__(self, sr: Tensor, hr: Tensor) -> Tensor:
        """Give the distance of `sr` to `hr`, both `(N, 3, H, W)` in [0, 1]: a scalar with a gradient to `sr`."""
        with torch.no_grad():
            wanted = self.features(hr)
        distances = [
            (got.float() - want.float()).abs().mean() / want.float().abs().mean()
            for got, want in zip(self.features(sr), wanted, strict=True)
        ]
        return torch.stack(distances).mean()
