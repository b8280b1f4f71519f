"""A policy in part: from the predicted kernel towards what the policy chooses, a share of the way.

Rewards without a reference are won at a price in PSNR, and both grow along that way: one agent gives every trade
between the picture that is true and the one that the metric likes best, where a mixed reward is learned for each.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agents.policies import Policy

MARK = "@"
"""Stands between a policy's name and its share: `amgan_rl@0.5`."""


class Part:
    """A share of the way from one policy's action to another's, both clipped to the box as the environment does.

    Args:
        policy: where the way leads.
        base: where it begins.
        share: 0 is the base, 1 the policy.
    """

    def __init__(self, policy: Policy, base: Policy, share: float) -> None:
        self.policy, self.base, self.share = policy, base, share

    def predict(self, observation: Any, info: Any = None) -> tuple[Any, None]:
        """Choose between the two."""
        chosen, begun = (each.predict(observation, info)[0].clip(-1, 1) for each in (self.policy, self.base))
        return begun + self.share * (chosen - begun), None


def parted(name: str) -> tuple[str, float | None]:
    """Split a share off the name of a policy; None where it has none, or is a file or folder as it stands.

    Raises:
        ValueError: the share does not lie in 0 to 1.

    Example:
        >>> parted("runs/agent@0.5"), parted("amgan_rl"), parted("me@home/agent.safetensors")
        (('runs/agent', 0.5), ('amgan_rl', None), ('me@home/agent.safetensors', None))
    """
    whole, mark, end = name.rpartition(MARK)
    try:
        share = float(end)
    except ValueError:
        return name, None
    if not mark or Path(name).exists():
        return name, None
    if not 0 <= share <= 1:
        raise ValueError(f"the share of {name} must lie in 0 (the prediction) to 1 (the policy), got {end}")
    return whole, share
