"""Scores of policies on whole photos, each at several kernel widths, against the true code."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from agents import policies
from blindsr_env import degradation, images, kernels
from blindsr_env.core import BlindSRCore
from blindsr_env.env import BlindSREnv
from blindsr_env.images import ImageError, Photo
from experiments.intervals import bootstrap
from experiments.run_folder import write_results
from experiments.training import pick_device


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Settings of `blindsr evaluate`.

    Attributes:
        policies: any of `true-code`, `predictor`, `mean-code`, `random`, `shared-offset`, and files of predictors,
            agents and offsets.
        images: folder of HR photos, or one file; None for the held-out built-in ones.
        widths: kernel widths, HR pixels; every photo is degraded with each.
        metrics: names of metrics.
        generator: name or checkpoint; None for the best that ships.
        predictor: checkpoint behind `predictor` and `shared-offset`; None for the one that ships.
        action: action space that the policies act in: `code`, `free-code` or `width`.
        offset_metric: the reward that `shared-offset` is learned for, on the built-in training photos.
        output: results file, JSON; None writes none.
        device: `auto`, `cpu` or `cuda`.
        seed: of the random policy, of the offset and of the intervals.
    """

    policies: tuple[str, ...] = ("true-code", "predictor", "mean-code")
    images: str | None = None
    widths: tuple[float, ...] = (0.2, 1.3, 2.6)
    metrics: tuple[str, ...] = ("psnr", "ssim", "niqe", "grid")
    generator: str | None = None
    predictor: str | None = None
    action: str = "code"
    offset_metric: str = "niqe"
    output: str | None = "results/evaluate.json"
    device: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse tables without rows or columns."""
        if not self.widths or not self.metrics or not self.policies:
            raise ValueError("give at least one policy, one width and one metric")


def evaluate(settings: Evaluate) -> dict[str, Any]:
    """Score policies, print the table and write the results.

    Returns:
        Figures: for each policy and metric the mean score and the gain over the true code (positive is better), with
        a 95% bootstrap interval over photos, and the scores behind them.

    Raises:
        ValueError: unknown names, photos or files that cannot be used.
    """
    device = pick_device(settings.device)
    first, *others = settings.metrics
    # The core's own photos are not looked at: it brings generator, metrics and action space together.
    env = BlindSREnv(
        metric=first, report=others, generator=settings.generator, action=settings.action, device=device, split="test"
    )
    photos = images.load(settings.images, split="test")
    names = ["true-code", *(name for name in settings.policies if name != "true-code")]
    actors = {name: _policy(name, env, settings) for name in names[1:]}
    shape = (len(photos), len(settings.widths), len(settings.metrics))
    scores = {name: np.full(shape, np.nan) for name in names}
    with tqdm(photos, unit="photo", desc="scoring") as bar:
        for row, photo in enumerate(bar):
            bar.set_postfix_str(photo.name)
            for name, values in score_photo(env.core, photo, settings.widths, actors).items():
                scores[name][row] = values
    zeta = [-1.0 if metric.lower_is_better else 1.0 for metric in (env.core.metric, *env.core.report)]
    figures: dict[str, Any] = {
        "photos": [photo.name for photo in photos],
        "widths": list(settings.widths),
        "generator": env.core.generator.name,
        "policies": {},
    }
    for name in names:
        of_metric = {}
        for m, metric in enumerate(settings.metrics):
            gain = zeta[m] * np.nanmean((scores[name] - scores["true-code"])[:, :, m], axis=1)  # (photos,)
            of_metric[metric] = {
                "mean": float(np.nanmean(scores[name][:, :, m])),
                "mean_by_width": np.nanmean(scores[name][:, :, m], axis=0).tolist(),
                "gain": asdict(bootstrap(gain, settings.seed)),
                "scores": scores[name][:, :, m].tolist(),
            }
        figures["policies"][name] = of_metric
    print(table(figures))
    if settings.output is not None:
        write_results(Path(settings.output), figures, settings, settings.seed)
        print(f"written to {settings.output}")
    return figures


def score_photo(
    core: BlindSRCore, photo: Photo, widths: tuple[float, ...], actors: dict[str, policies.Policy]
) -> dict[str, NDArray[np.float64]]:
    """Score the true code's rendering of a whole photo, and each policy's.

    Args:
        core: generator, metrics and action space.
        photo: HR; cropped to a multiple of the scale from the top left.
        widths: isotropic kernels, one rendering each.
        actors: policies by name.

    Returns:
        By name, and for `true-code`, `(widths, metrics)`: the core's metric first, then its report.

    Raises:
        ImageError: the photo is too small for a metric.
    """
    height, width = (side - side % core.scale for side in photo.pixels.shape[:2])
    least = max(metric.min_size for metric in (core.metric, *core.report))
    if min(height, width) < least:
        raise ImageError(
            f"{photo.name} is {width}x{height}, the metrics need {least}: take larger photos, other metrics"
        )
    hr = core.to_device(np.ascontiguousarray(photo.pixels[:height, :width])).permute(2, 0, 1)[None]
    hr = hr.expand(len(widths), -1, -1, -1)  # (K, 3, H, W)
    sigma = torch.tensor(widths, dtype=torch.float64, device=core.device)
    lr = degradation.degrade(hr.float() / 255, kernels.gaussian_profile(sigma), core.scale)
    seen = (lr * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()  # (K, h, w, 3)
    code = core.codec.encode(kernels.gaussian(sigma))
    info = {"true_action": core.true_action(code, sigma)}
    scores = {
        "true-code": core.scores(core.render_code(seen, code), hr).double().cpu().numpy()
    }  # not clipped to the box
    for name, policy in actors.items():
        action, _ = policy.predict(seen, info)
        scores[name] = core.scores(core.render(seen, action), hr).double().cpu().numpy()
    return scores


def table(figures: dict[str, Any]) -> str:
    """Lay figures out as text: a line a policy, for each metric its mean and the gain over the true code."""
    metrics = list(next(iter(figures["policies"].values())))
    width = max(len(name) for name in figures["policies"])
    lines = [
        f"{figures['generator']}, {len(figures['photos'])} photos, "
        f"widths {', '.join(f'{w:g}' for w in figures['widths'])}; "
        "gain over the true code [95% interval], positive is better",
        f"{'policy':<{width}}" + "".join(f"  {metric:>8}  {'gain':>26}" for metric in metrics),
    ]
    for name, of_metric in figures["policies"].items():
        line = f"{name:<{width}}"
        for metric in metrics:
            entry = of_metric[metric]
            size = abs(entry["mean"])
            digits = 2 if size >= 10 else 3 if size >= 1 else 4 if size >= 0.01 else 6
            gain = entry["gain"]
            text = (
                ""
                if name == "true-code"
                else "{:+.{d}f} [{:+.{d}f}, {:+.{d}f}]".format(gain["mean"], gain["low"], gain["high"], d=digits)
            )
            line += f"  {entry['mean']:>8.{digits}f}  {text:>26}"
        lines.append(line)
    return "\n".join(lines)


def _policy(name: str, env: BlindSREnv, settings: Evaluate) -> policies.Policy:
    learn_on = None
    if name == "shared-offset":
        print(f"learning the shared offset for {settings.offset_metric} on the built-in training photos")
        learn_on = gymnasium.make_vec(
            "BlindSR-v0",
            num_envs=24,
            metric=settings.offset_metric,
            generator=settings.generator,
            action=settings.action,
            repeats=6,
            device=str(env.device),
            output="torch",
        )
    return policies.load(name, env, predictor=settings.predictor, learn_on=learn_on, seed=settings.seed)
