"""Metrics: what an agent is rewarded for. `get("niqe")(sr)` scores a batch of pictures.

| name | | |
| --- | --- | --- |
| `psnr`, `ssim` | higher is better | against the reference, on the luminance without a border of `scale` pixels |
| `niqe` | lower is better | distance to the statistics of undistorted photos, conditioned so that float32 suffices |
| `niqe:official` | lower is better | the same without the conditioning, in float64: MATLAB's value of Y |
| `grid` | lower is better | the printed pattern that gives away a hacked no-reference metric |
| `lpips@FOLDER` | lower is better | distance to the reference as people see it; FOLDER holds the weights, see `Lpips` |
| `pyiqa:NAME` | as pyiqa says | any metric of pyiqa; `pyiqa:NAME@FILE` with local weights |
| `niqe+0.1*psnr` | the first one's | a weighted sum in which better is better, see `blindsr_env.metrics.mixture` |

A metric of your own is any callable with the attributes of `Metric`; `register` gives it a name.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import torch

from blindsr_env.metrics import lpips
from blindsr_env.metrics.fidelity import Psnr, Ssim
from blindsr_env.metrics.grid import Grid
from blindsr_env.metrics.iqa import Iqa
from blindsr_env.metrics.lpips import FORM, Lpips
from blindsr_env.metrics.metric import ATTRIBUTES, Metric, differentiable
from blindsr_env.metrics.mixture import HINT, Mixture, Recipe, terms
from blindsr_env.metrics.niqe import Niqe
from generators import stamps
from generators.nearest import unknown

__all__ = [
    "Factory",
    "Grid",
    "Iqa",
    "Lpips",
    "Metric",
    "Niqe",
    "Psnr",
    "Ssim",
    "differentiable",
    "get",
    "names",
    "parts",
    "register",
]

Factory = Callable[[int], Metric]
"""Makes a metric for the scale of super-resolution that it is given."""

_PYIQA = "pyiqa:"
_LPIPS = "lpips@"
PREFIXES = (_PYIQA, _LPIPS)
"""How names begin that end in anything: the name of a metric of pyiqa's, or a path."""

_factories: dict[str, Factory] = {
    "psnr": Psnr,
    "ssim": Ssim,
    "niqe": lambda scale: Niqe(),
    "niqe:official": lambda scale: Niqe("niqe:official", threshold=0.0, dtype=torch.float64),
    "grid": Grid,
}
_ours = frozenset(_factories)


def names() -> list[str]:
    """List the names that `get` knows, besides `lpips@FOLDER` and `pyiqa:NAME`."""
    return sorted(_factories)


def register(name: str, factory: Factory) -> None:
    """Give a metric a name that `get`, environments and the command line know. A second time replaces the first.

    Args:
        name: not one of ours.
        factory: makes the metric, given the scale: `register("mine", lambda scale: Mine())`.

    Raises:
        ValueError: the name is one of ours, is empty, or begins with `"pyiqa:"` or `"lpips@"`.
        TypeError: the factory cannot be called.
    """
    if not name or name in _ours or name.startswith(PREFIXES):
        raise ValueError(f"the metric name {name!r} is taken; register yours under another")
    if not callable(factory):
        raise TypeError(f"register({name!r}, ...) needs a function of the scale that makes the metric, got {factory!r}")
    _factories[name] = factory


def get(metric: str | Metric | Recipe, *, scale: int = 4, device: torch.device | None = None) -> Metric:
    """Make the metric of this name, or return the given callable itself once its attributes are checked.

    Args:
        metric: a name of `names()`, `"lpips@FOLDER"`, `"pyiqa:NAME"`, `"pyiqa:NAME@FILE"`, or a callable with the
            attributes of `Metric`; or a mixture: `"niqe+0.1*psnr"`, `["niqe", "0.1*psnr"]` or
            `{"niqe": 1, "psnr": 0.1}`.
        scale: of super-resolution: the border of `psnr` and `ssim`, the period of `grid`.
        device: of the pictures, as they tell it. Where it is given, a network of `lpips@` and `pyiqa:` that is in use
            there already is shared with its users, and must not be changed or moved.

    Raises:
        ValueError: unknown name (the nearest ones are listed), a mixture that is none, a scale below 1, or LPIPS
            without its weights.
        TypeError: the callable lacks attributes of a metric.
        PyiqaMissingError: `"pyiqa:NAME"` without pyiqa; an ImportError and a ValueError.

    Example:
        >>> get("psnr", scale=3).border
        3
    """
    if scale < 1:
        raise ValueError(f"the scale of super-resolution must be at least 1, got {scale}")
    if not isinstance(metric, str | Mapping | Sequence):
        return _checked(metric)
    mixed = terms(metric, _factories, PREFIXES)
    try:
        if isinstance(metric, str) and (metric in _factories or mixed == [(1.0, metric)]):
            return _named(metric, scale, device)
        return Mixture([(weight, _named(name, scale, device)) for weight, name in mixed])
    except UnknownMetricError as error:
        meant = not isinstance(metric, str) or set("+-*") & set(metric)  # a mixture, however it is written
        raise UnknownMetricError(f"{error} ({HINT})" if meant else str(error)) from None


def parts(metric: str | Metric | Recipe) -> list[str]:
    """List the names of a mixture's parts; none for a single metric, or for a mixture that was made already.

    Example:
        >>> parts("niqe+0.1*psnr"), parts("niqe")
        (['niqe', 'psnr'], [])
    """
    if not isinstance(metric, str | Mapping | Sequence):
        return []
    found = [name for _, name in terms(metric, _factories, PREFIXES)]
    return found if len(found) > 1 else []


class UnknownMetricError(ValueError):
    """No metric has this name."""


def _named(metric: str, scale: int, device: torch.device | None) -> Metric:
    """Make the metric of one name, or give the one that is shared."""
    if metric.startswith(_PYIQA):
        name, _, weights = metric.removeprefix(_PYIQA).partition("@")
        weights = os.path.expanduser(weights)  # which no shell does behind an @
        return _shared(lambda: Iqa(name, weights or None), metric, [Path(weights)] if weights else [], device)
    if metric.startswith(_LPIPS):
        folder = os.path.expanduser(metric.removeprefix(_LPIPS))
        return _shared(lambda: Lpips(folder), _LPIPS, lpips.places(folder), device)
    if metric not in _factories:
        raise UnknownMetricError(unknown("metric", metric, [*names(), FORM, f"{_PYIQA}NAME"]))
    return _checked(_factories[metric](scale))


_networks: WeakValueDictionary[tuple[Any, ...], Metric] = WeakValueDictionary()


def _shared(make: Callable[[], Metric], name: str, files: Sequence[Path], device: torch.device | None) -> Metric:
    """Give the network of these files that is in use on a device, or make one; always where no device is told."""
    if device is None:
        return make()
    key = (name, stamps.of(file.resolve() for file in files), device)  # what was written anew is another network
    shared = _networks.get(key)
    if shared is None:
        shared = _networks[key] = make()
    return shared


def _checked(metric: Metric) -> Metric:
    """Return `metric` itself if it is one."""
    if isinstance(metric, type) or not callable(metric):
        raise TypeError(f"a metric is a name or a callable object, got {metric!r}")
    missing = [attribute for attribute in ATTRIBUTES if not hasattr(metric, attribute)]
    if missing:
        raise TypeError(f"the metric {metric!r} lacks {', '.join(missing)}: set all of {', '.join(ATTRIBUTES)} on it")
    return metric
