"""What tells that a file was written anew, so that what was made of it is not given for the new one."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

Stamps = tuple[tuple[Path, int, int], ...]


def of(files: Iterable[Path]) -> Stamps:
    """Give path, time of the last change (nanoseconds) and size (bytes) of those of these files that are there."""
    states = ((file, file.stat()) for file in files if file.is_file())
    return tuple((file, state.st_mtime_ns, state.st_size) for file, state in states)
