"""Kernel widths that whole photos are degraded with where nobody names others."""

from __future__ import annotations

from blindsr_env.kernels import WIDTH_RANGE
from experiments import paper

SCALE_2 = (0.2, 1.1, 2.0)
"""Ours, at a scale whose kernels end before the paper's widest: the ends and the middle of its range, HR pixels."""

COUNT = 3
"""Number of widths at each scale."""


def of_scale(scale: int) -> tuple[float, ...]:
    """Give the three kernel widths, HR pixels: the paper's where the scale's kernels reach them."""
    widest = WIDTH_RANGE[scale][1]
    return paper.WIDTHS if widest >= paper.WIDTHS[-1] else SCALE_2
