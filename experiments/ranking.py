"""Policies ranked by their gain over the true code, from results files."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from experiments.intervals import Interval
from experiments.sheets import Sheet


@dataclass(frozen=True)
class Entry:
    """A policy, or the seeds of a recipe together, on one set.

    Attributes:
        set: name of the set of photos.
        generator: name of the generator.
        scale: its scale.
        action: action space.
        widths: kernel widths that the gains are means over.
        policy: what the policy or recipe is called.
        agents: what the agents of a recipe are called, `NAME/SEED`; None for a single policy.
        gains: over the true code by metric, positive is better; over photos, of recipes over seeds and photos.
        broken: how many pictures have no finite score of the ranking metric, though the true code's have.
        named: whether the title names the seeds, since as many others of the recipe stand beside them.
    """

    set: str
    generator: str
    scale: int
    action: str
    widths: tuple[float, ...]
    policy: str
    agents: tuple[str, ...] | None
    gains: dict[str, Interval]
    broken: int
    named: bool = False

    @property
    def board(self) -> tuple[str, str, int, str, tuple[float, ...]]:
        """What it is ranked within: gains on other photos, generators, action spaces or widths do not compare."""
        return self.set, self.generator, self.scale, self.action, self.widths

    @property
    def title(self) -> str:
        """The policy's name, with the number of a recipe's seeds and of pictures left out, if any."""
        seeds = ""
        if self.agents is not None:
            which = ", ".join(agent.rpartition("/")[2] for agent in self.agents)
            several = "s" * (len(self.agents) > 1)
            seeds = f", seed{several} {which}" if self.named else f", {len(self.agents)} seed{several}"
        return self.policy + seeds + (f" ({self.broken} pictures broken and left out)" if self.broken else "")


def ranked(sheets: Iterable[Sheet], metric: str) -> list[Entry]:
    """Rank every policy and recipe beside the true code within its board, best first; boards in the order of sheets.

    A policy, or the same seeds of a recipe, found in several files are taken from the one with the most metrics.

    Args:
        sheets: those without the metric are skipped.
        metric: to rank by; NaN gains come last, and before them policies that broke the metric: their gains leave out
            the pictures that they did worst on.
    """
    found: dict[tuple[object, ...], Entry] = {}
    for sheet in sheets:
        if metric not in sheet.policies["true-code"]:
            continue
        for entry in _entries(sheet, metric):
            key = (*entry.board, entry.policy, entry.agents and tuple(sorted(entry.agents)))
            if key not in found or len(entry.gains) > len(found[key].gains):
                found[key] = entry
    alike = Counter((entry.board, entry.policy, len(entry.agents or ())) for entry in found.values())
    entries = [
        replace(entry, named=alike[entry.board, entry.policy, len(entry.agents or ())] > 1) for entry in found.values()
    ]
    boards = list(dict.fromkeys(entry.board for entry in entries))

    def place(entry: Entry) -> tuple[int, bool, bool, float]:
        mean = entry.gains[metric].mean
        return boards.index(entry.board), math.isnan(mean), entry.broken > 0, -mean

    return sorted(entries, key=place)


def _entries(sheet: Sheet, metric: str) -> Iterable[Entry]:
    for name, of_metric in sheet.singles.items():
        yield _entry(sheet, name, None, of_metric, metric)
    for name, recipe in sheet.recipes.items():
        yield _entry(sheet, name, tuple(recipe["agents"]), recipe["metrics"], metric)


def _entry(sheet: Sheet, name: str, agents: tuple[str, ...] | None, of_metric: dict[str, Any], metric: str) -> Entry:
    gains = {each: Interval(**measured["gain"]) for each, measured in of_metric.items()}
    broken = of_metric[metric].get("broken", 0)
    return Entry(sheet.set, sheet.generator, sheet.scale, sheet.action, sheet.widths, name, agents, gains, broken)
