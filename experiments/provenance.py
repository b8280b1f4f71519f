"""What made the pictures of a folder, noted beside them, so that only pictures of the same settings are kept."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from experiments import labels
from experiments.digests import DIGITS, of_file
from generators.atomic import atomic_write

NOTE = "made_by.json"

Entry = Mapping[str, Any]
"""A picture's photo, as `identity` gives it, and the settings that it was rendered with: values that JSON can hold."""


def identity(photo: Path, name: str) -> dict[str, Any]:
    """Say which photo a picture is of, and in which state, without telling of the machine.

    Args:
        photo: the file.
        name: its path in the folder of photos.
    """
    return {"name": name, "content": of_file(photo), "place": _place(photo.resolve())}


class Provenance:
    """The note of one folder: an entry for each picture.

    Args:
        folder: of the pictures; it need not be there yet.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / NOTE

    def kept(self, entries: Mapping[Path, Entry], photos: Mapping[Path, Path]) -> set[Path]:
        """Give the pictures that are there already, but those whose photo was changed; note where their photos lie now.

        Args:
            entries: by picture, what would make it now.
            photos: by picture, its photo.

        Raises:
            ValueError: a picture's entry is another one, or it has none; or the note is damaged.
        """
        noted = self._read()
        kept: dict[Path, Entry] = {}
        for picture in filter(Path.exists, entries):
            now, before = entries[picture], noted.get(self._name(picture))
            if before is None:
                raise self._refusal(f"{self._name(picture)} already, of which {NOTE} says nothing")
            others = [f"{key} {before.get(key)}, not {now[key]}" for key in _changed(before, now)]
            same = _as_it_was(before, now, photos[picture], picture)
            if not same and not _of_one_place(before, now):
                others.insert(0, f"another photo called {now['photo']['name']}")
            if others:
                raise self._refusal(f"pictures made by other settings ({', '.join(others)})")
            if same:
                kept[picture] = now
        self._write(noted, {**noted, **{self._name(picture): dict(entry) for picture, entry in kept.items()}})
        return set(kept)

    def pictures(self) -> set[str]:
        """Give the pictures that the note tells of, by their paths in the folder; none where there is no whole note."""
        try:
            return set(self._read())
        except ValueError:
            return set()

    def _refusal(self, what: str) -> ValueError:
        return ValueError(f"{self.folder} has {what}: give another --output, or --overwrite to render all again")

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
            former = before.get(self._name(picture))
            if not picture.exists():
                coming[self._name(picture)] = dict(entry)
            elif former is not None and (_changed(former, entry) or not _of_one_place(former, entry)):
                coming.pop(self._name(picture))  # until it is replaced, nobody knows which one it is
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


def _changed(before: Entry, now: Entry) -> list[str]:
    """Name the settings that differ.

    Older notes lack some, which were of no other value then, and hold the whole path of a policy.
    """
    whole = before.get("policy")
    then = {**now, **before, **({"policy": labels.of_policies([whole])[0]} if whole else {})}
    return [key for key, value in now.items() if key != "photo" and then[key] != value]


def _of_one_place(before: Entry, now: Entry) -> bool:
    """Say whether two entries are of photos at one place, of which the later may be another one."""
    photo = before.get("photo")
    place = _place(Path(photo)) if isinstance(photo, str) else photo and photo["place"]  # older notes hold its path
    return place == now["photo"]["place"]


def _as_it_was(before: Entry, now: Entry, photo: Path, picture: Path) -> bool:
    """Say whether a photo is the one that a picture was made of, wherever it lies now."""
    if isinstance(before.get("photo"), Mapping):
        return all(before["photo"][key] == now["photo"][key] for key in ("name", "content"))
    stat = photo.stat()  # a copy may keep its mtime, but has a ctime of its own
    return _of_one_place(before, now) and max(stat.st_mtime, stat.st_ctime) <= picture.stat().st_mtime


def _place(photo: Path) -> str:
    return hashlib.sha256(os.fsencode(photo)).hexdigest()[:DIGITS]
