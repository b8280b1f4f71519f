"""Ctrl-C and SIGTERM as a request: the step under way is finished, then the loop ends by itself."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any, ClassVar


class Interruption:
    """A context in which the first SIGINT or SIGTERM only sets `requested`; a second one acts as usual.

    Attributes:
        requested: whether one came.
        last: number of the last signal that ended a loop of this process so, None where none did; for the exit code.

    In other threads than the main one, where Python allows no handlers, nothing is caught; nor is a signal that the
    program around Python handles, such as MATLAB, whose handler could not be put back.

    >>> with Interruption() as interruption:
    ...     interruption.requested
    False
    """

    last: ClassVar[int | None] = None

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interruption:
        """Install the handlers."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not None:
                    self._before[number] = signal.signal(number, self._request)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Restore the former handlers."""
        self._restore()

    def _request(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        Interruption.last = number
        self._restore()
        # A print may not be entered twice, and a signal may come within one. Ctrl-C may have ended who reads this.
        with contextlib.suppress(OSError):
            os.write(2, b"\nstopping as soon as what is under way is whole; once more stops at once\n")

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()
