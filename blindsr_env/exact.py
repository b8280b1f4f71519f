"""Arithmetic that gives the same numbers whatever precision the caller trains in."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

_lock = threading.Lock()
_inside = 0
# cuDNN's settings are the process's: the last thread to leave restores what the first one found.
_settings = ExitStack()


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
        _enter()
        try:
            yield
        finally:
            _leave()


def _enter() -> None:
    global _inside
    with _lock:
        flags = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
        _settings.enter_context(flags)  # anew each time: a metric may have changed them
        _inside += 1


def _leave() -> None:
    global _inside
    with _lock:
        _inside -= 1
        if not _inside:
            _settings.close()
