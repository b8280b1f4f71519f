"""Pictures of the held-out scenes on which a policy gains most and least: a mean hides both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from blindsr_env.metrics import parts
from experiments.held_out import HeldOut, Scored
from experiments.pictures import gallery

SHOWN = 3
"""Best scenes, and worst."""


def extremes(path: Path, held_out: HeldOut, scored: Scored, title: str) -> None:
    """Draw the best and the worst scenes, one row each: LR, SR, SR with the true code, HR, and both kernels.

    Scenes without a reward are neither; where none has one, nothing is drawn.

    Args:
        path: PNG to write.
        held_out: the scenes.
        scored: what the policy made of them.
        title: of the whole picture.
    """
    order = np.argsort(-scored.reward)[: np.count_nonzero(~np.isnan(scored.reward))]  # best first; NaN comes last
    if not order.size:
        return
    rows = order if len(order) <= 2 * SHOWN else np.concatenate([order[:SHOWN], order[-SHOWN:]])
    gallery(path, [_row(held_out, int(row), scored) for row in rows], title)


def captions(held_out: HeldOut, scores: Any) -> str:
    """Write a picture's scores on one line; of a mixture the parts, if the report has them.

    Args:
        held_out: whose metrics they are of.
        scores: `(1 + report,)`, in the order of reward and report.
    """
    names = [metric.name for metric in (held_out.core.metric, *held_out.core.report)]
    own = parts(names[0])
    mixed = bool(own) and set(own) <= set(names[1:])
    each = list(zip(names, scores, strict=True))[mixed:]
    return ", ".join(_score(name, value) for name, value in each)


def _score(metric: str, value: float) -> str:
    if metric == "grid":
        return f"grid {1e3 * value:.2f}e-3"
    return f"{metric} {value:.2f}" + (" dB" if metric == "psnr" else "")


def _row(held_out: HeldOut, row: int, scored: Scored) -> dict[str, tuple[NDArray[np.uint8], str]]:
    core, scene = held_out.core, held_out.scene(row)
    shown = core.pictures(scene, torch.from_numpy(scored.action[row : row + 1]).to(core.device))
    one = {key: value[0] for key, value in shown.items()}
    high = max(float(one["kernel"].max()), float(one["chosen"].max()))
    low = min(0.0, float(one["chosen"].min()))
    kernels = {
        name: (np.stack([(one[key] - low) / (high - low) * 255] * 3, -1).round().astype(np.uint8), "")
        for name, key in (("true kernel", "kernel"), ("chosen kernel", "chosen"))
    }
    place = f"{held_out.photos[held_out.photo[row]]}, width {float(scene.width[0]):.2f}"
    return {
        "LR": (one["lr"], place),
        "SR": (one["sr"], captions(held_out, one["scores"])),
        "SR, true kernel": (one["true"], captions(held_out, one["true_scores"])),
        "HR": (one["hr"], f"reward {scored.reward[row]:+.2f}"),
        **kernels,
    }
