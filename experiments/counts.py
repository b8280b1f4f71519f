"""Checks of settings that are counts or seeds."""

from __future__ import annotations

from typing import Any


def at_least(least: int, settings: Any, *names: str) -> None:
    """Raise a ValueError if a count is below `least`; the message names the setting and its value."""
    for name in names:
        if not getattr(settings, name) >= least:  # which NaN is not
            raise ValueError(f"{name} must be at least {least}, got {getattr(settings, name)}")


def check_seed(settings: Any) -> None:
    """Raise a ValueError if `seed` is none that Python, NumPy and torch all take for their random numbers."""
    if not 0 <= settings.seed < 2**32:
        raise ValueError(f"seed must be at least 0 and below 2**32, got {settings.seed}")
