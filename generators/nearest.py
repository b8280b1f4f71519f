"""What to say to a name that nobody knows."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def unknown(what: str, name: object, known: Iterable[str]) -> str:
    """Say that a name is unknown and which known ones come nearest, in one line.

    Args:
        what: what it was taken for.
        name: the name as it was given.
        known: the names there are; upper and lower case are alike.

    Returns:
        The line: up to three names that are near, or the first eight that there are where none is.

    Example:
        >>> unknown("metric", "NIQUE", ["psnr", "niqe"])
        "unknown metric 'NIQUE': did you mean 'niqe'?"
    """
    lowered = {one.lower(): one for one in known}
    given = str(name).lower()
    near = difflib.get_close_matches(given, lowered, n=3, cutoff=0.6)
    near = near or [one for one in lowered if given and one.startswith(given)][:3]
    if near:
        return f"unknown {what} {name!r}: did you mean {' or '.join(repr(lowered[one]) for one in near)}?"
    some = ", ".join(repr(one) for one in list(lowered.values())[:8])
    return f"unknown {what} {name!r}: there are {some}{' and others' if len(lowered) > 8 else ''}."
