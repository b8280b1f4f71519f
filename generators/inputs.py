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
        values: whether values are looked at: once on the way in, and not in a training, whose photos are known.

    Raises:
        ValueError: another shape, no pixels, whole numbers, or values that go far beyond 0 and 1.
    """
    if lr.ndim != 4 or lr.shape[1] != 3:
        raise ValueError(f"photos must be (N, 3, h, w), got {tuple(lr.shape)}: channels come before height and width")
    if 0 in lr.shape[2:]:
        raise ValueError(f"photos must have pixels, got {tuple(lr.shape)}")
    if code.ndim != 2 or code.shape[1] != CODE_LENGTH or len(code) != len(lr):
        raise ValueError(f"codes must be ({len(lr)}, {CODE_LENGTH}), one for each photo, got {tuple(code.shape)}")
    if not (lr.is_floating_point() and code.is_floating_point()):
        raise ValueError(f"photos and codes must be floats, got {lr.dtype} and {code.dtype}: divide photos by 255")
    if values:
        check_range(lr, "photos", "divide 8-bit ones by 255")


def check_range(x: Tensor, what: str, cure: str) -> None:
    """Refuse floats that go far beyond 0 and 1; a little overshoot is one thing, 255 or photos from -1 on another.

    Args:
        x: of any shape. On a GPU, where looking would wait, and where the call is compiled, it is not looked at.
        what: `x` is, for the message.
        cure: what to do instead.

    Raises:
        ValueError: so they do, or there is NaN among them.
    """
    if x.device.type != "cpu" or torch.compiler.is_compiling() or not x.numel():
        return
    lowest, highest = (end.item() for end in x.aminmax())
    if not (lowest >= -0.5 and highest <= 2):
        found = f"to {highest:g}" if highest > 2 else f"from {lowest:g} on"
        raise ValueError(f"{what} go from 0 to 1, not {found}: {cure}")
