"""Trainings side by side, each in a process of its own with its share of the cores."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, TypeVar

import torch
from tqdm import tqdm

from agents.interruption import Interruption

S = TypeVar("S")


def train_side_by_side(
    train: Callable[[S], Any], runs: Sequence[tuple[S, Path]], jobs: int, *, seconds: float = 0.5
) -> bool:
    """Train several runs, at most `jobs` at a time.

    A SIGINT or SIGTERM is passed on to the trainings, which save what they have and stop; so do the others where one
    fails, and all where this process is killed.

    Args:
        train: a module's own function.
        runs: settings, which can be pickled, and the file that takes what the training prints.
        jobs: at least 1. Cores are shared out evenly; a GPU is shared by all.
        seconds: how often to look for signals.

    Returns:
        Whether all ended by themselves.

    Raises:
        ValueError: a training failed or was killed.
    """
    jobs = min(jobs, len(runs))
    threads = max(1, torch.get_num_threads() // jobs)
    context = multiprocessing.get_context("spawn")  # a fork would not survive this process's threads, nor CUDA
    left, active = list(runs), dict[int, tuple[SpawnProcess, Path]]()  # by what is ready once it has ended
    with (
        Interruption() as interruption,
        tqdm(total=len(runs), desc=f"training {jobs} side by side", unit="run", leave=False) as bar,
    ):
        try:
            while (left or active) and not interruption.requested:
                while left and len(active) < jobs:
                    run, log = left.pop(0)
                    process = context.Process(target=_train, args=(train, run, log, threads))
                    process.start()
                    active[process.sentinel] = process, log
                for sentinel in multiprocessing.connection.wait(active, seconds):
                    process, log = active.pop(sentinel)  # type: ignore[arg-type]
                    process.join()
                    if process.exitcode:
                        raise ValueError(_cause(process, log))
                    bar.update()
        finally:
            for process, _ in active.values():
                process.terminate()  # asks it to stop
            for process, _ in active.values():
                process.join()
    return not interruption.requested


def _train(train: Callable[[S], Any], run: S, log: Path, threads: int) -> None:
    """Train, in a process of its own."""
    os.setsid()  # the terminal's Ctrl-C goes to the process that passes it on, and does not come twice
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_stop_after, args=(parent.sentinel,), daemon=True).start()
    torch.set_num_threads(threads)
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "a") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    try:
        train(run)
    except (ValueError, OSError, ImportError, ArithmeticError) as error:
        if os.environ.get("BLINDSR_TRACEBACK"):
            raise
        print(error, flush=True)
        sys.exit(2)


def _cause(process: SpawnProcess, log: Path) -> str:
    """Say why a training ended, which had no exit code of 0."""
    if process.exitcode == 2:
        return log.read_text().splitlines()[-1]
    if process.exitcode == -signal.SIGKILL:
        return f"a training was killed, perhaps for want of memory ({log}): the same command goes on, with fewer jobs"
    return f"a training ended with exit code {process.exitcode}: see {log}"


def _stop_after(sentinel: int) -> None:
    """Stop this training once the process that began it has ended."""
    multiprocessing.connection.wait([sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
