"""Recipes: agents that differ only in their seed, scored together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents import agent_file
from agents.policies import algorithm
from experiments import labels
from experiments.intervals import NOTHING, Interval, over_widths, seeds_and_photos
from generators import checkpoint

AGENT = "agent.safetensors"
"""What a run's folder calls its agent."""

CURVES = ("reward", "sign_agreement")
"""What learning curves are of, as runs log it under `train/`."""

TRAINED = ("photos", "num_envs", "repeats", "dtype", "actor")
"""What an agent's file says of its training, that is the same for all seeds of a recipe."""

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
        ValueError: none is there, or they are not seeds of one recipe: one stands twice, one was not trained to its
            end, or settings, reward or generator differ.
    """
    places = [Path(place) for place in recipe]
    if isinstance(recipe, str):
        base = Path(recipe)
        matches = [base]  # also where its name has brackets, which are a pattern otherwise
        if not base.exists():
            matches = sorted(Path(base.anchor).glob(str(base.relative_to(base.anchor))))
        places = [place for place in matches if place.is_dir() or place.suffix == ".safetensors"]
        places = [place for place in places if not place.name.endswith(".replay.safetensors")]  # lie beside agents
    found = [place / AGENT if place.is_dir() else place for place in places]
    if not found:
        raise ValueError(f"nothing at {recipe}: give files, folders of runs, or a pattern such as 'runs/eq10_*'")
    missing = [str(file) for file in found if not file.is_file()]
    if missing:
        raise ValueError(f"no agent at {', '.join(missing)}: train it to its end, or leave it out of the recipe")
    _check_alike([str(file) for file in found])
    return [str(file) for file in found]


def by_label(name: str, found: Sequence[str]) -> dict[str, str]:
    """Give a recipe's files by what tables call its agents: their seeds, or their places where a file has no seed."""
    seeds = [checkpoint.read(file)[1].get("seed") for file in found]
    return {
        f"{name}/{place if seed is None else seed}": file
        for place, (seed, file) in enumerate(zip(seeds, found, strict=True))
    }


def _check_alike(found: list[str]) -> None:
    """Refuse agents that are not seeds of one recipe: their interval would be meaningless."""
    of_seed: dict[int, str] = {}
    first: dict[str, Any] = {}
    for file in found:
        _, metadata = checkpoint.read(file)
        if metadata.get("kind") != "agent":
            if len(found) == 1:
                return
            raise ValueError(f"{file} holds a {metadata.get('kind')}, not an agent: it cannot be one seed of several")
        if metadata["num_timesteps"] < metadata["total_timesteps"]:
            raise ValueError(f"{file} stopped at {metadata['num_timesteps']} renders: train it to its end")
        same = of_seed.setdefault(metadata["seed"], file)
        if same != file or found.count(file) > 1:
            raise ValueError(f"{same} and {file} have the same seed: give each seed once")
        trained = metadata.get("training") or {}
        own = {
            "algorithm": metadata["algorithm"],
            "settings": asdict(algorithm(metadata["algorithm"]).config_class.from_dict(metadata["config"])),
            "metric": labels.short(trained.get("metric")),  # older versions kept where its weights lay
            "renders": ", then ".join(map(str, agent_file.schedule(metadata))),
            "meaning of actions": metadata.get("meaning"),
            "patch": metadata.get("observation"),
            **{what: trained[what] for what in TRAINED if what in trained},  # which files of older versions do not tell
        }
        for what, value in own.items():
            if value != first.setdefault(what, value):
                both = "" if isinstance(value, dict) else f", {value} and {first[what]}"
                raise ValueError(f"{file} and {found[0]} differ in {what}{both}: give agents that differ in their seed")


def summary(
    recipes: Mapping[str, Iterable[str]], entries: Mapping[str, Any], zeta: Mapping[str, float]
) -> dict[str, Any]:
    """Give each recipe's gain over the true code, with intervals over seeds and photos, and how it differs.

    Args:
        recipes: labels of agents, by recipe.
        entries: a sheet's policies; see `experiments.sheets`.
        zeta: by metric, -1 where lower is better, else 1.

    Returns:
        By recipe: `agents`, and `metrics`: by metric `gain`, `gain_by_width`, `gain_by_seed`; `over`: by each recipe
        that stands before it, the gain less that one's, paired by photo; `photos`, how many all seeds have a score of;
        and `broken`, how many pictures have none though the true code's have. Means over no photo are NaN.
    """
    found: dict[str, Any] = {}
    gains: dict[str, dict[str, NDArray[np.float64]]] = {}  # each (seeds, photos, widths)
    for name, agents in recipes.items():
        gains[name], of_metric = {}, {}
        for metric, entry in entries["true-code"].items():
            own, true = np.array([entries[agent][metric]["scores"] for agent in agents]), np.array(entry["scores"])
            there = np.isfinite(own) & np.isfinite(true)
            gain = gains[name][metric] = np.where(there, zeta[metric] * (own - true), np.nan)
            mean = over_widths(_common(gain))
            kept = mean[:, np.isfinite(mean).all(axis=0)]
            of_metric[metric] = {
                "gain": _interval(mean),
                "gain_by_width": [_interval(each) for each in np.moveaxis(gain, 2, 0)],
                "gain_by_seed": (kept.mean(axis=1) if kept.size else np.full(len(kept), np.nan)).tolist(),
                "over": {other: _difference(gain, gains[other][metric]) for other in found},
                "photos": kept.shape[1],
                "broken": int((np.isfinite(true) & ~np.isfinite(own)).sum()),
            }
        found[name] = {"agents": list(agents), "metrics": of_metric}
    return found


def _common(gain: NDArray[np.float64], *others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Leave the pictures, of a photo at a width, that all seeds have a score of: `(seeds, photos, widths)`."""
    there = np.isfinite(np.concatenate([gain, *others])).all(axis=0)
    return np.where(there, gain, np.nan)


def _difference(own: NDArray[np.float64], other: NDArray[np.float64]) -> dict[str, Any]:
    """Give the interval of what one recipe gains over another, paired by picture."""
    return _interval(over_widths(_common(own, other)), over_widths(_common(other, own)))


def _interval(values: NDArray[np.float64], other: NDArray[np.float64] | None = None) -> dict[str, Any]:
    """Give `seeds_and_photos` as plain values; where no photo is left, NaN with a count of 0."""
    kept = np.isfinite(values if other is None else np.concatenate([values, other])).all(axis=0)
    return asdict(seeds_and_photos(values, other) if kept.any() else NOTHING)


def table(found: Mapping[str, Any]) -> str:
    """Lay a summary out as text: a line for each recipe and metric."""
    width, first = max(len(name) for name in found), next(iter(found))
    compared = f"; after |, less {first}'s, {_seeds(len(found[first]['agents']))}" if len(found) > 1 else ""
    lines = [f"gain over the true code [95% interval over seeds and photos], positive is better{compared}"]
    for name, recipe in found.items():
        for metric, entry in recipe["metrics"].items():
            title, unit = labels.in_units(metric)
            less = f"  |  {Interval(**entry['over'][first]).times(unit)}" if first in entry["over"] else ""
            gain = Interval(**entry["gain"])
            lost = f"  ({entry['broken']} pictures broken)" if entry["broken"] else ""
            lines.append(f"{name:<{width}}  {title:<10}  {gain.times(unit)}  {_seeds(gain.count)}{lost}{less}")
    return "\n".join(lines)


def _seeds(count: int) -> str:
    return f"{count} seed{'s' * (count != 1)}"


def curves(agents: Sequence[str]) -> dict[str, Any]:
    """Read the learning curves of a recipe's runs from the logs beside their agents.

    Args:
        agents: files.

    Returns:
        By name of `CURVES`, where every run has a log of it: `metric` and `generator` that they were trained with,
        `renders`, the middles of `POINTS` stretches of the shortest run, and `by_seed`, the mean over each stretch,
        seeds x stretches. Empty without tensorboard.
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
    _, metadata = checkpoint.read(agents[0])
    trained = {
        "metric": (metadata.get("training") or {}).get("metric"),
        "generator": (metadata.get("meaning") or {}).get("generator"),
    }
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
        found[name] = {**trained, "renders": ((edges[1:] + edges[:-1]) / 2).tolist(), "by_seed": by_seed}
    return found
