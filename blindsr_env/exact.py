"""Arithmetic that gives the same numbers whatever precision the caller trains in."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

_lock = threading.Lock()
_inside = 0
# These settings are the process's: the last thread to leave restores what the first one found. Only what was changed is
# noted, so that threads which overlap for ever do not pile up notes.
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
        _products()  # anew each time: a metric may have changed them
        if device.type == "cuda":
            _cudnn()
        _inside += 1


def _leave() -> None:
    global _inside
    with _lock:
        _inside -= 1
        if not _inside:
            _settings.close()


def _products() -> None:
    """Compute products of float32 in float32, whichever of torch's two interfaces the caller has set them by."""
    backends = torch.backends
    try:
        whole = torch.get_float32_matmul_precision()
    except RuntimeError:  # set by the newer interface, which the older one refuses to read
        whole = "highest"
    if whole != "highest":
        torch.set_float32_matmul_precision("highest")
        _settings.callback(torch.set_float32_matmul_precision, whole)
    _precisely(backends.cuda.matmul, backends)
    for kind in (backends.mkldnn.matmul, backends.mkldnn.conv):  # type: ignore[attr-defined]
        _precisely(kind, backends.mkldnn)


def _cudnn() -> None:
    """Let cuDNN compute in float32, by algorithms that are always the same."""
    cudnn = torch.backends.cudnn
    for name, value in (("enabled", True), ("benchmark", False), ("deterministic", True)):
        _set(cudnn, name, value)
    try:
        _set(cudnn, "allow_tf32", False)
    except RuntimeError:  # as above
        _precisely(cudnn.conv, cudnn)  # type: ignore[attr-defined]


def _set(owner: Any, name: str, value: Any) -> None:
    """Change a setting where it is another one, until the last thread leaves."""
    before = getattr(owner, name)
    if before != value:
        setattr(owner, name, value)
        _settings.callback(setattr, owner, name, before)


def _precisely(kind: Any, parent: Any) -> None:
    """Set a kind's precision in the newer interface to float32; what it took from its parent, it takes again later."""
    before = kind.fp32_precision
    if before not in ("none", "ieee"):
        kind.fp32_precision = "ieee"
        _settings.callback(setattr, kind, "fp32_precision", "none" if before == parent.fp32_precision else before)
