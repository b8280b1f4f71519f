"""What searches found, as a table and as curves: the reward against the renders spent on each image.

The figures are those of `experiments.search`; `experiments.sheets` says how they are laid out.
"""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import numpy as np

from blindsr_env.patch import sides
from experiments import labels
from experiments.intervals import Interval
from experiments.pictures import literally
from experiments.sheets import BUILT_IN
from generators.atomic import atomic_write

ALWAYS = ("true-code", "predictor")
"""Starts of every run: the better of their two searches in a scene is its best known code, normalised score 1."""

TITLE = 66
"""Letters in a line of a chart's title."""

BLIND = ("mean-code", "random")
"""Starts that know nothing about their scene."""


def table(figures: dict[str, Any]) -> str:
    """Lay figures out as text: for each start its reward at each budget, then its share of the best known gain."""
    starts, best = figures["starts"], Interval(**figures["best"])
    wide = max(len("renders per image"), *map(len, starts))
    budgets = "".join(f"{budget:>8}" for budget in figures["budgets"])
    lines = [
        f"{figures['generator']}, actions {figures['action']}, {figures['metric']}, {figures['scenes']} scenes of "
        f"{_photos(figures)}{_views(figures)}",
        "reward over the true code, then its share of the best known code's reward "
        f"(the better of the searches from {' and '.join(ALWAYS)})",
        f"{'renders per image':<{wide}}{budgets}  | {budgets}",
    ]
    for name, of in starts.items():
        reward = "".join(f"{entry['mean']:>+8.3f}" for entry in of["reward"])
        shares = (_share(entry, best) for entry in of["normalised"])
        share = "".join(f"{'-':>8}" if each is None else f"{each.mean:>8.2f}" for each in shares)
        lines.append(f"{name:<{wide}}{reward}  | {share}")
    seen = ", on the photos as they are" if figures.get("views", 1) > 1 else ""
    lines.append(f"price: gain of the start over the true code, then of the best code found{seen}")
    for name, of in starts.items():
        prices = []
        for metric, gain in of["price"]["start"].items():
            title, unit = labels.in_units(metric)
            begun, found = (Interval(**each).times(unit).mean for each in (gain, of["price"]["found"][metric]))
            prices.append(f"{title} {begun:+.4g} then {found:+.4g}")
        lines.append(f"{name:<{wide}}  {'; '.join(prices)}")
    lines.append(
        "share of the best known reward that a start gets by itself, with one render [95% interval over photos]"
    )
    for name, of in starts.items():
        if name != "true-code":
            lines.append(f"{name:<{wide}}  {_share(of['normalised'][0], best) or '-'}")
    if "best_unseen" in figures:  # files from before 2026-11-26 lack it
        lines += _on_unseen(figures, wide)
    return "\n".join(lines)


def _share(entry: dict[str, Any] | None, best: Interval) -> Interval | None:
    """Give a share of the best known code's reward; None where that is nothing, or by its interval may be nothing."""
    return Interval(**entry) if entry is not None and best.low > 0 else None  # of one photo it has no end


def _on_unseen(figures: dict[str, Any], wide: int) -> list[str]:
    """Say what starts and found codes gain on the same photos transposed, which no search saw."""
    best = Interval(**figures["best_unseen"])
    lines = [
        "the same codes on the photos transposed, four views that no search saw: reward [95% interval over photos],",
        f"and the start's share of the best known code's reward there, {best}",
        f"{'':<{wide}}{'start':>8}{'found':>8}  {'found over start':<24}  share",
    ]
    for name, of in figures["starts"].items():
        start, found, more = (Interval(**of["unseen"][key]) for key in ("start", "found", "more"))
        shown = "" if name == "true-code" else str(_share(of["unseen"]["normalised"], best) or "-")
        lines.append(f"{name:<{wide}}{start.mean:>+8.3f}{found.mean:>+8.3f}  {more!s:<24}  {shown}".rstrip())
    return lines


@literally()
def plot(path: Path, figures: dict[str, Any], photos: str | None) -> None:
    """Draw reward against renders per image.

    Args:
        path: PNG to write.
        figures: of `search`.
        photos: name of the set; None of the built-in one.
    """
    from matplotlib.figure import Figure  # half a second to import, and only pictures need it

    figure = Figure(figsize=(6.4, 4.2), dpi=130, layout="constrained")
    draw(figure.add_subplot(), figures, photos)
    with atomic_write(path) as partial:
        figure.savefig(partial)


def draw(axes: Any, figures: dict[str, Any], photos: str | None) -> None:
    """Draw reward against renders per image, a line for each start; dotted, what a policy gains by itself.

    Args:
        axes: Matplotlib's, to draw on.
        figures: of `search`.
        photos: name of the set; None of the built-in one.
    """
    for index, (name, of) in enumerate(figures["starts"].items()):
        mean, low, high = (np.array([entry[key] for entry in of["reward"]]) for key in ("mean", "low", "high"))
        label = "search from scratch (mean code)" if name == "mean-code" else f"search from {name}"
        axes.plot(np.arange(len(of["curve"])) + 1, of["curve"], color=f"C{index}", label=label)
        bars = np.nan_to_num(np.stack([mean - low, high - mean])).clip(0)  # a single photo has no interval
        axes.errorbar(figures["budgets"], mean, bars, fmt="o", markersize=3, capsize=2, color=f"C{index}", alpha=0.6)
        if name not in ("true-code", *BLIND):
            axes.axhline(of["curve"][0], color=f"C{index}", linestyle=":", label=f"{name} alone")
    axes.set_xscale("log")
    axes.set_xticks(figures["budgets"], [str(budget) for budget in figures["budgets"]])
    axes.minorticks_off()
    axes.set_xlabel("renders per image")
    axes.set_ylabel(f"reward over the true code ({figures['metric']})")
    axes.set_title(textwrap.fill(_about(figures, photos), TITLE), fontsize=9)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


def _about(figures: dict[str, Any], photos: str | None) -> str:
    """Say what a panel shows; older files lack the patch and the widths."""
    widths, scenes = figures.get("widths"), ""
    if "patch_size" in figures:
        patch = figures["patch_size"]
        scenes = ", whole photos" if patch is None else f", patches of {' x '.join(map(str, sides(patch)))}"
    scenes += f", widths {', '.join(f'{width:g}' for width in widths)}" if widths else ""
    return (
        f"{figures['generator']}, {figures['action']}, {len(figures['photos'])} photos of {photos or BUILT_IN}"
        f"{scenes}: best code found, mean and 95% interval over photos{_views(figures)}"
    )


def _photos(figures: dict[str, Any]) -> str:
    """Say how many photos there are, whether whole, and at which kernel widths, if some were chosen."""
    count, whole = len(figures["photos"]), "whole " * (figures.get("patch_size", 0) is None)
    widths = f", widths {', '.join(f'{width:g}' for width in figures['widths'])}" if figures.get("widths") else ""
    return f"{count} {whole}photo{'s' * (count > 1)}{widths}"


def _views(figures: dict[str, Any]) -> str:
    """Say how many views a render covers, if several."""
    views = figures.get("views", 1)
    return "" if views == 1 else f", each render covers {views} views"
