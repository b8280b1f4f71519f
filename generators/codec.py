"""The kernel code: fifteen PCA coefficients of a blur kernel, in two scalings (paper, section 3.1).

A kernel's coefficient vector c = basis (k - mean) is handed about as
- the **action** u = 0.8 (c - mid) / h, where h is half the range of each coefficient over the family, so that true
  kernels fill 80% of the box [-1, 1]^15 in every component;
- the **code** x = gain * u, gain = min(1, h / (1e-3 max h)), what the generator's layers see. Without the gain the last
  eight components, which true kernels hardly use, would reach the generator at full size: free knobs that no kernel in
  training ever moved, and that an agent can turn to print a grid that no-reference metrics like.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import Tensor

from generators.kernels import KERNEL_SIZE, WIDTH_RANGE, gaussian

CODE_LENGTH = 15
"""t, the number of PCA coefficients kept."""

FILL = 0.8
"""Share of the action box that the family's own kernels fill."""

FAMILY_SIZE = 10_000
"""Number of kernels that the PCA is fitted to."""

DISTINCT = 1e-12
"""Half-ranges over the largest that are no rounding noise; the isotropic Gaussians' last is 6e-7."""

_TENSORS = ("mean", "basis", "mid", "half_range", "gain")


@dataclass(frozen=True, eq=False)
class KernelCodec:
    """Turns blur kernels into actions and back. All tensors are float64.

    Attributes:
        mean: mean kernel, flattened, `(441,)`.
        basis: principal directions in rows, orthonormal, `(15, 441)`.
        mid: middle of each coefficient's range over the family, `(15,)`.
        half_range: half of each coefficient's range, `(15,)`, descending.
        gain: code over action, `(15,)`, in (0, 1].
        width_range: kernel widths of the family, HR pixels.
    """

    mean: Tensor
    basis: Tensor
    mid: Tensor
    half_range: Tensor
    gain: Tensor
    width_range: tuple[float, float]
    _replicas: dict[torch.device, KernelCodec] = field(default_factory=dict, repr=False)

    @property
    def t(self) -> int:
        """Length of the code."""
        return self.basis.shape[0]

    @property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that name this basis: actions mean nothing to a generator with another.

        Taken over four decimals of what `encode` gives for nine kernels across the range, so that it does not hang on
        the last bits of a linear-algebra library.
        """
        low, high = self.width_range
        widths = torch.linspace(low, high, 9, dtype=torch.float64, device="cpu")
        probe = self.to("cpu").encode(gaussian(widths))
        # Leading components only: the trailing ones divide rounding noise by half-ranges of 1e-6.
        digits = (probe[:, :7] * 1e4).round().to(torch.int64)
        return hashlib.sha256(digits.numpy().tobytes()).hexdigest()[:12]

    def to(self, device: torch.device | str) -> KernelCodec:
        """Return this codec with its tensors on `device` (kept, so a second call costs nothing)."""
        device = torch.device(device)
        if device == self.mean.device:
            return self
        if device not in self._replicas:
            with torch.inference_mode(False):  # what is kept must serve a later backward pass too
                moved = {name: getattr(self, name).to(device) for name in _TENSORS}
            self._replicas[device] = KernelCodec.from_state(moved, self.width_range)
        return self._replicas[device]

    def encode(self, kernel: Tensor) -> Tensor:
        """Project kernels onto the basis and scale the coefficients to actions.

        Args:
            kernel: `(N, 21, 21)`, each summing to 1, any floating dtype and device. In float32 the last components are
                lost in the kernels' rounding (the code hardly shows it, thanks to its gain): give float64.

        Returns:
            Actions `(N, 15)` float32; inside [-0.8, 0.8] for kernels of the family, possibly outside for others.

        Raises:
            ValueError: the kernel has another size.
        """
        side = round(self.mean.numel() ** 0.5)
        if kernel.ndim != 3 or kernel.shape[1:] != (side, side):
            raise ValueError(f"kernels must be (N, {side}, {side}), got {tuple(kernel.shape)}: pad or crop them")
        codec = self.to(kernel.device)
        coefficient = (kernel.flatten(1).to(torch.float64) - codec.mean) @ codec.basis.T  # (N, 15)
        return (FILL * (coefficient - codec.mid) / codec.half_range).to(torch.float32)

    def decode(self, action: Tensor) -> Tensor:
        """Give the kernel whose coefficients an action names: the least-squares kernel, for pictures.

        Args:
            action: `(N, 15)`, any floating dtype and device.

        Returns:
            `(N, 21, 21)` float32. Sums to about 1; may be slightly negative where the action is not a true kernel's.
        """
        codec = self.to(action.device)
        coefficient = action.to(torch.float64) * codec.half_range / FILL + codec.mid
        side = round(self.mean.numel() ** 0.5)
        return (codec.mean + coefficient @ codec.basis).view(-1, side, side).to(torch.float32)

    def code(self, action: Tensor) -> Tensor:
        """Scale actions `(N, 15)` to codes: what the generator's layers see, same shape and dtype."""
        return action * self.to(action.device).gain.to(action.dtype)

    def state(self) -> dict[str, Tensor]:
        """Return the tensors that a checkpoint stores."""
        return {name: getattr(self, name) for name in _TENSORS}

    @classmethod
    def from_state(cls, state: dict[str, Tensor], width_range: tuple[float, float]) -> KernelCodec:
        """Rebuild a codec from `state()` and its family's width range."""
        low, high = width_range
        tensors = {name: state[name].to(torch.float64) for name in _TENSORS}
        return cls(**tensors, width_range=(low, high))  # type: ignore[arg-type]

    @classmethod
    def fit(cls, kernels: Tensor, width_range: tuple[float, float]) -> KernelCodec:
        """Fit the basis to a family of kernels by PCA (full SVD, float64).

        Args:
            kernels: `(M, k, k)` float64, M above 15.
            width_range: the family's widths, kept for the record.

        Raises:
            ValueError: another shape, or kernels that differ in fewer than 15 directions.
        """
        if kernels.ndim != 3 or len(kernels) <= CODE_LENGTH:
            raise ValueError(
                f"a family must be (M, k, k), M above {CODE_LENGTH}, got {tuple(kernels.shape)}: add kernels"
            )
        flat = kernels.flatten(1).to(torch.float64).cpu()
        mean = flat.mean(dim=0)
        # Of the kernels, not of their covariance: that would square the spectrum, whose end is at 1e-7.
        basis = torch.linalg.svd(flat - mean, full_matrices=False).Vh[:CODE_LENGTH]  # (t, k^2)
        # An SVD's signs are arbitrary: let each coefficient grow from the first kernel to the last.
        coefficient = (flat - mean) @ basis.T  # (M, t)
        sign = torch.where(coefficient[-1] >= coefficient[0], 1.0, -1.0).to(torch.float64)
        basis, coefficient = basis * sign[:, None], coefficient * sign
        low, high = coefficient.amin(0), coefficient.amax(0)
        half_range = (high - low) / 2
        if not (half_range > DISTINCT * half_range.max()).all():
            raise ValueError(f"the kernels differ in fewer than {CODE_LENGTH} directions: take more that are not alike")
        gain = (half_range / (1e-3 * half_range.max())).clamp(max=1.0)
        return cls(mean, basis.contiguous(), (high + low) / 2, half_range, gain, width_range)

    @classmethod
    def isotropic(cls, scale: int = 4) -> KernelCodec:
        """Fit the codec of a scale: 10,000 isotropic Gaussians with widths evenly spaced over its range.

        Args:
            scale: 2, 3 or 4.

        Raises:
            ValueError: no width range is known for the scale.
        """
        if scale not in WIDTH_RANGE:
            raise ValueError(f"scale must be one of {sorted(WIDTH_RANGE)}, got {scale}")
        return _isotropic(scale)


@lru_cache(maxsize=len(WIDTH_RANGE))
@torch.inference_mode(False)  # what is kept must serve a later backward pass too
def _isotropic(scale: int) -> KernelCodec:
    low, high = WIDTH_RANGE[scale]
    widths = torch.linspace(low, high, FAMILY_SIZE, dtype=torch.float64, device="cpu")
    return KernelCodec.fit(gaussian(widths, KERNEL_SIZE), (low, high))
