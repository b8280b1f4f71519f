"""The whole task in one command, without downloads: an agent learns to beat the true kernel's NIQE, guarded by PSNR."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from agents import policies
from experiments import labels
from experiments.counts import at_least
from experiments.disjoint import check_disjoint
from experiments.extremes import captions, extremes
from experiments.held_out import HeldOut, Scored
from experiments.intervals import Interval, bootstrap, over_photos
from experiments.pictures import comparison
from experiments.run_folder import RunFolder
from experiments.train_agent import TrainAgent, check_resumed, learn


@dataclass(frozen=True, kw_only=True)
class Quickstart:
    """Settings of `blindsr quickstart`.

    Attributes:
        renders: total renders (training budget); the default takes about three minutes on two cores.
        output: folder of the agent, its log, the figures and, in `pictures`, a scene of each photo; if it already holds
            an agent, that one learns on.
        images: folder of HR photos to train on; without it, the built-in ones.
        held_out: folder of HR photos to score on, which are never trained on; without it, the built-in ones.
        scenes: number of held-out scenes, spread evenly over the photos.
        patch_size: side of a scene's LR patch, in pixels. 72 makes 3x3 of NIQE's blocks at scale 4; with fewer, NIQE
            behaves differently than on whole photos.
        metric: reward metric, for example `niqe` or `niqe+0.1*psnr`.
        algorithm: `pathwise`, which follows the metric's own gradient, or `group-pg`, for metrics without one.
        generator: generator that renders: a name (`amnet`, `amnet_l`, `amnet_s`, `amgan`, `amgan_s`, `amnet_s_open`,
            `amnet_s_x2`), a checkpoint file, `srmdnf@FOLDER` (or `usrnet_tiny`, `imdn`) or `module:function` (see
            `generators.load`).
        device: where to compute: `auto` (a GPU if there is one), `cpu` or `cuda`.
        seed: random seed of the agent.
    """

    renders: int = 1_600
    output: str = "quickstart"
    images: str | None = None
    held_out: str | None = None
    scenes: int = 192
    patch_size: int = 72
    metric: str = "niqe+0.4*psnr"
    algorithm: str = "pathwise"
    generator: str = "amgan_s"
    device: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse counts below 1, and what no training takes."""
        at_least(1, self, "renders", "scenes", "patch_size")
        self.training()

    def training(self) -> TrainAgent:
        """Settings of the training.

        Raises:
            ValueError: it cannot be.
        """
        pairs = self.algorithm == "group-pg"
        return TrainAgent(
            algorithm=self.algorithm,
            num_envs=48 if pairs else 16,
            repeats=6 if pairs else 1,
            total_timesteps=self.renders,
            patch_size=self.patch_size,
            metric=self.metric,
            images=self.images,
            held_out=self.held_out,
            held_out_scenes=self.scenes,
            generator=self.generator,
            output=self.output,
            device=self.device,
            seed=self.seed,
        )


def quickstart(settings: Quickstart) -> dict[str, Any]:
    """Score the predictor, train an agent from it, score the agent, and write the results.

    Returns:
        The figures that `results.json` holds.
    """
    check_disjoint(settings.images, settings.held_out)
    folder = RunFolder(settings.output)
    with folder.taken():
        return _scored_and_trained(settings, folder)


def _scored_and_trained(settings: Quickstart, folder: RunFolder) -> dict[str, Any]:
    """Do what `quickstart` says, in a folder that is this process's."""
    started, training = time.monotonic(), settings.training()
    check_resumed(training, folder)  # before minutes of scoring
    print(f"1/3 scoring the predictor on {settings.scenes} held-out scenes", flush=True)
    held_out = training.held_out_set()
    before_policy = policies.load("predictor", held_out.env)
    before = held_out.score(before_policy)
    print(f"    reward before: {Interval(**before.figures(settings.seed)['reward'])}")
    print(f"2/3 learning from {settings.renders} renders (Ctrl-C stops early and keeps the agent)", flush=True)
    agent = learn(training, folder)
    print("3/3 scoring the agent on the same scenes", flush=True)
    after = held_out.score(agent)
    by_photo = over_photos(after.reward - before.reward, held_out.photo)
    figures = {
        "timesteps": agent.num_timesteps,
        "interrupted": agent.interrupted,
        "seconds": round(time.monotonic() - started, 1),
        "photos": held_out.photos,
        "scenes": settings.scenes,
        "before": before.figures(settings.seed),
        "after": after.figures(settings.seed),
        "difference": asdict(bootstrap(by_photo, settings.seed)),
        "difference_by_photo": dict(zip(held_out.photos, by_photo.tolist(), strict=True)),
        "rewards": {"before": before.reward.tolist(), "after": after.reward.tolist()},
    }
    results = folder.write_results(figures, labels.short(asdict(settings)), settings.seed)
    print(report(figures, settings))
    pictures = [  # the first scene of each photo
        draw(folder.path / "pictures" / f"{name}.png", held_out, row, before, after)
        for row, name in enumerate(held_out.photos)
    ]
    extremes(folder.path / "extremes.png", held_out, after, "scenes of the highest and of the lowest reward")
    print(f"agent, log, figures and {len(pictures) + 1} pictures: {results.parent}/")
    return figures


TITLES = {"niqe": "NIQE gain", "psnr": "PSNR gain, dB", "grid": "grid gain, 1e-3"}
"""What the table calls the gains over the true code."""


def report(figures: dict[str, Any], settings: Quickstart) -> str:
    """Lay the figures out as text."""
    lines = [
        f"{settings.metric} on {figures['scenes']} held-out scenes of {len(figures['photos'])} photos: 0 is as good as "
        "the true kernel, more is better [95% interval over photos]",
        f"{'':8}{'reward':>26}" + "".join(f"{TITLES.get(name, name):>26}" for name in figures["before"]["gain"]),
    ]
    for name in ("before", "after"):
        line = f"{name:8}{Interval(**figures[name]['reward'])!s:>26}"
        for metric, entry in figures[name]["gain"].items():
            line += f"{Interval(**entry).times(labels.in_units(metric)[1])!s:>26}"
        lines.append(line)
    lines.append(f"{'gain':8}{Interval(**figures['difference'])!s:>26}   (after minus before, paired)")
    by_photo = ", ".join(f"{name} {value:+.2f}" for name, value in figures["difference_by_photo"].items())
    lines.append(f"gain by photo: {by_photo}")
    return "\n".join(lines)


def draw(path: Path, held_out: HeldOut, row: int, before: Scored, after: Scored) -> Path:
    """Draw a scene: LR, SR before, SR after, SR with the true kernel, HR, the kernels, the scores."""
    core, scene = held_out.core, held_out.scene(row)
    shown = {
        name: core.pictures(scene, torch.from_numpy(scored.action[row : row + 1]).to(core.device))
        for name, scored in (("before", before), ("after", after))
    }
    one = {key: value[0] for key, value in shown["before"].items()}
    comparison(
        path,
        {
            "LR": (one["lr"], ""),
            "SR before": (one["sr"], captions(held_out, one["scores"])),
            "SR after": (shown["after"]["sr"][0], captions(held_out, shown["after"]["scores"][0])),
            "SR, true kernel": (one["true"], captions(held_out, one["true_scores"])),
            "HR": (one["hr"], ""),
        },
        {"true kernel": one["kernel"], "before": one["chosen"], "after": shown["after"]["chosen"][0]},
        f"{held_out.photos[held_out.photo[row]]}, kernel width {float(scene.width[0]):.2f}",
    )
    return path
