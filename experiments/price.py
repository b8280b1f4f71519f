"""The price of a NIQE gain as a chart: NIQE gain against PSNR change, both over the true kernel's code."""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from agents.part import MARK
from experiments import paper
from experiments.intervals import Interval
from experiments.ranking import Entry, ranked
from experiments.sheets import Sheet

DIRECT = 16
"""Up to so many points are labelled in the chart itself; more would hide one another, so a legend names them."""

MARKERS = "osD^vPX<>*p"
"""Their number has no factor in common with that of the ten colours, so that 110 pairs differ."""

GREY = "0.35"
"""Of the policies that agents start from, which only markers tell apart."""

Looks = dict[str, tuple[str, str]]
"""Colour and marker by name."""

START = "predictor"
"""The policy that agents start from: share 0 of the way to what an agent chooses."""

TRUE_CODE, PAPER = "true code", "the paper's AMGAN-RL: another generator, PSNR unknown"
FONT = 8


@dataclass(frozen=True)
class Point:
    """A policy, or the seeds of a recipe together.

    Attributes:
        where: generator and action space.
        name: of the policy or recipe, without its share; behind generator and action space if the chart has several.
        title: the same with the number of seeds, or which ones where others of the recipe stand beside them.
        share: of the way from the prediction to what it chooses, 0 to 1.
        seeds: how many agents are behind it.
        psnr: PSNR change, dB.
        niqe: NIQE gain.
    """

    where: tuple[str, str]
    name: str
    title: str
    share: float
    seeds: int
    psnr: Interval
    niqe: Interval

    @property
    def at(self) -> tuple[float, float]:
        """Where it lies in the chart."""
        return self.psnr.mean, self.niqe.mean

    @property
    def label(self) -> str:
        """What it is called beside its agent's other points: the name if it goes all of the way, else the share."""
        if 0 < self.share < 1:
            near = Fraction(self.share).limit_denominator(8)
            return f"{near}" if abs(near - self.share) < 1e-9 else f"{self.share:g}"
        return self.title


def points(sheets: Sequence[Sheet]) -> list[Point]:
    """Take the points out of the sheets of one set at the same widths; what stands in several of them is taken once.

    Of a recipe the most seeds are taken. Where another file has other seeds, or a policy has its name, seeds are named.
    """
    several = len({(sheet.generator, sheet.action) for sheet in sheets}) > 1
    every = [entry for entry in ranked(sheets, "niqe") if "psnr" in entry.gains]
    # Who broke a metric on every picture has no place in the chart.
    every = [entry for entry in every if math.isfinite(entry.gains["niqe"].mean + entry.gains["psnr"].mean)]
    every = [entry for entry in every if not any(_fewer(entry, other) for other in every)]
    alike = Counter((entry.board, entry.policy) for entry in every)
    found = []
    for entry in every:
        entry = replace(entry, named=alike[entry.board, entry.policy] > 1)
        name, share = _parted(entry.policy) if entry.agents is None else (entry.policy, 1.0)
        name = entry.title if entry.agents is not None and entry.named else name
        before = f"{entry.generator}, {entry.action}: " if several else ""
        where, count = (entry.generator, entry.action), len(entry.agents or (name,))
        psnr, niqe = entry.gains["psnr"], entry.gains["niqe"]
        found.append(Point(where, before + name, before + entry.title, share, count, psnr, niqe))
    return found


def _fewer(entry: Entry, other: Entry) -> bool:
    """Say whether a recipe's seeds are some of those of another entry of the same recipe."""
    same = (entry.board, entry.policy) == (other.board, other.policy)
    return same and None not in (entry.agents, other.agents) and set(entry.agents or ()) < set(other.agents or ())


def _parted(policy: str) -> tuple[str, float]:
    """Give a policy's name without its share, and that: 1 where it goes all of the way."""
    whole, mark, end = policy.rpartition(MARK)
    with suppress(ValueError):
        if mark and 0 <= float(end) <= 1:
            return whole, 0.0 if whole == START else float(end)
    return policy, 0.0 if policy == START else 1.0


def draw(axes: Any, title: str, every: Sequence[Point], looks: Looks, direct: bool) -> None:
    """Draw one set: a colour for each agent, its shares joined from the prediction on, 95% intervals as bars.

    Args:
        axes: Matplotlib's, to draw on.
        title: name of the set.
        every: points of the set.
        looks: of the agents drawn before, which keep theirs; new ones are added.
        direct: whether agents are labelled in the chart, by `label`; otherwise a legend has to name them.
    """
    kinds = list(dict.fromkeys(point.where for point in every))
    starts = {point.where: point for point in every if point.share == 0}
    ways: dict[str, list[Point]] = {}
    for point in every:
        ways.setdefault(point.name, []).append(point)
    for name, own in ways.items():
        own = sorted(own, key=lambda point: point.share)
        if name not in looks:
            start = all(point.share == 0 for point in own)
            number = sum((colour == GREY) == start for colour, _ in looks.values())
            looks[name] = (GREY if start else f"C{number % 10}", MARKERS[number % len(MARKERS)])
        colour, marker = looks[name][0], "o" if direct else looks[name][1]
        if len(own) > 1:
            way = [starts[own[0].where], *own] if own[0].where in starts else own
            axes.plot(*zip(*(point.at for point in way), strict=True), color=colour, lw=1.3, alpha=0.7, zorder=2)
        for point in own:
            bars = {"xerr": ends(point.psnr), "yerr": ends(point.niqe), "ecolor": colour, "elinewidth": 1}
            axes.errorbar(*point.at, fmt="none", capsize=2, alpha=0.4, zorder=1, **bars)
            fill = colour if point.seeds > 1 else "white"
            label = name if point is own[-1] and not direct else None
            axes.plot(*point.at, marker, color=colour, markerfacecolor=fill, markersize=6, zorder=3, label=label)
    axes.plot(0, 0, "k+", markersize=9, zorder=3, label=None if direct else TRUE_CODE)
    if title in paper.AMGAN_RL_NIQE_GAIN:
        theirs = paper.AMGAN_RL_NIQE_GAIN[title]
        axes.axhline(theirs, color="k", ls="--", lw=1, alpha=0.5, zorder=0, label=None if direct else PAPER)
        if direct:
            corner = {"xycoords": ("axes fraction", "data"), "xytext": (0, 2), "textcoords": "offset points"}
            axes.annotate(PAPER, (0.01, theirs), fontsize=FONT, color="0.3", **corner)
    generator, action = kinds[0]
    of = f" (generator {generator}{'' if action == 'code' else f', actions {action}'})" if len(kinds) == 1 else ""
    axes.set_title(f"NIQE gain against PSNR change on {title}{of};\n0 = true kernel's code", fontsize=10)
    axes.set(xlabel="PSNR change, dB", ylabel="NIQE gain")
    axes.grid(alpha=0.2)
    axes.margins(0.06, 0.1)


def label(axes: Any, every: Sequence[Point], looks: Looks) -> None:
    """Write labels beside the points, each where it hides least.

    Args:
        axes: as `draw` left them, in a figure whose layout is final.
        every: points of the set.
        looks: as `draw` left it.
    """
    from matplotlib.patheffects import withStroke

    figure = axes.figure
    renderer = figure.canvas.get_renderer()
    unit = figure.dpi / 72  # pixels of a point
    frame, zero = axes.get_window_extent(renderer), axes.transData.transform((0, 0))
    at = {point: axes.transData.transform(point.at) for point in every}
    taken = [_box(x - 4 * unit, y - 4 * unit, x + 4 * unit, y + 4 * unit) for x, y in at.values()]
    taken += [text.get_window_extent(renderer) for text in axes.texts]
    lines = [bar for point in every for bar in _bars(axes, point, unit)] + _along(axes, unit)
    wanted = [(point.at, point.label, looks[point.name][0]) for point in every]
    # Long texts first: a share finds a place more easily.
    for place, words, colour in sorted([*wanted, ((0.0, 0.0), TRUE_CODE, "k")], key=lambda each: -len(each[1])):
        best = None
        for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1), (2, 2), (2, -2), (-2, -2)):
            text = axes.annotate(
                textwrap.fill(words, 26),
                place,
                xytext=(6 * dx, 6 * dy),
                textcoords="offset points",
                ha={-1: "right", 0: "center", 1: "left"}[(dx > 0) - (dx < 0)],
                va={-1: "top", 0: "center", 1: "bottom"}[(dy > 0) - (dy < 0)],
                fontsize=FONT,
                color=colour,
                path_effects=[withStroke(linewidth=2, foreground="white")],
            )
            box = text.get_window_extent(renderer)
            cost = 5 * _overlap(box, taken) + 2 * _overlap(box, lines)
            cost += 10 * (box.width * box.height - _overlap(box, [frame]))
            gaps = [_gap(box, spot) for spot in (*at.values(), zero)]
            cost += 1000 * (_gap(box, axes.transData.transform(place)) > min(gaps))  # it would seem another point's
            if best is None or cost < best[0]:
                if best is not None:
                    best[1].remove()
                best = cost, text, box
            else:
                text.remove()
        assert best is not None
        taken.append(best[2])


def _box(left: float, bottom: float, right: float, top: float) -> Any:
    from matplotlib.transforms import Bbox

    return Bbox([[left, bottom], [right, top]])


def _bars(axes: Any, point: Point, unit: float) -> list[Any]:
    """Give the boxes, in pixels, of a point's two error bars."""
    ((below,), (above,)), ((left,), (right,)) = ends(point.niqe), ends(point.psnr)
    x, y = point.at
    (x0, y0), (x1, y1), (cx, cy) = axes.transData.transform([(x - left, y - below), (x + right, y + above), (x, y)])
    return [_box(x0, cy - unit, x1, cy + unit), _box(cx - unit, y0, cx + unit, y1)]


def _along(axes: Any, unit: float) -> list[Any]:
    """Give small boxes, in pixels, along the lines of a chart."""
    boxes = []
    for line in axes.lines:
        pixels = line.get_transform().transform(line.get_xydata())
        for start, end in zip(pixels[:-1], pixels[1:], strict=True):
            for x, y in np.linspace(start, end, 2 + int(np.abs(end - start).max() / (4 * unit))):
                boxes.append(_box(x - 2 * unit, y - unit, x + 2 * unit, y + unit))
    return boxes


def _overlap(box: Any, others: Sequence[Any]) -> float:
    """Give the area, in square pixels, that a box shares with others."""
    width = (max(0.0, min(box.x1, other.x1) - max(box.x0, other.x0)) for other in others)
    height = (max(0.0, min(box.y1, other.y1) - max(box.y0, other.y0)) for other in others)
    return float(sum(w * h for w, h in zip(width, height, strict=True)))


def _gap(box: Any, spot: Any) -> float:
    """Give the distance, in pixels, of a spot from a box."""
    across, up = max(box.x0 - spot[0], spot[0] - box.x1, 0.0), max(box.y0 - spot[1], spot[1] - box.y1, 0.0)
    return float(np.hypot(across, up))


def ends(interval: Interval) -> list[list[float]]:
    """Give what Matplotlib takes for an error bar: how far the interval's ends lie below and above the mean.

    Rounding may leave an end on the wrong side of the mean, and a single photo has no ends: both have length 0.
    """
    return [[max(0.0, interval.mean - interval.low)], [max(0.0, interval.high - interval.mean)]]
