"""What generators' scores lie between: bicubic upsampling of the LR photo, and the original photo."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from blindsr_env.core import BlindSRCore
from blindsr_env.degradation import quantize
from blindsr_env.scenes import Scenes

BICUBIC, ORIGINAL = "bicubic", "original"


@torch.no_grad()
def score_references(core: BlindSRCore, scenes: Scenes) -> dict[str, NDArray[np.float64]]:
    """Score the scenes of one whole photo without a generator.

    Args:
        core: its metrics score.
        scenes: of one photo, one for each kernel width, `(widths)`.

    Returns:
        `bicubic` and `original`, `(widths, metrics)` each; the original has NaN where a metric compares with it.
    """
    lr = scenes.lr.permute(0, 3, 1, 2).float() / 255
    # With `antialias`, which has no effect on upsampling, PyTorch's cubic is MATLAB's (a = -0.5).
    upsampled = quantize(F.interpolate(lr, scale_factor=core.scale, mode="bicubic", antialias=True))
    compared = torch.tensor([metric.needs_reference for metric in core.metrics], device=lr.device)
    original = core.scores(scenes.hr[:1].float() / 255, scenes.hr[:1]).masked_fill(compared, torch.nan)
    return {
        BICUBIC: core.scores(upsampled, scenes.hr).double().cpu().numpy(),
        ORIGINAL: original.expand(len(lr), -1).double().cpu().numpy(),
    }
