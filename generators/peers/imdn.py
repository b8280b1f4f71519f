"""IMDN: a light network for one degradation, bicubic downsampling; it does not look at the kernel."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from generators import state_dict

KEPT, PASSED = 16, 48
"""Channels that each convolution of a block keeps for its output, and hands on to the next."""

SCALE, WIDTH, BLOCKS, SLOPE = 4, 64, 6, 0.05


class IMDN(nn.Module):
    """Hui, Gao, Yang, Wang, "Lightweight image super-resolution with information multi-distillation network", MM 2019.

    715,176 parameters, trained for sharp photos shrunk bicubically: what a network is worth on blurred ones
    that does not know of blur.
    """

    files: ClassVar[tuple[tuple[str, ...], ...]] = (("imdn_x4.safetensors", "imdn_x4.pth"),)
    exact: ClassVar[str | tuple[str, ...]] = "upsampler"

    def __init__(self) -> None:
        super().__init__()
        self.fea_conv = nn.Conv2d(3, WIDTH, 3, padding=1)
        for number in range(1, BLOCKS + 1):
            self.add_module(f"IMDB{number}", _Block())
        self.c = nn.Sequential(nn.Conv2d(BLOCKS * WIDTH, WIDTH, 1), nn.LeakyReLU(SLOPE, inplace=True))
        self.LR_conv = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.upsampler = nn.Sequential(nn.Conv2d(WIDTH, 3 * SCALE**2, 3, padding=1), nn.PixelShuffle(SCALE))

    def fill(self, weights: Path) -> None:
        """Take the weights of a file, and freeze them; see `state_dict.read` and `state_dict.fill`."""
        state_dict.fill(self, state_dict.read(weights), str(weights))

    def forward(self, lr: Tensor, kernel: Tensor) -> Tensor:
        """Render photos `(N, 3, h, w)` in [0, 1], whatever the kernels: `(N, 3, 4 h, 4 w)`, unclamped."""
        features = x = self.fea_conv(lr.to(self.fea_conv.weight.dtype))
        each = []
        for number in range(1, BLOCKS + 1):
            x = self.get_submodule(f"IMDB{number}")(x)
            each.append(x)
        x = self.LR_conv(self.c(torch.cat(each, dim=1))) + features
        sr: Tensor = self.upsampler(x.to(self.upsampler[0].weight.dtype))
        return sr.to(lr.dtype)


class _Block(nn.Module):
    """Four convolutions, each of which keeps a quarter of its channels; contrast-aware attention; skip."""

    def __init__(self) -> None:
        super().__init__()
        self.c1 = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.c2 = nn.Conv2d(PASSED, WIDTH, 3, padding=1)
        self.c3 = nn.Conv2d(PASSED, WIDTH, 3, padding=1)
        self.c4 = nn.Conv2d(PASSED, KEPT, 3, padding=1)
        self.c5 = nn.Conv2d(WIDTH, WIDTH, 1)
        self.cca = _Attention()

    def forward(self, x: Tensor) -> Tensor:
        kept, passed = [], x
        for conv in (self.c1, self.c2, self.c3):
            part, passed = F.leaky_relu(conv(passed), SLOPE).split((KEPT, PASSED), dim=1)
            kept.append(part)
        fused: Tensor = self.c5(self.cca(torch.cat([*kept, self.c4(passed)], dim=1)))
        return fused + x


class _Attention(nn.Module):
    """Scale each channel by what its mean and standard deviation over space say."""

    def __init__(self) -> None:
        super().__init__()
        squeezed = WIDTH // 16
        self.conv_du = nn.Sequential(
            nn.Conv2d(WIDTH, squeezed, 1), nn.ReLU(inplace=True), nn.Conv2d(squeezed, WIDTH, 1), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        contrast = wide.var(dim=(2, 3), correction=0, keepdim=True).sqrt() + wide.mean(dim=(2, 3), keepdim=True)
        return x * self.conv_du(contrast.to(x.dtype))
