"""Policies: whatever chooses actions, by name or file. Baselines, predictors and agents behind one protocol."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

import generators
from agents import foreign, wrapping
from agents.agent import Agent
from agents.baselines import Constant, PredictorPolicy, Random, TrueCode, mean_action
from agents.checkpoints import (
    NAMED,
    GeneratorLike,
    is_name,
    load_predictor,
    predictor_from_contents,
    shipped_predictor_file,
    within_run,
)
from agents.ddpg import DDPG
from agents.group_pg import GroupPG
from agents.meaning import ActionMeaning, check_meaning, core_of, translated
from agents.networks import Actor
from agents.part import MARK, Part, parted
from agents.pathwise import Pathwise
from agents.sb3_agents import SB3A2C, SB3DDPG, SB3PPO, SB3SAC, SB3TD3
from agents.worlds import Env, device_of
from blindsr_env import sharing
from generators import checkpoint
from generators.checkpoint import CheckpointError
from generators.entry_point import is_entry_point
from generators.nearest import unknown

NAMES = ("true-code", "mean-code", "random", "predictor")
"""Policies that need no file of their own."""

ALGORITHMS: dict[str, type[Agent[Any]]] = {
    agent.algorithm: agent for agent in (DDPG, GroupPG, Pathwise, SB3PPO, SB3A2C, SB3SAC, SB3TD3, SB3DDPG)
}
"""Agents by the name of their algorithm."""


def algorithm(name: str) -> type[Agent[Any]]:
    """Give the agents' class of an algorithm.

    Raises:
        ValueError: the name is unknown; the nearest are listed.
    """
    if name not in ALGORITHMS:
        raise ValueError(unknown("algorithm", name, ALGORITHMS))
    return ALGORITHMS[name]


class Policy(Protocol):
    """Choose actions."""

    def predict(self, observation: Any, info: Any = None) -> tuple[Any, None]:
        """Answer (H, W, 3) or (N, H, W, 3) uint8 with (actions,) or (N, actions) float32 of the same kind.

        Args:
            observation: NumPy or torch.
            info: what the environment said of these scenes.
        """


def load(
    name_or_path: str | os.PathLike[str],
    env: Env | None = None,
    *,
    predictor: str | os.PathLike[str] | None = None,
    seed: int = 0,
    device: torch.device | str | None = None,
) -> Policy:
    """Give a policy.

    Args:
        name_or_path: one of `NAMES`, an agent that ships (`amgan_rl`, `amgan_rl_niqe`, `amgan_rl_s`), a predictor that
            does (`predictor_s`, `predictor_s_open`, `predictor_s_x2`; `"predictor"` is the generator's), the file of a
            predictor or of an agent, or the folder of a run that trained one; or
            `module:function`, whose function is called with `env` and gives a function of observations, (N, H, W, 3)
            uint8 NumPy -> (N, actions): a policy of any other library. `NAME@0.5` goes half of the way from the
            predictor's action (that of `predictor`, whatever NAME began to learn from) to that of NAME.
        env: where it shall act: checked against what the policy learned; its device is used. None for files only.
        predictor: file of the predictor behind `"predictor"` and parts; None for the one that ships for the generator.
        seed: of `"random"`.
        device: where it works, if not where the environment does.

    Returns:
        The policy: `policy.predict(observation, info) -> (action, None)`.

    Raises:
        ValueError: the name is unknown (the nearest are listed), something it needs is not given, or the device is not
            there.
        CheckpointError: a file cannot be used, or was made for another scale, basis or action space.

    Warns:
        UserWarning: an agent learned what another generator's pictures are worth.
    """
    name, share = parted(os.fspath(name_or_path))
    core = core_of(env)
    place = device_of(env, device)
    predictor = predictor or shipped_predictor_file(None if core is None else core.generator)
    if share is not None:
        whole = load(name, env, predictor=predictor, seed=seed, device=device)
        return Part(whole, _predictor_policy(predictor, env, place), share)
    if name in ("true-code", "mean-code", "random"):
        if name == "true-code" and (env is None or wrapping.action_wrapper(env) is None):
            return TrueCode()
        if core is None:
            raise ValueError(f"{name!r} needs a BlindSR environment, whose actions no wrapper changes: give env=")
        if name == "mean-code":
            return Constant(mean_action(core).to(place))
        return Random(int(core.action_space.shape[0]), seed=seed, device=place)
    if name == "predictor":
        return _predictor_policy(predictor, env, place)
    if is_entry_point(name):
        return foreign.load(name, env)
    path = file_of(name)
    if path is None:
        known, mark, end = name.rpartition(MARK)
        if mark and (known in NAMES or file_of(known) is not None):
            raise ValueError(f"the share of {known} must be a number from 0 (the prediction) to 1, got {end!r}")
        raise ValueError(
            unknown("policy", name, (*NAMES, *NAMED))
            + (" Several are given as '[A, B]'." if "," in name else "")
            + " Or give the path of a .safetensors file"
        )
    tensors, metadata = checkpoint.read(path)
    policy = _from_contents(os.fspath(path), tensors, metadata, env, place)
    learned, here = _rewarded(metadata), ActionMeaning.from_core(core)
    if learned and here and not learned.same_generator(here):
        theirs = f"another {here.generator}" if learned.generator == here.generator else learned.generator
        warnings.warn(
            f"{name_or_path} learned what {theirs}'s pictures are worth, {here.generator} renders here: what it gained "
            "there need not hold; take predictor, or the generator that it learned on",
            stacklevel=2,
        )
    return policy


def _from_contents(
    name: str,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, Any],
    env: Env | None,
    place: torch.device,
) -> Policy:
    """Give the policy that a file's contents are."""
    kind = metadata.get("kind")
    if kind == "predictor":
        return _fitting(name, *predictor_from_contents(name, tensors, metadata), env, place)
    if kind == "agent":
        return _agent_from_contents(name, tensors, metadata, env, place)
    raise CheckpointError(f"{name} holds a {kind}: give the file of a predictor or an agent")


def file_of(name_or_path: str | os.PathLike[str], generator: GeneratorLike | None = None) -> Path | None:
    """Give the file behind the name of what ships, a run's folder or a path; None of other policies.

    A policy in part has the file of the whole one.

    Args:
        name_or_path: see `load`.
        generator: whose `"predictor"` it is; None for the default.

    Raises:
        CheckpointError: the folder has no agent or predictor.
    """
    name, _ = parted(os.fspath(name_or_path))
    if name == "predictor":
        return shipped_predictor_file(generator)
    if name in NAMES or is_entry_point(name):
        return None
    path = within_run(NAMED.get(name, name))
    return None if is_name(path) else path


def learned_on(name_or_path: str | os.PathLike[str]) -> ActionMeaning | None:
    """Give what actions meant to a policy that learned what they are worth; None of policies that learned no reward.

    Args:
        name_or_path: see `load`.

    Raises:
        CheckpointError: the file cannot be read.
    """
    path = file_of(name_or_path)
    return None if path is None else _rewarded(checkpoint.read(path)[1])


def generator_of(names: Iterable[str | os.PathLike[str]], device: torch.device | str = "cpu") -> str | None:
    """Give the name of the one generator that policies learned on, so that they act where they learned.

    Args:
        names: see `load`; those that learned no reward go with any generator.
        device: where it will render: it is loaded there to be compared, and `sharing.generator` then has it.

    Returns:
        A name of `generators.names()`; None where no policy learned a reward.

    Raises:
        ValueError: two learned on different generators, or one on a generator whose weights do not ship.
        CheckpointError: a file cannot be read.
    """
    found: tuple[str | os.PathLike[str], str] | None = None
    for name in names:
        learned = learned_on(name)
        if learned is None:
            continue
        generator = learned.generator
        ships = generator in generators.names()
        if ships and learned.weights is not None:
            ours = sharing.generator(generator, device, torch.float32)
            ships = learned.weights == getattr(ours, "fingerprint", None)
        if not ships:
            raise ValueError(
                f"{name} learned on {generator} of weights that do not ship: give that as --generator, "
                "by its file, NAME@FOLDER or module:function"
            )
        if found is not None and found[1] != generator:
            raise ValueError(f"{found[0]} learned on {found[1]}, {name} on {generator}: say which one with --generator")
        found = found or (name, generator)
    return None if found is None else found[1]


def _rewarded(metadata: Mapping[str, Any]) -> ActionMeaning | None:
    """Give `learned_on` of a file's metadata: a predictor that was rewarded once, as those that ship, is an agent."""
    known = metadata.get("kind") == "agent" or "metric" in (metadata.get("training") or {})
    try:
        return ActionMeaning.from_metadata(metadata) if known else None
    except TypeError:  # damaged: whoever reads it all will say so
        return None


def _agent_from_contents(
    path: str | os.PathLike[str],
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, Any],
    env: Env | None,
    device: torch.device | str | None,
) -> Agent[Any]:
    name = metadata.get("algorithm", metadata.get("kind"))
    if name not in ALGORITHMS:
        raise CheckpointError(f"{path} holds a {name}, not an agent of {', '.join(ALGORITHMS)}")
    agent = ALGORITHMS[name].from_contents(path, tensors, metadata, device=device)
    if env is not None:
        check_meaning(os.fspath(path), agent.meaning, ActionMeaning.of(env))
    return agent


def _predictor_policy(path: str | os.PathLike[str], env: Env | None, device: torch.device) -> PredictorPolicy:
    return _fitting(path, *load_predictor(path), env, device)


def _fitting(
    path: str | os.PathLike[str],
    network: Actor,
    learned: ActionMeaning | None,
    env: Env | None,
    device: torch.device,
) -> PredictorPolicy:
    if env is not None:
        network = translated(os.fspath(path), network, learned, core_of(env))
    return PredictorPolicy(network, device=device)
