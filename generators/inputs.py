"""What every generator is given: photos and codes."""

from __future__ import annotations

import torch
from torch import Tensor

from generators.codec import CODE_LENGTH


def check(lr: Tensor, code: Tensor, *, values: bool = True) -> None:
    """Refuse what no generator renders.

    Args:
        lr: photos `(N, 3, h, w)`, floats from 0 to 1. On a GPU, where looking would wait, values are not looked at.
        code: `(N, 15)` floats: codes or actions.
        values: whether values are looked at; not in a training, whose photos are known.

    Raises:
        ValueError: another shape, whole numbers, or values that go far beyond 1.
    """
    if lr.ndim != 4 or lr.shape[1] != 3:
        raise ValueError(f"photos must be (N, 3, h, w), got {tuple(lr.shape)}: channels come before height and width")
    if code.ndim != 2 or code.shape[1] != CODE_LENGTH or len(code) != len(lr):
        raise ValueError(f"codes must be ({len(lr)}, {CODE_LENGTH}), one for each photo, got {tuple(code.shape)}")
    if not (lr.is_floating_point() and code.is_floating_point()):
        raise ValueError(f"photos and codes must be floats, got {lr.dtype} and {code.dtype}: divide photos by 255")
    if values and lr.device.type == "cpu" and not torch.compiler.is_compiling() and lr.numel() and lr.max() > 2:
        raise ValueError(f"photos go from 0 to 1, not to {lr.max():g}: divide them by 255")
