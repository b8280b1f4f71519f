"""Shorthands of the command line: a config's bare name, a single item without brackets, a switch without a value."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from generators.nearest import unknown

CONFIGS = Path(__file__).parent / "configs"
"""Folder of the shipped configs."""


ALIKE = (("images", "data"), ("renders", "total_timesteps", "budgets"))
"""Settings that one command calls so, another so."""


def unknown_setting(name: str, known: Sequence[str]) -> str:
    """Say that a setting is unknown, and what it may be called here.

    Example:
        >>> unknown_setting("images", ["data", "steps"]), unknown_setting("stepz", ["data", "steps"])
        ("unknown setting 'images': here it is 'data'.", "unknown setting 'stepz': did you mean 'steps'?")
    """
    for group in ALIKE:
        here = [other for other in group if other in known]
        if name in group and here:
            return f"unknown setting {name!r}: here it is {here[0]!r}."
    return unknown("setting", name, known)


WORKED_ON = ("data", "images", "results")
"""Settings that name what a command works on, to which a word without an option probably belongs."""


def completed(settings: type, arguments: Sequence[str]) -> list[str]:
    """Expand shorthands: `--config amnet` to its file, `--data photos` to a list, `--amp` to `--amp true`.

    Args:
        settings: a dataclass of settings.
        arguments: of the command line; `--key=value` becomes two.

    Returns:
        The arguments with configs first, for a parser that lets later ones win: options then override configs.

    Raises:
        ValueError: a word belongs to no option, an option is given twice, or `--config` names neither a file nor a
            shipped config.
    """
    hints = get_type_hints(settings)
    left = [part for argument in arguments for part in _parts(argument)]
    configs: list[str] = []
    options: list[str] = []
    given: dict[str, str | None] = {}
    while left:
        option = left.pop(0)
        if not option.startswith("-"):
            raise ValueError(f"{option!r} belongs to no option: write {_as_option(settings, given, hints, option)}")
        setting, dot, item_name = option[2:].partition(".")  # of `--images.BSD-100`, the user's own name stays
        option = option[:2] + setting.replace("-", "_") + dot + item_name
        key, hint = option.removeprefix("--"), hints.get(option.removeprefix("--"))
        value = left.pop(0) if left and not left[0].startswith("--") else None
        if value == "":
            if NoneType not in alternatives(hint):
                raise ValueError(f"{option} is given an empty value: a shell variable that is not set?")
            value = "null"
        if key == "config":
            configs += [option] if value is None else [option, str(_config(value))]
            continue
        if key in given and not key.endswith("+"):  # jsonargparse's `--data+ B` adds to a list
            once = f"all its values as {option} '[A, B]'" if _takes_a_list(hint) else "it once"
            raise ValueError(f"{option} is given twice: write {once}")
        given[key] = value
        options.append(option)
        item = _item(hint)
        if value is not None:
            single = item is not None and not value.lstrip().startswith("[")
            if single and (value != "null" or NoneType in alternatives(item) and NoneType not in alternatives(hint)):
                value = json.dumps([value]) if item is str else f"[{value}]"
            options.append(value)
        elif item is bool:
            options.append("[true]")
        elif bool in alternatives(hint):
            options.append("true")
    return configs + options


def _as_option(settings: type, given: dict[str, str | None], hints: dict[str, Any], word: str) -> str:
    """Say how a word without an option may be written.

    Into the list of the option before it, if that takes one, or as a setting that has to be given, or names photos or
    results, and is not given yet.
    """
    key, value = next(reversed(given.items()), ("", None))
    if value is not None and not value.lstrip().startswith("[") and _takes_a_list(hints.get(key)):
        return f"--{key} '[{value}, {word}]'"
    missing = [each.name for each in fields(settings) if each.default is each.default_factory is MISSING]
    evident = [name for name in (*missing, *(each for each in WORKED_ON if each in hints)) if name not in given]
    return f"--{evident[0] if evident else 'KEY'} {word}"


def _takes_a_list(hint: Any) -> bool:
    return any(get_origin(kind) in (list, tuple) for kind in alternatives(hint))


def _parts(argument: str) -> list[str]:
    option, equals, value = argument.partition("=")
    return [option, value] if equals and option.startswith("--") else [argument]


def _config(name: str) -> Path:
    path = Path(name)
    if path.is_file():
        return path
    if path.name == name and path.suffix in ("", ".yaml") and (CONFIGS / f"{path.stem}.yaml").is_file():
        return CONFIGS / f"{path.stem}.yaml"
    if path.exists():
        raise ValueError(f"config {name} is a folder: give a YAML file, or the name of a config that ships")
    known = sorted(each.stem for each in CONFIGS.glob("*.yaml"))
    raise ValueError(f"no file {name}; {unknown('config', path.stem, known)}")


def alternatives(hint: Any) -> list[Any]:
    """Give the types that a hint allows."""
    if get_origin(hint) not in (Union, UnionType):
        return [hint]
    return [each for one in get_args(hint) for each in alternatives(one)]


def _item(hint: Any) -> Any:
    """Give the type of a list's items; None if the values are not lists, or may also be a single one or a string."""
    kinds = alternatives(hint)
    items = [get_args(kind)[0] for kind in kinds if get_origin(kind) in (list, tuple)]
    return items[0] if items and str not in kinds and items[0] not in kinds else None
