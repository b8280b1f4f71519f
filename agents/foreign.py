"""Policies of other libraries: a function that somebody else's module makes, named `module:function`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Choose = Callable[[NDArray[np.uint8]], Any]
"""(N, H, W, 3) uint8 -> (N, actions). Whole photos are of any size: what takes one size only has to cut them itself."""


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
            ValueError: its answer has not an action for each observation.
        """
        seen = observation.cpu().numpy() if isinstance(observation, Tensor) else np.asarray(observation)
        batch = seen if seen.ndim == 4 else seen[None]
        action = np.asarray(self.choose(batch), dtype=np.float32)
        wanted = (len(batch), action.shape[-1] if self.actions is None else self.actions)
        if action.shape != wanted:
            raise ValueError(f"{self.name} answered {len(batch)} observations by {action.shape}, not by {wanted}")
        action = action if seen.ndim == 4 else action[0]
        return torch.from_numpy(action).to(observation.device) if isinstance(observation, Tensor) else action, None


def is_foreign(name: str) -> bool:
    """Say whether this is `module:function`, and no file."""
    return ":" in name and not Path(name).exists()


def load(name: str, env: Any = None) -> Foreign:
    """Import a module, from the working directory too, and have its function make a policy.

    Args:
        name: `module:function`; the function is called with `env` and gives a `Choose`.
        env: where the policy shall act.

    Raises:
        ValueError: there is no such module or function, or what it gives cannot be called.
    """
    place, _, attribute = name.partition(":")
    sys.path.insert(0, "")  # an installed command does not look there by itself
    try:
        made: Any = importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name is None or not (place + ".").startswith(error.name + "."):
            raise  # of something that the module itself imports
        raise ValueError(f"policy {name!r}: there is no module {place}: is it in the working directory?") from None
    finally:
        sys.path.remove("")
    function = getattr(made, attribute, None)
    if not callable(function):
        raise ValueError(f"policy {name!r}: {place} has no function {attribute!r}")
    choose = function(env)
    if not callable(choose):
        raise ValueError(f"policy {name!r} gave a {type(choose).__name__}: it should give a function of observations")
    space = getattr(env, "single_action_space", getattr(env, "action_space", None))
    return Foreign(choose, name, None if space is None else int(space.shape[0]))
