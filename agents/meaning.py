"""What an action means to whom it was learned for.

An action of another basis, scale or action space is a number of no meaning, so using one where it does not belong is an
error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from agents.networks import Actor
from generators.checkpoint import CheckpointError

if TYPE_CHECKING:
    from blindsr_env.core import BlindSRCore

UNKNOWN = "another environment (or one in a wrapper that changes its actions)"
"""Where it is not known what actions mean."""


@dataclass(frozen=True)
class ActionMeaning:
    """What fixes the meaning of an action.

    Attributes:
        kind: action space, `"code"`, `"free-code"` or `"width"`.
        scale: of the super-resolution.
        basis: the codec's fingerprint.
        generator: its name; another generator of the same basis is fine.
        weights: the generator's fingerprint; None where it is not known.
    """

    kind: str
    scale: int
    basis: str
    generator: str
    weights: str | None = None

    def same_generator(self, other: ActionMeaning) -> bool:
        """Say whether both are of one generator, as far as is known: by name, and by weights where both know them."""
        known = self.weights is not None and other.weights is not None
        return self.generator == other.generator and not (known and self.weights != other.weights)

    @classmethod
    def of(cls, env: Any) -> ActionMeaning | None:
        """Read it off an environment; None for environments that are not ours."""
        return cls.from_core(core_of(env))

    @classmethod
    def from_core(cls, core: BlindSRCore | None) -> ActionMeaning | None:
        """Read it off an environment's core."""
        return None if core is None else cls.of_generator(core.generator, core.action)

    @classmethod
    def of_generator(cls, generator: Any, kind: str = "code") -> ActionMeaning:
        """Say what a generator's actions of one space mean."""
        weights = getattr(generator, "fingerprint", None)
        return cls(kind, generator.scale, generator.codec.fingerprint, generator.name, weights)

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any]) -> ActionMeaning | None:
        """Read it off a checkpoint's metadata."""
        meaning = metadata.get("meaning")
        return cls(**meaning) if meaning else None


def core_of(env: Any) -> BlindSRCore | None:
    """Give a BlindSR environment's core, or None of another environment, or where a wrapper changes its actions."""
    from agents import wrapping  # brings Gymnasium, which trainers do without
    from blindsr_env.core import BlindSRCore

    core = getattr(wrapping.innermost(env), "core", None)
    return core if isinstance(core, BlindSRCore) and wrapping.action_wrapper(env) is None else None


def check_meaning(what: str, learned: ActionMeaning | None, wanted: ActionMeaning | None) -> None:
    """Refuse to use actions where they mean something else.

    Args:
        what: what is loaded, for the message.
        learned: what its actions mean.
        wanted: what the environment takes.

    Raises:
        CheckpointError: scale, basis or kind differ.
    """
    if learned == wanted:
        return
    if learned is None or wanted is None:
        mine, other = (UNKNOWN, "BlindSR") if learned is None else ("BlindSR", UNKNOWN)
        raise CheckpointError(f"{what} was trained on {mine}, not on {other}: train one there")
    for field, name in (("scale", "scale"), ("basis", "code basis"), ("kind", "action space")):
        was, now = getattr(learned, field), getattr(wanted, field)
        if was != now:
            other = f"take a generator of scale {was}, or " if field == "scale" else ""
            raise CheckpointError(f"{what} was trained for {name} {was!r}, not {now!r}: {other}train one for it")


def translated(what: str, predictor: Actor, learned: ActionMeaning | None, core: BlindSRCore | None) -> Actor:
    """Make a predictor speak an environment's action space: one of actions becomes one of free codes.

    Args:
        what: what is loaded, for the message.
        predictor: the network; it is changed in place.
        learned: what its actions mean.
        core: the environment's; None of an environment that is not ours.

    Returns:
        The predictor.

    Raises:
        CheckpointError: scale, basis or action space differ otherwise.
    """
    frees = core is not None and core.action == "free-code" and learned is not None and learned.kind == "code"
    check_meaning(
        what, replace(learned, kind="free-code") if frees and learned else learned, ActionMeaning.from_core(core)
    )
    if frees and core is not None:
        predictor.to_free_code(core.codec.gain)
    return predictor
