"""How far one constant offset of the true code can fool a metric: a gain without any skill at seeing the blur.

The offset is added to the true code, so no predictor takes part and generators can be compared. It is learned on
training photos and scored on held-out scenes, the same for all generators.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray

from agents.baselines import TrueCode
from agents.shared_offset import OffsetPolicy, learn_offset
from blindsr_env.patch import PatchSize, sides
from experiments import digests, labels, offsets
from experiments.counts import at_least, check_seed
from experiments.devices import pick_device
from experiments.disjoint import check_disjoint
from experiments.extremes import captions
from experiments.held_out import HeldOut, Scored, check_common
from experiments.intervals import bootstrap, over_photos
from experiments.pictures import gallery
from experiments.results_file import ResultsFile
from experiments.scoring import architecture

SHOWN = 3
"""Scenes in the picture: the first of as many photos, unchosen."""

Shown = dict[str, tuple[NDArray[np.uint8], str]]
"""A row of pictures and what stands below each, by title."""


@dataclass(frozen=True, kw_only=True)
class Hack:
    """Settings of `blindsr hack`.

    Attributes:
        generators: one generator or several, each a name (`amnet`, `amnet_l`, `amnet_s`, `amgan`, `amgan_s`,
            `amnet_s_open`, `amnet_s_x2`), a checkpoint file, `srmdnf@FOLDER` (or `usrnet_tiny`, `imdn`) or
            `module:function` (see `generators.load`); the others are compared with the first.
        actions: action spaces of the offset: `code` (what kernels reach), `free-code` (also codes that no kernel has),
            or both.
        metric: reward metric, for example `niqe` or `niqe+0.1*psnr`.
        images: folder of HR photos on which the offset is learned; without it, the built-in ones.
        held_out: folder of HR photos on which it is scored; without it, the built-in ones.
        scenes: number of held-out scenes, spread evenly over the photos.
        renders: total renders (training budget) for each generator and action space, at least `num_envs`.
        num_envs: parallel environments.
        repeats: how many parallel environments share each scene; an even number.
        patch_size: side of a scene's LR patch, in pixels, or its height and width, `[80, 120]`.
        output: results file, JSON; the pictures are written beside it.
        device: where to compute: `auto` (a GPU if there is one), `cpu` or `cuda`.
        seed: random seed of learning and of the intervals.
    """

    generators: list[str] | str = "amnet"
    actions: tuple[str, ...] = ("code", "free-code")
    metric: str = "niqe"
    images: str | None = None
    held_out: str | None = None
    scenes: int = 96
    renders: int = 2_880
    num_envs: int = 24
    repeats: int = 6
    patch_size: PatchSize = 64
    output: str = "results/hack.json"
    device: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse counts below 1 or that do not fit each other, and action spaces without an offset or given twice."""
        check_seed(self)
        at_least(1, self, "scenes", "renders", "num_envs", "repeats")
        at_least(self.num_envs, self, "renders")
        sides(self.patch_size)
        if self.repeats % 2:
            raise ValueError(f"repeats must be even, for pairs of actions in the same scene, got {self.repeats}")
        if self.num_envs % self.repeats:
            raise ValueError(f"repeats must divide num_envs={self.num_envs}, got {self.repeats}")
        if not self.generators:
            raise ValueError("give at least one generator, as [amnet]")
        if not self.actions or not set(self.actions) <= {"code", "free-code"}:
            raise ValueError(f"actions must be of code and free-code, got {list(self.actions)}")
        labels.distinct(self.actions, "action space")


def hack(settings: Hack) -> dict[str, Any]:
    """Learn the offset for each generator and action space, score it, print the table, write figures and pictures.

    Returns:
        The figures; see `experiments.sheets` for their layout.

    Raises:
        ValueError: unknown names, photos or files that cannot be used, generators that have no scene in common
            or are given twice.
    """
    check_disjoint(settings.images, settings.held_out)
    sources = [settings.generators] if isinstance(settings.generators, str) else settings.generators
    config = labels.short(asdict(settings))
    identity = {
        "generators": [digests.of_generator(source) for source in sources],
        "images": digests.of_photos(settings.images),
        "held_out": digests.of_photos(settings.held_out),
        "metric": digests.of_metric(settings.metric),
    }
    output = ResultsFile(settings.output, config, settings.seed, identity)
    held = [_held_out(settings, source, settings.actions[0]) for source in sources]
    check_common([each.core for each in held], drawn=True)
    names = labels.of_generators([each.core.generator.name for each in held], sources)
    figures: dict[str, Any] = {
        "kind": "hack",
        "metric": held[0].core.metric.name,
        "held_out": labels.short(settings.held_out),
        "photos": held[0].photos,
        "patch_size": settings.patch_size,
        "scenes": settings.scenes,
        "renders": settings.renders - settings.renders % settings.num_envs,  # whole steps of all environments
        "generators": {},
        "differences": [],
    }
    scored: list[dict[str, Scored]] = []
    galleries: list[tuple[str, list[Shown]]] = []
    for name, source, first_space in zip(names, sources, held, strict=True):
        figures["generators"][name], won, shown = _of_generator(settings, name, source, first_space)
        scored.append(won)
        if len(scored) > 1:
            difference = _difference(held[0], first_space, scored[0], won, settings.seed)
            figures["differences"].append({"generator": name, "against": names[0], **difference})
        galleries.append((name, shown))
        if whole := len(scored) == len(names):
            print(offsets.page([figures]), end="", flush=True)  # before they are written: a disk may be full
        if output.keep(figures, whole=whole) and output.path is not None:
            for of, pictures in galleries:
                _draw(output.path, of, pictures, figures["metric"])
            galleries.clear()
    print(f"written to {output.path}")
    return figures


def _of_generator(
    settings: Hack, name: str, source: str, first_space: HeldOut
) -> tuple[dict[str, Any], dict[str, Scored], list[Shown]]:
    """Learn and score the offset in each action space of a generator, whose scenes in the first one are given.

    Returns:
        Its figures; the scores by action space; the pictures.
    """
    won: dict[str, Scored] = {}
    shown = _true_pictures(first_space)
    actions: dict[str, dict[str, Any]] = {}
    for space in settings.actions:
        scenes = first_space if space == first_space.core.action else _held_out(settings, source, space)
        print(f"{name}, {space}: learning from {settings.renders} renders", flush=True)
        offset = _learn(settings, source, space)
        result = won[space] = scenes.score(OffsetPolicy(TrueCode(), offset))
        actions[space] = {
            **result.figures(settings.seed),
            "offset": [round(value, 6) for value in offset.tolist()],
            "rewards": result.reward.tolist(),
        }
        _add_pictures(shown, scenes, result, f"SR, offset in {space}")
    true_code, of_spaces = _means(first_space, won)
    for space, means in of_spaces.items():
        actions[space]["scores"] = means
    entry = {"architecture": architecture(first_space.core.generator), "actions": actions, "true_code": true_code}
    return entry, won, shown


def _draw(results: Path, name: str, pictures: list[Shown], metric: str) -> None:
    """Write a generator's pictures beside the results."""
    picture = results.with_name(f"{results.stem}_{name.replace(' ', '_').replace('/', '_')}.png")
    gallery(picture, pictures, f"{name}: one constant on the true code, learned for {metric}")
    print(f"picture: {picture}", flush=True)


def _environment(settings: Hack, source: str, space: str) -> dict[str, Any]:
    return {
        "generator": source,
        "action": space,
        "patch_size": settings.patch_size,
        "device": str(pick_device(settings.device)),
    }


def _held_out(settings: Hack, source: str, space: str) -> HeldOut:
    environment = {"images": settings.held_out, "split": "test", **_environment(settings, source, space)}
    return HeldOut.crops(settings.scenes, metric=settings.metric, report=("psnr", "grid"), environment=environment)


def _learn(settings: Hack, source: str, space: str) -> torch.Tensor:
    env = gymnasium.make_vec(
        "BlindSR-v0",
        num_envs=settings.num_envs,
        repeats=settings.repeats,
        metric=settings.metric,
        images=settings.images,
        output="torch",
        **_environment(settings, source, space),
    )
    return learn_offset(env, TrueCode(), settings.renders, settings.seed)


def _means(held_out: HeldOut, won: dict[str, Scored]) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Average scores over photos, of the scenes where the true code's and all offsets' are finite numbers.

    Returns:
        By metric, the true code's means; the same by action space.
    """
    true: dict[str, float] = {}
    offset: dict[str, dict[str, float]] = {space: {} for space in won}
    for metric, scores in held_out.true_scores.items():
        every = np.stack([scores, *(result.scores[metric] for result in won.values())])  # (1 + spaces, N)
        kept = np.isfinite(every.sum(axis=0))  # a sum is finite where all its parts are
        true[metric] = _mean(scores, kept, held_out.photo)
        for space, result in won.items():
            offset[space][metric] = _mean(result.scores[metric], kept, held_out.photo)
    return true, offset


def _mean(scores: NDArray[np.float64], kept: NDArray[np.bool_], photo: NDArray[np.int64]) -> float:
    """Average the kept scenes of each photo, and those means; NaN where no scene is kept."""
    return float(over_photos(scores[kept], photo[kept]).mean()) if kept.any() else float("nan")


def _difference(
    first: HeldOut, other: HeldOut, won_first: dict[str, Scored], won: dict[str, Scored], seed: int
) -> dict[str, Any]:
    """Compare a generator with the first, scene by scene: what its true code costs, what its offset wins."""

    def paired(own: NDArray[np.float64], base: NDArray[np.float64]) -> dict[str, Any]:
        kept = np.isfinite(own) & np.isfinite(base)
        return asdict(bootstrap(over_photos((own - base)[kept], first.photo[kept]), seed))

    return {
        "true_psnr": paired(other.true_scores["psnr"], first.true_scores["psnr"]),
        "reward": {space: paired(won[space].reward, won_first[space].reward) for space in won},
    }


def _true_pictures(held_out: HeldOut) -> list[Shown]:
    """Begin each shown scene's row: LR, SR with the true code; HR comes last."""
    rows: list[Shown] = []
    for row in range(min(SHOWN, len(held_out.photo))):
        scene = held_out.scene(row)
        one = held_out.core.pictures(scene, scene.true_action)
        name = held_out.photos[held_out.photo[row]]
        rows.append(
            {
                "LR": (one["lr"][0], f"{Path(name).name}, kernel width {float(scene.width[0]):.2f}"),
                "SR, true code": (one["true"][0], captions(held_out, one["true_scores"][0])),
                "HR": (one["hr"][0], ""),
            }
        )
    return rows


def _add_pictures(rows: list[Shown], held_out: HeldOut, result: Scored, title: str) -> None:
    for row, shown in enumerate(rows):
        action = torch.from_numpy(result.action[row : row + 1]).to(held_out.core.device)
        one = held_out.core.pictures(held_out.scene(row), action)
        hr = shown.pop("HR")
        shown[title], shown["HR"] = (one["sr"][0], captions(held_out, one["scores"][0])), hr
