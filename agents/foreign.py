"""Policies of other libraries: a function that somebody else's module makes, named `module:function`."""

from __future__ import annotations

import importlib
import os
import re
import sys
import sysconfig
import traceback
import warnings
from collections.abc import Callable
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Choose = Callable[[NDArray[np.uint8]], Any]
"""(N, H, W, 3) uint8 -> (N, actions). Whole photos are of any size: what takes one size only has to cut them itself."""

OWN = ("agents", "blindsr_env", "experiments", "generators")
"""Packages that are imported before a foreign module is, so that it cannot have others of these names."""


class Foreign:
    """A policy that is a function of NumPy observations.

    Args:
        choose: the function.
        name: for messages.
        actions: components of an action; None where that is not known.
    """

    def __init__(self, choose: Choose, name: str, actions: int | None = None) -> None:
        self.choose, self.name, self.actions = choose, name, actions

    def predict(self, observation: Any, info: Any = None) -> tuple[Any, None]:
        """Ask it, once for the whole batch.

        Raises:
            ValueError: it fails, or its answer has not a finite action for each observation.
        """
        seen = observation.cpu().numpy() if isinstance(observation, Tensor) else np.asarray(observation)
        batch = np.array(seen if seen.ndim == 4 else seen[None])  # a copy, which it may change
        try:
            answer = self.choose(batch)
        except Exception as error:
            if isinstance(error, MemoryError) or "memory" in str(error):
                raise  # a photo too large for it is the caller's to deal with
            # Without where it was, a command's one line would not help.
            raise ValueError(f"{self.name} failed with {type(error).__name__}: {error} ({_place(error)})") from error
        if isinstance(answer, tuple):
            raise ValueError(f"{self.name} answered with a tuple: it should give the actions alone")
        answer = answer.detach().cpu() if isinstance(answer, Tensor) else answer
        try:
            action = np.asarray(answer, dtype=np.float32)
        except (TypeError, ValueError):
            raise ValueError(f"{self.name} answered with no array of numbers: {answer!r:.80}") from None
        actions = "actions" if self.actions is None else self.actions
        fits = action.ndim == 2 and len(action) == len(batch) and self.actions in (None, action.shape[1])
        if not fits:
            raise ValueError(f"{self.name} answered with {action.shape}, not with ({len(batch)}, {actions})")
        if not np.isfinite(action).all():
            raise ValueError(f"{self.name} answered with NaN or infinity")
        if np.abs(action).max(initial=0.0) > 1:
            warnings.warn(f"{self.name} answered with actions outside [-1, 1], which are clipped", stacklevel=2)
        action = action if seen.ndim == 4 else action[0]
        return torch.from_numpy(action).to(observation.device) if isinstance(observation, Tensor) else action, None


def is_foreign(name: str) -> bool:
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


def load(name: str, env: Any = None) -> Foreign:
    """Import a module, from the working directory too, and have its function make a policy.

    Args:
        name: `module:function`; the function is called with `env` and gives a `Choose`.
        env: where the policy shall act.

    Raises:
        ValueError: there is no such module or function, or what it gives cannot be called; or the module has a package
            of the name of one of ours.
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
                f"policy {name!r}: {error}: {package} is blindsr's package, yours needs another name: rename its folder"
            ) from error
        if not isinstance(error, ModuleNotFoundError):
            raise
        if error.name is None or not (place + ".").startswith(error.name + "."):
            raise  # of something that the module itself imports
        raise ValueError(f"policy {name!r}: there is no module {place}: is it in the working directory?") from None
    function = getattr(made, attribute, None)
    if not callable(function):
        raise ValueError(f"policy {name!r}: {place} has no function {attribute!r}")
    try:
        choose = function(env)
    except Exception as error:
        raise ValueError(
            f"policy {name!r}: {attribute}(env) failed with {type(error).__name__}: {error} ({_place(error)}); it is "
            "called with the environment, and should give a function of observations"
        ) from error
    if not callable(choose):
        raise ValueError(f"policy {name!r} gave a {type(choose).__name__}: it should give a function of observations")
    space = getattr(env, "single_action_space", getattr(env, "action_space", None))
    return Foreign(choose, name, None if space is None else int(space.shape[0]))


def _place(error: Exception) -> str:
    """Say where an error was raised, FILE:LINE: the last line that is of no installed library, if there is one."""
    frames = traceback.extract_tb(error.__traceback__)[1:] or traceback.extract_tb(error.__traceback__)
    libraries = tuple(sysconfig.get_paths()[key] for key in ("stdlib", "platstdlib", "purelib", "platlib"))
    own = [frame for frame in frames if not frame.filename.startswith((*libraries, "<"))]
    frame = (own or frames)[-1]
    return f"{frame.filename}:{frame.lineno}"
