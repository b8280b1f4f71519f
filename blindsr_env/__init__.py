"""BlindSR: blind super-resolution as a one-step reinforcement-learning environment.

Importing the package registers `"BlindSR-v0"` with Gymnasium and does nothing else; everything heavy is imported when
an environment is made, or when `BlindSREnv` or `BlindSRVectorEnv` is asked for, whose docstrings are the reference.
Libraries that take only an id can name the import in it: `"blindsr_env:BlindSR-v0"`.

Example:
    >>> import gymnasium, blindsr_env
    >>> gymnasium.spec("BlindSR-v0").vector_entry_point
    'blindsr_env.vector_env:BlindSRVectorEnv'
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from blindsr_env.env import BlindSREnv
    from blindsr_env.vector_env import BlindSRVectorEnv

__all__ = ["BlindSREnv", "BlindSRVectorEnv"]

try:
    import gymnasium
except ModuleNotFoundError as error:  # networks are trained on bare GPU machines, and need no environment
    if error.name != "gymnasium":
        raise
else:
    if "BlindSR-v0" not in gymnasium.registry:  # a reload must not warn
        gymnasium.register(
            id="BlindSR-v0",
            entry_point="blindsr_env.env:BlindSREnv",
            vector_entry_point="blindsr_env.vector_env:BlindSRVectorEnv",
        )


def __getattr__(name: str) -> Any:
    """Import an environment's class when it is first asked for."""
    if name == "BlindSREnv":
        from blindsr_env.env import BlindSREnv

        return BlindSREnv
    if name == "BlindSRVectorEnv":
        from blindsr_env.vector_env import BlindSRVectorEnv

        return BlindSRVectorEnv
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
