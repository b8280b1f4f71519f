"""USRNet: the degradation is inverted in closed form with the kernel itself, in turns with a learned denoiser."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from generators import state_dict

SCALE = 4
ITERATIONS, WIDTHS, HIDDEN = 6, (16, 32, 64, 64), 32
"""Of the tiny version."""

BORDER = 8
"""LR pixels by which photos are continued on each side: what the inversion takes for periodic."""


class USRNetTiny(nn.Module):
    """Zhang, Van Gool, Timofte, "Deep unfolding network for image super-resolution", CVPR 2020, its tiny version.

    590,332 parameters, used six times over. Its degradation is a blur of which every fourth pixel is kept. That of this
    project shrinks bicubically after the blur, which is such a blur too: the kernel convolved with the bicubic one.
    """

    files: ClassVar[tuple[tuple[str, ...], ...]] = (("usrnet_tiny.safetensors", "usrnet_tiny.pth"),)
    exact: ClassVar[str | tuple[str, ...]] = ("h", "p.m_tail")

    def __init__(self) -> None:
        super().__init__()
        self.h, self.p = _Hyperparameters(), _Denoiser()
        self.bicubic: Tensor
        self.register_buffer("bicubic", _bicubic(), persistent=False)
        self.task: Tensor  # noise level and scale
        self.register_buffer("task", torch.tensor([0.0, SCALE]), persistent=False)

    def fill(self, weights: Path) -> None:
        """Take the weights of a file, and freeze them; see `state_dict.read` and `state_dict.fill`."""
        state_dict.fill(self, state_dict.read(weights), str(weights))

    def forward(self, lr: Tensor, kernel: Tensor) -> Tensor:
        """Render photos `(N, 3, h, w)` in [0, 1] with kernels `(N, 21, 21)`: `(N, 3, 4 h, 4 w)`, unclamped."""
        y = F.pad(lr.float(), (BORDER,) * 4, mode="replicate")
        otf = self.transfer(kernel.float(), (SCALE * y.shape[2], SCALE * y.shape[3]))  # (N, 1, H, W) complex
        alpha, beta = self.h(self.task).chunk(2)
        x = F.interpolate(y, scale_factor=SCALE, mode="nearest")
        for a, b in zip(alpha, beta, strict=True):
            x = self.p(inverted(y, otf, x, a), b)
        border = slice(SCALE * BORDER, -SCALE * BORDER)
        return x[:, :, border, border].to(lr.dtype)

    def transfer(self, kernel: Tensor, size: tuple[int, int]) -> Tensor:
        """Give the Fourier transform `(N, 1, *size)` of blur and bicubic kernel together, by kernels `(N, k, k)`."""
        both = F.conv_transpose2d(kernel[:, None], torch.outer(self.bicubic, self.bicubic)[None, None])
        # LR pixel i lies at HR pixel 4 i + 1.5, and is made of those from 4 i - 6 to 4 i + 9, blurred.
        before = kernel.shape[-1] // 2 + len(self.bicubic) // 2 + 1
        both = F.pad(both, (0, size[1] - both.shape[3], 0, size[0] - both.shape[2]))
        return torch.fft.fft2(both.roll((-before, -before), dims=(2, 3)))


def inverted(y: Tensor, otf: Tensor, near: Tensor, alpha: Tensor) -> Tensor:
    """Find the photos x that minimise |(k * x) kept at every fourth pixel - y|^2 + alpha |x - near|^2, in closed form.

    Args:
        y: LR photos `(N, 3, h, w)`.
        otf: Fourier transform of the kernels k, `(N, 1, 4 h, 4 w)` complex.
        near: `(N, 3, 4 h, 4 w)`.
        alpha: above 0.
    """
    right = otf.conj() * torch.fft.fft2(_spread(y)) + alpha * torch.fft.fft2(near)
    middle = _folded(otf * right) / (_folded(otf.abs().square()) + alpha)
    return torch.fft.ifft2((right - otf.conj() * middle.repeat(1, 1, SCALE, SCALE)) / alpha).real


class _Hyperparameters(nn.Module):
    """Names the strength of both steps in each iteration, by noise level and scale."""

    def __init__(self) -> None:
        super().__init__()
        layers = [nn.Conv2d(2, HIDDEN, 1), nn.ReLU(), nn.Conv2d(HIDDEN, HIDDEN, 1), nn.ReLU()]
        self.mlp = nn.Sequential(*layers, nn.Conv2d(HIDDEN, 2 * ITERATIONS, 1), nn.Softplus())

    def forward(self, given: Tensor) -> Tensor:
        return self.mlp(given.view(1, 2, 1, 1)).flatten() + 1e-6


class _Denoiser(nn.Module):
    """A U-Net of residual blocks, which is told the noise level in a fourth plane."""

    def __init__(self) -> None:
        super().__init__()
        a, b, c, d = WIDTHS
        self.m_head = nn.Conv2d(4, a, 3, padding=1, bias=False)
        for number, (above, below) in enumerate(((a, b), (b, c), (c, d)), start=1):
            down = nn.Conv2d(above, below, 2, stride=2, bias=False)
            up = nn.ConvTranspose2d(below, above, 2, stride=2, bias=False)
            self.add_module(f"m_down{number}", nn.Sequential(_Residual(above), _Residual(above), down))
            self.add_module(f"m_up{number}", nn.Sequential(up, _Residual(above), _Residual(above)))
        self.m_body = nn.Sequential(_Residual(d), _Residual(d))
        self.m_tail = nn.Conv2d(a, 3, 3, padding=1, bias=False)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        height, width = x.shape[2:]
        x = torch.cat([x, level.expand(len(x), 1, height, width)], dim=1)
        x = F.pad(x, (0, -width % 8, 0, -height % 8), mode="replicate")
        levels = [self.m_head(x.to(self.m_head.weight.dtype))]
        for number in (1, 2, 3):
            levels.append(self.get_submodule(f"m_down{number}")(levels[-1]))
        x = self.m_body(levels[-1])
        for number in (3, 2, 1):
            x = self.get_submodule(f"m_up{number}")(x + levels[number])
        sr: Tensor = self.m_tail((x + levels[0]).to(self.m_tail.weight.dtype))
        return sr[:, :, :height, :width]


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        first, second = (nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in range(2))
        self.res = nn.Sequential(first, nn.ReLU(inplace=True), second)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.res(x)
        return x + y


def _bicubic() -> Tensor:
    """Weights of the 16 HR pixels that MATLAB's bicubic interpolation with antialiasing makes an LR pixel of."""
    x = ((torch.arange(4 * SCALE, dtype=torch.float64) + 0.5) / SCALE - 2).abs()
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    weights = torch.where(x <= 1, near, far)
    return (weights / weights.sum()).float()


def _spread(y: Tensor) -> Tensor:
    """Put each pixel at the top left of 4 x 4 pixels that are 0 otherwise."""
    x = y.new_zeros(*y.shape[:2], SCALE * y.shape[2], SCALE * y.shape[3])
    x[:, :, ::SCALE, ::SCALE] = y
    return x


def _folded(spectrum: Tensor) -> Tensor:
    """Mean of the 4 x 4 blocks of a spectrum: what keeping every fourth pixel makes of it."""
    return spectrum.unflatten(3, (SCALE, -1)).unflatten(2, (SCALE, -1)).mean(dim=(2, 4))
