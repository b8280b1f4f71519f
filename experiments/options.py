"""Settings from a YAML file and options on machines without jsonargparse; the `blindsr` command checks more."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from agents.interruption import Interruption
from experiments import failure
from experiments.arguments import completed, unknown_setting

S = TypeVar("S")


def main(settings: type[S], function: Callable[[S], Any]) -> None:
    """Call a function with the settings of the command line.

    An error that the user can fix is printed as one line, with exit code 2. Ctrl-C gives exit code 130 and SIGTERM 143,
    also where a training saved its state and can go on.
    """
    try:
        function(read(settings, sys.argv[1:]))
    except (KeyboardInterrupt, Exception) as error:
        told = failure.told(error)
        if told is None:
            raise
        message, code = told
        print(message, file=sys.stderr)
        sys.exit(code)
    if Interruption.last is not None:
        sys.exit(128 + Interruption.last)


def read(settings: type[S], arguments: Sequence[str]) -> S:
    """Make settings of `--config FILE.yaml` and `--KEY VALUE` (YAML too); options win over configs, later over earlier.

    Args:
        settings: a dataclass of settings.
        arguments: of the command line.

    Raises:
        ValueError: an argument is not such a pair; an unknown key (the nearest are listed), a missing one, or a value
            of another type.
    """
    values: dict[str, Any] = {}
    hints = get_type_hints(settings)
    arguments = completed(settings, arguments)
    for flag, text in zip(arguments[::2], [*arguments[1::2], None], strict=False):
        if not flag.startswith("--") or text is None:
            raise ValueError(f"{flag}: options are --config FILE.yaml and --KEY VALUE")
        if flag == "--config":
            content = _yaml(text, Path(text).read_text())
            if not isinstance(content, dict):
                raise ValueError(f"{text} holds no settings: it should have lines of KEY: VALUE")
            values |= content
        else:
            values[flag[2:]] = _value(flag, text, hints.get(flag[2:]))
    known = {field.name: field for field in fields(settings)}  # type: ignore[arg-type]
    for key, value in values.items():
        if key not in known:
            raise ValueError(unknown_setting(key, list(known)))
        try:
            values[key] = _convert(value, hints[key])
        except (TypeError, ValueError):
            raise ValueError(f'setting "{key}": expected {described(hints[key])}, got {value}') from None
    for key, field in known.items():
        if key not in values and field.default is MISSING and field.default_factory is MISSING:
            listed = "[FOLDER]" if key == "data" else "VALUE"
            raise ValueError(f"missing setting {key}: give it as --{key} '{listed}' or in the config file")
    return settings(**values)


def _value(flag: str, text: str, hint: Any) -> Any:
    """Read an option's text, as jsonargparse does: names as they are, for a folder may be called 007; the rest as YAML.

    Whole numbers are decimal, while YAML takes 010 for octal.
    """
    nothing = text.strip() in ("", "~", "null", "Null", "NULL")
    if hint is str or hint == str | None and not nothing:
        return text
    try:
        return int(text)
    except ValueError:
        return _yaml(flag, text)


class _Loader(yaml.SafeLoader):
    """YAML without dates: a folder may be called 2024-01-01."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def _yaml(where: str, text: str) -> Any:
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ValueError(f"{where} is no YAML: {' '.join(str(error).split())}") from None


def _convert(value: Any, hint: Any) -> Any:
    """Convert a parsed YAML value to a type; TypeError or ValueError if it does not fit."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        for each in arguments:
            try:
                return _convert(value, each)
            except (TypeError, ValueError):
                continue
        raise TypeError
    if origin in (list, tuple):
        if not isinstance(value, list):
            raise TypeError
        each = arguments[:1] * len(value) if origin is list or arguments[-1] is ... else arguments
        return origin(_convert(item, kind) for item, kind in zip(value, each, strict=True))
    if origin is Literal:
        if value in arguments:
            return value
        raise ValueError
    if hint is float or hint is int:
        if isinstance(value, bool) or hint is int and isinstance(value, float):
            raise TypeError
        number = hint(value)  # YAML takes 1e-3 for a string
        if isinstance(value, str) and not math.isfinite(number):
            raise ValueError
        return number
    if not isinstance(value, hint):
        raise TypeError
    return value


def described(hint: Any) -> str:
    """Say in words what values a type allows."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(described(each) for each in arguments)
    if origin in (list, tuple):
        return "a list, as [A, B]"
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    return "null" if hint is NoneType else hint.__name__
