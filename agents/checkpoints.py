"""The agents' files: predictors and agents on disk, those that ship and those of runs.

A safetensors file never holds code, and it says itself what it is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor

from agents.meaning import ActionMeaning, translated
from agents.networks import Actor, from_settings, named_state
from generators import checkpoint, memory
from generators.checkpoint import CheckpointError

if TYPE_CHECKING:
    from blindsr_env.core import BlindSRCore

StrPath = str | os.PathLike[str]

WEIGHTS = Path(__file__).parent / "weights"

SHIPPED_PREDICTORS = {4: WEIGHTS / "predictor_s.safetensors", 2: WEIGHTS / "predictor_s_x2.safetensors"}
"""The predictors that come with the package, by scale, the default first."""

OWN_PREDICTORS = {("amnet_s_open", 4): WEIGHTS / "predictor_s_open.safetensors"}
"""Those of generators that bring one of their own, trained on the same photos as they are, by name and scale."""

SHIPPED_AGENTS = {name: WEIGHTS / f"{name}.safetensors" for name in ("amgan_rl", "amgan_rl_niqe", "amgan_rl_s")}
"""Trained actors that come with the package, by name; a card stands beside each."""

NAMED = SHIPPED_AGENTS | {path.stem: path for path in (*SHIPPED_PREDICTORS.values(), *OWN_PREDICTORS.values())}
"""All of these files by name."""


class GeneratorLike(Protocol):
    """What a generator's predictor is picked by."""

    @property
    def name(self) -> str:
        """What messages and result files call it."""

    @property
    def scale(self) -> int:
        """SR side over LR side."""


def shipped_predictor_file(generator: GeneratorLike | None = None) -> Path:
    """Give the file of the package's predictor for a generator: its own, or its scale's, or the default."""
    default = next(iter(SHIPPED_PREDICTORS.values()))
    if generator is None:
        return default
    return OWN_PREDICTORS.get((generator.name, generator.scale)) or SHIPPED_PREDICTORS.get(generator.scale, default)


def shipped_predictor(core: BlindSRCore | None) -> Actor | None:
    """Load the predictor of the package for an environment, or give None where its actions mean nothing.

    Args:
        core: the environment's; None of an environment that is not ours.

    Returns:
        A network for the core's codes or free codes, where scale and basis are those that it was trained for.
    """
    if core is None or core.action not in ("code", "free-code"):
        return None
    path = shipped_predictor_file(core.generator)
    predictor, learned = load_predictor(path)
    if learned is None or (learned.scale, learned.basis) != (core.scale, core.codec.fingerprint):
        return None
    return translated(str(path), predictor, learned, core)


def save_predictor(path: StrPath, predictor: Actor, meaning: ActionMeaning | None, training: dict[str, Any]) -> None:
    """Write a predictor to one safetensors file.

    Args:
        path: where to.
        predictor: the network.
        meaning: what its actions mean.
        training: how it was trained (data, steps, commit, figures): plain values.
    """
    metadata = {
        "kind": "predictor",
        "settings": predictor.settings,
        "meaning": asdict(meaning) if meaning else None,
        "training": training,
    }
    checkpoint.save(path, dict(named_state(predictor, "predictor")), metadata)


def load_predictor(path: StrPath) -> tuple[Actor, ActionMeaning | None]:
    """Read a predictor, from its own file or out of an agent's.

    Args:
        path: the file, the folder of a run, or the name of an agent or a predictor that ships.

    Returns:
        The network, on the CPU in training mode, and what its actions mean.

    Raises:
        CheckpointError: the file is missing, damaged, or holds no predictor.
    """
    path = predictor_file(path)
    return predictor_from_contents(path, *checkpoint.read(path))


def predictor_file(path: StrPath) -> Path:
    """Give the file that `load_predictor` reads: of a run's folder, or of what ships.

    Raises:
        CheckpointError: the folder has none.
    """
    return within_run(NAMED.get(os.fspath(path), path))


def predictor_from_contents(
    path: StrPath, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]
) -> tuple[Actor, ActionMeaning | None]:
    """Do `load_predictor`'s work on a file's contents; `path` is for messages."""
    kind = metadata.get("kind")
    if kind not in ("predictor", "agent"):
        raise CheckpointError(f"{path} holds a {kind}: give a predictor's or an agent's checkpoint")
    if any(name.startswith("policy.") for name in tensors):
        raise CheckpointError(
            f"{path} is an agent of {metadata.get('algorithm')}: its policy is no predictor to start from"
        )
    with whole(path, kind):
        predictor = from_settings(metadata["settings"])
        if kind == "predictor":
            only(tensors, ["predictor."])
            name = "predictor"
        else:
            name = "averaged" if metadata["config"]["average"] else "actor"
        predictor.load_state_dict(under(tensors, name))
        return predictor, ActionMeaning.from_metadata(metadata)


@contextmanager
def whole(path: StrPath, what: str) -> Iterator[None]:
    """Turn whatever missing, foreign or misshapen contents of a file raise into one line that names the file.

    Args:
        path: the file.
        what: what it should hold.

    Raises:
        CheckpointError: the block raised a KeyError, TypeError, ValueError, AttributeError, IndexError or RuntimeError,
            but for want of memory.
    """
    try:
        yield
    except CheckpointError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
        if memory.exhausted(error):
            raise
        raise CheckpointError(f"{path} is not a whole {what}'s checkpoint: copy or train it again") from error


def within_run(path: StrPath) -> Path:
    """Give the agent's or predictor's file in the folder of a run; other paths as they are.

    Raises:
        CheckpointError: the folder has neither.
    """
    place = Path(path)
    if not place.is_dir():
        return place
    for kind in ("agent", "predictor"):
        if (place / f"{kind}.safetensors").is_file():
            return place / f"{kind}.safetensors"
    raise CheckpointError(f"no agent.safetensors or predictor.safetensors in {place}: train it, or give a file")


def is_name(path: StrPath) -> bool:
    """Say whether this is a name, perhaps a misspelt one, rather than the path of a file."""
    path = Path(path)
    return not path.suffix and len(path.parts) == 1 and not path.exists()


def only(tensors: Mapping[str, Tensor], known: list[str]) -> None:
    """Raise a KeyError where a tensor's name begins with none of `known`."""
    foreign = [name for name in tensors if not name.startswith(tuple(known))]
    if foreign:
        raise KeyError(f"unknown tensors {', '.join(foreign)}")


def under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Give the tensors named `prefix.name`, by name."""
    start = prefix + "."
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}
