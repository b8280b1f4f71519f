"""Speed of a training: patches per second, and the share of the device's arithmetic rate that it reaches."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch

TIMED = 0.3
"""Seconds that matrix products are timed for."""


@lru_cache
def matmul_rate(device: torch.device, dtype: torch.dtype, seconds: float = TIMED) -> float:
    """Measure a device's rate of matrix multiplication, the best of several runs; once in a process.

    `blindsr bench` takes the median of products that take turns with what is measured: shares of the one and of the
    other do not compare.

    Args:
        device: CPU or GPU.
        dtype: of the factors. float32 products on a GPU take TF32 where its convolutions do.
        seconds: about how long to measure.

    Returns:
        Floating-point operations per second; a multiply-add counts as two.
    """
    rng = torch.Generator(device).manual_seed(0)  # of its own, so that no training's random numbers are taken
    gpu = device.type == "cuda"
    side = 8192 if gpu else 1024
    # Random factors: a GPU that multiplies constants draws less power and runs faster than any training lets it.
    a, b = (torch.randn(side, side, generator=rng, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    with _as_convolutions(device):
        best, end = float("inf"), time.monotonic() + seconds
        repeats = 8 if gpu else 1
        torch.matmul(a, b, out=out)  # picks its kernel
        while time.monotonic() < end or best == float("inf"):
            _wait(device)
            start = time.perf_counter()
            for _ in range(repeats):
                torch.matmul(a, b, out=out)
            _wait(device)
            best = min(best, (time.perf_counter() - start) / repeats)
    return 2 * side**3 / best


@contextmanager
def _as_convolutions(device: torch.device) -> Iterator[None]:
    """Let float32 products on a GPU take TF32 where convolutions do, whichever of torch's two interfaces says so."""
    if device.type != "cuda":
        yield
        return
    products: Any = torch.backends.cuda.matmul
    setting = "allow_tf32"
    try:
        before, wanted = products.allow_tf32, torch.backends.cudnn.allow_tf32
    except RuntimeError:  # set by the newer interface, which the older one refuses to read
        setting = "fp32_precision"
        before, wanted = products.fp32_precision, torch.backends.cudnn.conv.fp32_precision  # type: ignore[attr-defined]
        if before == torch.backends.fp32_precision:  # type: ignore[attr-defined]
            before = "none"  # what it took from its parent, it takes again later
    setattr(products, setting, wanted)
    try:
        yield
    finally:
        setattr(products, setting, before)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Meter:
    """Clock of a training; the first step, which compiles and warms up, is left out.

    Args:
        patches: trained on in a step, by all processes.
        flops: floating-point operations of a step on this process's device; may be set anew between steps.
        rate: what the device reaches in matrix products, operations a second.
        device: of the training.
    """

    def __init__(self, patches: int, flops: int, rate: float, device: torch.device) -> None:
        self.patches, self.flops, self.rate, self.device = patches, flops, rate, device
        self._since: float | None = None
        self._steps = self._all_steps = 0
        self._work = self._all_work = 0
        self._all_seconds = 0.0

    def step(self) -> None:
        """Count a step."""
        if self._since is None:
            self._since = time.perf_counter()
        else:
            self._steps += 1
            self._work += self.flops

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the clock during work other than training: validation, saving."""
        _wait(self.device)  # steps under way are training
        start = time.perf_counter()
        yield
        if self._since is not None:
            self._since += time.perf_counter() - start

    def read(self) -> dict[str, float]:
        """Give the rates since the last reading; the device must have finished its work.

        Returns:
            `patches_per_second`, and `matmul_share`, the share of `rate`; empty before the second step.
        """
        if self._since is None or not self._steps:
            return {}
        now = time.perf_counter()
        seconds, steps, work = now - self._since, self._steps, self._work
        self._all_seconds, self._all_steps = self._all_seconds + seconds, self._all_steps + steps
        self._all_work += work
        self._since, self._steps, self._work = now, 0, 0
        return self._rates(steps, work, seconds)

    def total(self) -> dict[str, float]:
        """Give the rates over all readings, and `matmul_rate`, operations per second; empty without a reading."""
        if not self._all_steps:
            return {}
        rates = self._rates(self._all_steps, self._all_work, self._all_seconds)
        return {**{key: round(value, 4) for key, value in rates.items()}, "matmul_rate": float(f"{self.rate:.4g}")}

    def _rates(self, steps: int, work: int, seconds: float) -> dict[str, float]:
        return {
            "patches_per_second": steps * self.patches / seconds,
            "matmul_share": work / seconds / self.rate,
        }
