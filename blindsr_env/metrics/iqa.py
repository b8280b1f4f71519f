"""Any metric of pyiqa (https://github.com/chaofengc/IQA-PyTorch) as a metric here. pyiqa is imported only when asked for."""

import difflib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .metric import check

INSTALL = 'pip install "blindsr[pyiqa]"'


class Iqa:
    """One metric of pyiqa: its direction and whether it needs a reference are those of pyiqa's own table.

    Scores only, no gradient; the model is loaded here, and moves to the device of the pictures it is first given.
    """

    min_size = 1  # pyiqa states none: what is too small for one of its metrics is that metric's own error

    def __init__(self, name: str, weights: str | Path | None = None) -> None:
        """Load pyiqa's metric `name`.

        Args:
            name: As in `pyiqa.list_models()`.
            weights: A local file of the metric's weights, for machines without a network; else pyiqa takes its cache
                or downloads.

        Raises:
            ModuleNotFoundError: pyiqa, or a package that this metric of it needs, is not installed.
            ValueError: pyiqa has no metric of this name, or it does not score single pictures or take weights.
            FileNotFoundError: `weights` is not a file.
            OSError: The weights are neither in pyiqa's cache nor to be downloaded.
        """
        table = _table()
        if name not in table:
            near = difflib.get_close_matches(name.lower(), table, cutoff=0.4)
            hint = f"did you mean {' or '.join(f'pyiqa:{n}' for n in near)}?" if near else "see pyiqa.list_models()"
            raise ValueError(f"pyiqa has no metric {name!r}; {hint}")
        entry = table[name]
        mode = entry.get("metric_mode")
        if mode not in ("FR", "NR") or name in ("fid", "fid_dinov2", "fid_mmd", "fid_clip", "inception_score"):
            raise ValueError(f"pyiqa:{name} scores sets of pictures, not one picture, and cannot be a reward")
        if weights is not None and not Path(weights).is_file():
            raise FileNotFoundError(f"pyiqa:{name}: no weights file {str(weights)!r}")
        self.name = f"pyiqa:{name}"
        self.lower_is_better = bool(entry.get("lower_better", False))
        self.needs_reference = mode == "FR"
        self.model = _load(name, weights)

    @torch.no_grad()
    def __call__(self, sr: Tensor, hr: Tensor | None = None) -> Tensor:
        """Score `sr` (N, 3, H, W) in [0, 1], against `hr` if the metric needs it: (N,) float32."""
        check(self, sr, hr)
        self.model.to(sr.device)
        scores = self.model(sr, hr) if self.needs_reference else self.model(sr)
        return scores.reshape(-1).float()
