"""What made the pictures of a folder, noted beside them, so that only pictures of the same settings are kept."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from generators.atomic import atomic_write

NOTE = "made_by.json"

Entry = Mapping[str, Any]
"""A picture's photo, and the settings that it was rendered with: values that JSON can hold."""


class Provenance:
    """The note of one folder: an entry for each picture.

    Args:
        folder: of the pictures; it need not be there yet.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / NOTE

    def check(self, entries: Mapping[Path, Entry]) -> None:
        """Refuse pictures that are there already, and that something else made.

        Args:
            entries: by picture, what would make it now.

        Raises:
            ValueError: a picture's entry is another one, or it has none; or the note is damaged.
        """
        noted = self._read()
        for picture in filter(Path.exists, entries):
            now, before = entries[picture], noted.get(self._name(picture))
            if before != now:
                what = f"{self._name(picture)} already, of which {NOTE} says nothing"
                if before is not None:
                    changed = [key for key, value in now.items() if before.get(key) != value]
                    others = ", ".join(f"{key} {before.get(key)}, not {now[key]}" for key in changed)
                    what = f"pictures made by other settings ({others})"
                raise ValueError(f"{self.folder} has {what}: give another --output, or --overwrite to render all again")

    @contextmanager
    def rendering(self, entries: Mapping[Path, Entry]) -> Iterator[set[Path]]:
        """Note what is rendered, so that a kill at any moment leaves each picture with its own entry or with none.

        Args:
            entries: by picture that is going to be written, or replaced, what makes it.

        Yields:
            A set, to which each picture is added once it is written.

        Raises:
            ValueError: the note is damaged.
        """
        before = self._read()
        coming = dict(before)
        for picture, entry in entries.items():
            if not picture.exists():
                coming[self._name(picture)] = dict(entry)
            elif before.get(self._name(picture)) != entry:  # until it is replaced, nobody knows which one it is
                coming.pop(self._name(picture), None)
        self._write(before, coming)
        written: set[Path] = set()
        try:
            yield written
        finally:
            noted = self._read()  # another program may have added its own
            after = dict(noted)
            for picture in entries:
                kept = entries[picture] if picture in written else before.get(self._name(picture))
                after.pop(self._name(picture), None)
                if kept is not None and picture.exists():
                    after[self._name(picture)] = dict(kept)
            self._write(noted, after)

    def _name(self, picture: Path) -> str:
        return picture.relative_to(self.folder).as_posix()

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            noted = json.loads(self.path.read_text()) if self.path.is_file() else {}
        except ValueError:
            noted = None
        if not isinstance(noted, dict):
            raise ValueError(f"{self.path} is damaged: give another output, or remove it and render all anew")
        return noted

    def _write(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
        if after != before:
            with atomic_write(self.path) as partial:
                partial.write_text(json.dumps(after, indent=1))
