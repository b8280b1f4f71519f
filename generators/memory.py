"""Running out of memory, which PyTorch says on a CPU by a text alone."""

from __future__ import annotations

import torch

WORDS = ("out of memory", "allocate memory", "enough memory")


def exhausted(error: BaseException) -> bool:
    """Say whether an error is for want of memory, the device's or the host's."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(words in str(error) for words in WORDS)
