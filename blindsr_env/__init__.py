"""BlindSR: blind super-resolution as a one-step reinforcement-learning environment.

Importing the package registers `"BlindSR-v0"` with Gymnasium and does nothing else; everything heavy is imported when
an environment is made. Libraries that take only an id can name the import in it: `"blindsr_env:BlindSR-v0"`.

Example:
    >>> import gymnasium, blindsr_env
    >>> gymnasium.spec("BlindSR-v0").vector_entry_point
    'blindsr_env.vector_env:BlindSRVectorEnv'
"""

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
