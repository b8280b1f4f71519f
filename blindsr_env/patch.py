"""Sizes of LR patches: the side of a square, or height and width."""

from __future__ import annotations

from collections.abc import Sequence

PatchSize = int | tuple[int, int]
"""Side of a square LR patch, or its height and width, in pixels."""


def sides(patch_size: int | Sequence[int]) -> tuple[int, int]:
    """Give a patch's height and width.

    Raises:
        ValueError: it is neither a whole number above 0 nor two of them.
    """
    both = tuple(patch_size) if isinstance(patch_size, Sequence) else (patch_size, patch_size)
    if len(both) != 2 or any(type(side) is not int or side < 1 for side in both):
        raise ValueError(
            f"patch_size must be a whole number above 0, or two of them, height and width, got {patch_size!r}"
        )
    return both


def scaled(patch: tuple[int, int], scale: int) -> tuple[int, int]:
    """Give height and width of the HR crop that a patch comes from."""
    return scale * patch[0], scale * patch[1]


def fits(crop: tuple[int, int], photo: Sequence[int]) -> bool:
    """Tell whether a photo, height and width, holds a crop, upright or turned by a right angle."""
    return min(crop) <= min(photo) and max(crop) <= max(photo)
