"""Charts of results files, beside the paper's figures: what the tables say, to be seen at a glance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agents.part import parted
from experiments import findings, paper
from experiments.sheets import PLACES, Result, Sheet, of_the_paper, read
from generators.atomic import atomic_write

SIDE = 3.2
"""Inches of a panel."""

MARKERS = "osD^vPX"
"""As many as have no factor in common with the ten colours, so that seventy pairs differ."""


@dataclass(frozen=True, kw_only=True)
class Plot:
    """Settings of `blindsr plot`.

    Attributes:
        results: results files of `blindsr evaluate`, `hack` and `search`, or folders of them.
        output: folder for the charts, PNG.
    """

    results: list[str] | str = "results"
    output: str = "results"


def plot(settings: Plot) -> list[Path]:
    """Draw every chart that the results have figures for.

    Returns:
        The files.

    Raises:
        ValueError: no results, or a file that is none.
    """
    results = read(settings.results)
    drawn = []
    for name, draw in CHARTS.items():
        figure = draw(results)
        if figure is not None:
            drawn.append(Path(settings.output) / f"{name}.png")
            with atomic_write(drawn[-1]) as partial:
                figure.savefig(partial)
    if not drawn:
        given = settings.results if isinstance(settings.results, str) else ", ".join(settings.results)
        raise ValueError(f"no figures for a chart in {given}: run {PLACES} first")
    print("\n".join(str(path) for path in drawn))
    return drawn


def true_code(results: list[Result]) -> Any:
    """PSNR with the true code against the kernel width: a panel a set, a line a generator, the paper's dashed."""
    by_set: dict[str, list[Sheet]] = {}
    for sheet in of_the_paper(results):
        if "psnr" in sheet.policies["true-code"] and len(sheet.widths) > 1:
            by_set.setdefault(sheet.set, []).append(sheet)
    if not by_set:
        return None
    figure, panels = _panels(len(by_set))
    for axes, (title, found) in zip(panels, by_set.items(), strict=True):
        for label, style, published in (
            ("AMNet, the paper", "k--", paper.AMNET_PSNR),
            ("SRMDNF, its authors' weights", "k:", paper.SRMDNF_PSNR),
        ):
            if title in published:
                axes.plot(*zip(*published[title].items(), strict=True), style, label=label, alpha=0.5)
        curves: dict[str, dict[float, float]] = {}  # several files may hold some of a generator's widths each
        for sheet in found:
            means = sheet.policies["true-code"]["psnr"]["mean_by_width"]
            curves.setdefault(sheet.generator, {}).update(zip(sheet.widths, means, strict=True))
        for name, curve in curves.items():
            axes.plot(*zip(*sorted(curve.items()), strict=True), "o-", label=name)
        axes.set(title=title, xlabel="kernel width, HR pixels", ylabel="PSNR with the true code, dB")
        axes.legend(fontsize=7)
    return figure


def price(results: list[Result]) -> Any:
    """NIQE gain against PSNR gain, both over the true code: a panel a set, a point a policy, with 95% intervals."""
    by_set: dict[str, list[Sheet]] = {}
    for sheet in of_the_paper(results):
        if {"niqe", "psnr"} <= set(sheet.policies["true-code"]) and len(sheet.policies) > 1:
            by_set.setdefault(sheet.set, []).append(sheet)
    if not by_set:
        return None
    figure, panels = _panels(len(by_set))
    where = {f"{sheet.generator}, {sheet.action}" for found in by_set.values() for sheet in found}
    numbers: dict[str, int] = {}
    for axes, (title, found) in zip(panels, by_set.items(), strict=True):
        drawn = set()  # a policy may stand in several files
        ways: dict[str, dict[float, tuple[float, float]]] = {}  # points by their share, of each policy
        for sheet in found:
            for name, of_metric in [*sheet.singles.items(), *((n, r["metrics"]) for n, r in sheet.recipes.items())]:
                across, up = of_metric["psnr"]["gain"], of_metric["niqe"]["gain"]
                label = name if len(where) == 1 else f"{sheet.generator}, {sheet.action}: {name}"
                if label in drawn:
                    continue
                drawn.add(label)
                whole, share = parted(label)
                ways.setdefault(whole, {})[1.0 if share is None else share] = across["mean"], up["mean"]
                number = numbers.setdefault(label, len(numbers))
                look = {
                    "fmt": MARKERS[number % len(MARKERS)],
                    "color": f"C{(number + number // 10) % 10}",
                    "capsize": 2,
                }
                axes.errorbar(across["mean"], up["mean"], yerr=_ends(up), xerr=_ends(across), label=label, **look)
        for way in ways.values():  # the shares of one policy are joined
            points = np.array([way[share] for share in sorted(way)])
            axes.plot(points[:, 0], points[:, 1], color="0.6", lw=1, zorder=1)
        if title in paper.AMGAN_RL_NIQE_GAIN:
            axes.axhline(paper.AMGAN_RL_NIQE_GAIN[title], color="k", ls="--", alpha=0.5, label="AMGAN-RL, the paper")
        axes.plot(0, 0, "k+", label="the true code")
        named = f"{title}: {next(iter(where))}" if len(where) == 1 else title
        axes.set(title=named, xlabel="PSNR gain, dB", ylabel="NIQE gain")
    known = {label: line for axes in panels for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(known.values(), known.keys(), fontsize=7, loc="outside right center")
    figure.set_figwidth(figure.get_figwidth() + SIDE)
    return figure


def learning(results: list[Result]) -> Any:
    """Learning curves, mean and range over seeds: a panel for each reward, one for the critics' sign agreement."""
    panels_of: dict[str, dict[str, dict[str, Any]]] = {}
    for sheet in of_the_paper(results):
        for name, recipe in sheet.recipes.items():
            for what, curve in recipe.get("curves", {}).items():
                title = f"reward, {curve['metric']}" if what == "reward" else what.replace("_", " ")
                label = f"{curve['generator']}, {sheet.action}: {name}"
                if panels_of.setdefault(title, {}).setdefault(label, curve) != curve:  # it is the same on all sets
                    raise ValueError(f"two files have different learning curves of {label}: rename one recipe")
    if not panels_of:
        return None
    figure, panels = _panels(len(panels_of), side=1.3 * SIDE)
    for axes, (title, found) in zip(panels, panels_of.items(), strict=True):
        for label, curve in found.items():
            by_seed = np.array(curve["by_seed"], dtype=np.float64)  # (seeds, renders), NaN where nothing was logged
            there = np.isfinite(by_seed).all(axis=0)
            at, by_seed = np.array(curve["renders"])[there], by_seed[:, there]
            (line,) = axes.plot(
                at, by_seed.mean(axis=0), label=f"{label}, {len(by_seed)} seed{'s' * (len(by_seed) > 1)}"
            )
            axes.fill_between(at, by_seed.min(axis=0), by_seed.max(axis=0), color=line.get_color(), alpha=0.15)
        axes.set(title=f"{title}, while training", xlabel="renders")
        axes.legend(fontsize=6)
    return figure


def hacking(results: list[Result]) -> Any:
    """What one constant offset wins: a row a metric, a panel each for it, PSNR and grid, a pair of bars a generator."""
    runs = [result for result in results if result.figures.get("kind") == "hack"]
    by_metric: dict[str, dict[str, dict[str, Any]]] = {}
    for run in runs:
        entries = by_metric.setdefault(run.figures["metric"], {})
        for name, entry in run.figures["generators"].items():
            if entries.setdefault(name, entry) != entry:  # measured in two files, with different figures
                named = f"{name} ({Path(run.name).stem})"
                if entries.setdefault(named, entry) != entry:
                    raise ValueError(f"two files {run.name} give different figures for {name}: rename or remove one")
    if not by_metric:
        return None
    figure, panels = _panels(3, len(by_metric))
    for row, (metric, entries) in enumerate(by_metric.items()):
        _draw_hack(panels[3 * row : 3 * row + 3], metric, entries)
    return figure


def _draw_hack(panels: list[Any], metric: str, entries: dict[str, dict[str, Any]]) -> None:
    """Draw one metric's row: `entries` are generators by name, as in results files."""
    spaces = list(dict.fromkeys(space for entry in entries.values() for space in entry["actions"]))
    for s, space in enumerate(spaces):
        there = [(g, entry["actions"][space]) for g, entry in enumerate(entries.values()) if space in entry["actions"]]
        at = [g + 0.8 * (s + 0.5) / len(spaces) - 0.4 for g, _ in there]
        of_psnr = [each["gain"].get("psnr", each["reward"]) for _, each in there]  # PSNR itself may be the reward
        for axes, found in ((panels[0], [each["reward"] for _, each in there]), (panels[1], of_psnr)):
            ends = [list(side) for side in zip(*((*_ends(one)[0], *_ends(one)[1]) for one in found), strict=True)]
            axes.bar(at, [one["mean"] for one in found], 0.8 / len(spaces), yerr=ends, label=space, capsize=2)
        panels[2].bar(at, [1e3 * each["scores"]["grid"] for _, each in there], 0.8 / len(spaces), label=space)
    panels[2].set_yscale("log")  # a printed grid is a hundred times the photo's own
    for g, entry in enumerate(entries.values()):
        line = {"color": "k", "ls": "--", "label": "true code" if g == 0 else None}
        panels[2].plot([g - 0.4, g + 0.4], [1e3 * entry["true_code"]["grid"]] * 2, **line)
    for axes, title in zip(panels, (f"{metric} gain", "PSNR gain, dB", "grid, 1e-3"), strict=True):
        axes.set(title=title)
        axes.set_xticks(range(len(entries)), list(entries), fontsize=8, rotation=20, ha="right")
        axes.legend(fontsize=7)
    for axes in panels[:2]:
        axes.axhline(0, color="k", lw=0.8)


def searches(results: list[Result]) -> Any:
    """Reward against renders an image: a panel a run."""
    runs = [result.figures for result in results if result.figures.get("kind") == "search"]
    if not runs:
        return None
    figure, panels = _panels(len(runs), side=1.5 * SIDE)
    for axes, figures in zip(panels, runs, strict=True):
        findings.draw(axes, figures)
    return figure


CHARTS: dict[str, Callable[[list[Result]], Any]] = {
    "true_code": true_code,
    "price": price,
    "learning": learning,
    "hacking": hacking,
    "search": searches,
}
"""By the name of the PNG; each gives a Matplotlib figure, or None where the results have no figures for it."""


def _panels(count: int, rows: int = 1, side: float = SIDE) -> tuple[Any, list[Any]]:
    """Give a figure and its panels, row after row; `count` of them in each, `side` inches wide and high."""
    from matplotlib.figure import Figure  # half a second to import, and only charts need it

    figure = Figure(figsize=(side * count, side * rows), dpi=130, layout="constrained")
    return figure, list(figure.subplots(rows, count, squeeze=False).flat)


def _ends(interval: dict[str, float]) -> list[list[float]]:
    """Give what Matplotlib takes for an error bar: how far the interval's ends lie below and above the mean.

    Rounding may leave an end on the wrong side of the mean, and one photo has no ends: both are drawn without length.
    """
    below, above = interval["mean"] - interval["low"], interval["high"] - interval["mean"]
    return [[max(0.0, below)], [max(0.0, above)]]
