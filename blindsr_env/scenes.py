"""Scenes: which photo, which crop, which kernel (paper, Eq. 1), drawn from streams or fixed by options."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from numbers import Real
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from blindsr_env import reset_options
from blindsr_env.kernels import KERNEL_SIZE, anisotropic
from blindsr_env.patch import covered, fits, holds, oriented
from blindsr_env.reset_options import OPTIONS, checked_kernel
from generators.nearest import unknown

KINDS = ("isotropic", "anisotropic", "kernel")
"""Degradations by name."""

HELD = {"crop", "flip"}
"""Options that not every photo can follow."""


@dataclass(frozen=True, eq=False)
class Degradation:
    """How HR becomes LR: LR = round8(bicubic_down_s(HR * k) + n) (paper, Eq. 1).

    It does not change: of arrays and lists it keeps copies, of the kernel one divided by its sum.

    Attributes:
        kind: `"isotropic"`: Gaussian kernels of random width; `"anisotropic"`: of two random widths and a random angle;
            `"kernel"`: one given kernel.
        width_range: lowest and highest width in HR pixels, drawn uniformly; None is the generator's own range.
        widths: a list of widths instead, each as likely as the others, for example `kernels.GAUSSIAN8`.
        kernel: `(21, 21)`, sums to 1; only with `kind="kernel"`.
        noise: standard deviation of additive white Gaussian noise, in grey levels of 255.
    """

    kind: str = "isotropic"
    width_range: tuple[float, float] | None = None
    widths: Sequence[float] | None = None
    kernel: ArrayLike | None = None
    noise: float = 0.0

    def __post_init__(self) -> None:
        """Refuse settings that contradict each other or that no kernel has; keep copies of arrays and lists."""
        if self.kind not in KINDS:
            raise ValueError(unknown("degradation", self.kind, KINDS))
        if (self.kind == "kernel") != (self.kernel is not None):
            raise ValueError("degradation kind 'kernel' and the field `kernel` belong together: give both or neither")
        if (self.kind == "kernel") + (self.width_range is not None) + (self.widths is not None) > 1:
            raise ValueError("degradation takes one of width_range, widths and kernel, got several: drop the others")
        if self.kernel is not None:
            kernel = checked_kernel(self.kernel, "degradation's kernel")
            kernel.flags.writeable = False
            object.__setattr__(self, "kernel", kernel)
        if self.widths is not None:
            widths = _numbers(self.widths)
            if widths.ndim != 1 or widths.size == 0 or not (np.isfinite(widths) & (widths > 0)).all():
                raise ValueError(f"degradation's widths must be a list of numbers above 0, got {self.widths!r}")
            object.__setattr__(self, "widths", tuple(widths.tolist()))
        if self.width_range is not None:
            bounds = _numbers(self.width_range)
            if bounds.shape != (2,) or not 0 < bounds[0] <= bounds[1] < np.inf:
                raise ValueError(f"degradation's width_range must be 0 < low <= high, got {self.width_range!r}")
            object.__setattr__(self, "width_range", tuple(self.width_range))
        if not isinstance(self.noise, Real) or isinstance(self.noise, bool) or not 0 <= self.noise < np.inf:
            raise ValueError(f"degradation's noise must be 0 or more grey levels, got {self.noise!r}")

    @classmethod
    def parse(cls, value: str | Mapping[str, Any] | Degradation | None) -> Degradation:
        """Read the environment's `degradation` argument: a kind, a dict of this class's fields, or an instance.

        Raises:
            ValueError: unknown kind or field (the nearest names are listed), or a value out of range.
            TypeError: anything else.
        """
        if value is None or isinstance(value, cls):
            return value or cls()
        if isinstance(value, str):
            return cls(kind=value)
        if isinstance(value, Mapping):
            known = [field.name for field in fields(cls)]
            for key in value:
                if key not in known:
                    raise ValueError(unknown("degradation field", key, known))
            return cls(**value)
        kernel = ": give a kernel as {'kind': 'kernel', 'kernel': ...}" if hasattr(value, "shape") else ""
        raise TypeError(f"degradation must be a name, a dict or a Degradation, got {type(value).__name__}{kernel}")


@dataclass(frozen=True, eq=False)
class Scenes:
    """A batch of scenes on the device, one a row.

    Attributes:
        hr: photos' crops, `(N, 3, s h, s w)` uint8.
        lr: what the agent sees, `(N, h, w, 3)` uint8.
        place: image, top, left and flip, `(N, 4)` int64.
        width: kernel width in HR pixels, `(N,)` float32.
        axes: widths along the kernel's two principal axes and the angle of the first, `(N, 3)` float32.
        kernel: `(N, 21, 21)` float32.
        code: the true kernel as the generator's action, `(N, 15)` float32.
        true_action: the same in the environment's action space, `(N, d)` float32.
        true_scores: the true code's picture under the metric and each of the report's, `(N, 1 + R)` float32.
    """

    hr: Tensor
    lr: Tensor
    place: Tensor
    width: Tensor
    axes: Tensor
    kernel: Tensor
    code: Tensor
    true_action: Tensor
    true_scores: Tensor

    def _map(self, change: Callable[[str, Tensor], Tensor]) -> Scenes:
        return Scenes(**{field.name: change(field.name, getattr(self, field.name)) for field in fields(self)})

    def repeat(self, repeats: int) -> Scenes:
        """Repeat each row `repeats` times in a row."""
        return self if repeats == 1 else self._map(lambda _, x: x.repeat_interleave(repeats, dim=0))

    def take(self, rows: Tensor) -> Scenes:
        """Pick rows by an int64 index."""
        return self._map(lambda _, x: x[rows])

    def put(self, rows: Tensor, new: Scenes) -> Scenes:
        """Return scenes with `rows` replaced; what was handed out before stays as it is."""
        return self._map(lambda name, x: x.index_copy(0, rows, getattr(new, name)))


@dataclass(frozen=True, eq=False)
class Draw:
    """G scenes as they were drawn, on the host.

    Attributes:
        image: index of the photo, `(G,)` int64.
        top: first row of the HR crop, `(G,)` int64.
        left: first column of the HR crop, `(G,)` int64.
        flip: 0 to 7, `(G,)` int64; bit 0 horizontal, bit 1 vertical, bit 2 transpose.
        width: Gaussian width in HR pixels, `(G,)` float64; of a given kernel, the one with its second moments.
        axes: widths along the kernel's two principal axes, and the angle from the picture's x axis to the first,
            radians, counter-clockwise, `(G, 3)` float64; twice `width` and 0 where the kernel is isotropic or given.
        kernel: `(G, 21, 21)` float64, or None where all kernels are isotropic Gaussians of `width`.
        noise: `(G, 3, h, w)` float32 in units of the picture's [0, 1], or None.
    """

    image: NDArray[np.int64]
    top: NDArray[np.int64]
    left: NDArray[np.int64]
    flip: NDArray[np.int64]
    width: NDArray[np.float64]
    axes: NDArray[np.float64]
    kernel: NDArray[np.float64] | None
    noise: NDArray[np.float32] | None


class SceneSampler:
    """Draws scenes from a pool of photos.

    A scene takes five uniform numbers from its stream, in the order image, flip, top, left, width (two more, width and
    angle, where kernels are anisotropic; then its noise, if there is any), whatever the options fix: so fixing one
    thing leaves the rest of the scene, and the scenes after it, as they were. What is not fixed is drawn among what
    fits: a crop that is no square covers its photo upright or turned by a right angle (bit 2 of flip), and is the one
    where the photo does not hold the other; where the photo does not hold a fixed crop or flip, another one is drawn.

    Args:
        names: the photos' names.
        heights: the photos' heights.
        widths: the photos' widths.
        crop: height and width of the HR crop; each photo must hold it, upright or turned by a right angle.
        patch: height and width of the LR patch.
        degradation: see `Degradation`.
        width_range: the widths that the generator knows; drawn from where the degradation names none. Others bring a
            UserWarning.
    """

    def __init__(
        self,
        names: Sequence[str],
        heights: NDArray[np.int64],
        widths: NDArray[np.int64],
        *,
        crop: tuple[int, int],
        patch: tuple[int, int],
        degradation: Degradation,
        width_range: tuple[float, float],
    ) -> None:
        self.names, self.heights, self.widths = list(names), heights, widths
        self.crop, self.patch, self.degradation = crop, patch, degradation
        self.width_range = width_range if degradation.width_range is None else degradation.width_range
        self._known = width_range
        self._kernel = None if degradation.kernel is None else np.asarray(degradation.kernel)
        if self._kernel is not None:
            self._warn_of(_moment_width(self._kernel[None]))
        else:
            self._warn_of(self.width_range if degradation.widths is None else degradation.widths)

    @cached_property
    def description(self) -> dict[str, Any]:
        """Say what the scenes of a stream depend on: plain values, which JSON keeps.

        Photos and a given kernel are told by digests, photos by their names and sizes.
        """
        drawn, photos = self.degradation, [self.names, self.heights.tolist(), self.widths.tolist()]
        degradation: dict[str, Any] = {"kind": drawn.kind, "noise": float(drawn.noise)}
        if self._kernel is not None:
            degradation["kernel"] = _digest(self._kernel.tolist())
        elif drawn.widths is not None:
            degradation["widths"] = list(drawn.widths)
        else:
            degradation["width_range"] = [float(width) for width in self.width_range]
        return {
            "images": f"{len(self.names)} photos, {self.names[0]} to {self.names[-1]}, digest {_digest(photos)}",
            "patch_size": list(self.patch),
            "degradation": degradation,
        }

    def draw(self, streams: Sequence[np.random.Generator], fixed: Mapping[str, NDArray[Any]] | None = None) -> Draw:
        """Draw one scene from each stream.

        Args:
            streams: G generators; each is advanced.
            fixed: what `fix` gave, its arrays cut to the same G scenes.

        Raises:
            ValueError: no crop can be what is fixed.
        """
        fixed = fixed or {}
        count = 7 if self.degradation.kind == "anisotropic" else 5
        uniform = np.stack([stream.random(count) for stream in streams])  # (G, count)
        image, corner, flip = self._place(uniform[:, :4], fixed)
        width, axes, kernel = self._blur(uniform[:, 4:], fixed)
        noise = None
        if self.degradation.noise:
            shape = (3, *self.patch)
            noise = np.stack([stream.standard_normal(shape, dtype=np.float32) for stream in streams])
            noise *= np.float32(self.degradation.noise / 255)
        return Draw(image, corner[:, 0], corner[:, 1], flip, width, axes, kernel, noise)

    def _place(
        self, uniform: NDArray[np.float64], fixed: Mapping[str, NDArray[Any]]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Image `(G,)`, corner `(G, 2)` and flip `(G,)` of numbers for image, flip, top and left, `(G, 4)`."""
        flip = fixed.get("flip", (uniform[:, 1] * 8).astype(np.int64))
        corner = fixed.get("crop", np.zeros((len(flip), 2), dtype=np.int64))
        if "image" in fixed:
            image = fixed["image"]
        elif HELD & set(fixed):
            image = self._among_those_that_hold(uniform[:, 0], corner, fixed.get("flip"))
        else:
            image = (uniform[:, 0] * len(self.names)).astype(np.int64)
        size = np.stack([self.heights[image], self.widths[image]], axis=1)  # (G, 2)
        if "flip" not in fixed:
            flip = oriented(self.crop, flip, *(size - corner).T)
        room = size - np.stack(covered(self.crop, flip), axis=1)
        if "crop" not in fixed:
            corner = (uniform[:, 2:4] * (room + 1)).astype(np.int64)
        for g in np.flatnonzero((corner < 0).any(axis=1) | (corner > room).any(axis=1))[:1]:
            name, rows_columns = self.names[image[g]], "{}x{}".format(*covered(self.crop, int(flip[g])))
            if (room[g] < 0).any() and "flip" in fixed:
                raise ValueError(f"option 'flip' {flip[g]} needs {rows_columns} pixels, and photo {name!r} lacks them")
            raise ValueError(
                f"option 'crop' {tuple(corner[g].tolist())} leaves photo {name!r}: "
                f"crops of {rows_columns} start at (0, 0) to {tuple(room[g].tolist())} there"
            )
        return image, corner, flip

    def _among_those_that_hold(
        self, uniform: NDArray[np.float64], corner: NDArray[np.int64], flip: NDArray[np.int64] | None
    ) -> NDArray[np.int64]:
        """Draw photos `(G,)`; where one does not hold a crop from a corner `(G, 2)` on, draw among those that do.

        With a flip, or with any. A photo that holds it stays the one that is drawn where nothing is fixed.
        """
        room = self.heights - corner[:, :1], self.widths - corner[:, 1:]  # (G, P) each
        held = fits(self.crop, *room) if flip is None else holds(self.crop, flip[:, None], *room)
        held &= (corner >= 0).all(axis=1, keepdims=True)
        for g in np.flatnonzero(~held.any(axis=1))[:1]:
            what = "" if flip is None else f" with option 'flip' {flip[g]}"
            raise ValueError(
                f"no photo holds a crop of {self.crop[0]}x{self.crop[1]} from {tuple(corner[g].tolist())} on{what}"
            )
        scaled = uniform * len(self.names)
        every, rows = scaled.astype(np.int64), np.arange(len(uniform))
        rank = ((scaled - every) * held.sum(axis=1)).astype(np.int64)  # of what does not depend on the photo drawn
        return np.where(held[rows, every], every, np.argsort(~held, axis=1, kind="stable")[rows, rank])

    def _blur(
        self, uniform: NDArray[np.float64], fixed: Mapping[str, NDArray[Any]]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64] | None]:
        """Widths `(G,)`, axes `(G, 3)` and, where any kernel is no isotropic Gaussian, all kernels `(G, 21, 21)`."""
        given = fixed.get("kernel")
        if "width" in fixed or (given is None and self.degradation.kind == "isotropic"):
            if "width" in fixed:
                self._warn_of(fixed["width"])
            width = _single(fixed["width"] if "width" in fixed else self._width(uniform[:, 0]))
            return width, _round(width), None
        if given is None and self.degradation.kind == "anisotropic":
            axes = np.stack([self._width(uniform[:, 0]), self._width(uniform[:, 1]), uniform[:, 2] * np.pi], axis=1)
            axes = _single(axes)
            width_x, width_y, angle = torch.from_numpy(axes).unbind(1)
            kernel = anisotropic(width_x, width_y, angle).numpy()
            return _moment_width(kernel), axes, kernel
        if given is not None:
            self._warn_of(_moment_width(given))
        else:
            assert self._kernel is not None
            given = np.stack([self._kernel] * len(uniform))
        return _moment_width(given), _round(_moment_width(given)), given

    def _width(self, uniform: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.degradation.widths is not None:
            widths = np.asarray(self.degradation.widths, dtype=np.float64)
            return widths[(uniform * len(widths)).astype(np.int64)]
        low, high = self.width_range
        return low + uniform * (high - low)

    def fix(
        self, options: Mapping[str, Any] | None, scenes: int, known: Sequence[str] = OPTIONS
    ) -> dict[str, NDArray[Any]]:
        """Read what `options` of reset fix, for the pool's photos; see `reset_options.read`."""
        return reset_options.read(options, scenes, self.names, known)

    def _warn_of(self, widths: ArrayLike) -> None:
        """Warn where a reward of 0 is no longer what a good code earns: of widths that the generator does not know."""
        (low, high), lowest, highest = self._known, float(np.min(widths)), float(np.max(widths))
        if lowest < low or highest > high:
            warnings.warn(
                f"kernel widths {lowest:g} to {highest:g} go beyond the generator's, {low:g} to {high:g}: it renders "
                "the true codes of others badly, and rewards over them are high for nothing",
                stacklevel=2,
            )


def _digest(values: list[Any]) -> str:
    """Give 16 hexadecimal digits that stand for plain values."""
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]


def _numbers(values: Any) -> NDArray[np.float64]:
    """Give numbers as an array, an empty one where they are none."""
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        return np.empty(0)


def _single(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Round to float32, as `info` tells them: from what it tells, the same scene can be made again."""
    return numbers.astype(np.float32).astype(np.float64)


def _round(width: NDArray[np.float64]) -> NDArray[np.float64]:
    """Axes `(G, 3)` of kernels that are as wide in all directions."""
    return np.stack([width, width, np.zeros_like(width)], axis=1)


def _moment_width(kernel: NDArray[np.float64]) -> NDArray[np.float64]:
    """Width of the isotropic Gaussian with the second moments of kernels `(G, 21, 21)`: `(G,)`."""
    offset = np.arange(KERNEL_SIZE) - KERNEL_SIZE // 2
    rows, columns = kernel.sum(axis=2), kernel.sum(axis=1)  # (G, 21) each
    variance = sum((p @ offset**2) - (p @ offset) ** 2 for p in (rows, columns))
    return np.sqrt(np.maximum(variance, 0) / 2)
