"""Benchmark of an algorithm: several seeds are trained, then scored on whole held-out photos, in one command."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from blindsr_env import metrics
from blindsr_env.env import BlindSREnv
from blindsr_env.metrics.mixture import terms
from experiments import recipes
from experiments.counts import at_least
from experiments.devices import pick_device
from experiments.disjoint import check_disjoint
from experiments.evaluate import Evaluate, check, evaluate
from experiments.held_out import PRICE
from experiments.run_folder import RunFolder
from experiments.side_by_side import train_side_by_side
from experiments.train_agent import TrainAgent, identity, schedule, start, train_agent


@dataclass(frozen=True, kw_only=True)
class Benchmark(TrainAgent):
    """Settings of `blindsr benchmark`, which extend those of `blindsr train-agent`.

    Attributes:
        output: folder of the runs (`seed_0`, `seed_1` and so on) and of the results, `benchmark.json`. Seeds that are
            already trained are not trained again.
        seeds: number of agents, which differ only in their random seed; `seed` is the first one's.
        jobs: how many of them are trained at the same time, each in a process of its own with its share of the cores,
            and with its output in `train.log` in its folder.
        name: what tables call these agents; without it, algorithm and metric.
        test: held-out HR photos, which are rendered whole: a folder, several as `[A, B]`, or several with names,
            `{Set5: A, Set14: B}`; without it, the built-in ones.
        widths: kernel widths (standard deviation, HR pixels); every photo is degraded with each. Without it, the
            paper's 0.2, 1.3 and 2.6, at scale 2 0.2, 1.1 and 2.
        metrics: metrics to score the pictures with; without it, those of the reward, NIQE, PSNR and grid.
        beside: trained agents to compare with, by name, as `recipes` of `evaluate`: `{sac: 'runs/sac/seed_*'}`.
    """

    output: str = "runs/benchmark"
    held_out_scenes: int = 24
    seeds: int = 5
    jobs: int = 1
    name: str | None = None
    test: dict[str, str] | list[str] | str | None = None
    widths: tuple[float, ...] | None = None
    metrics: tuple[str, ...] | None = None
    beside: dict[str, recipes.Recipe] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse invalid settings and a name that is already taken."""
        super().__post_init__()
        at_least(1, self, "seeds", "jobs")
        if self.title in self.beside:
            raise ValueError(f"{self.title!r} is already a name in beside: give another name")

    @property
    def title(self) -> str:
        """What tables call the agents."""
        return self.name or f"{self.algorithm}, {metrics.get(self.metric).name}"

    def run(self, seed: int) -> TrainAgent:
        """Settings of one seed's training."""
        shared = {each.name: getattr(self, each.name) for each in fields(TrainAgent)}
        return TrainAgent(**{**shared, "seed": seed, "output": str(Path(self.output, f"seed_{seed}"))})

    def evaluation(self, folders: list[str]) -> Evaluate:
        """Settings of the agents' evaluation, beside where they began."""
        # As they were written, since `lpips@FOLDER` calls itself lpips, which is no name to make one by.
        reward = [name for _, name in terms(self.metric, metrics.names(), metrics.PREFIXES)]
        env = BlindSREnv(metric="psnr", generator=self.generator, action=self.action, device=pick_device(self.device))
        begun = start(self, env) is not None
        return Evaluate(
            policies=("predictor",) if begun else ("true-code",),
            predictor=self.actor if begun else None,
            images=self.test,
            widths=self.widths,
            metrics=self.metrics or tuple(dict.fromkeys((*reward, "niqe", *PRICE))),
            generator=self.generator,
            action=self.action,
            recipes={**self.beside, self.title: folders},  # the last one is compared with each before it
            output=str(Path(self.output, "benchmark.json")),
            device=self.device,
            seed=self.seed,
        )


def benchmark(settings: Benchmark) -> dict[str, Any] | None:
    """Train the agents, or continue where that stopped, and score all of them.

    Returns:
        The figures, as `evaluate` gives them; None if a training was stopped.

    Raises:
        ValueError: as `train_agent` and `evaluate`; or a photo is among both the training and the test photos.
    """
    runs = [settings.run(seed) for seed in range(settings.seed, settings.seed + settings.seeds)]
    evaluation = settings.evaluation([run.output for run in runs])
    # What the machine or the evaluation would refuse is refused now, not after hours of training.
    settings.check_machine()
    for photos in evaluation.sets.values():
        check_disjoint(settings.images, photos)
    check(replace(evaluation, recipes=settings.beside))
    left = []
    for run in runs:
        folder = RunFolder(run.output, create=False)
        if folder.finished(run):
            if not folder.finished(run, identity(run)):
                raise ValueError(
                    f"the agent in {run.output} learned on other photos or weights than are there now: give another "
                    "output folder"
                )
            print(f"{run.output} is trained already", flush=True)
        else:
            left.append(run)
    _check_schedules(runs)
    if settings.jobs > 1 and len(left) > 1:
        every = [(run, Path(run.output, "train.log")) for run in left]
        whole = train_side_by_side(train_agent, every, settings.jobs)
        if not whole or not all(RunFolder(run.output, create=False).finished(run) for run in left):
            print("stopped: the same command goes on")
            return None
    else:
        for run in left:
            train_agent(run)
            if not RunFolder(run.output, create=False).finished(run):  # it was stopped, and says so
                return None
    return evaluate(evaluation)


def _check_schedules(runs: list[TrainAgent]) -> None:
    """Refuse seeds that learn in other stretches: a finished agent that goes on decays its learning rates twice."""
    first, *others = [(run.output, schedule(run)) for run in runs]
    for output, ends in others:
        if ends != first[1]:
            had = [", then ".join(map(str, each)) for each in (first[1], ends)]
            raise ValueError(
                f"{first[0]} would have learned from {had[0]} renders, {output} from {had[1]}, "
                "by other schedules: keep total_timesteps, or give another output folder"
            )
