"""The scenes that a vector environment shows, and the streams of random numbers that they are drawn from."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium.utils import seeding
from numpy.typing import NDArray

from blindsr_env.core import BlindSRCore
from blindsr_env.scenes import Scenes

DAMAGED = "the state is damaged: take a new one with state()"


class Streams:
    """Draws the scenes of groups of rows, each from a stream of its own. An error on the way changes nothing.

    Args:
        core: makes the scenes.
        groups: how many, G.
        repeats: rows of a group, which share its scene.

    Attributes:
        rows: the scenes, one a row, `G * repeats` of them; None before the first draw.
    """

    def __init__(self, core: BlindSRCore, groups: int, repeats: int) -> None:
        self._core, self._repeats = core, repeats
        self._streams = [seeding.np_random()[0] for _ in range(groups)]
        self._origins: list[dict[str, Any] | None] = [None] * groups  # stream's state before the scene; None: fixed
        self._scenes: Scenes | None = None
        self.rows: Scenes | None = None

    def draw(
        self,
        groups: NDArray[np.bool_],
        seeds: Sequence[int | None] | None = None,
        fixed: Mapping[str, NDArray[Any]] | None = None,
    ) -> None:
        """Give groups new scenes.

        Args:
            groups: which, `(G,)`.
            seeds: G numbers that the groups' streams are started anew from; None leaves a stream as it is.
            fixed: what the scenes are not free to choose, as `reset_options.read` gives it for G scenes.

        Raises:
            gymnasium.error.Error: a seed below 0.
            ValueError: no crop can be what is fixed; or a metric raises it.
        """
        chosen = np.flatnonzero(groups).tolist()
        seed_of = [None] * len(groups) if seeds is None else seeds
        streams = [self._streams[g] if seed_of[g] is None else seeding.np_random(seed_of[g])[0] for g in chosen]
        self._draw(chosen, streams, {key: value[groups] for key, value in (fixed or {}).items()})

    def state(self) -> list[dict[str, Any]]:
        """Give the state of each group's stream before its present scene, in plain values.

        Raises:
            ValueError: options of `reset` fixed the scene of a group, which is not kept.
        """
        origins = [origin for origin in self._origins if origin is not None]
        if len(origins) < len(self._origins):
            group = self._origins.index(None)
            raise ValueError(f"options fixed the scene of group {group}, which a state cannot hold: reset without them")
        return copy.deepcopy(origins)

    def restore(self, state: Sequence[Mapping[str, Any]]) -> None:
        """Draw the scenes of a state again.

        Raises:
            ValueError: it is none, or of another number of groups.
        """
        streams = [seeding.np_random(0)[0] for _ in self._streams]
        try:
            for stream, kept in zip(streams, state, strict=True):
                stream.bit_generator.state = kept
        except (KeyError, OverflowError, TypeError, ValueError) as error:
            raise ValueError(DAMAGED) from error
        self._draw(range(len(streams)), streams, {})

    def _draw(
        self, chosen: Sequence[int], streams: Sequence[np.random.Generator], fixed: Mapping[str, NDArray[Any]]
    ) -> None:
        """Give the chosen groups scenes from these streams, which are theirs from then on."""
        origins = [None if fixed else dict(stream.bit_generator.state) for stream in streams]
        new = self._core.scenes(streams, fixed)
        for g, stream, origin in zip(chosen, streams, origins, strict=True):
            self._streams[g], self._origins[g] = stream, origin
        if self._scenes is not None and len(chosen) < len(self._streams):
            new = self._scenes.put(self._core.to_device(np.array(chosen)), new)
        self._scenes = new
        self.rows = new.repeat(self._repeats)
