"""Settings from a YAML file and options, for machines without jsonargparse: the `blindsr` command checks more."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import yaml

from generators.nearest import unknown

S = TypeVar("S")


def main(settings: type[S], function: Callable[[S], Any]) -> None:
    """Call a function with the settings of the command line; an error that the user can mend is one line and exit 2."""
    try:
        function(read(settings, sys.argv[1:]))
    except (ValueError, OSError, ImportError, ArithmeticError) as error:
        print(error, file=sys.stderr)
        sys.exit(2)


def read(settings: type[S], arguments: Sequence[str]) -> S:
    """Make settings of `--config FILE.yaml` and `--KEY VALUE` (YAML too); what comes later wins.

    Args:
        settings: a dataclass of settings.
        arguments: of the command line.

    Raises:
        ValueError: an argument that is no such pair, an unknown key (the nearest are listed), or a missing one.
    """
    values: dict[str, Any] = {}
    for flag, text in zip(arguments[::2], [*arguments[1::2], None], strict=False):
        if not flag.startswith("--") or text is None:
            raise ValueError(f"{flag}: options are --config FILE.yaml and --KEY VALUE")
        if flag == "--config":
            content = yaml.safe_load(Path(text).read_text())
            if not isinstance(content, dict):
                raise ValueError(f"{text} holds no settings: it should have lines of KEY: VALUE")
            values |= content
        else:
            values[flag[2:]] = yaml.safe_load(text)
    known = {field.name: field for field in fields(settings)}  # type: ignore[arg-type]
    for key, value in values.items():
        if key not in known:
            raise ValueError(unknown("setting", key, known))
        default = known[key].default
        if isinstance(default, float) and not isinstance(default, bool):
            values[key] = _number(key, value)
        elif isinstance(default, tuple):
            values[key] = tuple(value)
    if "data" in known and "data" not in values:
        raise ValueError("missing setting data: give it as --data '[FOLDER]' or in the config file")
    return settings(**values)


def _number(key: str, value: Any) -> float:
    try:
        return float(value)  # YAML takes 1e-3 for a string
    except (TypeError, ValueError):
        raise ValueError(f'setting "{key}": expected float, got {value}') from None
