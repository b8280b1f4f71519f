"""Check of a folder of photos before hours of training are spent on it: `blindsr data`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from blindsr_env import images
from blindsr_env.images import Photo
from blindsr_env.patch import PatchSize, fits, scaled, sides
from experiments.counts import at_least
from experiments.disjoint import digest, refuse_common

NAMED = 5
"""So many pairs of equal photos are named; further ones are only counted."""


@dataclass(frozen=True, kw_only=True)
class Data:
    """Settings of `blindsr data`.

    Attributes:
        images: folder of HR photos; without it, the built-in training photos.
        held_out: folders of photos that are only scored on: the command fails if one of them is among the training
            photos.
        scale: upscaling factor.
        patch_sizes: sides of LR patches, in pixels, or their heights and widths, as in `[64, [80, 120]]`; for each, the
            photos that are large enough are counted.
    """

    images: str | None = None
    held_out: tuple[str, ...] = ()
    scale: int = 4
    patch_sizes: tuple[PatchSize, ...] = (48, 64, 72, 96)

    def __post_init__(self) -> None:
        """Refuse a scale or patch sizes below 1."""
        at_least(1, self, "scale")
        for size in self.patch_sizes:
            sides(size)


def data(settings: Data) -> dict[str, Any]:
    """Read every photo; print how many there are, how large, how many are usable, and which are duplicates.

    Returns:
        `photos`, `megapixels`, `shorter_side` (least, median and most, pixels), `usable` (photos by patch size),
        `equal` (pairs of names), `held_out` (photos by folder).

    Raises:
        ImageError: there is no photo, or one cannot be read.
        ValueError: a held-out photo is among them.
    """
    photos = images.load(settings.images)
    shorter = np.array([min(photo.pixels.shape[:2]) for photo in photos])
    crops = {size: scaled(sides(size), settings.scale) for size in settings.patch_sizes}
    usable = {size: sum(fits(crop, *photo.pixels.shape[:2]) for photo in photos) for size, crop in crops.items()}
    figures: dict[str, Any] = {
        "photos": len(photos),
        "megapixels": sum(photo.pixels.shape[0] * photo.pixels.shape[1] for photo in photos) / 1e6,
        "shorter_side": [int(shorter.min()), int(np.median(shorter)), int(shorter.max())],
        "usable": usable,
        "equal": equal(photos),
        "held_out": {},
    }
    least, middle, most = figures["shorter_side"]
    print(
        f"{settings.images or 'built-in'}: {len(photos)} photos, {figures['megapixels']:.3g} megapixels; "
        f"shorter sides of {least} to {most} pixels, median {middle}"
    )
    for size, (height, width) in crops.items():
        named = str(size if isinstance(size, int) else list(size))
        print(f"  patch_size {named:>3}, HR crops of {f'{height}x{width}':>9}: {usable[size]} large enough")
    for one, other in figures["equal"][:NAMED]:
        print(f"  {other} is a duplicate of {one}")
    if len(figures["equal"]) > NAMED:
        print(f"  and {len(figures['equal']) - NAMED} more duplicates")
    for folder in settings.held_out:
        held_out = images.load(folder)
        refuse_common(photos, held_out)
        figures["held_out"][folder] = len(held_out)
        print(f"  none of the {len(held_out)} photos of {folder} is among them, pixel for pixel")
    return figures


def equal(photos: Sequence[Photo]) -> list[tuple[str, str]]:
    """Pair the names of photos with those of earlier photos that are equal, pixel for pixel."""
    first: dict[str, str] = {}
    pairs = []
    for photo in photos:
        key = digest(photo)
        if key in first:
            pairs.append((first[key], photo.name))
        first.setdefault(key, photo.name)
    return pairs
