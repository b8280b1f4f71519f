"""Adam's moments by the names of a network's parameters, as a training's state keeps them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def moments(network: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Give the first and the second moments; none of parameters that have taken no step."""
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
    """Go on from what `moments` gave after `step` of the optimiser's steps."""
    for name, parameter in network.named_parameters():
        if name in first:
            optimizer.state[parameter] = {
                "step": torch.tensor(float(step), device=parameter.device),
                "exp_avg": torch.empty_like(parameter).copy_(first[name]),
                "exp_avg_sq": torch.empty_like(parameter).copy_(second[name]),
            }
