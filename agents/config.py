"""What a user can set of an agent, checked when it is set."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self, get_type_hints

import numpy as np
import torch
from torch import Tensor

from generators.nearest import unknown

_WORDS = {float: "a number", int: "a whole number", bool: "true or false", str: "a string", dict: "settings by name"}


@dataclass(frozen=True)
class Range:
    """Numbers that a setting may take.

    Attributes:
        text: what they are, for messages.
        holds: says whether a number is one of them.
    """

    text: str
    holds: Callable[[float], bool]


ABOVE_0 = Range("above 0", lambda x: x > 0)
AT_LEAST_0 = Range("at least 0", lambda x: x >= 0)
AT_LEAST_1 = Range("at least 1", lambda x: x >= 1)
SHARE = Range("above 0 and at most 1", lambda x: 0 < x <= 1)
DECAY = Range("at least 0 and below 1", lambda x: 0 <= x < 1)


@dataclass(frozen=True, kw_only=True)
class AgentConfig:
    """What every agent needs to know.

    Attributes:
        noise: standard deviation of the exploration noise, one or more values; the last one holds for all remaining
            components of the action.
        actor_lr: learning rate of the actor (Adam).
        lr_final: the learning rates decay exponentially to this share of themselves over `learn`.
        max_grad_norm: gradient-norm clip.

    Raises:
        ValueError: a value of another type, or out of its range; the message names the setting and both.
    """

    noise: tuple[float, ...] = (0.15,) * 8 + (0.05,)
    actor_lr: float = 2e-4
    lr_final: float = 1e-2
    max_grad_norm: float = 1.0

    def __post_init__(self) -> None:
        for name, expected in get_type_hints(type(self)).items():
            object.__setattr__(self, name, self._typed(name, expected, getattr(self, name)))
        if not self.noise:
            raise ValueError(f"noise in {type(self).__name__} must be one or more numbers, got none")
        self.demand(AT_LEAST_0, "noise")
        self.demand(ABOVE_0, "actor_lr", "max_grad_norm")
        self.demand(SHARE, "lr_final")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Make a config of plain values: lists for tuples, or one number for a tuple of one.

        Raises:
            ValueError: an unknown key (the nearest are listed), a value of another type or out of its range.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        for key in values:
            if key not in known:
                raise ValueError(unknown(f"key of {cls.__name__}", key, known))
        return cls(**values)

    def demand(self, allowed: Range, *names: str) -> None:
        """Raise a ValueError where a setting is out of its range; a tuple's values must all be in it."""
        for name in names:
            value = getattr(self, name)
            for number in value if isinstance(value, tuple) else (value,):
                if not allowed.holds(number):
                    raise ValueError(f"{name} in {type(self).__name__} must be {allowed.text}, got {number}")

    def _typed(self, name: str, expected: Any, value: Any) -> Any:
        """Give a value in its field's type; whole numbers pass for any number, one number for a tuple."""
        if expected in _WORDS:
            plain, word = _as(expected, value), _WORDS[expected]
        else:
            value = value.tolist() if isinstance(value, np.ndarray) else value
            numbers = [_as(float, each) for each in (value if isinstance(value, list | tuple) else (value,))]
            plain, word = None if None in numbers else tuple(numbers), "a list of numbers"
        if plain is None:
            raise ValueError(f"{name} in {type(self).__name__} must be {word}, got {value!r} ({type(value).__name__})")
        return plain


@dataclass(frozen=True, kw_only=True)
class SteppedConfig(AgentConfig):
    """What every agent needs to know that learns step by step.

    Attributes:
        average: decay of the moving average of the actor's weights, which `predict` uses; 0 for none.
        constant: learn the bias of the actor's last layer alone, one constant for all photos: the baseline that an
            agent that looks at photos must beat.
    """

    average: float = 0.0
    constant: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.demand(DECAY, "average")


def _as(expected: type, value: Any) -> Any:
    """Give a value as the type expected, or None where it is of another one, or infinite or NaN."""
    if isinstance(value, np.number) and value.shape == ():
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, int | float) or expected in (bool, str, dict):
        return value if isinstance(value, expected) and type(value) is expected else None
    if not math.isfinite(value) or (expected is int and not isinstance(value, int)):
        return None
    return expected(value)


def per_component(values: tuple[float, ...], actions: int) -> Tensor:
    """Spread settings over an action's components, `(actions,)`: the last value holds for all that follow.

    >>> per_component((0.5, 0.25), 4).tolist()
    [0.5, 0.25, 0.25, 0.25]
    """
    return torch.tensor([values[min(i, len(values) - 1)] for i in range(actions)])
