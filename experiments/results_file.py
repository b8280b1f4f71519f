"""Results files: figures as JSON, with what is needed to reproduce them; see `experiments.sheets` for their layout."""

from __future__ import annotations

import functools
import json
import math
import os
import platform
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import MISSING, asdict, is_dataclass
from pathlib import Path
from typing import Any

import torch

from experiments import processor
from generators.atomic import atomic_write

IDLE = ("cuda_graphs",)
"""Settings that change no figure, and that older files lack."""

LATER: dict[str, Any] = {"tiles": [None], "self_ensemble": [False], "views": 1, "compile": False}
"""What older results files, which lack these settings, were made with."""


class _Tried(Exception):
    """Ends a write that was only to show that it is possible."""


class ResultsFile:
    """The results file of a command, which is written after each part of its work.

    So a run that is cut short keeps what it measured; but not in place of an earlier run's, unless that says itself
    that it was cut short.

    Attributes:
        path: the file; None where nothing is written.

    Args:
        path: as the user gave it, see `vacant`; None writes nothing.
        config: settings, files by their names.
        seed: the random seed of the run.
        identity: digests of the files that the config names, see `experiments.digests`.

    Raises:
        ValueError: the path is a folder.
        OSError: the file's folder cannot be made or written to: better known before the work than after it.
    """

    def __init__(
        self, path: str | os.PathLike[str] | None, config: Any, seed: int | None, identity: Mapping[str, Any]
    ) -> None:
        commit()  # as it is now, not when the work is done
        self._given, self._config, self._seed, self._identity = path, config, seed, identity
        self.path = None if path is None else vacant(path, config, identity)
        self._written = False
        if self.path is not None:
            # In the nearest folder there is: a command that ends without figures should leave no empty one behind.
            there = next(folder for folder in self.path.absolute().parents if folder.exists())
            with suppress(_Tried), atomic_write(there / self.path.name):
                raise _Tried  # so that nothing is written

    def keep(self, figures: Mapping[str, Any], *, whole: bool) -> bool:
        """Write what has been measured so far; say whether it was written.

        Args:
            figures: plain values.
            whole: whether that is all.
        """
        if self._given is None:
            return False
        if not self._written:  # other runs may have been written meanwhile
            self.path = vacant(self._given, self._config, self._identity)
            if not whole and self.path.exists() and json.loads(self.path.read_text()).get("whole", True):
                return False
        assert self.path is not None
        write_results(self.path, figures, self._config, self._seed, self._identity, whole=whole)
        self._written = True
        return True


def write_results(
    path: Path,
    figures: Mapping[str, Any],
    config: Any,
    seed: int | None,
    identity: Mapping[str, Any] | None = None,
    *,
    whole: bool = True,
) -> None:
    """Write figures as JSON, together with what is needed to reproduce them.

    Args:
        path: the file.
        figures: plain values; numbers that are not finite become null.
        config: settings, files by their names.
        seed: the random seed of the run.
        identity: digests of the files that the config names, see `experiments.digests`.
        whole: whether the run is over; the file says so where it is not.
    """
    content = {
        **({} if whole else {"whole": False}),
        "figures": figures,
        "config": plain(config),
        **({} if identity is None else {"identity": identity}),
        "environment": environment(),
        "seed": seed,
        "commit": commit(),
    }
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(_in_standard(content), indent=1, default=str, allow_nan=False) + "\n")


def _in_standard(value: Any) -> Any:
    """Give null for numbers that are not finite: JSON has none, and many readers refuse Python's NaN."""
    if isinstance(value, Mapping):
        return {key: _in_standard(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_in_standard(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def vacant(path: str | os.PathLike[str], config: Any, identity: Mapping[str, Any] | None = None) -> Path:
    """Give a results file's path, or `NAME_2.json` and so on if it holds the results of another run.

    Args:
        path: as the user gave it; `.json` is added where it does not end so, or tables would not find it in its folder.
        config: as `write_results` gets it; the results of the same run are replaced.
        identity: likewise. Files from before it was kept are compared by their config alone.

    Raises:
        ValueError: the path is a folder.
    """
    first = Path(path)
    if first.is_dir():
        raise ValueError(f"{path} is a folder: name the results file in it, such as {first / 'results.json'}")
    first = first if first.suffix == ".json" else first.with_name(f"{first.name}.json")
    place, number = first, 1
    while place.exists() and not _holds(place, config, identity):
        number += 1
        place = first.with_name(f"{first.stem}_{number}{first.suffix}")
    return place


def _holds(path: Path, config: Any, identity: Mapping[str, Any] | None = None) -> bool:
    """Say whether a file holds the results of a run."""
    return of_config(path, config) and json.loads(path.read_text()).get("identity", identity) == identity


def of_config(path: Path, config: Any) -> bool:
    """Say whether a file holds results of these settings."""
    try:
        return bool(_decisive(json.loads(path.read_text())["config"]) == _decisive(_in_json(config)))
    except (ValueError, KeyError, TypeError, AttributeError):  # not a results file: it is not ours to replace
        return False


def _in_json(config: Any) -> Any:
    return json.loads(json.dumps(plain(config), default=str))


def _decisive(config: Any) -> Any:
    """Leave out of a config what does not affect its figures."""
    if not isinstance(config, dict):
        return config
    return {key: value for key, value in config.items() if key not in IDLE and value != LATER.get(key, MISSING)}


def plain(value: Any) -> Any:
    """Turn dataclasses, paths and tuples into plain values for YAML and JSON."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def environment() -> dict[str, Any]:
    """Describe what the figures were measured on."""
    from importlib.metadata import PackageNotFoundError, version

    packages = {}
    for name in ("blindsr", "torch", "numpy", "gymnasium", "stable-baselines3", "opencv-python"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    cuda = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    return {
        "python": platform.python_version(),
        "packages": packages,
        "processor": processor.model(),
        "architecture": platform.machine(),
        "bf16": processor.bf16(),
        "cores": processor.cores(),
        "threads": torch.get_num_threads(),
        "gpu": cuda,
    }


@functools.cache
def commit() -> str | None:
    """Give the commit of the source tree, with `+` if it has changes; None outside a git checkout of it.

    It is that of the first call: work asks as it begins, since the source may change before it ends.
    """
    file = Path(__file__).resolve()
    root = file.parent.parent
    try:
        _git(root, "ls-files", "--error-unmatch", str(file))  # installed within a user's checkout, it is not of it
        revision = _git(root, "rev-parse", "--short=12", "HEAD")
        return revision + ("+" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(root: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True
    ).stdout.strip()
