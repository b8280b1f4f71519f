"""Trainings side by side, each in a process of its own with its share of the cores."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

import torch
from tqdm import tqdm

from agents.interruption import Interruption
from experiments import failure

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
    left, active = list(runs), dict[int, _Training]()  # by what is ready once it has ended
    with (
        Interruption() as interruption,
        tqdm(total=len(runs), desc=f"training {jobs} side by side", unit="run", leave=False) as bar,
    ):
        try:
            while (left or active) and not interruption.requested:
                while left and len(active) < jobs:
                    training = _Training(train, *left.pop(0), threads)
                    active[training.process.sentinel] = training
                for sentinel in multiprocessing.connection.wait(active, seconds):
                    active.pop(sentinel).end()  # type: ignore[arg-type]
                    bar.update()
        finally:
            for training in active.values():
                training.process.terminate()  # asks it to stop
            for training in active.values():
                training.process.join()
    return not interruption.requested


class _Training:
    """A training in a process of its own."""

    def __init__(self, train: Callable[[S], Any], run: S, log: Path, threads: int) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would not survive this process's threads, nor CUDA
        self.log = log
        self.error, report = context.Pipe(duplex=False)
        self.process = context.Process(target=_train, args=(train, run, log, threads, report))
        # The terminal's Ctrl-C comes here, and is passed on: before it has left the terminal the process waits with it.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        report.close()

    def end(self) -> None:
        """Take note of its end.

        Raises:
            ValueError: it failed or was killed.
        """
        self.process.join()
        code = self.process.exitcode
        if code == 0:
            return
        try:
            raise ValueError(self.error.recv())
        except EOFError:
            pass
        if code == -signal.SIGKILL:
            raise ValueError(
                f"a training was killed ({self.log}), perhaps for want of memory: the same command goes on, perhaps "
                "with fewer jobs"
            )
        raise ValueError(f"a training ended with exit code {code}: see {self.log}")


def _train(train: Callable[[S], Any], run: S, log: Path, threads: int, report: Connection) -> None:
    """Train, in a process of its own."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # one that came meanwhile
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    signal.signal(signal.SIGINT, signal.default_int_handler)
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
    except Exception as error:
        told = failure.told(error)
        if told is None:
            raise
        message, code = told
        print(message, flush=True)
        report.send(message)
        sys.exit(code)


def _stop_after(sentinel: int) -> None:
    """Stop this training once the process that began it has ended."""
    multiprocessing.connection.wait([sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
