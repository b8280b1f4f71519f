"""Metrics: what an agent is rewarded for. `get("niqe")(sr)` scores a batch of pictures.

| name | | |
| --- | --- | --- |
| `psnr`, `ssim` | higher is better | against the reference, on the luminance without a border of `scale` pixels |
| `niqe` | lower is better | distance to the statistics of undistorted photos, conditioned so that float32 suffices |
| `niqe:official` | lower is better | the same without the conditioning, in float64: MATLAB's value |
| `grid` | lower is better | the printed pattern that gives away a hacked no-reference metric |
| `pyiqa:NAME` | as pyiqa says | any metric of pyiqa; `pyiqa:NAME@FILE` with local weights |

A metric of your own is any callable with the attributes of `Metric`; `register` gives it a name.
"""

import difflib
from collections.abc import Callable

import torch

from .fidelity import Psnr, Ssim
from .grid import Grid
from .iqa import Iqa
from .metric import ATTRIBUTES, Metric
from .niqe import Niqe

__all__ = ["Factory", "Grid", "Iqa", "Metric", "Niqe", "Psnr", "Ssim", "get", "names", "register"]

Factory = Callable[[int], Metric]
"""Makes a metric for the scale of super-resolution that it is given."""

_PYIQA = "pyiqa:"

_factories: dict[str, Factory] = {
    "psnr": Psnr,
    "ssim": Ssim,
    "niqe": lambda scale: Niqe(),
    "niqe:official": lambda scale: Niqe("niqe:official", threshold=0.0, dtype=torch.float64),
    "grid": Grid,
}
_ours = frozenset(_factories)


def names() -> list[str]:
    """Names that `get` knows, besides `pyiqa:NAME`."""
    return sorted(_factories)


def register(name: str, factory: Factory) -> None:
    """Give a metric a name that `get`, environments and the command line know. A second time replaces the first.

    Args:
        name: The name.
        factory: Makes the metric, given the scale: `register("mine", lambda scale: Mine())`.

    Raises:
        ValueError: A name that is one of ours, is empty, or begins with "pyiqa:".
        TypeError: A factory that cannot be called.
    """
    if not name or name in _ours or name.startswith(_PYIQA):
        raise ValueError(f"the metric name {name!r} is taken; register yours under another")
    if not callable(factory):
        raise TypeError(f"register({name!r}, ...) needs a function of the scale that makes the metric, got {factory!r}")
    _factories[name] = factory


def get(metric: str | Metric, *, scale: int = 4) -> Metric:
    """The metric of this name, or the given callable itself once its attributes are checked.

    Args:
        metric: A name of `names()`, "pyiqa:NAME", "pyiqa:NAME@FILE", or a callable with the attributes of `Metric`.
        scale: Scale of super-resolution: the border of `psnr` and `ssim`, the period of `grid`.

    Raises:
        ValueError: An unknown name; the message lists the nearest ones. A scale below 1.
        TypeError: A callable without the attributes of a metric.
        PyiqaMissingError: "pyiqa:NAME" without pyiqa; an ImportError and a ValueError.

    >>> get("psnr", scale=3).border
    3
    """
    if scale < 1:
        raise ValueError(f"the scale of super-resolution must be at least 1, got {scale}")
    if not isinstance(metric, str):
        return _checked(metric)
    if metric.startswith(_PYIQA):
        name, _, weights = metric.removeprefix(_PYIQA).partition("@")
        return Iqa(name, weights or None)
    if metric not in _factories:
        near = difflib.get_close_matches(metric.lower(), names(), cutoff=0.4)
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"known: {', '.join(names())}, pyiqa:NAME"
        raise ValueError(f"unknown metric {metric!r}; {hint}")
    return _checked(_factories[metric](scale))


def _checked(metric: Metric) -> Metric:
    """`metric` itself if it is one."""
    if isinstance(metric, type) or not callable(metric):
        raise TypeError(f"a metric is a name or a callable object, got {metric!r}")
    missing = [attribute for attribute in ATTRIBUTES if not hasattr(metric, attribute)]
    if missing:
        raise TypeError(f"the metric {metric!r} lacks {', '.join(missing)}: set all of {', '.join(ATTRIBUTES)} on it")
    return metric
