"""Arithmetic that gives the same numbers whatever precision the caller trains in."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

_lock = threading.Lock()
_inside = 0
# These settings are the process's: the last thread to leave restores what the first one found.
_settings = ExitStack()


@contextmanager
def exact(device: torch.device) -> Iterator[None]:
    """Switch off what changes pictures and scores from run to run, for our own calls only.

    That is the caller's autocast, TF32 or bfloat16 in products of float32, and on a GPU cuDNN's autotuning and atomics.

    Args:
        device: where the work is done.
    """
    with torch.autocast(device.type, enabled=False):
        _enter(device)
        try:
            yield
        finally:
            _leave()


def _enter(device: torch.device) -> None:
    global _inside
    with _lock:
        _settings.enter_context(_products())  # anew each time: a metric may have changed them
        if device.type == "cuda":
            _settings.enter_context(_cudnn())
        _inside += 1


def _leave() -> None:
    global _inside
    with _lock:
        _inside -= 1
        if not _inside:
            _settings.close()


@contextmanager
def _products() -> Iterator[None]:
    """Compute products of float32 in float32, whichever of torch's two interfaces the caller has set them by."""
    backends = torch.backends
    try:
        whole = torch.get_float32_matmul_precision()
    except RuntimeError:  # set by the newer interface, which the older one refuses to read
        kinds = (backends.cuda.matmul, backends.mkldnn.matmul, backends.mkldnn.conv)  # type: ignore[attr-defined]
        before = [kind.fp32_precision for kind in kinds]
        for kind in kinds:
            kind.fp32_precision = "ieee"
        yield
        for kind, precision in zip(kinds, before, strict=True):
            kind.fp32_precision = precision
        return
    if whole != "highest":
        torch.set_float32_matmul_precision("highest")
    yield
    if whole != "highest":
        torch.set_float32_matmul_precision(whole)


@contextmanager
def _cudnn() -> Iterator[None]:
    """Let cuDNN compute in float32, by algorithms that are always the same."""
    cudnn = torch.backends.cudnn
    before = cudnn.enabled, cudnn.benchmark, cudnn.deterministic
    cudnn.enabled, cudnn.benchmark, cudnn.deterministic = True, False, True
    try:
        tf32 = cudnn.allow_tf32
    except RuntimeError:  # as above
        convolutions = cudnn.conv  # type: ignore[attr-defined]
        precision, convolutions.fp32_precision = convolutions.fp32_precision, "ieee"
        yield
        convolutions.fp32_precision = precision
    else:
        cudnn.allow_tf32 = False
        yield
        cudnn.allow_tf32 = tf32
    cudnn.enabled, cudnn.benchmark, cudnn.deterministic = before
