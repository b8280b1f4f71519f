"""The picture of an episode: LR, SR, SR with the true code, HR, the kernels and the scores; and a window for it."""

from __future__ import annotations

import itertools
import logging
import os
import sys
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from blindsr_env.core import BlindSRCore
from blindsr_env.scenes import Scenes
from generators.nearest import unknown

Picture = NDArray[np.uint8]

MODES = ("rgb_array", "human")
SMALLEST_PANEL = 192  # pixels; panels of smaller patches are enlarged by a whole factor, so that the text fits
GAP, CAPTION, LINE, NARROWEST = 8, 24, 22, 110
BACKGROUND, INK, BLANK = 255, (32, 32, 32), 224

_log = logging.getLogger(__name__)
_numbers = itertools.count(1)


def checked_mode(mode: str | None) -> str | None:
    """Return a render mode, or raise a ValueError that lists the nearest ones."""
    if mode is not None and mode not in MODES:
        raise ValueError(unknown("render mode", mode, MODES))
    return mode


def pictures(
    core: BlindSRCore, scenes: Scenes, actions: Tensor | None, played: NDArray[np.bool_] | None = None
) -> tuple[Picture, ...]:
    """Draw scenes and what was made of them.

    Args:
        core: renders and scores.
        scenes: N scenes.
        actions: `(N, d)`; None where none was taken yet.
        played: `(N,)` bool, the rows whose action counts; all where None.

    Returns:
        N pictures `(H, W, 3)` uint8, RGB. Without an action, SR and the chosen kernel are blank.
    """
    if played is None:
        played = np.full(len(scenes.lr), actions is not None)
    shown = core.pictures(scenes, scenes.true_action if actions is None else actions)
    names, zeta = [metric.name for metric in core.metrics], core.zeta.tolist()
    place, width = scenes.place.cpu().numpy(), scenes.width.cpu().numpy()
    return tuple(
        _compose(
            {name: value[i] for name, value in shown.items()},
            bool(played[i]),
            f"{core.sampler.names[place[i, 0]]}  width {width[i]:.2f}",
            names,
            zeta,
        )
        for i in range(len(scenes.lr))
    )


def _compose(shown: dict[str, NDArray[Any]], played: bool, title: str, names: list[str], zeta: list[float]) -> Picture:
    side = shown["hr"].shape[0]
    factor = -(-SMALLEST_PANEL // side)
    blank = np.full_like(shown["hr"], BLANK)
    panels = {
        "LR": _nearest(shown["lr"], side // shown["lr"].shape[0]),
        "SR": shown["sr"] if played else blank,
        "SR, true code": shown["true"],
        "HR": shown["hr"],
    }
    columns = [_titled(name, _nearest(panel, factor)) for name, panel in panels.items()]
    columns.append(_kernels(shown["kernel"], shown["chosen"] if played else None, side * factor))
    row = np.concatenate([part for column in columns for part in (column, _fill(column.shape[0], GAP))], axis=1)
    lines = [title]
    for name, sign, score, true in zip(names, zeta, shown["scores"], shown["true_scores"], strict=True):
        gain = f"{score:.4f}, gain {sign * (score - true):+.4f}" if played else "no action yet"
        lines.append(f"{name}: true code {true:.4f}; chosen code {gain}")
    text = _fill(LINE * len(lines) + GAP, row.shape[1])
    for i, line in enumerate(lines):
        _write(text, line, LINE * (i + 1) - 4)
    return np.concatenate([row, text])


def _kernels(true: NDArray[np.float32], chosen: NDArray[np.float32] | None, height: int) -> Picture:
    """True above chosen, each from black at 0 to white at its peak: narrow and wide ones differ a hundredfold there."""
    factor = (height - CAPTION) // 2 // len(true)

    def grey(kernel: NDArray[np.float32] | None) -> Picture:
        if kernel is None:
            return np.full((len(true) * factor, len(true) * factor, 3), BLANK, dtype=np.uint8)
        levels = (np.clip(kernel / max(float(kernel.max()), 1e-12), 0, 1) * 255 + 0.5).astype(np.uint8)
        return _nearest(np.repeat(levels[..., None], 3, axis=2), factor)

    both = np.concatenate([_titled("true kernel", grey(true)), _titled("chosen", grey(chosen))])
    column = _fill(height + CAPTION, both.shape[1])
    column[: len(both)] = both
    return column


def _titled(title: str, panel: Picture) -> Picture:
    column = _fill(CAPTION + panel.shape[0], max(panel.shape[1], NARROWEST))
    column[CAPTION:, : panel.shape[1]] = panel
    _write(column, title, CAPTION - 8)
    return column


def _write(picture: Picture, text: str, baseline: int) -> None:
    import cv2

    cv2.putText(picture, text, (4, baseline), cv2.FONT_HERSHEY_SIMPLEX, 0.45, INK, 1, cv2.LINE_AA)


def _nearest(picture: Picture, factor: int) -> Picture:
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)


def _fill(height: int, width: int) -> Picture:
    return np.full((height, width, 3), BACKGROUND, dtype=np.uint8)


class Window:
    """One window on the screen, opened at the first picture. Without a display it says so once, and shows nothing."""

    def __init__(self) -> None:
        self._name = f"BlindSR {next(_numbers)}"  # OpenCV knows windows by their names
        self._state = "closed"  # "open", or "missing" where there is no display

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle as a window of its own, not yet open: closing the one must not close the other."""
        return Window, ()

    def show(self, picture: Picture) -> None:
        """Show a picture `(H, W, 3)` uint8, RGB."""
        if self._state == "missing":
            return
        import cv2

        try:
            # Asked before OpenCV is, whose window library ends the whole process where it finds no display.
            if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
                raise OSError("no display")
            cv2.imshow(self._name, np.ascontiguousarray(picture[..., ::-1]))
            cv2.waitKey(1)
            self._state = "open"
        except (OSError, cv2.error):
            self._state = "missing"
            _log.warning("render_mode='human' finds no display or an OpenCV without windows: use 'rgb_array' instead")

    def close(self) -> None:
        """Close it, if it is open."""
        if self._state == "open":
            import cv2

            with suppress(cv2.error):  # it may have been closed on the screen
                cv2.destroyWindow(self._name)
            self._state = "closed"
