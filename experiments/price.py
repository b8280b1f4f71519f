"""The price of a NIQE gain as a chart: NIQE gain against PSNR change, both over the true kernel's code."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from agents.part import MARK
from experiments import paper
from experiments.intervals import Interval
from experiments.ranking import Entry, ranked
from experiments.sheets import Sheet

MARKERS = "osD^vPX<>*p"
"""Their number has no factor in common with that of the ten colours, so that 110 pairs differ."""

GREY = "0.35"
"""Of the policies that agents start from, which only markers tell apart."""

Looks = dict[str, tuple[str, str]]
"""Colour and marker by name."""

START = "predictor"
"""The policy that agents start from: share 0 of the way to what an agent chooses."""

TRUE_CODE, PAPER = "true code", "the paper's AMGAN-RL: another generator, PSNR unknown"


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
    def fraction(self) -> str:
        """The share as it stands beside a point that goes part of the way."""
        near = Fraction(self.share).limit_denominator(8)
        return f"{near}" if abs(near - self.share) < 1e-9 else f"{self.share:g}"


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


def draw(axes: Any, title: str, every: Sequence[Point], looks: Looks) -> None:
    """Draw one set: a colour for each agent, its shares joined from the prediction on, 95% intervals as bars.

    Names are given to a legend, the best NIQE gain first.

    Args:
        axes: Matplotlib's, to draw on.
        title: name of the set.
        every: points of the set.
        looks: of the agents drawn before, which keep theirs; new ones are added.
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
        colour, marker = looks[name]
        if len(own) > 1:
            way = [starts[own[0].where], *own] if own[0].where in starts else own
            axes.plot(*zip(*(point.at for point in way), strict=True), color=colour, lw=1.3, alpha=0.7, zorder=2)
        for point in own:
            bars = {"xerr": ends(point.psnr), "yerr": ends(point.niqe), "ecolor": colour, "elinewidth": 0.8}
            axes.errorbar(*point.at, fmt="none", capsize=0, alpha=0.35, zorder=1, **bars)
            fill = colour if point.seeds > 1 else "white"
            in_part = 0 < point.share < 1
            label = (name if in_part else point.title) if point is own[-1] else None
            axes.plot(*point.at, marker, color=colour, markerfacecolor=fill, markersize=6, zorder=3, label=label)
            if in_part:
                beside = {"xytext": (5, 3), "textcoords": "offset points", "fontsize": 7}
                axes.annotate(point.fraction, point.at, color=colour, **beside)
    axes.plot(0, 0, "k+", markersize=9, zorder=3, label=TRUE_CODE)
    if title in paper.AMGAN_RL_NIQE_GAIN:
        theirs = paper.AMGAN_RL_NIQE_GAIN[title]
        axes.axhline(theirs, color="k", ls="--", lw=1, alpha=0.5, zorder=0, label=PAPER)
    generator, action = kinds[0]
    of = f" (generator {generator}{'' if action == 'code' else f', actions {action}'})" if len(kinds) == 1 else ""
    axes.set_title(f"NIQE gain against PSNR change on {title}{of};\n0 = true kernel's code", fontsize=10)
    axes.set(xlabel="PSNR change, dB", ylabel="NIQE gain")
    axes.grid(alpha=0.2)
    axes.margins(0.06, 0.1)


def ends(interval: Interval) -> list[list[float]]:
    """Give what Matplotlib takes for an error bar: how far the interval's ends lie below and above the mean.

    Rounding may leave an end on the wrong side of the mean, and a single photo has no ends: both have length 0.
    """
    return [[max(0.0, interval.mean - interval.low)], [max(0.0, interval.high - interval.mean)]]
