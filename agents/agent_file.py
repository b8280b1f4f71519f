"""What an agent's file holds: networks, optimisers, random numbers, the place in the schedule.

A replay is far larger than all these and is saved more seldom, so it has a file of its own beside the agent's. The two
belong together where they bear the same mark. The replay may be older than its agent, as after a crash: transitions of
one-step episodes stay true where metric and generator do, so nothing but the newest ones is missing.
"""

from __future__ import annotations

import dataclasses
import secrets
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from agents.checkpoints import StrPath, only, under, whole
from agents.meaning import ActionMeaning
from agents.networks import named_state
from agents.wrapping import reward_wrapper
from generators import checkpoint
from generators.checkpoint import CheckpointError

if TYPE_CHECKING:
    from agents.agent import Agent


def contents(agent: Agent[Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Give an agent of any algorithm as tensors by name, and plain values; its replay is not among them."""
    tensors: dict[str, Tensor] = {}
    for name, network in agent.networks().items():
        tensors.update(named_state(network, name))
    more, values = agent.state()
    return tensors | more, {
        "kind": "agent",
        "algorithm": agent.algorithm,
        "config": dataclasses.asdict(agent.config),
        "settings": agent.actor.settings,
        "meaning": dataclasses.asdict(agent.meaning) if agent.meaning else None,
        "observation": list(agent.world.observation_shape) if agent.world else None,
        "seed": agent.seed,
        "num_timesteps": agent.num_timesteps,
        "total_timesteps": agent.total_timesteps,
        "earlier_timesteps": agent.earlier_timesteps,
        "schedule": agent.schedule,
        "replay": agent.replay_mark,
        "training": agent.training,
        **values,
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
    networks = agent.networks()
    # Older versions kept the replay here, the actor a second time as its own average, and a random state in any case.
    only(tensors, [f"{name}." for name in (*networks, "optimiser", "averaged", "replay")] + ["rng"])
    agent.meaning = ActionMeaning.from_metadata(metadata)
    for name, network in networks.items():
        network.load_state_dict(under(tensors, name))
    agent.replay_mark = metadata.get("replay")
    agent.training = dict(metadata.get("training") or {})
    agent.num_timesteps, agent.total_timesteps = int(metadata["num_timesteps"]), int(metadata["total_timesteps"])
    agent.earlier_timesteps = int(metadata.get("earlier_timesteps", 0))
    agent.schedule = schedule(metadata)
    agent.learned = agent.earlier_timesteps + agent.num_timesteps > 0
    agent.load_state(tensors, metadata)
    replay = under(tensors, "replay")
    if replay:
        agent.load_replay_state(replay)


def schedule(metadata: Mapping[str, Any]) -> list[int]:
    """Read off an agent's metadata at how many renders its schedule ended, in turn; older files name the last alone."""
    last = int(metadata["total_timesteps"])
    return [int(each) for each in metadata.get("schedule", [last] if last else [])]


def replay_file(path: StrPath) -> Path:
    """Give the file of the replay that belongs to an agent's: `agent.replay.safetensors` beside `agent.safetensors`."""
    path = Path(path)
    return path.with_name(f"{path.stem}.replay{path.suffix}")


def save_replay(agent: Agent[Any], path: StrPath) -> None:
    """Write an agent's transitions beside its file, `path`, where it has any."""
    tensors = agent.replay_state()
    if tensors:
        of = _learned_from(agent)
        checkpoint.save(replay_file(path), tensors, {"kind": "replay", "replay": agent.replay_mark, "of": of})


def mark_replay(agent: Agent[Any]) -> None:
    """Give an agent the mark that its replay's file will bear, unless it has one."""
    if agent.replay_mark is None and agent.replay_state():
        agent.replay_mark = secrets.token_hex(8)  # no part of what a seed fixes


def load_replay(agent: Agent[Any], path: StrPath) -> None:
    """Fill an agent's replay from the file beside its own, `path`, where there is one that belongs to it.

    Raises:
        CheckpointError: the file is damaged.

    Warns:
        UserWarning: its transitions are of another metric, generator, precision, patch size or environment, so they
            are left.
    """
    beside = replay_file(path)
    if agent.replay_mark is None or not beside.is_file():
        return
    try:
        tensors, metadata = checkpoint.read(beside)
        if metadata.get("replay") == agent.replay_mark and _of_this_world(agent, metadata.get("of"), beside):
            with whole(beside, "replay"):
                agent.load_replay_state(tensors)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; or remove it, and the agent fills a new one") from None


def _learned_from(agent: Agent[Any]) -> dict[str, Any]:
    """Say what transitions are true of: in another world the same action earns another reward."""
    world = agent.world
    if world is None:
        return {}
    of: dict[str, Any] = {"patch": list(world.observation_shape), "reward wrapper": reward_wrapper(world.env)}
    if world.core is not None and world.meaning is not None:
        of["metric"] = world.core.metric.name
        of |= {"generator": world.meaning.generator, "generator's weights": world.meaning.weights}
        of["precision"] = str(world.core.dtype).removeprefix("torch.")
    else:
        of["environment"] = getattr(world.env.spec, "id", None) or type(world.env.unwrapped).__name__
    return of


def _of_this_world(agent: Agent[Any], of: Mapping[str, Any] | None, file: Path) -> bool:
    """Say whether a replay is of what the agent learns from now; older files do not tell, and are taken for it."""
    now = _learned_from(agent)
    untold: dict[str, Any] = {what: now[what] for what in ("precision", "environment") if what in now}
    before = now if of is None else {**untold, **of}
    changed = [what for what in now if before.get(what) != now[what]]
    if changed:
        what = changed[0]
        warnings.warn(
            f"the transitions in {file} are of another {what}, {before.get(what)}, not {now[what]}: the agent fills a "
            "new replay",
            UserWarning,
            stacklevel=2,
        )
    return not changed
