"""Kernel widths that whole photos are degraded with where nobody names others."""

from __future__ import annotations

from experiments import paper

COUNT = len(paper.WIDTHS)
"""Number of widths that there are by default."""


def default_widths(width_range: tuple[float, float]) -> tuple[float, ...]:
    """Give three kernel widths of a generator's range, HR pixels.

    They are the paper's where the range holds them, else its ends and its middle: at scale 2, whose kernels end before
    the paper's widest, 0.2, 1.1 and 2.
    """
    low, high = width_range
    if low <= min(paper.WIDTHS) and max(paper.WIDTHS) <= high:
        return paper.WIDTHS
    return low, (low + high) / 2, high
