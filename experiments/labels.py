"""What tables and results files call generators, photos and files: short, told apart, without a machine's paths."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def short(value: Any) -> Any:
    """Give the last part of a path, and of a metric's name its own part; other values as they are.

    Example:
        >>> short("data/eval/Set5"), short("pyiqa:lpips@weights/l.pth"), short(3)
        ('Set5', 'pyiqa:lpips', 3)
    """
    if isinstance(value, list | tuple):
        return [short(item) for item in value]
    if isinstance(value, dict):
        return {key: short(item) for key, item in value.items()}
    if not isinstance(value, str):
        return value
    return Path(value.partition("@")[0]).name if value.startswith("pyiqa:") else Path(value).name


def tails(paths: Sequence[str]) -> list[str]:
    """Give of each path as few last parts as tell it from the others.

    Example:
        >>> tails(["runs/a/agent.safetensors", "runs/b/agent.safetensors", "predictor"])
        ['a/agent.safetensors', 'b/agent.safetensors', 'predictor']
    """
    parts = [Path(path).parts for path in paths]

    def tail(own: tuple[str, ...]) -> str:
        for length in range(1, len(own)):
            if sum(other[-length:] == own[-length:] for other in set(parts)) == 1:
                return "/".join(own[-length:])
        return "/".join(own)

    return [tail(own) for own in parts]


def of_generators(names: Sequence[str], sources: Sequence[str | None]) -> list[str]:
    """Call each generator by its own name; those of one name also by their files.

    Args:
        names: the generators' own.
        sources: names or files that they were loaded from; None for the best that ships.

    Example:
        >>> of_generators(["amnet_s", "amnet_s", "amnet"], ["amnet_s", "runs/hard/generator.safetensors", None])
        ['amnet_s', 'amnet_s (generator)', 'amnet']
    """
    given = [source or name for name, source in zip(names, sources, strict=True)]
    stems = tails([source.removesuffix(".safetensors") for source in given])
    return [
        name if names.count(name) == 1 or source == name else f"{name} ({stem})"
        for name, source, stem in zip(names, given, stems, strict=True)
    ]
