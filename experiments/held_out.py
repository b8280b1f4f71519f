"""Fixed scenes of held-out photos, on which policies are compared pair by pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from gymnasium.utils import seeding
from numpy.typing import NDArray
from tqdm import tqdm

from agents.policies import Policy
from blindsr_env import images
from blindsr_env.core import BlindSRCore, MetricLike, Scenes
from blindsr_env.env import BlindSREnv
from blindsr_env.images import Source
from experiments.disjoint import refuse_common
from experiments.intervals import bootstrap, over_photos

PRICE = ("psnr", "grid")
"""Metrics that show what a won reward costs."""

SEED = 2021
"""First of the scenes' seeds; no training uses it."""

ROWS = 16
"""Scenes rendered at once: results do not depend on it, memory does."""


@dataclass(frozen=True, eq=False)
class Scored:
    """What a policy made of the scenes.

    Attributes:
        action: `(N, d)` float32.
        reward: Eq. 8, `(N,)`; NaN where a score was no finite number.
        gain: by name, each reported metric's zeta times its difference to the true code's picture, `(N,)`.
        scores: by name, the reward's metric and each reported one, `(N,)`.
        broken: by name, in how many scenes a metric is a finite number for the true code and none for the policy.
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
            how many; `broken`, by metric, in how many of them the policy broke it.
        """
        return {
            "reward": asdict(bootstrap(over_photos(self.reward, self.photo), seed)),
            "gain": {name: asdict(bootstrap(over_photos(own, self.photo), seed)) for name, own in self.gain.items()},
            "scenes": len(self.photo),
            "broken": self.broken,
        }


def check_disjoint(training: Source, held_out: Source) -> None:
    """Refuse to score an agent on photos that it learned on.

    Args:
        training: where training photos come from; None for the built-in ones of the train split.
        held_out: where held-out photos come from; None for those of the test split.

    Raises:
        ValueError: a photo is in both, pixel for pixel.
    """
    refuse_common(images.load(training, "train"), images.load(held_out, "test"))


def check_common(cores: Sequence[BlindSRCore], *, drawn: bool) -> None:
    """Refuse to compare generators on what is not the same for all.

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


class HeldOut:
    """The same scenes each time: photo after photo in turn, the rest of each scene from a seed of its own.

    Args:
        count: number of scenes.
        metric: M of the reward.
        report: further metrics.
        environment: further arguments of the environment: images, generator, action, ...
    """

    def __init__(
        self, count: int, *, metric: MetricLike, report: Sequence[str] = PRICE, environment: dict[str, Any]
    ) -> None:
        report = [name for name in dict.fromkeys(report) if name != metric]  # psnr as the reward needs no second psnr
        self.env = BlindSREnv(metric=metric, report=report, **environment)
        self.core: BlindSRCore = self.env.core
        photos = len(self.core.sampler.names)
        self.photo = np.arange(count) % photos
        """Each scene's, as its place in `photos`, `(count,)`."""
        with torch.inference_mode():
            self.parts: list[Scenes] = []
            for start in tqdm(range(0, count, ROWS), desc="rendering the true codes", unit="batch", leave=False):
                rows = range(start, min(start + ROWS, count))
                fixed = self.core.sampler.fix({"image": self.photo[rows.start : rows.stop].tolist()}, len(rows))
                self.parts.append(self.core.scenes([seeding.np_random(SEED + row)[0] for row in rows], fixed))

    @property
    def photos(self) -> list[str]:
        """Names of the photos that scenes are of."""
        return self.core.sampler.names[: len(self.photo)]

    @property
    def true_scores(self) -> dict[str, NDArray[np.float64]]:
        """The true code's scores: by name, the reward's metric and each reported one, `(N,)`."""
        scores = torch.cat([scenes.true_scores for scenes in self.parts]).double().cpu().numpy()  # (N, 1 + R)
        return {metric.name: scores[:, m] for m, metric in enumerate((self.core.metric, *self.core.report))}

    def scene(self, row: int) -> Scenes:
        """Give one scene as a batch of one."""
        return self.parts[row // ROWS].take(torch.tensor([row % ROWS], device=self.core.device))

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
