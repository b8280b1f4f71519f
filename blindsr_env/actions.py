"""What an action means: the kernel's code within the kernels' own box, the free code, or a width."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor

from blindsr_env.kernels import gaussian
from generators import KernelCodec
from generators.nearest import unknown

ACTIONS = ("code", "free-code", "width")
"""Action spaces by name."""


def check_kind(kind: str) -> None:
    """Raise a ValueError where no action space has this name; the nearest ones are listed."""
    if kind not in ACTIONS:
        raise ValueError(unknown("action space", kind, ACTIONS))


class ActionSpace:
    """Translates between actions in [-1, 1]^d, blur kernels, and what the generator takes.

    Args:
        kind: `"code"`, the codec's actions, d = 15; `"free-code"`, the code x itself, which reaches beyond kernels,
            d = 15; `"width"`, the width of an isotropic Gaussian, linear in the generator's range, d = 1.
        codec: the generator's.

    Attributes:
        kind: see above.
        box: the space of one action, as Gymnasium has it.

    Raises:
        ValueError: unknown kind; the nearest ones are listed.
    """

    def __init__(self, kind: str, codec: KernelCodec) -> None:
        check_kind(kind)
        self.kind, self._codec = kind, codec
        self.box = gymnasium.spaces.Box(-1, 1, (1 if kind == "width" else codec.t,), np.float32)

    def generator_input(self, action: Tensor) -> Tensor:
        """Give what the generator takes for actions in the box, `(N, d)`: its own actions, or free codes, `(N, 15)`."""
        return self._codec.encode(self.kernel(action)) if self.kind == "width" else action

    def kernel(self, action: Tensor) -> Tensor:
        """Give the kernels that actions `(N, d)` name, `(N, 21, 21)`, by least squares where they name none."""
        if self.kind == "width":
            low, high = self._codec.width_range
            return gaussian(low + (action[:, 0].double() + 1) / 2 * (high - low))
        if self.kind == "free-code":
            action = action / self._codec.code(torch.ones_like(action))
        return self._codec.decode(action)

    def of(self, code: Tensor, width: Tensor) -> Tensor:
        """Give the actions of kernels: of the codec's actions `(N, 15)` and widths, HR pixels, `(N,)`.

        Returns:
            `(N, d)` float32; outside the box where a kernel is outside the codec's family.
        """
        if self.kind == "width":
            low, high = self._codec.width_range
            return (2 * (width - low) / (high - low) - 1).float()[:, None]
        return self._codec.code(code) if self.kind == "free-code" else code


def checked(action: Any, shape: tuple[int, ...]) -> Tensor:
    """Read an action, or a batch of them, from outside.

    Args:
        action: NumPy array, tensor or nested list of numbers.
        shape: what it must have.

    Returns:
        float32 tensor of that shape, where the action's own was, not clipped. A tensor is not copied.

    Raises:
        ValueError: another shape, no numbers, or NaN or infinity among them. For a tensor on a GPU the last check does
            not wait for the device: CUDA itself then reports a failed assertion at a later call, and the process's CUDA
            context is lost.
    """
    if action.is_complex() if isinstance(action, Tensor) else np.iscomplexobj(action):
        raise ValueError(f"an action must be real numbers, got {action!r:.80}")
    if not isinstance(action, Tensor):
        try:
            action = torch.from_numpy(np.array(action, dtype=np.float32))  # a copy: the caller's array may change
        except (TypeError, ValueError):
            raise ValueError(f"an action must be numbers of shape {shape}, got {action!r:.80}") from None
    if tuple(action.shape) != shape:
        raise ValueError(f"an action must have shape {shape}, got {tuple(action.shape)}")
    action = action.detach().to(torch.float32)
    if action.is_cuda:
        torch._assert_async(torch.isfinite(action).all(), "an action must be finite, got NaN or infinity")
    elif not torch.isfinite(action).all():
        count = int((~torch.isfinite(action)).sum())
        raise ValueError(f"an action must be finite, got {count} NaN or infinite of {action.numel()} numbers")
    return action
