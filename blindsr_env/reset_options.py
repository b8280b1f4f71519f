"""The `options` of `reset`: what users fix in scenes, each as one value for all of them or as one for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from blindsr_env.kernels import KERNEL_SIZE
from generators.nearest import unknown

OPTIONS = ("image", "crop", "flip", "width", "kernel")
"""What can be fixed in a scene."""

MASK = "reset_mask"
"""The vector environment's own option: which rows are reset."""


def read(
    options: Mapping[str, Any] | None, scenes: int, names: Sequence[str], known: Sequence[str] = OPTIONS
) -> dict[str, NDArray[Any]]:
    """Read the options.

    Args:
        options: any of `OPTIONS`, each as one value for all scenes or as a sequence of `scenes` values.
        scenes: how many there are.
        names: the photos'.
        known: the names to list where one is unknown.

    Returns:
        By option, an array whose first axis is `scenes` long: `image` and `flip` `(scenes,)` int64, `crop`
        `(scenes, 2)` int64, `width` `(scenes,)` and `kernel` `(scenes, 21, 21)` float64.

    Raises:
        ValueError: unknown option or photo (the nearest names are listed), wrong shape, value out of range, or no
            dict of options.
    """
    if not isinstance(options, Mapping | None):
        raise ValueError(f"options must be a dict of {', '.join(known)}, got {options!r}")
    given = {key: value for key, value in (options or {}).items() if value is not None}
    for key in options or {}:
        if key not in OPTIONS:
            raise ValueError(unknown("reset option", key, known))
    fixed: dict[str, NDArray[Any]] = {}
    if "image" in given:
        fixed["image"] = _images(given["image"], scenes, names)
    if "crop" in given:
        fixed["crop"] = _each("crop", given["crop"], scenes, (2,), np.int64)
    if "flip" in given:
        fixed["flip"] = _flips(given["flip"], scenes)
    if "width" in given:
        fixed["width"] = _widths(given["width"], scenes)
    if "kernel" in given:
        fixed["kernel"] = _kernels(given["kernel"], scenes)
    if "width" in fixed and "kernel" in fixed:
        raise ValueError("options 'width' and 'kernel' both fix the blur: give one of them")
    return fixed


def read_mask(options: Mapping[str, Any] | None, num_envs: int, repeats: int) -> NDArray[np.bool_]:
    """Read which rows are to be reset.

    Args:
        options: its `reset_mask` is looked at alone, `(num_envs,)` bool; all rows where there is none.
        num_envs: number of rows.
        repeats: consecutive rows that share a scene.

    Returns:
        `(num_envs,)`, a copy.

    Raises:
        ValueError: another shape or dtype, no row, or a part of the rows that share a scene.
    """
    mask = options.get(MASK) if isinstance(options, Mapping) else None
    if mask is None:
        return np.ones(num_envs, dtype=np.bool_)
    mask = mask.cpu().numpy() if isinstance(mask, torch.Tensor) else np.asarray(mask)
    if mask.shape != (num_envs,) or mask.dtype != np.bool_:
        raise ValueError(f"reset_mask must be bool of shape ({num_envs},), got {mask.dtype} of shape {mask.shape}")
    if not mask.any():
        raise ValueError("reset_mask must have at least one True")
    by_group = mask.reshape(-1, repeats)
    if (by_group.any(axis=1) != by_group.all(axis=1)).any():
        raise ValueError(f"reset_mask must reset whole groups: each {repeats} consecutive rows share a scene")
    return mask.copy()


def checked_kernel(value: ArrayLike, what: str) -> NDArray[np.float64]:
    """Check one blur kernel: `(21, 21)`, finite, sums to 1 within 1e-3; give it divided by its sum.

    Args:
        value: an array, a tensor or nested lists.
        what: it is, for the message.

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    kernel = np.asarray(value, dtype=np.float64)
    if kernel.shape != (KERNEL_SIZE, KERNEL_SIZE):
        raise ValueError(f"{what} must have shape {(KERNEL_SIZE, KERNEL_SIZE)}, got {kernel.shape}: pad it with zeros")
    if not np.isfinite(kernel).all() or abs(kernel.sum() - 1) > 1e-3:
        raise ValueError(f"{what} must be finite and sum to 1, got a sum of {kernel.sum():.4g}: divide it by that")
    return kernel / kernel.sum()


def _images(value: Any, scenes: int, names: Sequence[str]) -> NDArray[np.int64]:
    """Read photos, given by names or by numbers."""

    def index(name: str) -> int:
        if name not in names:
            raise ValueError(unknown("photo", name, names))
        return names.index(name)

    if isinstance(value, str):
        value = index(value)
    elif isinstance(value, (list, tuple)) or getattr(getattr(value, "dtype", None), "kind", "") == "U":
        value = [index(item) if isinstance(item, str) else item for item in value]
    number = _each("image", value, scenes, (), np.int64)
    if (number < 0).any() or (number >= len(names)).any():
        raise ValueError(f"option 'image' must be a name or 0 to {len(names) - 1}, got {value!r}")
    return number


def _flips(value: Any, scenes: int) -> NDArray[np.int64]:
    flip = _each("flip", value, scenes, (), np.int64)
    if (flip < 0).any() or (flip > 7).any():
        raise ValueError(f"option 'flip' must be 0 to 7, got {value!r}")
    return flip


def _widths(value: Any, scenes: int) -> NDArray[np.float64]:
    width = _each("width", value, scenes, (), np.float64)
    if not (np.isfinite(width) & (width > 0)).all():
        raise ValueError(f"option 'width' must be above 0, in HR pixels, got {value!r}")
    return width


def _kernels(value: Any, scenes: int) -> NDArray[np.float64]:
    kernel = _each("kernel", value, scenes, (KERNEL_SIZE, KERNEL_SIZE), np.float64)
    return np.stack([checked_kernel(one, "option 'kernel'") for one in kernel])


def _each(option: str, value: Any, scenes: int, shape: tuple[int, ...], dtype: type[np.generic]) -> NDArray[Any]:
    """Make an array `(scenes, *shape)` of one value for all scenes or of one for each."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "iuf" or (np.issubdtype(dtype, np.integer) and array.dtype.kind == "f"):
            raise TypeError
    except (TypeError, ValueError):
        what = "whole numbers" if np.issubdtype(dtype, np.integer) else "numbers"
        raise ValueError(f"option {option!r} takes {what}, got {value!r}") from None
    if array.shape not in (shape, (scenes, *shape)):
        each = f" or {(scenes, *shape)}, one for each scene" if scenes > 1 else ""
        raise ValueError(f"option {option!r} must have shape {shape}{each}, got {array.shape}")
    return np.broadcast_to(array.astype(dtype), (scenes, *shape)).copy()
