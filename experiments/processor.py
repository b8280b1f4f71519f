"""The CPU that figures were measured on: its model, what it computes in bfloat16, and the cores that are ours."""

from __future__ import annotations

import os
import platform
from pathlib import Path

INFO = Path("/proc/cpuinfo")
"""Where Linux describes the CPU."""

BF16 = ("amx_bf16", "avx512_bf16")
"""Instruction sets that decide how fast bfloat16 is, as Linux calls them."""


def model() -> str:
    """Name the CPU's model, as `AMD EPYC 9B14`; where the system does not tell, at least its kind."""
    return _told("model name") or platform.processor() or platform.machine()


def bf16() -> list[str] | None:
    """List which of `BF16` the CPU has; None where the system does not tell."""
    flags = _told("flags")
    return None if flags is None else [name for name in BF16 if name in flags.split()]


def cores() -> int | None:
    """Count the cores that this process may use, which in a container or a job are not all."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # Linux alone has it
        return os.cpu_count()


def _told(key: str) -> str | None:
    """Give what the system says of the first core; None where it says nothing."""
    try:
        lines = INFO.read_text(errors="replace").splitlines()
    except OSError:
        return None
    found = (value.strip() for name, _, value in (line.partition(":") for line in lines) if name.strip() == key)
    return next(found, None)
