"""Fixed scenes of held-out photos, on which policies are compared scene by scene."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from gymnasium.utils import seeding
from numpy.typing import NDArray
from tqdm import tqdm

from agents.policies import Policy
from blindsr_env import images, metrics, sharing
from blindsr_env.core import BlindSRCore, dtype_of
from blindsr_env.env import BlindSREnv
from blindsr_env.images import ImageError
from blindsr_env.scenes import Scenes
from blindsr_env.scorer import MetricLike
from experiments.intervals import bootstrap, over_photos
from experiments.validation import check_blurred

PRICE = ("psnr", "grid")
"""Metrics that show the price of a reward."""

SEED = 2021
"""First of the scenes' seeds; no training uses it."""

ROWS = 16
"""Crops rendered at once."""


@dataclass(frozen=True, eq=False)
class Scored:
    """What a policy made of the scenes.

    Attributes:
        action: `(N, d)` float32.
        reward: Eq. 8, `(N,)`; NaN where the true code's picture has no finite score, and `BROKEN_REWARD`, -10, where
            only the policy's has none: means leave out the first, and count the second.
        gain: by name, each reported metric's zeta times its difference to the true code's picture, `(N,)`; not finite
            where a score is not, and left out of means.
        scores: by name, the reward's metric and each reported one, `(N,)`.
        broken: by name, in how many scenes a metric is finite for the true code but not for the policy.
        photo: each scene's, as its place in `HeldOut.photos`, `(N,)`.
    """

    action: NDArray[np.float32]
    reward: NDArray[np.float64]
    gain: dict[str, NDArray[np.float64]]
    scores: dict[str, NDArray[np.float64]]
    broken: dict[str, int]
    photo: NDArray[np.int64]

    def figures(self, seed: int) -> dict[str, Any]:
        """Give the means of reward and gains with their intervals over photos, as plain values for a results file.

        Returns:
            `reward` and, by metric, `gain`: intervals, the mean over photos of the means over their scenes; `scenes`,
            how many; `broken`, by metric, in how many of them the policy broke it: these count as `BROKEN_REWARD` in
            the reward, as in training, and are left out of the gains.
        """
        return {
            "reward": asdict(bootstrap(over_photos(self.reward, self.photo), seed)),
            "gain": {name: asdict(bootstrap(over_photos(own, self.photo), seed)) for name, own in self.gain.items()},
            "scenes": len(self.photo),
            "broken": self.broken,
        }


def check_common(cores: Sequence[BlindSRCore], *, drawn: bool) -> None:
    """Refuse to compare generators on scenes that differ between them.

    Args:
        cores: of the generators.
        drawn: whether kernels are drawn from each generator's own range, not given.

    Raises:
        ValueError: scales differ, so that photos are cropped and shrunk differently; or, where kernels are drawn, their
            ranges do.
    """
    first = cores[0]
    for other in cores[1:]:
        ranges = [(core.codec.width_range if drawn else None) for core in (other, first)]
        if other.scale != first.scale or ranges[0] != ranges[1]:
            of_other, of_first = (f" and widths {each}" if drawn else "" for each in ranges)
            raise ValueError(
                f"{other.generator.name} is for scale {other.scale}{of_other}, {first.generator.name} for "
                f"{first.scale}{of_first}: compare them apart"
            )


def _further(report: Sequence[str], metric: MetricLike) -> list[str]:
    """Leave the reward's own metric out of a report, also where it is written as a mixture of one."""
    plain = isinstance(metric, str) and "*" not in metric
    own = metric if plain else metrics.get(metric).name
    return [name for name in dict.fromkeys(report) if name != own]


def for_whole_photos(*, metric: MetricLike, report: Sequence[MetricLike] = (), **environment: Any) -> BlindSREnv:
    """Make an environment that `whole_photo` makes scenes for: none are drawn from photos of its own.

    Args:
        metric: M of the reward.
        report: further metrics. None is refused for the size of patches, which there are none of.
        environment: generator, action, device, dtype, ...; where photos and patches are named, they are passed over.
    """
    device, dtype = sharing.device_of(environment.get("device", "cpu")), dtype_of(environment.get("dtype", "float32"))
    generator = sharing.generator(environment.get("generator"), device, dtype)  # kept, as networks of metrics are
    scale = generator.scale
    known = [metrics.get(each, scale=scale, device=device) for each in (metric, *report)]
    side = max(64, *(each.min_size for each in known))
    blank = {"images": [np.zeros((scale * side, scale * side, 3), np.uint8)], "patch_size": side}
    return BlindSREnv(metric=metric, report=report, **{**environment, **blank})


def whole_photo(core: BlindSRCore, photo: images.Photo, widths: Sequence[float], number: int = 0) -> Scenes:
    """Make a whole photo's scenes, one per kernel width; see `BlindSRCore.whole`.

    Raises:
        ImageError: the photo is too small for a metric.
    """
    check_size(core, photo)
    return core.whole(photo.pixels, widths, image=number)


def check_size(core: BlindSRCore, photo: images.Photo) -> None:
    """Raise an ImageError where a whole photo is too small for a metric, or to blur."""
    height, width = (side - side % core.scale for side in photo.pixels.shape[:2])
    least = max(metric.min_size for metric in (core.metric, *core.report))
    if min(height, width) < least:
        raise ImageError(
            f"{photo.name} is {width}x{height}, the metrics need {least}: take larger photos, other metrics"
        )
    check_blurred(photo.name, height, width, core.scale)


class HeldOut:
    """The same scenes each time: `crops` or `whole` makes them.

    Args:
        env: whose core renders and scores them, and which policies act in.
        parts: the scenes, as they are rendered at once: results do not depend on it, memory does.
        photo: each scene's photo, as its place in `photos`, `(N,)`.
        photos: names of the photos that scenes are of.
    """

    def __init__(
        self, env: BlindSREnv, parts: Sequence[Scenes], photo: NDArray[np.int64], photos: Sequence[str]
    ) -> None:
        self.env, self.core = env, env.core
        self.parts, self.photo, self.photos = list(parts), photo, list(photos)

    @classmethod
    def crops(
        cls, count: int, *, metric: MetricLike, report: Sequence[str] = PRICE, environment: dict[str, Any]
    ) -> HeldOut:
        """Draw scenes as the environment does: one photo after another, the rest of each from its own seed.

        Args:
            count: number of scenes.
            metric: M of the reward.
            report: further metrics.
            environment: further arguments of the environment: images, generator, action, ...
        """
        env = BlindSREnv(metric=metric, report=_further(report, metric), **environment)
        core = env.core
        names = core.sampler.names
        photo = np.arange(count) % len(names)
        parts = []
        with torch.inference_mode():
            for start in tqdm(range(0, count, ROWS), desc="rendering the true codes", unit="batch", leave=False):
                rows = range(start, min(start + ROWS, count))
                fixed = core.sampler.fix({"image": photo[rows.start : rows.stop].tolist()}, len(rows))
                parts.append(core.scenes([seeding.np_random(SEED + row)[0] for row in rows], fixed))
        return cls(env, parts, photo, names[:count])

    @classmethod
    def whole(
        cls,
        photos: Sequence[images.Photo],
        widths: Sequence[float],
        *,
        metric: MetricLike,
        report: Sequence[str] = PRICE,
        environment: dict[str, Any],
    ) -> HeldOut:
        """Take whole photos, each degraded with each of the kernel widths, as `blindsr evaluate` does.

        Args:
            photos: HR.
            widths: HR pixels.
            metric: M of the reward.
            report: further metrics.
            environment: further arguments of the environment, see `for_whole_photos`.

        Raises:
            ImageError: a photo is too small for a metric.
        """
        env = for_whole_photos(metric=metric, report=_further(report, metric), **environment)
        with torch.inference_mode():
            parts = [
                whole_photo(env.core, photo, widths, number)
                for number, photo in enumerate(tqdm(photos, desc="rendering the true codes", unit="photo", leave=False))
            ]
        return cls(env, parts, np.repeat(np.arange(len(photos)), len(widths)), [photo.name for photo in photos])

    @cached_property
    def lean(self) -> BlindSRCore:
        """The core without its report; one for all, since each records CUDA graphs of its own."""
        return self.core.without_report()

    def turned(self, flip: int) -> HeldOut:
        """Give the same scenes with their photos flipped or turned; see `BlindSRCore.turned`."""
        with torch.inference_mode():
            parts = [self.core.turned(scenes, flip) for scenes in self.parts]
        return HeldOut(self.env, parts, self.photo, self.photos)

    @property
    def true_scores(self) -> dict[str, NDArray[np.float64]]:
        """The true code's scores: by name, the reward's metric and each reported one, `(N,)`."""
        scores = torch.cat([scenes.true_scores for scenes in self.parts]).double().cpu().numpy()  # (N, 1 + R)
        return {metric.name: scores[:, m] for m, metric in enumerate((self.core.metric, *self.core.report))}

    def scene(self, row: int) -> Scenes:
        """Give one scene as a batch of one."""
        for scenes in self.parts:
            if row < len(scenes.lr):
                return scenes.take(torch.tensor([row], device=self.core.device))
            row -= len(scenes.lr)
        raise IndexError(f"there are {len(self.photo)} scenes")

    def score(self, policy: Policy) -> Scored:
        """Let a policy act in every scene."""
        actions, rewards = [], []
        gains: dict[str, list[NDArray[np.float64]]] = {}
        scores: dict[str, list[NDArray[np.float64]]] = {}
        for scenes in tqdm(self.parts, desc="scoring", unit="batch", leave=False):
            action, _ = policy.predict(scenes.lr, {"true_action": scenes.true_action})
            reward, info = self.core.play(scenes, action)
            actions.append(action.cpu().numpy())
            rewards.append(torch.where(info["invalid"], torch.nan, reward).double().cpu().numpy())
            scores.setdefault(self.core.metric.name, []).append(info["score"].double().cpu().numpy())
            for metric in self.core.report:
                gains.setdefault(metric.name, []).append(info[f"gain_{metric.name}"].double().cpu().numpy())
                scores.setdefault(metric.name, []).append(info[f"score_{metric.name}"].double().cpu().numpy())
        every = {name: np.concatenate(values) for name, values in scores.items()}
        true = self.true_scores
        return Scored(
            np.concatenate(actions),
            np.concatenate(rewards),
            {name: np.concatenate(values) for name, values in gains.items()},
            every,
            {name: int((np.isfinite(true[name]) & ~np.isfinite(own)).sum()) for name, own in every.items()},
            self.photo,
        )
