"""Checks of settings that are counts."""

from __future__ import annotations

from typing import Any


def at_least(least: int, settings: Any, *names: str) -> None:
    """Raise a ValueError if a count is below `least`; the message names the setting and its value."""
    for name in names:
        if getattr(settings, name) < least:
            raise ValueError(f"{name} must be at least {least}, got {getattr(settings, name)}")
