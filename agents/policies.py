"""Policies: whatever chooses actions. Fixed ones, baselines, predictors and agents behind one protocol."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from agents import checkpoints
from agents.agent import Agent
from agents.checkpoints import ActionMeaning, check_meaning, load_predictor
from agents.ddpg import DDPG
from agents.group_pg import GroupPG
from agents.networks import Actor, answer
from agents.shared_offset import OffsetPolicy, learn_offset, load_offset
from agents.worlds import Env
from blindsr_env.core import BlindSRCore
from generators import checkpoint
from generators.checkpoint import CheckpointError

NAMES = ("true-code", "mean-code", "random", "predictor", "shared-offset")
ALGORITHMS: dict[str, type[Agent[Any]]] = {agent.algorithm: agent for agent in (DDPG, GroupPG)}

#: The predictor that comes with the package.
SHIPPED_PREDICTOR = Path(__file__).parent / "weights" / "predictor_s.safetensors"


class Policy(Protocol):
    """Chooses actions."""

    def predict(self, observation: Any, info: Any = None) -> tuple[Any, None]:
        """Answers (H, W, 3) or (N, H, W, 3) uint8 with (actions,) or (N, actions) float32 of the same kind.

        Args:
            observation: NumPy or torch.
            info: What the environment said of these scenes.
        """


class TrueCode:
    """The scene's own kernel: reward 0 by definition."""

    def predict(self, observation: Any, info: Any = None) -> tuple[Any, None]:
        """Reads the true action off `info`."""
        if not info or "true_action" not in info:
            raise ValueError("the true code stands in the environment's info: predict(observation, info)")
        return info["true_action"], None


class Constant:
    """The same action for every scene."""

    def __init__(self, action: Tensor) -> None:
        """Takes the action, (actions,)."""
        self.action = action

    def predict(self, observation: Any, info: Any = None) -> tuple[Any, None]:
        """Repeats the action."""
        return answer(observation, self.action.device, lambda lr: self.action.repeat(len(lr), 1)), None


class Random:
    """Uniform in the action box."""

    def __init__(self, actions: int, *, seed: int = 0, device: torch.device | str = "cpu") -> None:
        """Starts the random numbers."""
        self.actions, self.device = actions, torch.device(device)
        self.rng = torch.Generator(self.device).manual_seed(seed)

    def predict(self, observation: Any, info: Any = None) -> tuple[Any, None]:
        """Draws an action for each scene."""

        def draw(lr: Tensor) -> Tensor:
            return torch.rand(len(lr), self.actions, generator=self.rng, device=self.device) * 2 - 1

        return answer(observation, self.device, draw), None


class PredictorPolicy:
    """The kernel that a predictor sees in the picture."""

    def __init__(self, predictor: Actor, *, gain: Tensor | None = None, device: torch.device | str = "cpu") -> None:
        """Takes a predictor of actions; with the codec's `gain` it answers in free codes."""
        self.device = torch.device(device)
        self.predictor = predictor.to(self.device).eval()
        self.gain = None if gain is None else gain.to(self.device, torch.float32)

    def predict(self, observation: Any, info: Any = None) -> tuple[Any, None]:
        """Predicts."""

        def choose(lr: Tensor) -> Tensor:
            action = self.predictor(lr)
            return action if self.gain is None else action * self.gain

        return answer(observation, self.device, choose), None


def load(
    name_or_path: str | os.PathLike[str],
    env: Env | None = None,
    *,
    predictor: str | os.PathLike[str] | None = None,
    learn_on: Env | None = None,
    renders: int = 5_760,
    seed: int = 0,
    device: torch.device | str | None = None,
) -> Policy:
    """Gives a policy.

    Args:
        name_or_path: One of `NAMES`, or the file of a predictor, of an agent or of a shared offset.
        env: Where it shall act: checked against what the policy learned; its device is used. None for files only.
        predictor: File of the predictor behind `"predictor"` and `"shared-offset"`; None for the shipped one.
        learn_on: A BlindSR vector environment with an even `repeats` that `"shared-offset"` is learned on, on the spot.
        renders: What that may cost, in actions rendered.
        seed: Of `"random"` and of the offset's learning.
        device: Where it works, if not where the environment does.

    Returns:
        The policy: `policy.predict(observation, info) -> (action, None)`.

    Raises:
        ValueError: If the name is unknown (the nearest are listed), or something it needs is not given.
        CheckpointError: If a file cannot be used, or was made for another scale, basis or action space.
    """
    name = os.fspath(name_or_path)
    core = _core(env)
    place = torch.device(device or (core.device if core is not None else "cpu"))
    if name in ("true-code", "mean-code", "random"):
        if name == "true-code":
            return TrueCode()
        if core is None:
            raise ValueError(f"{name!r} needs a BlindSR environment, whose actions it chooses from: give env=")
        if name == "mean-code":
            return Constant(mean_action(core).to(place))
        return Random(int(core.action_space.shape[0]), seed=seed, device=place)
    if name == "predictor":
        return _predictor_policy(predictor or SHIPPED_PREDICTOR, env, place)
    if name == "shared-offset":
        if learn_on is None:
            raise ValueError("the shared offset is learned: give learn_on=, an environment to learn it on, or its file")
        base = _predictor_policy(predictor or SHIPPED_PREDICTOR, env or learn_on, place)
        return OffsetPolicy(base, learn_offset(learn_on, base, renders, seed).to(place))
    if not Path(name).exists():
        near = difflib.get_close_matches(name, NAMES, 3, 0.4) or NAMES
        raise ValueError(f"no policy or file {name!r}: the nearest names are {', '.join(near)}")
    kind = checkpoint.read(name)[1]
    if kind.get("kind") == "predictor":
        return _predictor_policy(name, env, place)
    if kind.get("kind") == "shared-offset":
        offset, meaning = load_offset(name)
        _check(name, meaning, env)
        return OffsetPolicy(_predictor_policy(predictor or SHIPPED_PREDICTOR, env, place), offset.to(place))
    if kind.get("kind") == "agent":
        return load_agent(name, env, device=place)
    raise CheckpointError(f"{name} holds a {kind.get('kind')}: give the file of a predictor, an agent or an offset")


def load_agent(
    path: checkpoints.Path, env: Env | None = None, *, device: torch.device | str | None = None
) -> Agent[Any]:
    """Reads an agent of any algorithm.

    Args:
        path: Its file.
        env: What it must fit; it does not become the agent's to learn on: `DDPG.load(path, env)` does that.
        device: Where it works.

    Raises:
        CheckpointError: If the file cannot be used, or was made for another scale, basis or action space.
    """
    _, metadata = checkpoint.read(path)
    algorithm = metadata.get("algorithm", metadata.get("kind"))
    if algorithm not in ALGORITHMS:
        raise CheckpointError(f"{os.fspath(path)} holds a {algorithm}, not an agent of {', '.join(ALGORITHMS)}")
    agent = ALGORITHMS[algorithm].load(path, device=device)
    _check(os.fspath(path), agent.meaning, env)
    return agent


def mean_action(core: BlindSRCore) -> Tensor:
    """The action of the mean kernel, (actions,): all coefficients 0. In `"width"` actions, the middle width."""
    if core.action == "width":
        return torch.zeros(1)
    codec = core.codec.to("cpu")
    side = round(codec.mean.numel() ** 0.5)
    action = codec.encode(codec.mean.view(1, side, side))[0]
    return codec.code(action) if core.action == "free-code" else action


def _predictor_policy(path: str | os.PathLike[str], env: Env | None, device: torch.device) -> PredictorPolicy:
    network, learned = load_predictor(path)
    core = _core(env)
    if core is not None and core.action == "free-code" and learned is not None and learned.kind == "code":
        wanted = ActionMeaning("code", core.scale, core.codec.fingerprint, core.generator.name)
        check_meaning(os.fspath(path), learned, wanted)
        return PredictorPolicy(network, gain=core.codec.gain, device=device)
    _check(os.fspath(path), learned, env)
    return PredictorPolicy(network, device=device)


def _check(what: str, learned: ActionMeaning | None, env: Env | None) -> None:
    if env is not None:
        check_meaning(what, learned, ActionMeaning.of(env))


def _core(env: Env | None) -> BlindSRCore | None:
    core = getattr(getattr(env, "unwrapped", None), "core", None)
    return core if isinstance(core, BlindSRCore) else None
