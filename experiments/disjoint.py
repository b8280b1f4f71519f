"""Training and held-out photos kept apart: no photo may be in both sets."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from blindsr_env.images import Photo


def refuse_common(training: Sequence[Photo], held_out: Sequence[Photo]) -> None:
    """Refuse to score on photos that were trained on.

    Args:
        training: photos to train on.
        held_out: photos to score on.

    Raises:
        ValueError: a photo is in both, pixel for pixel.
    """
    shapes = {photo.pixels.shape for photo in held_out}
    learned = {digest(photo): photo.name for photo in training if photo.pixels.shape in shapes}
    for photo in held_out:
        name = learned.get(digest(photo))
        if name is not None:
            raise ValueError(f"the held-out photo {photo.name} is the training photo {name}: hold out other photos")


def digest(photo: Photo) -> str:
    """Give a hash of a photo's shape and pixels."""
    return hashlib.sha256(str(photo.pixels.shape).encode() + photo.pixels.tobytes()).hexdigest()
