"""Arithmetic that gives the same numbers whatever precision the caller trains in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def exact(device: torch.device) -> Iterator[None]:
    """Switch off what changes pictures and scores from run to run, for our own calls only.

    That is the caller's autocast, and on a GPU cuDNN's autotuning, its TF32 and its atomics. TF32 in matrix products is
    off by default in torch: whoever allows it allows it here too.

    Args:
        device: where the work is done.
    """
    with torch.autocast(device.type, enabled=False):
        if device.type != "cuda":
            yield
            return
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            yield
