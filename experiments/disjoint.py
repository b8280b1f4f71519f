"""Training and held-out photos kept apart: no photo may be in both sets."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from blindsr_env import images
from blindsr_env.images import Photo
from generators import stamps


def refuse_common(training: Sequence[Photo], held_out: Sequence[Photo]) -> None:
    """Refuse to score on photos that were trained on.

    Args:
        training: photos to train on.
        held_out: photos to score on.

    Raises:
        ValueError: a photo is in both, pixel for pixel.
    """
    shapes = {photo.pixels.shape for photo in held_out}
    _refuse(_named([photo for photo in training if photo.pixels.shape in shapes]), _named(held_out))


def check_disjoint(training: str | None, held_out: str | None) -> None:
    """Refuse to score an agent on photos that it was trained on.

    A process decodes a folder again only where a file in it has changed.

    Args:
        training: folder or file of training photos; None for the built-in ones of the train split.
        held_out: likewise of held-out photos; None for those of the test split.

    Raises:
        ValueError: a photo is in both, pixel for pixel.
        ImageError: nothing usable there.
    """
    learned = _of_source(training, "train", _written(training))
    _refuse(learned, _of_source(held_out, "test", _written(held_out)))


def _refuse(learned: Mapping[str, str], held_out: Mapping[str, str]) -> None:
    """Raise a ValueError where two sets, names by digest, share a photo."""
    for pixels, name in held_out.items():
        if (same := learned.get(pixels)) is not None:
            raise ValueError(f"the held-out photo {name} is the training photo {same}: hold out other photos")


def _named(photos: Iterable[Photo]) -> dict[str, str]:
    return {digest(photo): photo.name for photo in photos}


@functools.lru_cache(maxsize=16)
def _of_source(source: str | None, split: str, written: stamps.Stamps) -> dict[str, str]:
    """Give names by digest of a source's photos, whose files bear these stamps."""
    return _named(images.load(source, split))


def _written(source: str | None) -> stamps.Stamps:
    """Give the stamps of a source's files; of none where it has none, of which `images.load` says what is wrong."""
    if not source:
        return ()
    path = Path(source)
    return stamps.of(images.find(path) if path.is_dir() else [path])


def digest(photo: Photo) -> str:
    """Give a hash of a photo's shape and pixels."""
    return hashlib.sha256(str(photo.pixels.shape).encode() + photo.pixels.tobytes()).hexdigest()
