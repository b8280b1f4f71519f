"""Autoreset modes of the vector environment, by name."""

from __future__ import annotations

from gymnasium.vector import AutoresetMode

from generators.nearest import unknown

MODES = {"same step": AutoresetMode.SAME_STEP, "next step": AutoresetMode.NEXT_STEP, "disabled": AutoresetMode.DISABLED}


def mode(value: AutoresetMode | str) -> AutoresetMode:
    """Read a mode: a member, its value ("SameStep"), or its name in words ("same step", "same_step").

    Raises:
        ValueError: another name; the nearest are listed.
    """
    if isinstance(value, AutoresetMode):
        return value
    known = {name.replace(" ", ""): each for name, each in MODES.items()}
    word = str(value).lower().replace(" ", "").replace("_", "").replace("-", "")
    if word not in known:
        raise ValueError(unknown("autoreset mode", value, MODES))
    return known[word]
