"""Comparisons drawn as pictures: renderings side by side, each with its scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from generators.atomic import atomic_write


@contextmanager
def literally() -> Iterator[None]:
    """Draw names as they are: to Matplotlib, what stands between two `$` is a formula."""
    import matplotlib

    with matplotlib.rc_context({"text.parse_math": False}):
        yield


@literally()
def comparison(
    path: Path,
    panels: dict[str, tuple[NDArray[np.uint8], str]],
    kernels: dict[str, NDArray[np.float32]],
    title: str,
) -> None:
    """Draw pictures side by side, each with its scores, and kernels below.

    Args:
        path: PNG to write.
        panels: by title, a picture `(H, W, 3)` uint8 and the line under it.
        kernels: by title, `(21, 21)`; all share one grey scale.
        title: of the whole picture.
    """
    from matplotlib.figure import Figure  # half a second to import, and only pictures need it

    side = 2.6
    figure = Figure(figsize=(side * len(panels), side * 1.75), dpi=110, layout="constrained")
    halves: Any = figure.subfigures(2, 1, height_ratios=[1.25, 0.6])
    top, bottom = halves
    figure.suptitle(title, fontsize=11)
    for axes, (name, (picture, caption)) in zip(top.subplots(1, len(panels)), panels.items(), strict=True):
        axes.imshow(picture, interpolation="nearest")
        axes.set_title(name, fontsize=10)
        axes.set_xlabel(caption, fontsize=8)
        axes.set_xticks([])
        axes.set_yticks([])
    high = max(float(kernel.max()) for kernel in kernels.values())
    low = min(0.0, *(float(kernel.min()) for kernel in kernels.values()))
    grid: Any = bottom.subplots(1, len(panels))
    for axes in grid:
        axes.axis("off")
    for axes, (name, kernel) in zip(grid, kernels.items(), strict=False):
        axes.imshow(kernel, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
        axes.set_title(name, fontsize=9)
    with atomic_write(path) as partial:
        figure.savefig(partial)


@literally()
def gallery(path: Path, rows: Sequence[dict[str, tuple[NDArray[np.uint8], str]]], title: str) -> None:
    """Draw scenes one below another, each as a row of pictures with the same titles.

    Args:
        path: PNG to write.
        rows: by column title, a picture `(H, W, 3)` uint8 and the line under it; all rows have the same titles.
        title: of the whole picture.
    """
    from matplotlib.figure import Figure

    side = 2.6
    figure = Figure(figsize=(side * len(rows[0]), (side + 0.25) * len(rows) + 0.4), dpi=110, layout="constrained")
    figure.suptitle(title, fontsize=11)
    grid: Any = figure.subplots(len(rows), len(rows[0]), squeeze=False)
    for r, (line, row) in enumerate(zip(grid, rows, strict=True)):
        for axes, (name, (picture, caption)) in zip(line, row.items(), strict=True):
            axes.imshow(picture, interpolation="nearest")
            axes.set_xlabel(caption, fontsize=8)
            axes.set_xticks([])
            axes.set_yticks([])
            if r == 0:
                axes.set_title(name, fontsize=10)
    with atomic_write(path) as partial:
        figure.savefig(partial)
