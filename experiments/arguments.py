"""What users may leave out on the command line: a config's folder, the brackets of one item, the value of a switch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from generators.nearest import unknown

CONFIGS = Path(__file__).parent / "configs"
"""The settings that ship."""


def completed(settings: type, arguments: Sequence[str]) -> list[str]:
    """Write arguments out: `--config amnet` as its file, `--data photos` as `--data [photos]`, `--amp` as `--amp true`.

    Args:
        settings: a dataclass of settings.
        arguments: of the command line; `--key=value` becomes two.

    Returns:
        The arguments, for a parser.

    Raises:
        ValueError: a word that belongs to no option, or `--config` names neither a file nor a config that ships.
    """
    hints = get_type_hints(settings)
    left = [part for argument in arguments for part in _parts(argument)]
    written: list[str] = []
    while left:
        option = left.pop(0)
        if not option.startswith("-"):
            raise ValueError(f"{option!r} belongs to no option: write --KEY {option}")
        written.append(option)
        key, hint = option.removeprefix("--"), hints.get(option.removeprefix("--"))
        if left and not left[0].startswith("--"):
            value = left.pop(0)
            if key == "config":
                value = str(_config(value))
            elif _is_list(hint) and not value.lstrip().startswith("[") and value != "null":
                value = f"[{value}]"
            written.append(value)
        elif _may_be(hint, bool):
            written.append("true")
    return written


def _parts(argument: str) -> list[str]:
    option, equals, value = argument.partition("=")
    return [option, value] if equals and option.startswith("--") else [argument]


def _config(name: str) -> Path:
    path, shipped = Path(name), CONFIGS / f"{name}.yaml"
    if not path.exists() and shipped.is_file():
        return shipped
    if not path.exists():
        known = sorted(each.stem for each in CONFIGS.glob("*.yaml"))
        raise ValueError(f"no file {name}; {unknown('config', path.stem, known)}")
    if not path.is_file():
        raise ValueError(f"config {name} is a folder: give a YAML file, or the name of a config that ships")
    return path


def _alternatives(hint: Any) -> list[Any]:
    return [each for one in get_args(hint) for each in _alternatives(one)] if _is_union(hint) else [hint]


def _is_union(hint: Any) -> bool:
    return get_origin(hint) in (Union, UnionType)


def _may_be(hint: Any, kind: type) -> bool:
    return kind in _alternatives(hint)


def _is_list(hint: Any) -> bool:
    """Say whether values are lists and cannot be a lone string."""
    kinds = _alternatives(hint)
    return any(get_origin(kind) in (list, tuple) for kind in kinds) and str not in kinds
