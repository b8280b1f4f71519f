"""Objects that somebody else's module makes, named `module:function`: policies and generators of one's own."""

from __future__ import annotations

import ast
import importlib
import os
import re
import sys
import sysconfig
import traceback
from collections.abc import Callable
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

OWN = ("agents", "blindsr_env", "experiments", "generators")
"""Packages that are imported before a foreign module is, so that it cannot have others of these names."""

LIBRARIES = tuple(sysconfig.get_paths()[key] for key in ("stdlib", "platstdlib", "purelib", "platlib"))
"""Folders of what is installed."""


def is_entry_point(name: str) -> bool:
    """Say whether this is `module:function`, and no file."""
    return bool(re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", name)) and not Path(name).exists()


def source_of(name: str) -> Path | None:
    """Find the file of `module:function`'s module, which is not run; None of a module without one, or of none."""
    place = name.partition(":")[0]
    here = os.getcwd()
    path = sys.path if here in sys.path else [here, *sys.path]
    spec = None
    for part in place.split("."):
        spec = PathFinder.find_spec(part, path)
        if spec is None:
            return None
        path = list(spec.submodule_search_locations or [])
    return Path(spec.origin) if spec is not None and spec.origin and Path(spec.origin).is_file() else None


def text_of(name: str) -> bytes:
    """Give the text of `module:function`'s module and of all that it imports, but for installed libraries and blindsr.

    Imports are read off the text, nothing is run: the same text is found in any process. What a module opens or
    imports by a name that it makes up is not seen.
    """
    place = name.partition(":")[0]
    found: dict[str, bytes] = {}
    _collect(place, place.partition(".")[0], found)
    return b"".join(found[each] for each in sorted(found))


def _collect(place: str, root: str, found: dict[str, bytes]) -> None:
    """Add the text of a module of one's own, of the packages that it lies in and of what they import, by their names.

    Args:
        place: the module's name.
        root: top-level package of the module that all began with, one's own wherever it is installed.
        found: is added to.
    """
    top = place.partition(".")[0]
    if not place or place in found or (top != root and top in OWN):
        return
    source = source_of(place)
    if source is None or source.suffix != ".py" or (top != root and _installed(source)):
        return
    found[place] = source.read_bytes()
    above = place.rpartition(".")[0]
    for each in (above, *_imported(place, source.name == "__init__.py", found[place])):
        _collect(each, root, found)


def _installed(source: Path) -> bool:
    return str(source).startswith(LIBRARIES) or bool({"site-packages", "dist-packages"} & set(source.parts))


def _imported(place: str, is_package: bool, text: bytes) -> list[str]:
    """List what a module's text imports: modules, and names that may be modules."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return []
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module.split(".") if node.module else []
            if node.level:
                parts = place.split(".")
                base = parts[: len(parts) - node.level + is_package] + base
            names += [".".join(base), *(".".join([*base, each.name]) for each in node.names)]
    return names


def find(name: str, what: str) -> Callable[..., Any]:
    """Import a module, from the working directory too, and give its function.

    Args:
        name: `module:function`.
        what: it makes, for messages, such as `"policy"`.

    Raises:
        ValueError: there is no such module or function, or the module has a package of the name of one of ours.
    """
    place, _, attribute = name.partition(":")
    here = os.getcwd()
    if here not in sys.path:  # an installed command does not look there; what the module imports later may lie there
        sys.path.insert(0, here)
    try:
        made: Any = importlib.import_module(place)
    except ImportError as error:
        package = (error.name or "").partition(".")[0]
        if package in OWN and Path(here, package).is_dir() and Path(here) != Path(__file__).parents[1]:
            raise ValueError(
                f"{what} {name!r}: {error}: {package} is blindsr's package, yours needs another name: rename its folder"
            ) from error
        if not isinstance(error, ModuleNotFoundError):
            raise
        if error.name is None or not (place + ".").startswith(error.name + "."):
            raise  # of something that the module itself imports
        hint = "leave .py out" if place.endswith(".py") else "is it in the working directory?"
        raise ValueError(f"{what} {name!r}: there is no module {place}: {hint}") from None
    except Exception as error:
        raise ValueError(f"{what} {name!r}: importing {place} failed with {described(error)}") from error
    function: Callable[..., Any] | None = getattr(made, attribute, None)
    if function is None or not callable(function):
        raise ValueError(f"{what} {name!r}: {place} has no function {attribute!r}")
    return function


def described(error: Exception) -> str:
    """Say what was raised and where, FILE:LINE: the last line that is of no installed library, if there is one."""
    frames = traceback.extract_tb(error.__traceback__)[1:] or traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith((*LIBRARIES, "<"))]
    frame = (own or frames)[-1]
    return f"{type(error).__name__}: {error} ({frame.filename}:{frame.lineno})"
