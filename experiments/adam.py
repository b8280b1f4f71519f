"""Adam's moments, named after a network's parameters as in a saved training state."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def moments(network: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Give the first and second moments; parameters that have not taken a step have none."""
    states = {name: optimizer.state[p] for name, p in network.named_parameters() if p in optimizer.state}
    first = {name: state["exp_avg"] for name, state in states.items()}
    return first, {name: state["exp_avg_sq"] for name, state in states.items()}


def restore(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    first: Mapping[str, Tensor],
    second: Mapping[str, Tensor],
    step: int,
) -> None:
    """Restore what `moments` gave after `step` optimizer steps."""
    for name, parameter in network.named_parameters():
        if name in first:
            optimizer.state[parameter] = {
                "step": torch.tensor(float(step), device=parameter.device),
                "exp_avg": torch.empty_like(parameter).copy_(first[name]),
                "exp_avg_sq": torch.empty_like(parameter).copy_(second[name]),
            }
