"""The device that a command works on."""

from __future__ import annotations

import os

import torch


def pick_device(name: str) -> torch.device:
    """Resolve `auto` to CUDA where there is one; under torchrun, `cuda` to the GPU of this process.

    Raises:
        ValueError: there is no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise ValueError(f"device must be auto, cpu or cuda, got {name!r}")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device is {name}, but PyTorch finds no CUDA GPU here: take cpu or auto")
    if device.type == "cuda" and device.index is None and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        if device.index >= torch.cuda.device_count():
            raise ValueError(f"there are more processes than GPUs here ({torch.cuda.device_count()}): start fewer")
    return device
