"""Charts of results files, beside the paper's figures: what the tables say, at a glance."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from experiments import findings, paper
from experiments import price as prices
from experiments.intervals import Interval
from experiments.pictures import literally
from experiments.sheets import BUILT_IN, PLACES, Result, Sheet, check_known, of_the_paper, read
from generators.atomic import atomic_write
from generators.nearest import unknown

SIDE = 3.2
"""Inches of a panel."""

COLUMN = 40
"""Names in a legend's column."""

LINES = ("-", "--", ":", "-.", (0, (6, 1, 1, 1, 1, 1)))
"""Each goes with the ten colours, so that fifty curves of a panel differ."""


@dataclass(frozen=True, kw_only=True)
class Plot:
    """Settings of `blindsr plot`.

    Attributes:
        results: results files of `blindsr evaluate`, `hack` and `search`, or folders of them.
        output: folder for the charts, PNG.
        charts: charts to draw: `true_code`, `price`, `learning`, `hacking`, `searches`; without it, all of them.
        set: show only this set of photos.
        generator: show only this generator.
        action: show only this action space, `code`, `free-code` or `width`.
        policies: in `price` and `learning`, show only policies and recipes with these names; `*` stands for anything,
            as in `'amgan_rl*'`.
    """

    results: list[str] | str = "results"
    output: str = "results"
    charts: tuple[str, ...] = ()
    set: str | None = None
    generator: str | None = None
    action: str | None = None
    policies: tuple[str, ...] = ("*",)

    def __post_init__(self) -> None:
        """Refuse unknown charts."""
        for chart in self.charts:
            if chart not in CHARTS:
                raise ValueError(unknown("chart", chart, CHARTS))


def plot(settings: Plot) -> list[Path]:
    """Draw the chosen charts for which the results hold figures.

    Returns:
        The files.

    Raises:
        ValueError: there are no figures for a chart, or a file holds no results.
    """
    results = read(settings.results)
    places = _places(results)
    for number, what in enumerate(("set", "generator", "action")):
        check_known(what, getattr(settings, what), {place[number] for place in places})
    drawn = []
    for name in settings.charts or CHARTS:
        with literally():
            figure = CHARTS[name](results, settings)
            if figure is not None:
                drawn.append(Path(settings.output) / f"{name}.png")
                with atomic_write(drawn[-1]) as partial:
                    figure.savefig(partial)
    if not drawn:
        given = settings.results if isinstance(settings.results, str) else ", ".join(settings.results)
        raise ValueError(f"no figures for a chart in {given}: run {PLACES} first")
    print("\n".join(str(path) for path in drawn))
    return drawn


def true_code(results: list[Result], settings: Plot) -> Any:
    """PSNR with the true code against kernel width: a panel per set, a line per generator, the paper's dashed."""
    by_set: dict[str, list[Sheet]] = {}
    for sheet in _sheets(results, settings):
        if "psnr" in sheet.policies["true-code"] and len(sheet.widths) > 1:
            by_set.setdefault(sheet.set, []).append(sheet)
    if not by_set:
        return None
    figure, panels = _panels(len(by_set))
    looks: dict[str, dict[str, Any]] = {}
    for axes, (title, found) in zip(panels, by_set.items(), strict=True):
        for label, style, published in (
            ("AMNet, the paper", "k--", paper.AMNET_PSNR),
            ("SRMDNF, its authors' weights", "k:", paper.SRMDNF_PSNR),
        ):
            if title in published:
                axes.plot(*zip(*published[title].items(), strict=True), style, label=label, alpha=0.5)
        curves: dict[str, dict[float, float]] = {}  # a generator's widths may be spread over several files
        for sheet in found:
            means = sheet.policies["true-code"]["psnr"]["mean_by_width"]
            curves.setdefault(sheet.generator, {}).update(zip(sheet.widths, means, strict=True))
        for name, curve in curves.items():
            look = looks.setdefault(name, _look(len(looks)))
            axes.plot(*zip(*sorted(curve.items()), strict=True), marker=".", label=name, **look)
        axes.set(title=title, xlabel="kernel width, HR pixels", ylabel="PSNR with the true code, dB")
    _legend_beside(figure, _named(panels))
    return figure


def price(results: list[Result], settings: Plot) -> Any:
    """NIQE gain against PSNR change, both over the true code: a panel per set and widths, a point per policy."""
    from matplotlib.lines import Line2D

    by_set: dict[str, list[Sheet]] = {}
    for sheet in _sheets(results, settings):
        if {"niqe", "psnr"} <= set(sheet.policies["true-code"]) and len(sheet.policies) > 1:
            by_set.setdefault(sheet.title, []).append(sheet)
    points = {title: every for title, found in by_set.items() if (every := prices.points(found))}
    if not points:
        return None
    figure, panels = _panels(len(points), side=1.3 * SIDE)
    looks: prices.Looks = {}
    for axes, (title, every) in zip(panels, points.items(), strict=True):
        prices.draw(axes, title, every, looks)
    about = {
        "several seeds; bars: 95% interval over seeds and photos": {"marker": "o", "ls": ""},
        "one agent, a single seed; bars: 95% interval over photos alone": {
            "marker": "o",
            "ls": "",
            "markerfacecolor": "white",
        },
        "shares of the way from the prediction to what an agent chooses": {"ls": "-"},
    }
    handles = {label: Line2D([], [], color="0.35", **look) for label, look in about.items()}  # type: ignore[arg-type]
    _legend_beside(figure, {**_named(panels), **handles})
    return figure


def learning(results: list[Result], settings: Plot) -> Any:
    """Learning curves, mean and range over seeds: a panel per reward, and one for the critics' sign agreement."""
    panels_of: dict[str, dict[str, dict[str, Any]]] = {}
    seeds: dict[tuple[str, str], set[str]] = {}
    for sheet in _sheets(results, settings):
        for name, recipe in sheet.recipes.items():
            for what, curve in recipe.get("curves", {}).items():
                title = f"reward, {curve['metric']}" if what == "reward" else what.replace("_", " ")
                label = f"{curve['generator']}, {sheet.action}: {name}"
                found, own = panels_of.setdefault(title, {}), set(recipe["agents"])
                before = seeds.setdefault((title, label), own)
                # Every set's sheet holds the same curve; another file may hold it of more seeds.
                if found.setdefault(label, curve) == curve or own < before:
                    continue
                if not before < own:
                    what = f"two files have different learning curves of {label}, the first is drawn: rename one recipe"
                    warnings.warn(what, stacklevel=2)
                    continue
                found[label], seeds[title, label] = curve, own
    if not panels_of:
        return None
    # One below another, and legends beside them: a reward may have dozens of curves.
    heights = [max(SIDE, 0.8 + 0.16 * len(found)) for found in panels_of.values()]
    longest = max(len(label) for found in panels_of.values() for label in found)
    figure, panels = _panels(1, len(panels_of))
    figure.set_size_inches(1.5 * SIDE + 1 + 0.06 * longest, sum(heights))
    panels[0].get_gridspec().set_height_ratios(heights)
    for axes, (title, found) in zip(panels, panels_of.items(), strict=True):
        for number, (label, curve) in enumerate(found.items()):
            by_seed = np.array(curve["by_seed"], dtype=np.float64)  # (seeds, renders), NaN where nothing was logged
            there = np.isfinite(by_seed).all(axis=0)
            at, by_seed = np.array(curve["renders"])[there], by_seed[:, there]
            name = f"{label}, {len(by_seed)} seed{'s' * (len(by_seed) > 1)}"
            (line,) = axes.plot(at, by_seed.mean(axis=0), label=name, **_look(number))
            axes.fill_between(at, by_seed.min(axis=0), by_seed.max(axis=0), color=line.get_color(), alpha=0.15)
        axes.set(title=f"{title}, while training", xlabel="renders")
        ends = [curve["renders"][-1] for curve in found.values()]
        if max(ends) > 10 * min(ends):  # or one long run would leave the others a hair's breadth
            axes.set_xscale("log")
            _plain(axes.xaxis)
        axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def hacking(results: list[Result], settings: Plot) -> Any:
    """Gain of one constant offset: a row per metric, panels for it, PSNR and grid, a pair of bars per generator."""
    runs = [result for result in results if result.figures.get("kind") == "hack"]
    by_metric: dict[str, dict[str, dict[str, Any]]] = {}
    for run in runs:
        title = _set(run)
        for name, whole in run.figures["generators"].items():
            spaces = {space: of for space, of in whole["actions"].items() if _wanted((title, name, space), settings)}
            if not spaces:
                continue
            entries, entry = by_metric.setdefault(run.figures["metric"], {}), {**whole, "actions": spaces}
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
            ends = np.concatenate([prices.ends(Interval(**one)) for one in found], axis=1)  # (2, generators)
            axes.bar(at, [one["mean"] for one in found], 0.8 / len(spaces), yerr=ends, label=space, capsize=2)
        panels[2].bar(at, [1e3 * each["scores"]["grid"] for _, each in there], 0.8 / len(spaces), label=space)
    panels[2].set_yscale("log")  # a printed grid is a hundred times the photo's own
    _plain(panels[2].yaxis)
    for g, entry in enumerate(entries.values()):
        line = {"color": "k", "ls": "--", "label": "true code" if g == 0 else None}
        panels[2].plot([g - 0.4, g + 0.4], [1e3 * entry["true_code"]["grid"]] * 2, **line)
    for axes, title in zip(panels, (f"{metric} gain", "PSNR gain, dB", "grid, 1e-3"), strict=True):
        axes.set(title=title)
        axes.set_xticks(range(len(entries)), list(entries), fontsize=8, rotation=20, ha="right")
        axes.legend(fontsize=7)
    for axes in panels[:2]:
        axes.axhline(0, color="k", lw=0.8)


def searches(results: list[Result], settings: Plot) -> Any:
    """Reward against renders per image: a panel per run."""
    runs = [result for result in results if result.figures.get("kind") == "search"]
    runs = [run for run in runs if _wanted((_set(run), run.figures["generator"], run.figures["action"]), settings)]
    if not runs:
        return None
    figure, panels = _panels(len(runs), side=1.5 * SIDE)
    for axes, run in zip(panels, runs, strict=True):
        findings.draw(axes, run.figures, run.config.get("images"))
    return figure


CHARTS: dict[str, Callable[[list[Result], Plot], Any]] = {
    "true_code": true_code,
    "price": price,
    "learning": learning,
    "hacking": hacking,
    "searches": searches,
}
"""By the name of the PNG; each gives a Matplotlib figure, or None if the results hold no figures for it."""


Place = tuple[str, str, str]
"""Set of photos, generator and action space: what the settings choose by."""


def _places(results: list[Result]) -> list[Place]:
    """List where there are figures for a chart."""
    found = [(sheet.set, sheet.generator, sheet.action) for sheet in of_the_paper(results)]
    for run in results:
        if run.figures.get("kind") == "search":
            found.append((_set(run), run.figures["generator"], run.figures["action"]))
        if run.figures.get("kind") == "hack":
            every = run.figures["generators"].items()
            found += [(_set(run), name, space) for name, entry in every for space in entry["actions"]]
    return found


def _set(run: Result) -> str:
    """Name the set of photos of `blindsr hack` or `search`."""
    return run.config.get("held_out" if run.figures["kind"] == "hack" else "images") or BUILT_IN


def _wanted(place: Place, settings: Plot) -> bool:
    chosen = (settings.set, settings.generator, settings.action)
    return all(want in (None, own) for want, own in zip(chosen, place, strict=True))


def _sheets(results: list[Result], settings: Plot) -> list[Sheet]:
    """Take the sheets that the settings show, each with the policies that they show."""
    found = []
    for sheet in of_the_paper(results):
        if _wanted((sheet.set, sheet.generator, sheet.action), settings):
            recipes = {name: recipe for name, recipe in sheet.recipes.items() if _shown(name, settings)}
            kept = {name for name in sheet.singles if _shown(name, settings)}
            kept |= {"true-code", *(agent for recipe in recipes.values() for agent in recipe["agents"])}
            policies = {name: entry for name, entry in sheet.policies.items() if name in kept}
            found.append(replace(sheet, recipes=recipes, policies=policies))
    return found


def _shown(name: str, settings: Plot) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in settings.policies)


def _look(number: int) -> dict[str, Any]:
    """Give the colour and the dashes of a line, the same for the same number in all panels."""
    return {"color": f"C{number % 10}", "ls": LINES[number // 10 % len(LINES)]}


def _named(panels: list[Any]) -> dict[str, Any]:
    """Give what is drawn in the panels, by its name."""
    return {label: line for axes in panels for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}


def _legend_beside(figure: Any, handles: dict[str, Any]) -> None:
    """Put a legend beside the panels, and make room for it: inside, dozens of names would hide them."""
    columns = 1 + len(handles) // COLUMN
    figure.set_figwidth(figure.get_figwidth() + columns * (0.6 + 0.06 * max(map(len, handles))))
    figure.set_figheight(max(figure.get_figheight(), 0.5 + 0.16 * -(-len(handles) // columns)))
    figure.legend(handles.values(), handles.keys(), fontsize=7.5, loc="outside right center", ncols=columns)


def _plain(axis: Any) -> None:
    """Give a log axis plain numbers: what it writes by itself is a formula, which `literally` would spell out."""
    from matplotlib.ticker import LogFormatter

    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(LogFormatter())


def _panels(count: int, rows: int = 1, side: float = SIDE) -> tuple[Any, list[Any]]:
    """Give a figure and its panels, row by row; `count` in each row, `side` inches wide and high."""
    from matplotlib.figure import Figure  # half a second to import, and only charts need it

    figure = Figure(figsize=(side * count, side * rows), dpi=130, layout="constrained")
    return figure, list(figure.subplots(rows, count, squeeze=False).flat)
