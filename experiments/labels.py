"""Names of generators, photos and files in tables and results: short, distinct, and without a machine's paths."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from agents import checkpoints, policies
from blindsr_env import metrics
from blindsr_env.metrics.mixture import terms
from generators import peers


def short(value: Any) -> Any:
    """Give the last part of a path, and names of metrics, mixtures and published networks without paths of weights.

    Other values stay as they are.

    Example:
        >>> short("data/eval/Set5"), short("niqe+0.1*pyiqa:lpips@weights/l.pth"), short("srmdnf@weights"), short(3)
        ('Set5', 'niqe+0.1*pyiqa:lpips', 'srmdnf', 3)
        >>> short("."), short(None)
        ('.', None)
    """
    if isinstance(value, list | tuple):
        return [short(item) for item in value]
    if isinstance(value, dict):  # a mixture may be one: names to weights
        return {_metric(key) or key: short(item) for key, item in value.items()}
    if not isinstance(value, str):
        return value
    return value.partition("@")[0] if peers.is_peer(value) else _metric(value) or Path(value).name or value


def _metric(name: str) -> str | None:
    """Give a metric's name without paths, or None if it has none."""
    parts = terms(name, metrics.names(), metrics.PREFIXES)
    if not any(part.startswith(metrics.PREFIXES) for _, part in parts):
        return None
    bare = [(weight, part.partition("@")[0] if part.startswith(metrics.PREFIXES) else part) for weight, part in parts]
    return "+".join(part if weight == 1 else f"{weight:g}*{part}" for weight, part in bare)


def in_units(metric: str) -> tuple[str, float]:
    """Give the name of a metric's gains in tables and the factor to show them with: grid is in thousandths.

    Example:
        >>> in_units("grid"), in_units("psnr")
        (('grid, 1e-3', 1000.0), ('psnr', 1.0))
    """
    return ("grid, 1e-3", 1e3) if metric == "grid" else (metric, 1.0)


def rendering(generator: str, tile: int | None, self_ensemble: bool) -> str:
    """Give a generator's name, with how it renders where that is not whole photos, once.

    Example:
        >>> rendering("amnet", None, False), rendering("amnet", 64, True)
        ('amnet', 'amnet in tiles of 64, self-ensemble')
    """
    tiles = "" if tile is None else f" in tiles of {tile}"
    return generator + tiles + (", self-ensemble" if self_ensemble else "")


def distinct(names: Sequence[str], what: str) -> list[str]:
    """Give the names back.

    Args:
        names: one for each row or column of a table.
        what: they are, for the message.

    Raises:
        ValueError: two are the same, so that one's figures would stand for both.
    """
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"the {what} {name!r} is given twice: give each once")
    return list(names)


GENERIC = re.compile(r"((agent|predictor|generator)(\.safetensors)?|HR|seed_\d+)(@.*)?")
"""Names that every run or set of photos has: by one alone, two results files would mean different things."""


def tails(paths: Sequence[str], taken: Collection[str] = ()) -> list[str]:
    """Shorten each path to as few of its last parts as distinguish it from the others and say what it is.

    A root or `..` is no such part: it would tell of the machine.

    Args:
        paths: or names.
        taken: names that mean something else than a path that ends in them.

    Example:
        >>> tails(["runs/a/agent.safetensors", "runs/b/agent.safetensors", "predictor"])
        ['a/agent.safetensors', 'b/agent.safetensors', 'predictor']
        >>> tails(["runs/predictor", "predictor"], taken=["predictor"])
        ['runs/predictor', 'predictor']
        >>> tails(["runs/sac/seed_0/agent.safetensors", "data/Set5/HR", "data/Set5"])
        ['sac/seed_0/agent.safetensors', 'Set5/HR', 'Set5']
        >>> tails(["/HR", "../agent.safetensors"])
        ['HR', 'agent.safetensors']
    """
    parts = [Path(path).parts for path in paths]

    def tail(path: str, own: tuple[str, ...]) -> str:
        found = path
        for length in range(1, len(own) + 1):
            if own[-length] in ("..", Path(path).anchor):
                break
            short = "/".join(own[-length:])
            once = sum(other[-length:] == own[-length:] for other in set(parts)) == 1
            if once and short not in taken:
                found = short
                if not GENERIC.fullmatch(own[-length]):
                    break
        return found

    return [tail(path, own) for path, own in zip(paths, parts, strict=True)]


def of_policies(names: Sequence[str]) -> list[str]:
    """Name each policy: files by their last parts, never as a built-in or shipped policy is called.

    Example:
        >>> of_policies(["runs/agent.safetensors", "runs/true-code", "runs/predictor@0.5", "predictor@0.5"])
        ['runs/agent.safetensors', 'runs/true-code', 'runs/predictor@0.5', 'predictor@0.5']
    """
    known = [*policies.NAMES, *checkpoints.NAMED]
    parts = [name.rpartition("@")[2] for name in names if "@" in name]
    return tails(names, [*known, *(f"{name}@{part}" for name in known for part in parts)])


def of_generators(names: Sequence[str], sources: Sequence[str]) -> list[str]:
    """Name each generator; generators that share a name are told apart by their files.

    Args:
        names: the generators' own.
        sources: names or files that they were loaded from.

    Raises:
        ValueError: one is given twice.

    Example:
        >>> of_generators(["amnet_s", "amnet_s", "amnet"], ["amnet_s", "runs/hard/generator.safetensors", "amnet"])
        ['amnet_s', 'amnet_s (hard/generator)', 'amnet']
    """
    places = [each.partition("@")[2] if peers.is_peer(each) else each.removesuffix(".safetensors") for each in sources]
    stems = tails(places)
    called = [
        name if names.count(name) == 1 or source == name else f"{name} ({stem})"
        for name, source, stem in zip(names, sources, stems, strict=True)
    ]
    return distinct(called, "generator")
