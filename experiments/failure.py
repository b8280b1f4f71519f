"""What a command says of an error that its user can mend; any other is a mistake of ours and keeps its traceback."""

from __future__ import annotations

import os

from agents.interruption import Interruption

TOO_LARGE = "memory ran out: take fewer or smaller photos, patches, batches or environments at once, or tiles"
"""What a command says where the work does not fit into the memory, the device's or the host's."""


def told(error: BaseException) -> tuple[str, int] | None:
    """Give the line that an error is shown as, and the command's exit code.

    Returns:
        None where the error is to be raised: a mistake of the program, or any but Ctrl-C while BLINDSR_TRACEBACK is set
        in the environment.
    """
    if isinstance(error, KeyboardInterrupt):  # perhaps while torch was imported, which must not be tried again
        return "interrupted", 130
    from generators import memory
    from generators.compiled import CompileError

    if os.environ.get("BLINDSR_TRACEBACK"):
        return None
    if isinstance(error, CompileError) and Interruption.last is not None:  # Ctrl-C ends compilers as well
        return "interrupted while the network was compiled", 128 + Interruption.last
    if isinstance(error, ValueError | OSError | ImportError | ArithmeticError):
        return str(error) or type(error).__name__, 2
    if isinstance(error, RuntimeError | MemoryError) and memory.exhausted(error):
        return TOO_LARGE, 2
    return None
