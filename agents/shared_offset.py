"""One constant for all pictures, added to what a policy chooses.

What it wins has nothing to do with the picture: it is a habit of the generator or the metric. It is learned by an
antithetic evolution strategy: the group-relative gradient, with one vector in the network's place.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from agents.config import per_component
from agents.group_pg import advantage, antithetic
from agents.worlds import Env, OneStepWorld, device_of

NOISE = (0.15,) * 8 + (0.05,)
"""Deviation per component in the action box; the last value holds for the rest."""

FREE_NOISE = (0.1,)
"""Among free codes all components weigh the same."""

LEARNING_RATE = 0.03
"""Of Adam; decays linearly to 0."""


class OffsetPolicy:
    """Another policy's action plus a constant, in [-1, 1].

    Args:
        base: the other policy.
        offset: the constant, `(actions,)`.
    """

    def __init__(self, base: Any, offset: Tensor) -> None:
        self.base, self.offset = base, offset

    def predict(self, observation: Any, info: Any = None) -> tuple[Any, None]:
        """Shift what the other policy chooses."""
        action, _ = self.base.predict(observation, info)
        if isinstance(action, Tensor):
            return (action + self.offset.to(action.device)).clamp(-1, 1), None
        return (action + self.offset.cpu().numpy()).clip(-1, 1), None


def learn_offset(env: Env, policy: Any, renders: int = 5_760, seed: int = 0) -> Tensor:
    """Learn the constant that wins most when added to a policy's actions.

    Args:
        env: a vector environment with an even `repeats`, for pairs of actions in the same scene.
        policy: what the constant is added to; it is told what the environment's `info` says, so that the true code
            can be it.
        renders: the budget, in actions rendered.
        seed: fixes scenes and noise.

    Returns:
        The offset, `(actions,)` float32 on the environment's device.

    Raises:
        ValueError: `repeats` is odd, or a reward is not finite.
    """
    world = OneStepWorld(env, device_of(env))
    if world.repeats % 2:
        raise ValueError(
            f"the offset is learned from pairs of actions: make the environment with an even repeats, not "
            f"{world.repeats}"
        )
    rng = torch.Generator(world.device).manual_seed(seed)
    free = world.meaning is not None and world.meaning.kind == "free-code"
    noise = per_component(FREE_NOISE if free else NOISE, world.actions).to(world.device)
    offset = torch.zeros(world.actions, device=world.device, requires_grad=True)
    optimiser = torch.optim.Adam([offset], lr=LEARNING_RATE)
    steps = max(renders // world.num_envs, 1)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, steps)
    observation = world.see(seed)
    bar = tqdm(total=steps * world.num_envs, desc="learning the offset", unit=" renders", leave=False)
    for _ in range(steps):
        base, _ = policy.predict(observation[:: world.repeats], _first_rows(world))  # (S, A)
        mean = torch.as_tensor(base, dtype=torch.float32, device=world.device) + offset.detach()
        eps = antithetic(mean, world.repeats, rng)  # (S, R, A)
        reward, observation = world.act((mean[:, None] + noise * eps).flatten(0, 1).clamp(-1, 1))
        better = advantage(reward.unflatten(0, (-1, world.repeats)), floor=0.02, clip=3.0)
        offset.grad = -(better[:, :, None] * eps).mean((0, 1))  # in units of the noise: Adam takes scales out
        optimiser.step()
        schedule.step()
        bar.update(world.num_envs)
    bar.close()
    return offset.detach()


def _first_rows(world: OneStepWorld) -> dict[str, Any]:
    """Give what the environment says of each scene, once a scene."""
    return {
        name: values[:: world.repeats]
        for name, values in world.info.items()
        if isinstance(values, Tensor | np.ndarray) and len(values) == world.num_envs
    }
