"""Any metric of pyiqa (https://github.com/chaofengc/IQA-PyTorch), which is imported only when one is asked for."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from blindsr_env.metrics.metric import check
from generators.nearest import unknown

INSTALL = 'pip install -e ".[pyiqa]" in a clone of blindsr'
# Kinds of pyiqa's networks that compare whole sets of pictures: their scores are nobody's reward.
OF_SETS = ("FID", "InceptionScore")


class PyiqaMissingError(ImportError, ValueError):
    """pyiqa, or a package that the metric needs, is not installed: the user asked for what is not there."""


class Iqa:
    """One metric of pyiqa. Its direction and whether it needs a reference are those of pyiqa's own table.

    Scores only, no gradient. The network moves to the device of the pictures that it is given. What is too small for
    it is its own error: pyiqa's table states no minimum.

    Args:
        name: as in `pyiqa.list_models()`.
        weights: a local file of the metric's weights, for machines without a network, whose stem joins the metric's
            name; without it pyiqa takes its cache or downloads. pyiqa unpickles it, so it can run code: use only files
            that you trust.

    Raises:
        PyiqaMissingError: pyiqa, or a package that this metric needs, is not installed.
        ValueError: pyiqa has no such metric, it scores sets of pictures, or it cannot use these weights.
        FileNotFoundError: `weights` is not a file.
        OSError: the weights are neither in pyiqa's cache nor to be downloaded.
    """

    min_size = 1

    def __init__(self, name: str, weights: str | Path | None = None) -> None:
        table = _import("pyiqa.default_model_configs").DEFAULT_CONFIGS
        if name not in table:
            raise ValueError(unknown("metric of pyiqa", name, table) + " pyiqa.list_models() has them all")
        entry = table[name]
        if entry["metric_opts"]["type"] in OF_SETS:
            raise ValueError(f"pyiqa:{name} scores sets of pictures; a reward needs a score for each picture")
        if weights is not None and not Path(weights).is_file():
            raise FileNotFoundError(f"pyiqa:{name}: no weights file {str(weights)!r}")
        self.name = f"pyiqa:{name}" if weights is None else f"pyiqa:{name}@{Path(weights).stem}"
        self.lower_is_better = bool(entry.get("lower_better", False))
        self.needs_reference = entry["metric_mode"] == "FR"
        self.network = _load(name, weights)
        self._device = torch.device("cpu")

    @torch.no_grad()
    def __call__(self, sr: Tensor, hr: Tensor | None = None) -> Tensor:
        """Score `sr`, `(N, 3, H, W)` in [0, 1], against `hr` if the metric needs it: `(N,)` float32."""
        check(self, sr, hr)
        if self._device != sr.device:
            self.network.to(sr.device)
            self._device = sr.device
        scores: Tensor = self.network(sr, hr) if self.needs_reference else self.network(sr)
        return scores.reshape(-1).float()


def _import(module: str) -> Any:
    """Import a module of pyiqa, or say in one line why not."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise _missing(error) from error
    except Exception as error:  # a torchvision built for another torch, for one, raises RuntimeError
        raise PyiqaMissingError(f"pyiqa cannot be imported ({_line(error)}); {INSTALL}") from error


def _load(name: str, weights: str | Path | None) -> torch.nn.Module:
    """Load the network, in evaluation mode, on the CPU."""
    options = {} if weights is None else {"pretrained_model_path": str(weights)}
    create = _import("pyiqa").create_metric
    try:
        # Its check of the range would wait for the device at every call.
        network: torch.nn.Module = create(name, device="cpu", check_input_range=False, **options)
        return network
    except ModuleNotFoundError as error:
        raise _missing(error) from error
    except Exception as error:
        if weights is not None:
            raise ValueError(f"pyiqa:{name} cannot use the weights {str(weights)!r} ({_line(error)})") from error
        if isinstance(error, OSError):
            raise OSError(
                f"pyiqa:{name}: its weights are not in pyiqa's cache and cannot be downloaded ({_line(error)}); "
                f"give a local file as pyiqa:{name}@FILE"
            ) from error
        raise


def _missing(error: ModuleNotFoundError) -> PyiqaMissingError:
    """Say whether pyiqa itself is missing or one of its packages."""
    package = (error.name or "").split(".")[0]
    what = "pyiqa is not installed" if package == "pyiqa" else f"pyiqa needs the package {package!r}"
    return PyiqaMissingError(f"{what}; {INSTALL}")


def _line(error: Exception) -> str:
    """Cut an error down to its kind and first line."""
    return f"{type(error).__name__}: {error}".splitlines()[0]
