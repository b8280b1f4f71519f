"""Time and memory: contestants take turns in one process, so that drift of the machine affects all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

MATMUL_SIDE = {"cpu": 1536, "cuda": 8192}


@dataclass(frozen=True)
class Contestant:
    """What is timed.

    Attributes:
        name: in tables and results.
        run: does it once.
        images: pictures that one run makes or scores.
        flops: floating-point operations of one run, 0 where they are not counted.
        dtype: whose matmul rate it is compared with.
    """

    name: str
    run: Callable[[], Any]
    images: int
    flops: float = 0.0
    dtype: str = "float32"


def race(contestants: Sequence[Contestant], rounds: int, device: torch.device, label: str) -> dict[str, dict[str, Any]]:
    """Time contestants and the device's matrix products in turn.

    Args:
        contestants: each runs once per round, in this order.
        rounds: number of timed rounds; one more before them warms up.
        device: where they run; on a GPU times are CUDA events', the device idle at their start.
        label: of the progress bar.

    Returns:
        By name: `images`, `seconds` of each round, `median`, `images_per_second`; where FLOPs are counted also `flops`
        and `share_of_matmul`, its rate over that of a matrix product in its dtype.
    """
    runners = [*_matmuls(device, {contestant.dtype for contestant in contestants}), *contestants]
    seconds: dict[str, list[float]] = {runner.name: [] for runner in runners}
    # Without TF32 in convolutions: products in float32 and the environments' pictures do not have it either.
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        for lap in tqdm(range(rounds + 1), desc=f"timing {label}", unit="round"):
            for runner in runners:
                taken = elapsed(runner.run, device)
                if lap:
                    seconds[runner.name].append(taken)
    figures: dict[str, dict[str, Any]] = {}
    for runner in runners:
        median = statistics.median(seconds[runner.name])
        row: dict[str, Any] = {"images": runner.images, "seconds": seconds[runner.name], "median": median}
        if runner.images:
            row["images_per_second"] = runner.images / median
        if runner.flops:
            row |= {"flops": runner.flops, "gflops_per_second": runner.flops / median / 1e9}
            matmul = figures.get(f"matmul {runner.dtype}", row)
            row["share_of_matmul"] = row["gflops_per_second"] / matmul["gflops_per_second"]
        figures[runner.name] = row
    return figures


def elapsed(run: Callable[[], Any], device: torch.device) -> float:
    """Seconds that one run takes, the device's work included."""
    if device.type != "cuda":
        started = time.perf_counter()
        run()
        return time.perf_counter() - started
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize(device)
    first.record()
    run()
    last.record()
    torch.cuda.synchronize(device)
    return first.elapsed_time(last) / 1e3


def _matmuls(device: torch.device, dtypes: set[str]) -> list[Contestant]:
    side = MATMUL_SIDE[device.type]

    def product(dtype: str) -> Contestant:
        a, b = (torch.rand(side, side, device=device).to(getattr(torch, dtype)) for _ in range(2))
        return Contestant(f"matmul {dtype}", lambda: a @ b, 0, 2.0 * side**3, dtype)

    return [product(dtype) for dtype in sorted(dtypes)]


@torch.no_grad()
def count_flops(run: Callable[..., Any], *inputs: Tensor) -> float:
    """Count the floating-point operations of convolutions and matrix products: twice the multiply-adds."""
    with FlopCounterMode(display=False) as counter:
        run(*inputs)
    return float(counter.get_total_flops())


def memory_now(device: torch.device) -> int:
    """Bytes in use: the GPU's tensors, or the process's resident memory (without /proc its highest so far)."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    pages = Path("/proc/self/statm")
    if pages.exists():
        import resource

        return int(pages.read_text().split()[1]) * resource.getpagesize()
    return memory_peak(device)


def memory_peak(device: torch.device) -> int:
    """Most bytes so far: of the GPU's tensors, or resident ones of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource
    import sys

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
