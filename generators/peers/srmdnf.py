"""SRMDNF: super-resolution by plain convolutions of the photo and, at every pixel, the kernel's code."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from generators import state_dict

SCALE = 4

KERNEL = 15
"""Side of the kernels that it knows, HR pixels."""

CODE = 15
"""Length of its own code."""


class SRMDNF(nn.Module):
    """Zhang, Zuo, Zhang, "Learning a single convolutional super-resolution network for multiple degradations", 2018.

    The version without noise: 12 convolutions of 128 channels, 1,552,048 parameters (CVPR 2018). Kernels are cut to
    15x15 and sum to 1 again, as in its training; at widths near 4 that cuts off what lies beyond 1.9 deviations.
    """

    files: ClassVar[tuple[tuple[str, ...], ...]] = (
        ("srmdnf_x4.safetensors", "srmdnf_x4.pth"),
        ("srmd_pca.npz", "srmd_pca_matlab.mat"),
    )
    exact: ClassVar[str | tuple[str, ...]] = "model.22"

    def __init__(self) -> None:
        super().__init__()
        widths = [3 + CODE, *[128] * 11, 3 * SCALE**2]
        layers: list[nn.Module] = []
        for inputs, outputs in zip(widths[:-1], widths[1:], strict=True):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(inplace=True)]
        self.model = nn.Sequential(*layers[:-1])
        self.basis: Tensor
        self.register_buffer("basis", torch.zeros(CODE, KERNEL**2))

    def fill(self, weights: Path, basis: Path) -> None:
        """Take the weights of a file, and freeze them; see `state_dict.read` and `state_dict.fill`."""
        state_dict.fill(self, state_dict.read(weights), str(weights))
        self.basis.copy_(_basis(basis))

    def forward(self, lr: Tensor, kernel: Tensor) -> Tensor:
        """Render photos `(N, 3, h, w)` in [0, 1] with kernels `(N, 21, 21)`: `(N, 3, 4 h, 4 w)`, unclamped."""
        code = self.code(kernel)[:, :, None, None].expand(-1, -1, *lr.shape[2:])
        x = torch.cat([lr, code.to(lr.dtype)], dim=1)
        for layer in self.model:
            x = layer(x if isinstance(layer, nn.ReLU) else x.to(layer.weight.dtype))  # type: ignore[arg-type]
        return F.pixel_shuffle(x.to(lr.dtype), SCALE)

    def code(self, kernel: Tensor) -> Tensor:
        """Project kernels `(N, 21, 21)` on its own basis, without taking a mean off: `(N, 15)`."""
        border = (kernel.shape[-1] - KERNEL) // 2
        kernel = kernel[:, border : border + KERNEL, border : border + KERNEL]
        kernel = kernel / kernel.sum(dim=(1, 2), keepdim=True)
        return kernel.transpose(1, 2).flatten(1).to(self.basis.dtype) @ self.basis.T  # MATLAB counts down columns


def _basis(path: Path) -> Tensor:
    """Read the array P `(15, 225)` of a MATLAB or NumPy file.

    Raises:
        ValueError: the file holds none.
    """
    try:
        if path.suffix == ".mat":
            from scipy.io import loadmat  # slow to import

            array = loadmat(path)["P"]
        else:
            with np.load(path, allow_pickle=False) as arrays:
                array = arrays["P"]
        basis = torch.from_numpy(np.asarray(array, dtype=np.float32))
    except Exception as error:  # damaged files raise errors of several libraries
        raise ValueError(f"{path} holds no array P ({type(error).__name__}): copy or download it again") from error
    if basis.shape != (CODE, KERNEL**2):
        raise ValueError(f"{path} has P of shape {tuple(basis.shape)}, not {(CODE, KERNEL**2)}: give SRMD's basis")
    return basis
