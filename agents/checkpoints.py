"""The agents' files: what an action means to whom it was learned for, and predictors on disk.

A safetensors file never holds code, and it says itself what it is: an action of another basis, scale or action space
is a number of no meaning, so loading one where it does not belong is an error.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from agents.networks import Actor, named_state, restore
from generators import checkpoint
from generators.checkpoint import CheckpointError

Path = str | os.PathLike[str]


@dataclass(frozen=True)
class ActionMeaning:
    """What fixes the meaning of an action."""

    kind: str  # "code", "free-code" or "width"
    scale: int  # of the super-resolution
    basis: str  # the codec's fingerprint
    generator: str  # its name; another generator of the same basis is fine

    @classmethod
    def of(cls, env: Any) -> ActionMeaning | None:
        """Reads it off an environment; None for environments that are not ours."""
        from blindsr_env.core import BlindSRCore  # brings Gymnasium, which trainers do without

        core = getattr(getattr(env, "unwrapped", env), "core", None)
        if not isinstance(core, BlindSRCore):
            return None
        return cls(core.action, core.scale, core.codec.fingerprint, core.generator.name)

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any]) -> ActionMeaning | None:
        """Reads it off a checkpoint's metadata."""
        meaning = metadata.get("meaning")
        return cls(**meaning) if meaning else None


def check_meaning(what: str, learned: ActionMeaning | None, wanted: ActionMeaning | None) -> None:
    """Refuses to use actions where they mean something else.

    Args:
        what: What is loaded, for the message.
        learned: What its actions mean.
        wanted: What the environment takes.

    Raises:
        CheckpointError: If scale, basis or kind differ.
    """
    if learned == wanted:
        return
    if learned is None or wanted is None:
        mine, other = ("another environment", "BlindSR") if learned is None else ("BlindSR", "another environment")
        raise CheckpointError(f"{what} was trained on {mine}, not on {other}: train one there")
    for field, name in (("scale", "scale"), ("basis", "code basis"), ("kind", "action space")):
        was, now = getattr(learned, field), getattr(wanted, field)
        if was != now:
            raise CheckpointError(f"{what} was trained for {name} {was!r}, not {now!r}: train one for it")


def save_predictor(path: Path, predictor: Actor, meaning: ActionMeaning | None, training: dict[str, Any]) -> None:
    """Writes a predictor to one safetensors file.

    Args:
        path: Where.
        predictor: The network.
        meaning: What its actions mean.
        training: How it was trained (data, steps, commit, figures): plain values.
    """
    metadata = {
        "kind": "predictor",
        "settings": predictor.settings,
        "meaning": asdict(meaning) if meaning else None,
        "training": training,
    }
    checkpoint.save(path, dict(named_state(predictor, "predictor")), metadata)


def load_predictor(path: Path) -> tuple[Actor, ActionMeaning | None]:
    """Reads a predictor, from its own file or out of an agent's.

    Args:
        path: The file.

    Returns:
        The network, on the CPU in training mode, and what its actions mean.

    Raises:
        CheckpointError: If the file is missing, damaged, or holds no predictor.
    """
    tensors, metadata = checkpoint.read(path)
    prefix = {"predictor": "predictor", "agent": "averaged"}.get(metadata.get("kind", ""))
    if prefix is None:
        raise CheckpointError(f"{path} holds a {metadata.get('kind')}: give a predictor's or an agent's checkpoint")
    predictor = restore(metadata["settings"])
    predictor.load_state_dict(under(tensors, prefix))
    return predictor, ActionMeaning.from_metadata(metadata)


def under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Gives the tensors named `prefix.name`, by name."""
    start = prefix + "."
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}
