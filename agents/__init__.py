"""Who acts: predictor, DDPG, group-relative and pathwise policy gradients, other libraries' agents, fixed policies.

Names are imported when first used, so `agents.networks` and `agents.replay` need PyTorch, NumPy and safetensors alone.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agents.ddpg import DDPG, DDPGConfig
    from agents.group_pg import GroupPG, GroupPGConfig
    from agents.networks import Predictor
    from agents.pathwise import Pathwise, PathwiseConfig
    from agents.policies import load
    from agents.residual import Residual
    from agents.upscaler import Upscaler

__all__ = [
    "DDPG",
    "DDPGConfig",
    "GroupPG",
    "GroupPGConfig",
    "Pathwise",
    "PathwiseConfig",
    "Predictor",
    "Residual",
    "Upscaler",
    "load",
]

_HOME = {
    "DDPG": "agents.ddpg",
    "DDPGConfig": "agents.ddpg",
    "GroupPG": "agents.group_pg",
    "GroupPGConfig": "agents.group_pg",
    "Pathwise": "agents.pathwise",
    "PathwiseConfig": "agents.pathwise",
    "Predictor": "agents.networks",
    "Residual": "agents.residual",
    "Upscaler": "agents.upscaler",
    "load": "agents.policies",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its module."""
    if name not in _HOME:
        raise AttributeError(f"module 'agents' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
