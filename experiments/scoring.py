"""Scores of whole photos: by policy and metric, with their means, intervals and gains over the true code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from agents.policies import Policy
from blindsr_env.core import BlindSRCore
from blindsr_env.images import Photo
from blindsr_env.scenes import Scenes
from experiments.held_out import whole_photo
from experiments.intervals import NOTHING, bootstrap, over_widths
from experiments.references import BICUBIC, ORIGINAL, score_references
from generators import Architecture


def scored(
    core: BlindSRCore,
    photos: Sequence[Photo],
    widths: Sequence[float],
    actors: Mapping[str, Policy],
    *,
    seed: int,
    title: str,
    references: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Score policies on whole photos.

    Args:
        core: generator, metrics and action space.
        photos: HR.
        widths: isotropic kernels, a scene of each photo with each.
        actors: policies by name, beside the true code.
        seed: of the intervals.
        title: what the progress bar says.
        references: of these photos, as they came back for another generator of the same scale; None to score them.

    Returns:
        The figures of a sheet (see `experiments.sheets`): `architecture`, `photos`, `widths`, `policies`, `references`.

    Raises:
        ValueError: a metric has no finite score for any picture of the true code.
        ImageError: a photo is too small for a metric.
    """
    names = ["true-code", *actors]
    shape = (len(photos), len(widths), len(core.metrics))
    scores = {name: np.full(shape, np.nan) for name in names}
    apart = {name: np.full(shape, np.nan) for name in (BICUBIC, ORIGINAL)}
    with tqdm(photos, unit="photo", desc=f"scoring {title}", leave=False) as bar:
        for row, photo in enumerate(bar):
            bar.set_postfix_str(photo.name)
            scenes = whole_photo(core, photo, widths)
            for name, values in score_policies(core, scenes, actors).items():
                scores[name][row] = values
            if references is None:
                for name, values in score_references(core, scenes).items():
                    apart[name][row] = values
    entries: dict[str, Any] = {name: {} for name in names}
    for m, (metric, zeta) in enumerate(zeta_of(core).items()):
        true = scores["true-code"][:, :, m]  # (photos, widths)
        if not np.isfinite(true).any():
            raise ValueError(
                f"{metric} is no finite number for any picture of the true code: leave it out, or take other photos"
            )
        for name in names:
            entries[name][metric] = _entry(scores[name][:, :, m], true, zeta, seed)
    return {
        "architecture": architecture(core.generator),
        "photos": [photo.name for photo in photos],
        "widths": list(widths),
        "policies": entries,
        "references": references or {name: _references(core, values, seed) for name, values in apart.items()},
    }


def architecture(generator: Any) -> dict[str, Any]:
    """Say what fixes a network's shape, as far as it is an AMNet's; its scale in any case."""
    known: Architecture | None = getattr(generator, "architecture", None)
    return {"scale": generator.scale} if known is None else known.to_dict()


def _mean(scores: NDArray[np.float64], seed: int) -> dict[str, Any]:
    """Give the means of scores, `(photos, widths)`."""
    by_width = [_interval(column, seed) for column in scores.T]
    interval = _interval(over_widths(scores), seed)
    return {"mean": interval["mean"], "mean_by_width": [each["mean"] for each in by_width], "interval": interval}


def _references(core: BlindSRCore, scores: NDArray[np.float64], seed: int) -> dict[str, Any]:
    """Give the means by metric of `(photos, widths, metrics)`, of those metrics that have a score."""
    by_metric = zip(zeta_of(core), np.moveaxis(scores, 2, 0), strict=True)
    return {metric: _mean(of, seed) for metric, of in by_metric if np.isfinite(of).any()}


def _entry(own: NDArray[np.float64], true: NDArray[np.float64], zeta: float, seed: int) -> dict[str, Any]:
    """Give one policy's figures under one metric, from its scores and the true code's, both `(photos, widths)`.

    Pictures that the policy broke are left out of all means and counted in `broken`, since a score has no number for
    them; a reward has one, -10, and `HeldOut.score` counts it.
    """
    kept = _masked(own, true)
    interval, by_width = _interval(over_widths(kept), seed), [_interval(column, seed) for column in kept.T]
    return {
        "mean": interval["mean"],
        "mean_by_width": [each["mean"] for each in by_width],
        "interval": interval,
        "interval_by_width": by_width,
        "gain": _interval(zeta * over_widths(kept - _masked(true, own)), seed),
        "broken": _broken(own, true),
        "scores": own.tolist(),
    }


def _masked(own: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Leave of one's scores those that are finite for both: means of two then cover the same pictures."""
    return np.where(np.isfinite(own) & np.isfinite(other), own, np.nan)


def _broken(own: NDArray[np.float64], base: NDArray[np.float64]) -> int:
    """Count the pictures that have a finite score in the base but not here."""
    return int((np.isfinite(base) & ~np.isfinite(own)).sum())


def _interval(values: NDArray[np.float64], seed: int) -> dict[str, Any]:
    """Bootstrap over photos, as plain values; of nothing, NaN with a count of 0."""
    return asdict(bootstrap(values, seed) if np.isfinite(values).any() else NOTHING)


def differences(sheets: list[dict[str, Any]], zeta: dict[str, float], seed: int) -> list[dict[str, Any]]:
    """Compare each further generator with the first on the same photos, pair by pair.

    Args:
        sheets: of one or several generators, each on the same sets.
        zeta: by metric, -1 where lower is better, else 1.
        seed: of the intervals.

    Returns:
        For each further generator and set: `set`, `generator`, `against`, and by policy and metric the gain over the
        first generator with its 95% interval over photos, `by_width` the same for each width, and `broken`, how many
        pictures have a finite score with the first and none here. Positive is better.
    """
    against = {sheet["set"]: sheet for sheet in sheets if sheet["generator"] == sheets[0]["generator"]}
    found = []
    for sheet in sheets:
        base = against[sheet["set"]]
        if sheet is base:
            continue
        entries: dict[str, Any] = {}
        for name, of_metric in sheet["policies"].items():
            entries[name] = {}
            for metric, entry in of_metric.items():
                own, other = (np.array(each["scores"]) for each in (entry, base["policies"][name][metric]))
                gain = zeta[metric] * (_masked(own, other) - _masked(other, own))  # (photos, widths)
                entries[name][metric] = {
                    **_interval(over_widths(gain), seed),
                    "by_width": [_interval(column, seed) for column in gain.T],
                    "broken": _broken(own, other),
                }
        shared = {"set": sheet["set"], "generator": sheet["generator"], "against": base["generator"]}
        found.append({**shared, "widths": sheet["widths"], "policies": entries})
    return found


def score_policies(core: BlindSRCore, scenes: Scenes, actors: Mapping[str, Policy]) -> dict[str, NDArray[np.float64]]:
    """Score the true code's rendering of a whole photo, and each policy's.

    Args:
        core: generator, metrics and action space.
        scenes: of the photo, one for each kernel width.
        actors: policies by name.

    Returns:
        By name, and for `true-code`, `(widths, metrics)`: the core's metric first, then its report.
    """
    scores = {"true-code": scenes.true_scores.double().cpu().numpy()}
    for name, policy in actors.items():
        action, _ = policy.predict(scenes.lr, {"true_action": scenes.true_action})
        scores[name] = core.scores(core.render(scenes.lr, action), scenes.hr).double().cpu().numpy()
    return scores


def zeta_of(core: BlindSRCore) -> dict[str, float]:
    """Give the sign that makes larger better, by the metrics' own names, in the order of their scores."""
    return dict(zip((metric.name for metric in core.metrics), core.zeta.tolist(), strict=True))
