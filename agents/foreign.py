"""Policies of other libraries: a function that somebody else's module makes, named `module:function`."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from generators import entry_point, memory

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
            ValueError: it fails, or its answer has not a finite action for each observation.
        """
        seen = observation.cpu().numpy() if isinstance(observation, Tensor) else np.asarray(observation)
        batch = np.array(seen if seen.ndim == 4 else seen[None])  # a copy, which it may change
        try:
            answer = self.choose(batch)
        except Exception as error:
            if memory.exhausted(error):
                raise  # a photo too large for it is the caller's to deal with
            # Without where it was, a command's one line would not help.
            raise ValueError(f"{self.name} failed with {entry_point.described(error)}") from error
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


def load(name: str, env: Any = None) -> Foreign:
    """Import a module, from the working directory too, and have its function make a policy.

    Args:
        name: `module:function`; the function is called with `env` and gives a `Choose`.
        env: where the policy shall act.

    Raises:
        ValueError: there is no such module or function, or what it gives cannot be called; or the module has a package
            of the name of one of ours.
    """
    function = entry_point.find(name, "policy")
    try:
        choose = function(env)
    except Exception as error:
        raise ValueError(
            f"policy {name!r}: {name.partition(':')[2]}(env) failed with {entry_point.described(error)}; it is "
            "called with the environment, and should give a function of observations"
        ) from error
    if not callable(choose):
        raise ValueError(f"policy {name!r} gave a {type(choose).__name__}: it should give a function of observations")
    space = getattr(env, "single_action_space", getattr(env, "action_space", None))
    return Foreign(choose, name, None if space is None else int(space.shape[0]))
