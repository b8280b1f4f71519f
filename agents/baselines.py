"""Policies that learn no reward: the true code, constants, chance, a predictor."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from agents.networks import Actor, answer
from blindsr_env.core import BlindSRCore


class TrueCode:
    """The scene's own kernel: reward 0 by definition."""

    def predict(self, observation: Any, info: Any = None) -> tuple[Any, None]:
        """Read the true action off `info`."""
        if not info or "true_action" not in info:
            raise ValueError("the true code stands in the environment's info: predict(observation, info)")
        return info["true_action"], None


class Constant:
    """The same action for every scene.

    Args:
        action: `(actions,)`.
    """

    def __init__(self, action: Tensor) -> None:
        self.action = action

    def predict(self, observation: Any, info: Any = None) -> tuple[Any, None]:
        """Repeat the action."""
        return answer(observation, self.action.device, lambda lr: self.action.repeat(len(lr), 1)), None


class Random:
    """Uniform in the action box.

    Args:
        actions: components of the action.
        seed: starts the random numbers.
        device: where they are drawn.
    """

    def __init__(self, actions: int, *, seed: int = 0, device: torch.device | str = "cpu") -> None:
        self.actions, self.seed, self.device = actions, seed, torch.device(device)
        self.rng = torch.Generator(self.device).manual_seed(seed)

    def restart(self) -> None:
        """Draw the same actions again."""
        self.rng.manual_seed(self.seed)

    def predict(self, observation: Any, info: Any = None) -> tuple[Any, None]:
        """Draw an action for each scene."""

        def draw(lr: Tensor) -> Tensor:
            return torch.rand(len(lr), self.actions, generator=self.rng, device=self.device) * 2 - 1

        return answer(observation, self.device, draw), None


class PredictorPolicy:
    """The kernel that a predictor sees in the picture.

    Args:
        predictor: a network that speaks the environment's action space.
        device: where it works.
    """

    def __init__(self, predictor: Actor, *, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.predictor = predictor.to(self.device).eval()

    def predict(self, observation: Any, info: Any = None) -> tuple[Any, None]:
        """Predict."""
        return answer(observation, self.device, self.predictor), None


def mean_action(core: BlindSRCore) -> Tensor:
    """Give the action of the mean kernel, `(actions,)`: all coefficients 0. In `"width"` actions, the middle width."""
    codec = core.codec
    side = round(codec.mean.numel() ** 0.5)
    code = codec.encode(codec.mean.view(1, side, side))
    middle = code.new_full((1,), sum(codec.width_range) / 2, dtype=torch.float64)
    return core.actions.of(code, middle)[0].cpu()
