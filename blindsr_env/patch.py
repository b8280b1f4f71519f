"""Sizes of LR patches and of the HR crops that they come from, and which way a photo holds a crop."""

from __future__ import annotations

from collections.abc import Sequence
from operator import index
from typing import Any

PatchSize = int | tuple[int, int]
"""Side of a square LR patch, or its height and width, in pixels."""


def sides(patch_size: int | Sequence[int]) -> tuple[int, int]:
    """Give a patch's height and width.

    Raises:
        ValueError: it is neither a whole number above 0 nor two of them.
    """
    both = tuple(patch_size) if isinstance(patch_size, list | tuple) else (patch_size, patch_size)
    try:
        if len(both) != 2 or any(isinstance(side, bool) for side in both) or min(map(index, both)) < 1:
            raise TypeError
    except TypeError:
        raise ValueError(
            f"patch_size must be a whole number above 0, or two of them, height and width, got {patch_size!r}"
        ) from None
    return index(both[0]), index(both[1])


def scaled(patch: tuple[int, int], scale: int) -> tuple[int, int]:
    """Give height and width of the HR crop that a patch comes from."""
    return scale * patch[0], scale * patch[1]


def covered(crop: tuple[int, int], flip: Any) -> tuple[Any, Any]:
    """Give the rows and columns of a photo that a crop covers: with bit 2 of `flip` it lies transposed in it.

    Args:
        crop: height and width.
        flip: 0 to 7; an array or a tensor of them gives arrays or tensors.
    """
    height, width = crop
    transposed = flip >> 2
    return height + (width - height) * transposed, width + (height - width) * transposed


def holds(crop: tuple[int, int], flip: Any, heights: Any, widths: Any) -> Any:
    """Tell whether photos, numbers or arrays or tensors of them, hold a crop that lies in them as `flip` says."""
    rows, columns = covered(crop, flip)
    return (rows <= heights) & (columns <= widths)


def fits(crop: tuple[int, int], heights: Any, widths: Any) -> Any:
    """Tell whether photos hold a crop, upright or turned by a right angle; see `holds`."""
    return holds(crop, 0, heights, widths) | holds(crop, 4, heights, widths)


def oriented(crop: tuple[int, int], flip: Any, heights: Any, widths: Any) -> Any:
    """Toggle bit 2 of `flip` where a photo holds the crop the other way and not this way.

    Args:
        crop: height and width.
        flip: `(N,)` int64, an array or a tensor, as are the others.
        heights: of the photos, `(N,)`.
        widths: likewise.
    """
    return flip ^ ((~holds(crop, flip, heights, widths) & holds(crop, flip ^ 4, heights, widths)) * 4)
