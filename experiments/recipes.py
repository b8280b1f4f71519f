"""Recipes: agents that differ in nothing but their seed, scored together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from experiments.intervals import Interval, seeds_and_photos

AGENT = "agent.safetensors"
"""What a run's folder calls its agent."""

CURVES = ("reward", "sign_agreement")
"""What learning curves are of, as runs log it under `train/`."""

POINTS = 50
"""Of a learning curve: each is the mean over a stretch of the run."""

Recipe = list[str] | str


def files(recipe: Recipe) -> list[str]:
    """List a recipe's agents.

    Args:
        recipe: files of agents or folders of runs; or one pattern of them, such as `runs/eq10_*`.

    Returns:
        Files, in the order given, or of their names.

    Raises:
        ValueError: none is there.
    """
    places = [Path(place) for place in recipe]
    if isinstance(recipe, str):
        base = Path(recipe)
        matches = sorted(Path(base.anchor).glob(str(base.relative_to(base.anchor))))
        places = [place for place in matches if place.is_dir() or place.suffix == ".safetensors"]
    found = [place / AGENT if place.is_dir() else place for place in places]
    if not found or not all(file.is_file() for file in found):
        raise ValueError(f"no agents at {recipe}: give files, folders of runs, or a pattern such as 'runs/eq10_*'")
    return [str(file) for file in found]


def summary(
    recipes: Mapping[str, Sequence[str]], entries: Mapping[str, Any], zeta: Mapping[str, float], seed: int
) -> dict[str, Any]:
    """Give each recipe's gain over the true code, with intervals over seeds and photos, and how it differs.

    Args:
        recipes: labels of agents, by recipe.
        entries: a sheet's policies; see `experiments.tables`.
        zeta: by metric, -1 where lower is better, else 1.
        seed: of the intervals.

    Returns:
        By recipe: `agents`, and `metrics`: by metric `gain`, `gain_by_width`, `gain_by_seed`, and `over`: by each
        recipe that stands before it, the gain less that one's, paired by photo.
    """
    gains = {
        name: {
            metric: zeta[metric]
            * (np.array([entries[agent][metric]["scores"] for agent in agents]) - np.array(true["scores"]))
            for metric, true in entries["true-code"].items()
        }
        for name, agents in recipes.items()
    }  # each (seeds, photos, widths)
    found: dict[str, Any] = {}
    for name, of_metric in gains.items():
        found[name] = {"agents": list(recipes[name]), "metrics": {}}
        for metric, gain in of_metric.items():
            own = gain.mean(axis=2)  # (seeds, photos)
            found[name]["metrics"][metric] = {
                "gain": asdict(seeds_and_photos(own, seed=seed)),
                "gain_by_width": [asdict(seeds_and_photos(each, seed=seed)) for each in np.moveaxis(gain, 2, 0)],
                "gain_by_seed": np.nanmean(own, axis=1).tolist(),
                "over": {
                    other: asdict(seeds_and_photos(own, gains[other][metric].mean(axis=2), seed=seed))
                    for other in found
                    if other != name
                },
            }
    return found


def table(found: Mapping[str, Any]) -> str:
    """Lay a summary out as text: a line a recipe and metric."""
    width, first = max(len(name) for name in found), next(iter(found))
    lines = ["gain over the true code [95% interval over seeds and photos]; after |, less the first recipe's"]
    for name, recipe in found.items():
        for metric, entry in recipe["metrics"].items():
            unit = 1e3 if metric == "grid" else 1.0
            less = f"  |  {Interval(**entry['over'][first]).times(unit)}" if first in entry["over"] else ""
            gain = Interval(**entry["gain"])
            called = f"{name:<{width}}  {metric + (', 1e-3' if metric == 'grid' else ''):<10}"
            lines.append(f"{called}  {gain.times(unit)}  {gain.count} seeds{less}")
    return "\n".join(lines)


def curves(agents: Sequence[str]) -> dict[str, Any]:
    """Read the learning curves of a recipe's runs from the logs beside their agents.

    Args:
        agents: files.

    Returns:
        By name of `CURVES`, where every run has a log of it: `renders`, the middles of `POINTS` stretches of the
        shortest run, and `by_seed`, the mean over each stretch, seeds x stretches. Empty without tensorboard.
    """
    try:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    except ImportError:
        return {}
    logs = []
    for agent in agents:
        folder = Path(agent).parent / "tensorboard"
        if not folder.is_dir():
            return {}
        logs.append(EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload())
    found: dict[str, Any] = {}
    for name in CURVES:
        tag = f"train/{name}"
        if not all(tag in log.Tags()["scalars"] for log in logs):
            continue
        series = [np.array([(event.step, event.value) for event in log.Scalars(tag)]) for log in logs]
        end = min(each[-1, 0] for each in series)
        edges = np.linspace(0, end, POINTS + 1)
        by_seed = []
        for steps, values in (each.T for each in series):
            stretch = np.searchsorted(edges, steps, side="left") - 1
            inside = (stretch >= 0) & (stretch < POINTS)
            count = np.bincount(stretch[inside], minlength=POINTS)
            total = np.bincount(stretch[inside], values[inside], minlength=POINTS)
            by_seed.append([float(t / c) if c else None for t, c in zip(total, count, strict=True)])
        found[name] = {"renders": ((edges[1:] + edges[:-1]) / 2).tolist(), "by_seed": by_seed}
    return found
