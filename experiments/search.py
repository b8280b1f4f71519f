"""Reward against renders per image: a policy is worth the renders that it saves a search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agents import policies
from agents.checkpoints import GeneratorLike
from agents.search import search as search_codes
from blindsr_env import images, sharing
from blindsr_env.core import BlindSRCore, dtype_of
from blindsr_env.kernels import check_width
from blindsr_env.patch import PatchSize
from experiments import digests, labels
from experiments.counts import at_least, check_seed
from experiments.devices import pick_device
from experiments.findings import ALWAYS, BLIND, plot, table
from experiments.held_out import HeldOut, Scored
from experiments.intervals import bootstrap, over_photos
from experiments.normalised import LEAST, normalised
from experiments.results_file import ResultsFile
from experiments.widths import COUNT, default_widths

BLIND_STEP = 3.0
"""First step, in units of the search's spread, from a start that knows nothing of its scene."""

GENERATOR = "amgan_s"
"""Renders where no generator is named and no start learned on one."""

VIEWS, UNSEEN = 4, (4, 5, 6, 7)
"""Of the eight ways to turn and flip a photo, as many as may be searched, those that are not transposed; and those that
judge what was found."""


@dataclass(frozen=True, kw_only=True)
class Search:
    """Settings of `blindsr search`.

    Attributes:
        starts: where searches begin, besides the true code and the prediction: `mean-code` (a search from scratch),
            `random`, shipped agents such as `amgan_rl_s`, and files or run folders of predictors and agents.
        budgets: numbers of renders per image at which the reward is reported; 1 is the start alone.
        population: candidates per image and generation; an even number.
        views: number of views of each scene, 1 to 4 (the photo as it is, mirrored, upside down, and both), over which
            the searched reward is averaged; a render covers all of them. What the codes gain on the four transposed
            views, which are never searched, is reported too: a gain on searched views may be the luck of those very
            pixels.
        scenes: number of held-out scenes. Of whole photos the first ones are taken, as many as make up so many scenes.
        metric: reward metric, for example `niqe` or `niqe+0.1*psnr`, which may also be written `{niqe: 1, psnr: 0.1}`.
        images: folder of held-out HR photos; without it, the built-in ones.
        generator: generator that renders: a name (`amnet`, `amnet_l`, `amnet_s`, `amgan`, `amgan_s`, `amnet_s_open`,
            `amnet_s_x2`), a checkpoint file, `srmdnf@FOLDER` (or `usrnet_tiny`, `imdn`) or `module:function` (see
            `generators.load`); without it, the one that the starts and the predictor learned on, or else `amgan_s`.
        predictor: checkpoint that `predictor` uses, or `predictor_s`, `predictor_s_open` or `predictor_s_x2`; without
            it, the one that ships for the generator.
        action: what is searched. `code`: 15 numbers that describe the blur kernel, scaled so that Gaussian kernels fill
            80% of the box [-1, 1]; `free-code`: the same 15 numbers, scaled so that they also reach codes that no
            kernel has; `width`: one number, the Gaussian's width.
        patch_size: side of a scene's LR patch, in pixels, or its height and width, `[80, 120]`; null for whole photos.
        widths: kernel widths (standard deviation, HR pixels). A whole photo makes one scene with each; a crop gets one
            of them at random. Without it, 0.2, 1.3 and 2.6 for whole photos, at scale 2 0.2, 1.1 and 2, and anything in
            the generator's range for crops.
        report: further metrics, which show the price of the reward.
        dtype: precision of rendering, `float32`, `float16` (faster on GPUs) or `bfloat16` (faster on CPUs with AMX
            or AVX-512 BF16).
        cuda_graphs: on a GPU, launch rendering and scoring as recorded CUDA graphs, which is faster; see `BlindSREnv`.
        compile: fuse what the generator does between its convolutions, by `torch.compile`: on several cores of a
            CPU renders take 0.6 to 0.8 of the time, after half a minute to two minutes of compiling, anew for photos of
            other sizes. Needs a C++ compiler.
        output: results file, JSON, beside which the plot is written as a PNG; null writes neither.
        device: where to compute: `auto` (a GPU if there is one), `cpu` or `cuda`.
        seed: random seed of the searches and the intervals.
    """

    starts: tuple[str, ...] = ("mean-code",)
    budgets: tuple[int, ...] = (1, 4, 16, 64, 200)
    population: int = 8
    views: int = 1
    scenes: int = 16
    metric: dict[str, float] | str = "niqe"
    images: str | None = None
    generator: str | None = None
    predictor: str | None = None
    action: str = "code"
    patch_size: PatchSize | None = 64
    widths: tuple[float, ...] | None = None
    report: tuple[str, ...] = ("psnr", "grid")
    dtype: str = "float32"
    cuda_graphs: bool = False
    compile: bool = False
    output: str | None = "results/search.json"
    device: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse invalid budgets, counts and widths, and a start given twice."""
        check_seed(self)
        if self.population < 2 or self.population % 2:
            raise ValueError(f"population must be an even number of 2 or more, got {self.population}")
        labels.distinct(labels.of_policies(self.starts), "start")
        if not self.budgets or min(self.budgets) < 1 or list(self.budgets) != sorted(set(self.budgets)):
            raise ValueError(f"budgets must be rising numbers of renders, 1 or more, got {list(self.budgets)}")
        at_least(1, self, "scenes")
        dtype_of(self.dtype)
        if not 1 <= self.views <= VIEWS:
            raise ValueError(f"views must be 1 to {VIEWS}, got {self.views}")
        each = COUNT if self.widths is None else len(self.widths)
        if self.widths is not None and (not self.widths or len(set(self.widths)) < each):
            raise ValueError(f"widths must be one or several, each given once, got {list(self.widths)}")
        if self.patch_size is None and self.scenes % each:
            raise ValueError(
                f"whole photos have {each} scenes each, one a width: take {each * max(1, self.scenes // each)} scenes, "
                f"not {self.scenes}"
            )


def search(settings: Search) -> dict[str, Any]:
    """Search from each start, print the table and write results and plot.

    Returns:
        Figures; see `experiments.sheets` for their layout.

    Raises:
        ValueError: unknown names, photos or files that cannot be used, or no generator where starts learned on
            different ones.
    """
    device = pick_device(settings.device)
    learned = [*settings.starts, *([] if settings.predictor is None else [settings.predictor])]
    generator = settings.generator or policies.generator_of(learned, device) or GENERATOR
    renderer = sharing.generator(generator, device, dtype_of(settings.dtype))
    settings = replace(settings, generator=generator)
    widths = settings.widths
    if widths is None and settings.patch_size is None:
        widths = default_widths(renderer.codec.width_range)
    for width in widths or ():  # the true code of others lies outside the box, so a search could not even start there
        check_width(width, renderer.codec.width_range, renderer.name)
    identity = {} if settings.output is None else _identity(settings, renderer)  # of the files as they are now
    output = ResultsFile(settings.output, labels.short(asdict(settings)), settings.seed, identity)
    held_out = _held_out(settings, widths)
    views = [held_out.turned(flip) for flip in range(1, settings.views)]
    unseen = [held_out.turned(flip) for flip in UNSEEN]
    # The same scenes count everywhere: those in which the true code has a score on all views.
    metric = held_out.core.metric.name
    true = np.stack([each.true_scores[metric] for each in (held_out, *views, *unseen)])  # (views, scenes)
    valid = np.asarray(np.isfinite(true).all(axis=0))
    if not valid.any():
        raise ValueError(f"{metric} has no finite score of any scene's true code (flat pictures?): give other photos")
    names = [*ALWAYS, *(name for name in settings.starts if name not in ALWAYS)]
    # All of them first: what does not fit should not be found out after an hour's search.
    loaded = [policies.load(name, held_out.env, predictor=settings.predictor, seed=settings.seed) for name in names]
    runs: dict[str, _Run] = {}
    figures: dict[str, Any] = {}
    for label, name, policy in zip(labels.of_policies(names), names, loaded, strict=True):
        begun = held_out.score(policy)
        action, curve = _climb(held_out, views, begun, settings, BLIND_STEP if name in BLIND else 1.0)
        elsewhere = [_rewards(held_out.lean, unseen, each) for each in (torch.from_numpy(begun.action), action)]
        for rewards in (curve, *elsewhere):
            rewards[~valid] = np.nan
        runs[label] = _Run(begun, held_out.score(_Chosen(action)), curve, *elsewhere)
        if all(each in runs for each in ALWAYS):  # the best of both is what others are measured by
            figures = _figures(settings, held_out, widths, valid, runs)
            if whole := len(runs) == len(names):
                print(table(figures))  # before they are written: a full disk should not take them along
            output.keep(figures, whole=whole)
    if output.path is not None:
        plot(output.path.with_suffix(".png"), figures, labels.short(settings.images))
        print(f"written to {output.path} and {output.path.with_suffix('.png')}")
    return figures


def _figures(
    settings: Search,
    held_out: HeldOut,
    widths: tuple[float, ...] | None,
    valid: NDArray[np.bool_],
    runs: Mapping[str, _Run],
) -> dict[str, Any]:
    """Sum up the searches so far, those of `ALWAYS` among them.

    Args:
        settings: of the command.
        held_out: the scenes.
        widths: of their kernels; None where they are any.
        valid: which of them count, `(scenes,)`.
        runs: by the start's label.
    """
    # Of these two whatever else was searched: the score of a policy does not hang on who else is in the run.
    first, second = (runs[name] for name in ALWAYS)
    best = np.fmax(first.curve[:, -1], second.curve[:, -1])  # (scenes,)
    # Picked by the views that were searched, so that the others judge it without having had a say.
    holding = np.where(second.curve[:, -1] > first.curve[:, -1], second.found, first.found)
    return {
        "kind": "search",
        "photos": held_out.photos,
        "scenes": settings.scenes,
        "generator": held_out.core.generator.name,
        "action": settings.action,
        "metric": held_out.core.metric.name,
        "patch_size": settings.patch_size,
        "widths": widths,
        "budgets": list(settings.budgets),
        "views": settings.views,
        "invalid": int((~valid).sum()),
        "best": _interval(best, held_out.photo, settings.seed),
        "best_unseen": _interval(holding, held_out.photo, settings.seed),
        "starts": {name: _of_start(settings, run, held_out.photo, best, holding) for name, run in runs.items()},
    }


def _of_start(
    settings: Search,
    run: _Run,
    photo: NDArray[np.int64],
    best: NDArray[np.float64],
    holding: NDArray[np.float64],
) -> dict[str, Any]:
    """Sum up the searches from one start.

    Args:
        settings: of the command.
        run: the searches.
        photo: each scene's, `(scenes,)`.
        best: the highest reward found in each scene, by whichever search, `(scenes,)`.
        holding: the reward of those codes on views that were not searched, `(scenes,)`.
    """
    seed = settings.seed
    rewards = run.curve[:, [budget - 1 for budget in settings.budgets]]  # (scenes, budgets)
    return {
        "rewards": rewards.tolist(),
        "reward": [_interval(column, photo, seed) for column in rewards.T],
        "normalised": [_share(column, best, photo, seed) for column in rewards.T],
        "curve": [float(np.nanmean(over_photos(column, photo))) for column in run.curve.T],
        "unseen": {
            "rewards": np.stack([run.start, run.found], axis=1).tolist(),
            "start": _interval(run.start, photo, seed),
            "found": _interval(run.found, photo, seed),
            "more": _interval(run.found - run.start, photo, seed),
            "normalised": _share(run.start, holding, photo, seed),
        },
        "price": {"start": run.begun.figures(seed)["gain"], "found": run.ended.figures(seed)["gain"]},
    }


def _interval(rewards: NDArray[np.float64], photo: NDArray[np.int64], seed: int) -> dict[str, Any]:
    """Give the mean over photos of scenes' rewards, and its interval, as plain values."""
    return asdict(bootstrap(over_photos(rewards, photo), seed))


def _identity(settings: Search, generator: GeneratorLike) -> dict[str, Any]:
    """Give the digests of the files that the figures depend on."""
    return {
        "generator": digests.of_generator(settings.generator),
        "images": digests.of_photos(settings.images),
        "metrics": [digests.of_metric(metric) for metric in (settings.metric, *settings.report)],
        "predictor": digests.of_policy(settings.predictor or "predictor", generator),
        "starts": [digests.of_policy(name, generator) for name in settings.starts],
    }


def _held_out(settings: Search, widths: tuple[float, ...] | None) -> HeldOut:
    """Render the scenes: whole photos at each of the widths, or crops at any of them; None is any width at all."""
    common: dict[str, Any] = {"metric": settings.metric, "report": settings.report}
    environment: dict[str, Any] = {
        "generator": settings.generator,
        "action": settings.action,
        "dtype": settings.dtype,
        "cuda_graphs": settings.cuda_graphs,
        "compile": settings.compile,
        "device": str(pick_device(settings.device)),
        "split": "test",
    }
    if settings.patch_size is not None:
        environment |= {"images": settings.images, "patch_size": settings.patch_size}
        if widths is not None:
            environment["degradation"] = {"widths": widths}
        return HeldOut.crops(settings.scenes, environment=environment, **common)
    photos = images.load(settings.images, split="test")
    assert widths is not None
    count = settings.scenes // len(widths)
    if count > len(photos):
        most = len(photos) * len(widths)
        raise ValueError(f"there are {len(photos)} photos: take at most {most} scenes, or crops, which photos share")
    return HeldOut.whole(photos[:count], widths, environment=environment, **common)


class _Chosen:
    """Actions that were found before, handed out scene after scene."""

    def __init__(self, action: Tensor) -> None:
        self.action, self.next = action, 0

    def predict(self, observation: Any, info: Any = None) -> tuple[Any, None]:
        first, self.next = self.next, self.next + len(observation)
        return self.action[first : self.next], None


@dataclass(frozen=True, eq=False)
class _Run:
    """One search.

    Attributes:
        begun: the start on the photos as they are.
        ended: the best codes found, on the same.
        curve: the best reward after each render, the mean over the searched views, `(N, R)`.
        start: reward of the start's code on unseen views, `(N,)`.
        found: that of the best code found.
    """

    begun: Scored
    ended: Scored
    curve: NDArray[np.float64]
    start: NDArray[np.float64]
    found: NDArray[np.float64]


def _rewards(core: BlindSRCore, views: Sequence[HeldOut], action: Tensor) -> NDArray[np.float64]:
    """Score given codes `(N, d)` on several views of the scenes: the mean reward in each, `(N,)`."""
    action = core.to_action(action, tuple(action.shape))
    rewards = []
    for view in views:
        parts = zip(view.parts, action.split([len(part.lr) for part in view.parts]), strict=True)
        rewards.append(torch.cat([core.play(part, own)[0] for part, own in parts]))
    mean: NDArray[np.float64] = torch.stack(rewards).double().mean(0).cpu().numpy()
    return mean


def _climb(
    held_out: HeldOut, views: Sequence[HeldOut], begun: Scored, settings: Search, step: float
) -> tuple[Tensor, NDArray[np.float64]]:
    """Search from the actions of `begun`: the best ones `(N, d)`, and the reward after each render `(N, R)`."""
    core = held_out.lean  # starts and results are asked for the report, the search pays for none
    sizes = [len(part.lr) for part in held_out.parts]
    starts = core.to_action(begun.action, begun.action.shape).split(sizes)
    first = np.cumsum([0, *sizes]).tolist()  # each part's first scene
    found = [
        search_codes(
            core,
            part,
            start,
            renders=settings.budgets[-1],
            population=settings.population,
            step=step,
            seed=settings.seed + first[index],
            views=[view.parts[index] for view in views],
        )
        for index, (part, start) in enumerate(zip(held_out.parts, starts, strict=True))
    ]
    curve = torch.cat([result.curve for result in found]).double().cpu().numpy()
    return torch.cat([result.action for result in found]), curve


def _share(
    reward: NDArray[np.float64], best: NDArray[np.float64], photo: NDArray[np.int64], seed: int
) -> dict[str, Any] | None:
    """Give the normalised score as plain values; None if the search gained nothing."""
    won = np.nanmean(over_photos(best, photo)) >= LEAST
    return asdict(normalised(reward, best, seed, photo=photo)) if won else None
