"""Processes that are forked: they work without helpers where a generator was loaded, before the fork or after it.

Helpers are OpenMP's threads and the compiler's. Those of a forked process are its parent's, and would be waited for for
ever. Processes that have nothing to do with generators are left as they are, though they imported this package.
"""

from __future__ import annotations

import os
import sys

import torch

_loaded = False  # a generator, by this process or by the one that it was forked from
_forked = False


def prepare() -> None:
    """Get ready to render, in a forked process and in those that are forked from now on; again, it does nothing."""
    global _loaded
    if _forked and not _loaded:
        _work_alone()
    _loaded = True


def _after_fork() -> None:
    global _forked
    _forked = True
    if _loaded:
        _work_alone()


def _work_alone() -> None:
    """Compute in one thread, as PyTorch's own workers do, and compile in this process."""
    torch.set_num_threads(1)
    config = sys.modules.get("torch._inductor.config")
    if config is not None:
        config.compile_threads = 1  # type: ignore[attr-defined]


os.register_at_fork(after_in_child=_after_fork)
