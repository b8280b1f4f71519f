"""What an agent's file holds: networks, optimisers, random numbers, the place in the schedule, perhaps a replay."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from agents.checkpoints import ActionMeaning, only, under
from agents.networks import named_state

if TYPE_CHECKING:
    from agents.agent import Agent


def contents(agent: Agent[Any], with_replay: bool) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Give an agent as tensors and metadata.

    Args:
        agent: any algorithm's.
        with_replay: adds its transitions.

    Returns:
        Tensors by name, and plain values.
    """
    tensors = dict(named_state(agent.averaged, "averaged"))
    for name, network in agent.networks().items():
        tensors.update(named_state(network, name))
    for name, optimiser in agent.optimisers.items():
        for index, slots in optimiser.state_dict()["state"].items():
            tensors.update({f"optimiser.{name}.{index}.{slot}": value for slot, value in slots.items()})
    tensors["rng"] = agent.rng.get_state()
    if with_replay:
        tensors.update({f"replay.{name}": tensor for name, tensor in agent.replay_state().items()})
    return tensors, {
        "kind": "agent",
        "algorithm": agent.algorithm,
        "config": dataclasses.asdict(agent.config),
        "settings": agent.actor.settings,
        "meaning": dataclasses.asdict(agent.meaning) if agent.meaning else None,
        "observation": list(agent.world.observation_shape) if agent.world else None,
        "seed": agent.seed,
        "num_timesteps": agent.num_timesteps,
        "total_timesteps": agent.total_timesteps,
        "rng_device": agent.device.type,
        "scenes": agent.scenes,
    }


def take_over(agent: Agent[Any], tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Make an agent what `contents` was taken of.

    Args:
        agent: a new one with the same config and actor settings.
        tensors: of the file.
        metadata: of the file.

    Raises:
        KeyError: a tensor or value is missing, or of no known name; other errors of `checkpoints.whole` where one is
            of another type or shape.
    """
    networks = {**agent.networks(), "averaged": agent.averaged}
    optimisers = [f"optimiser.{name}" for name in agent.optimisers]
    only(tensors, [f"{name}." for name in (*networks, *optimisers, "replay")] + ["rng"])
    agent.meaning = ActionMeaning.from_metadata(metadata)
    for name, network in networks.items():
        network.load_state_dict(under(tensors, name))
    for name, optimiser in agent.optimisers.items():
        _load_adam(optimiser, under(tensors, f"optimiser.{name}"))
    agent.scenes = metadata.get("scenes")
    if not isinstance(agent.scenes, dict | None):
        raise TypeError(f"the scenes' state is a {type(agent.scenes).__name__}")
    agent.num_timesteps, agent.total_timesteps = int(metadata["num_timesteps"]), int(metadata["total_timesteps"])
    agent.learned = agent.num_timesteps > 0
    if metadata["rng_device"] == agent.device.type:
        agent.rng.set_state(tensors["rng"])
    else:  # another kind of device has another kind of generator
        agent.rng.manual_seed(agent.seed + agent.num_timesteps)
    replay = under(tensors, "replay")
    if replay:
        agent.load_replay_state(replay)


def _load_adam(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Give Adam the state of a file, of all its parameters or, before the first step, of none."""
    shapes: dict[str, torch.Size] = {}
    for index, parameter in enumerate(optimiser.param_groups[0]["params"]):
        slots = {"step": torch.Size(()), "exp_avg": parameter.shape, "exp_avg_sq": parameter.shape}
        shapes |= {f"{index}.{slot}": shape for slot, shape in slots.items()}
    if tensors and {name: tensor.shape for name, tensor in tensors.items()} != shapes:
        raise ValueError("an optimiser's tensors are missing, foreign or of another shape")
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        number, slot = name.split(".", 1)
        state.setdefault(int(number), {})[slot] = tensor
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
