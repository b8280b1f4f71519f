"""Reward against renders an image: what a policy is worth is the renders that it saves a search."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agents import policies
from agents.search import search as search_codes
from experiments.held_out import ROWS, HeldOut, Scored
from experiments.intervals import Interval, bootstrap
from experiments.normalised import LEAST, normalised
from experiments.run_folder import write_results
from experiments.training import pick_device
from generators.atomic import atomic_write

TRUE_CODE = "true-code"
"""Where the search begins that everything is normalised by."""

BLIND = ("mean-code", "random")
BLIND_STEP = 3.0
"""First step, in units of the search's spread, from a start that knows nothing of its scene."""


@dataclass(frozen=True, kw_only=True)
class Search:
    """Settings of `blindsr search`.

    Attributes:
        starts: where searches begin, besides the true code: `predictor`, `mean-code` (a search from scratch), `random`,
            and files of predictors, agents and offsets.
        budgets: renders an image at which the reward is read off; 1 is the start alone.
        population: candidates of an image in a generation, an even number.
        scenes: how many held-out scenes.
        metric: M of the reward; a mixture as `niqe+0.1*psnr`, or by name: `{niqe: 1, psnr: 0.1}`.
        images: folder of held-out HR photos; None for the built-in ones of the test split.
        generator: name or checkpoint; None for the best that ships.
        predictor: checkpoint behind `predictor`; None for the one that ships.
        action: action space: `code`, `free-code` or `width`.
        patch_size: LR side of a scene.
        report: metrics that show the price.
        dtype: of the rendering, `float32` or `bfloat16`.
        output: results file, JSON, beside which the plot is written as PNG; None writes neither.
        device: `auto`, `cpu` or `cuda`.
        seed: of the search and of the intervals.
    """

    starts: tuple[str, ...] = ("predictor", "mean-code")
    budgets: tuple[int, ...] = (1, 4, 16, 64, 200)
    population: int = 8
    scenes: int = 16
    metric: dict[str, float] | str = "niqe"
    images: str | None = None
    generator: str | None = None
    predictor: str | None = None
    action: str = "code"
    patch_size: int = 64
    report: tuple[str, ...] = ("psnr", "grid")
    dtype: str = "float32"
    output: str | None = "results/search.json"
    device: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse budgets and counts that are none."""
        if not self.budgets or min(self.budgets) < 1 or list(self.budgets) != sorted(set(self.budgets)):
            raise ValueError(f"budgets must be rising numbers of renders, 1 or more, got {list(self.budgets)}")
        if self.scenes < 1:
            raise ValueError(f"scenes must be at least 1, got {self.scenes}")


def search(settings: Search) -> dict[str, Any]:
    """Search from each start, print the table and write results and plot.

    Returns:
        Figures: for each start and budget the reward and its share of what the search from the true code wins, with
        95% intervals over scenes, and what the start and the best code found do to each metric of the report.

    Raises:
        ValueError: unknown names, photos or files that cannot be used.
    """
    environment = {
        "images": settings.images,
        "split": "test",
        "generator": settings.generator,
        "action": settings.action,
        "patch_size": settings.patch_size,
        "dtype": settings.dtype,
        "device": str(pick_device(settings.device)),
    }
    # Two of the same scenes: the search pays for no report, which is asked of starts and results only.
    lean = HeldOut(settings.scenes, metric=settings.metric, report=(), environment=environment)
    held_out = HeldOut(settings.scenes, metric=settings.metric, report=settings.report, environment=environment)
    names = [TRUE_CODE, *(name for name in settings.starts if name != TRUE_CODE)]
    starts = {name: policies.load(name, lean.env, predictor=settings.predictor, seed=settings.seed) for name in names}
    figures: dict[str, Any] = {
        "photos": held_out.photos[: settings.scenes],  # scenes take one photo after another
        "generator": held_out.core.generator.name,
        "metric": held_out.core.metric.name,
        "budgets": list(settings.budgets),
        "starts": {},
    }
    best: NDArray[np.float64] | None = None  # (scenes,): what the search from the true code wins, the first of all
    for name, policy in starts.items():
        begun = held_out.score(policy)
        action, curve = _climb(lean, begun, settings, BLIND_STEP if name in BLIND else 1.0)
        ended = held_out.score(_Chosen(action))
        best = curve[:, -1] if best is None else best
        rewards = curve[:, [budget - 1 for budget in settings.budgets]]  # (scenes, budgets)
        figures["starts"][name] = {
            "rewards": rewards.tolist(),
            "reward": [asdict(bootstrap(column, settings.seed)) for column in rewards.T],
            "normalised": [_share(column, best, settings.seed) for column in rewards.T],
            "curve": np.nanmean(curve, axis=0).tolist(),
            "price": {"start": begun.figures(settings.seed)["gain"], "found": ended.figures(settings.seed)["gain"]},
        }
    print(table(figures))
    if settings.output is not None:
        path = Path(settings.output)
        write_results(path, figures, settings, settings.seed)
        plot(path.with_suffix(".png"), figures)
        print(f"written to {path} and {path.with_suffix('.png')}")
    return figures


def table(figures: dict[str, Any]) -> str:
    """Lay figures out as text: a line a start, its reward at each budget, then the share of what can be won."""
    starts = figures["starts"]
    wide = max(len("renders an image"), *map(len, starts))
    budgets = "".join(f"{budget:>8}" for budget in figures["budgets"])
    lines = [
        f"{figures['generator']}, {figures['metric']}, {len(next(iter(starts.values()))['rewards'])} scenes of "
        f"{len(figures['photos'])} photos: reward over the true code, and its share of the search from there",
        f"{'renders an image':<{wide}}{budgets}  | {budgets}",
    ]
    for name, of in starts.items():
        reward = "".join(f"{entry['mean']:>+8.3f}" for entry in of["reward"])
        share = "".join(f"{'-':>8}" if entry is None else f"{entry['mean']:>8.2f}" for entry in of["normalised"])
        lines.append(f"{name:<{wide}}{reward}  | {share}")
    lines.append("price: gain over the true code of the start, then of the best code found")
    for name, of in starts.items():
        price = ", ".join(
            f"{metric} {Interval(**gain).mean:+.4g} then {Interval(**of['price']['found'][metric]).mean:+.4g}"
            for metric, gain in of["price"]["start"].items()
        )
        lines.append(f"{name:<{wide}}  {price}")
    return "\n".join(lines)


def plot(path: Path, figures: dict[str, Any]) -> None:
    """Draw reward against renders an image, a line a start; dotted, what a policy wins by itself.

    Args:
        path: PNG to write.
        figures: of `search`.
    """
    from matplotlib.figure import Figure  # half a second to import, and only pictures need it

    figure = Figure(figsize=(6.4, 4.2), dpi=130, layout="constrained")
    axes = figure.add_subplot()
    for index, (name, of) in enumerate(figures["starts"].items()):
        mean, low, high = (np.array([entry[key] for entry in of["reward"]]) for key in ("mean", "low", "high"))
        label = "search from scratch (mean code)" if name == "mean-code" else f"search from {_short(name)}"
        axes.plot(np.arange(len(of["curve"])) + 1, of["curve"], color=f"C{index}", label=label)
        bars = np.nan_to_num(np.stack([mean - low, high - mean]))  # of one scene there is no interval
        axes.errorbar(figures["budgets"], mean, bars, fmt="o", markersize=3, capsize=2, color=f"C{index}", alpha=0.6)
        if name not in (TRUE_CODE, *BLIND):
            axes.axhline(of["curve"][0], color=f"C{index}", linestyle=":", label=f"{_short(name)} alone")
    axes.set_xscale("log")
    axes.set_xlabel("renders an image")
    axes.set_ylabel(f"reward over the true code ({figures['metric']})")
    axes.set_title(f"{figures['generator']}: best code found, mean and 95% interval over scenes", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    with atomic_write(path) as partial:
        figure.savefig(partial)


class _Chosen:
    """Actions that were found before, handed out scene after scene."""

    def __init__(self, action: Tensor) -> None:
        self.action, self.next = action, 0

    def predict(self, observation: Any, info: Any = None) -> tuple[Any, None]:
        first, self.next = self.next, self.next + len(observation)
        return self.action[first : self.next], None


def _climb(scenes: HeldOut, begun: Scored, settings: Search, step: float) -> tuple[Tensor, NDArray[np.float64]]:
    """Search from the actions of `begun`: the best ones `(N, d)`, and the reward after each render `(N, R)`."""
    starts = scenes.core.to_action(begun.action, begun.action.shape).split(ROWS)
    found = [
        search_codes(
            scenes.core,
            part,
            start,
            renders=settings.budgets[-1],
            population=settings.population,
            step=step,
            seed=settings.seed + ROWS * index,
        )
        for index, (part, start) in enumerate(zip(scenes.parts, starts, strict=True))
    ]
    curve = torch.cat([result.curve for result in found]).double().cpu().numpy()
    curve[np.isnan(begun.reward)] = np.nan  # where the true code has no score there is nothing to be won
    return torch.cat([result.action for result in found]), curve


def _share(reward: NDArray[np.float64], best: NDArray[np.float64], seed: int) -> dict[str, Any] | None:
    """Give the normalised score as plain values; None where the search won nothing."""
    return asdict(normalised(reward, best, seed)) if np.nanmean(best) >= LEAST else None


def _short(name: str) -> str:
    """Give a policy's name, or the end of its path."""
    return "/".join(Path(name).parts[-2:])
