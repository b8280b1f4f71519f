"""The best code of each image, by a black-box search that knows nothing but rewards; many images at once.

A (1 + lambda) evolution strategy for each scene (Rechenberg 1973): antithetic normal steps around the best action so
far, which moves to the best of a generation if that is better; then the step grows, else it shrinks. All scenes'
candidates are rendered in one batch, and nothing waits for the device between generations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm.auto import tqdm

from agents.config import per_component
from blindsr_env.core import BlindSRCore
from blindsr_env.scenes import Scenes

SPREAD = {"code": (0.15,) * 8 + (0.05,), "free-code": (0.15,), "width": (0.15,)}
"""First deviation of the steps by action space, per component; the last value holds for the rest."""

GROW, SHRINK = 1.3, 0.75
"""The step's factors after a generation that found something better, and after one that did not."""

PIXELS = 128 * 64 * 64
"""LR pixels rendered at once, of whole pictures: results do not depend on it, memory does."""


@dataclass(frozen=True, eq=False)
class SearchResult:
    """What a search of R renders an image found in N scenes.

    Attributes:
        action: the best ones, `(N, d)` float32 in [-1, 1].
        reward: theirs, `(N,)` float32.
        curve: the best reward after 1, 2, ..., R renders of an image, `(N, R)` float32; the first is the start's.
    """

    action: Tensor
    reward: Tensor
    curve: Tensor


def search(
    core: BlindSRCore,
    scenes: Scenes,
    start: Tensor,
    *,
    renders: int = 200,
    population: int = 8,
    step: float = 1.0,
    seed: int = 0,
    views: Sequence[Scenes] = (),
) -> SearchResult:
    """Search for the action of the highest reward in each scene. A report of the core is computed for every candidate.

    Some of what is won so is the luck of one picture's pixels. `views` asks for an action that holds on several.

    Args:
        core: renders and scores, in its action space.
        scenes: N scenes.
        start: where to begin, `(N, d)`, clipped to the box; rendered first, so the result is never worse.
        renders: the budget of each scene, the start's included.
        population: as `maximise`.
        step: the first step's size in units of `SPREAD`; a start that knows nothing of its scene needs 2 or 3.
        seed: scene i draws from `seed + i`, so a batch finds what its scenes find one by one.
        views: further N scenes each, such as `core.turned` gives: the reward is the mean over `scenes` and all of them,
            and a render one of each.

    Raises:
        ValueError: settings out of range.
    """
    start = core.to_action(start, (len(scenes.lr), int(core.action_space.shape[0])))
    spread = step * per_component(SPREAD[core.action], start.shape[1]).to(core.device)

    at_once = max(1, PIXELS // (scenes.lr.shape[1] * scenes.lr.shape[2]))

    def reward(action: Tensor) -> Tensor:
        owner = torch.arange(len(action), device=core.device).repeat_interleave(action.shape[1])  # (N K,)
        parts = list(zip(owner.split(at_once), action.flatten(0, 1).split(at_once), strict=True))
        every = [torch.cat([core.play(view.take(rows), part)[0] for rows, part in parts]) for view in (scenes, *views)]
        return torch.stack(every).mean(0).view(action.shape[:2])

    return maximise(reward, start, spread, renders=renders, population=population, seed=seed)


@torch.no_grad()
def maximise(
    reward: Callable[[Tensor], Tensor],
    start: Tensor,
    spread: Tensor,
    *,
    renders: int = 200,
    population: int = 8,
    seed: int = 0,
) -> SearchResult:
    """Climb N functions at once in the box [-1, 1]^d.

    Args:
        reward: gives K actions of each function, `(N, K, d)`, their rewards `(N, K)`; NaN is worse than any number.
        start: `(N, d)` float32, clipped to the box.
        spread: first deviation of the steps, `(d,)`, above 0.
        renders: evaluations of each function, the start's included.
        population: K of a generation; even, since steps come in pairs of opposite sign. The last may be smaller.
        seed: function i draws from `seed + i`.

    Raises:
        ValueError: `renders` below 1, an odd or no population, a spread that is not above 0.
    """
    if renders < 1:
        raise ValueError(f"renders must be at least 1, the start's own, got {renders}")
    if population < 2 or population % 2:
        raise ValueError(f"population must be an even number of 2 or more, got {population}")
    if not bool((spread > 0).all()):
        raise ValueError(f"the search's steps must have a deviation above 0, got {spread.tolist()}")
    scenes, device = len(start), start.device
    half = population // 2
    generations = -(-(renders - 1) // population)
    noise = _noise(scenes, generations, half, start.shape[1], seed).to(device)  # all at once: no wait on the way
    best = start.clamp(-1, 1)  # (N, d)
    found = [_number(reward(best[:, None]))]  # (N, K) each
    highest = found[0][:, 0]
    step = torch.ones(scenes, 1, 1, device=device)
    each = torch.arange(scenes, device=device)
    with tqdm(total=renders, initial=1, desc="searching", unit=" renders an image", leave=False) as bar:
        for generation in range(generations):
            eps = noise[:, generation]  # (N, K/2, d)
            size = min(population, renders - 1 - generation * population)
            steps = torch.stack([eps, -eps], 2).flatten(1, 2)[:, :size]  # (N, K, d)
            action = (best[:, None] + step * spread * steps).clamp(-1, 1)
            rewards = _number(reward(action))
            found.append(rewards)
            value, which = rewards.max(1)
            better = value > highest
            best = torch.where(better[:, None], action[each, which], best)
            highest = torch.where(better, value, highest)
            step = step * torch.where(better, GROW, SHRINK)[:, None, None]
            bar.update(size)
    return SearchResult(best, highest, torch.cat(found, 1).cummax(1).values)


def _noise(scenes: int, generations: int, half: int, size: int, seed: int) -> Tensor:
    """Draw `(scenes, generations, half, size)` standard normal numbers, each scene's from a stream of its own.

    A generation at a time, so that a longer search begins as a shorter one.
    """
    noise = torch.empty(scenes, generations, half, size)
    for scene in range(scenes):
        rng = torch.Generator().manual_seed(seed + scene)
        for generation in range(generations):
            noise[scene, generation].normal_(generator=rng)
    return noise


def _number(reward: Tensor) -> Tensor:
    return reward.float().nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
