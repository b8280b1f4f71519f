"""Files that are whole or not there."""

from __future__ import annotations

import glob
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LEFT_BEHIND = 86_400
"""Seconds after which nobody can still be writing to a partial file."""

_TOKEN = 4  # bytes that tell two writers' partial files apart
_LONGEST = 200  # bytes of a stem; names have 255 at most, and a partial file's also holds a token and a suffix


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a path beside `path` to write to, and move it into place when the block ends well.

    The new file is flushed to disk before it replaces the old one, so a process killed at any moment leaves either the
    old file or the new one. When the block raises, the old file stays and the partial one is removed; one that a kill
    left behind is removed by the next write to `path` a day later or more.

    Args:
        path: the file to write; its folder is created. Of a link, what it points to.

    Yields:
        A temporary path in the same folder with the same suffix; hidden, since a kill leaves it behind.

    Raises:
        OSError: the path is a folder, or its folder cannot be made or written to.
    """
    path = Path(os.path.realpath(path) if os.path.islink(path) else path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: give the name of a file in it")
    partial = path.with_name(f".{_start(path)}-{secrets.token_hex(_TOKEN)}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.touch(exist_ok=False)
    except OSError as error:
        raise OSError(f"cannot write into the folder {path.parent} ({error.strerror}): choose another") from error
    try:
        _sweep(path)
        yield partial
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _start(path: Path) -> str:
    """Give the path's stem, or its first bytes if a longer name would exceed what file systems allow."""
    return os.fsdecode(os.fsencode(path.stem)[:_LONGEST])


def _sweep(path: Path) -> None:
    """Remove old partial files of `path`."""
    pattern = glob.escape(f".{_start(path)}-") + "[0-9a-f]" * (2 * _TOKEN) + glob.escape(path.suffix)
    for left in path.parent.glob(pattern):
        with suppress(OSError):  # another process may sweep too
            if time.time() - left.stat().st_mtime > LEFT_BEHIND:
                left.unlink()
