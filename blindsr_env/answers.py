"""What the vector environment hands out: arrays or tensors, and `info`s with a mask for each of their values."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blindsr_env.core import BlindSRCore
from generators.nearest import unknown

OUTPUTS = ("numpy", "torch")


class Answers:
    """Brings tensors of the device into the form that was asked for. All that it gives is new memory or the caller's.

    Args:
        num_envs: number of rows.
        output: `"numpy"` (arrays) or `"torch"` (tensors on the device).
        core: whose tensors they are.

    Raises:
        ValueError: another output; the nearest are listed.
    """

    def __init__(self, num_envs: int, output: str, core: BlindSRCore) -> None:
        if output not in OUTPUTS:
            raise ValueError(unknown("output", output, OUTPUTS))
        self.num_envs, self.output, self._core = num_envs, output, core

    def values(self, x: Tensor) -> Any:
        """Give a tensor as it is, or as an array."""
        return x if self.output == "torch" else x.cpu().numpy()

    def mask(self, rows: NDArray[np.bool_]) -> Any:
        """Give a mask of rows, `(num_envs,)`."""
        if self.output == "numpy":
            return rows.copy()
        if rows.all() or not rows.any():
            return torch.full((self.num_envs,), bool(rows[0]), device=self._core.device)
        return self._core.to_device(rows.copy())

    def infos(self, *parts: tuple[dict[str, Tensor], NDArray[np.bool_]]) -> dict[str, Any]:
        """Spread values over the rows that they are of, zeros elsewhere, and add the masks, as Gymnasium has them.

        Args:
            parts: values by name, `(M, ...)` each, and the M rows that they are of, `(num_envs,)`.
        """
        full: dict[str, Tensor] = {}
        masks: dict[str, NDArray[np.bool_]] = {}
        for values, rows in parts:
            for key, value in values.items():
                masks[key] = masks.get(key, np.zeros_like(rows)) | rows
                if not rows.all():
                    base = full.get(key)
                    base = value.new_zeros((self.num_envs, *value.shape[1:])) if base is None else base
                    value = base.index_copy(0, self.index(rows), value)
                full[key] = value
        infos: dict[str, Any] = {}
        for key, value in full.items():
            infos[key], infos["_" + key] = self.values(value), self.mask(masks[key])
        return infos

    def index(self, rows: NDArray[np.bool_]) -> Tensor:
        """Give the numbers of the rows in a mask, int64 on the device."""
        return self._core.to_device(np.flatnonzero(rows))
