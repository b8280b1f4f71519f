"""Checks of settings that are counts."""

from __future__ import annotations

from typing import Any


def at_least_1(settings: Any, *names: str) -> None:
    """Raise a ValueError if a count is below 1; the message names the setting and its value."""
    for name in names:
        if getattr(settings, name) < 1:
            raise ValueError(f"{name} must be at least 1, got {getattr(settings, name)}")
