"""Processes that work side by side: stopped together, and never left behind."""

import os
import signal
import time
from multiprocessing import Pipe
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from children import child

from agents.interruption import Interruption
from experiments import failure, side_by_side
from experiments.side_by_side import train_side_by_side


def write(run):
    Path(run).write_text("done")


def refuse(run):
    if run.endswith("b"):
        raise ValueError(f"{run} cannot be")
    work(run)


def exhaust(run):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")


def die(run):
    os.kill(os.getpid(), signal.SIGKILL)


def work(run):
    """Work until told to stop."""
    with Interruption() as interruption:
        Path(run).write_text(str(os.getpid()))
        for _ in range(600):
            if interruption.requested:
                Path(run).write_text("stopped")
                return
            time.sleep(0.1)


def runs(folder, names):
    return [(str(folder / name), folder / f"{name}.log") for name in names]


def begin(function, folder, names):
    """What a process of its own does: exit code 0 where all ended by themselves, 3 where they were stopped."""
    return 0 if train_side_by_side(function, runs(folder, names), 2, seconds=0.05) else 3


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def written(folder, text, *names):
    return all((folder / name).exists() and (folder / name).read_text() == text for name in names)


@pytest.mark.slow
def test_all_are_trained(tmp_path):
    assert train_side_by_side(write, runs(tmp_path, "abc"), 2)
    assert written(tmp_path, "done", "a", "b", "c")


@pytest.mark.parametrize(("jobs", "most", "threads"), [(3, 3, 2), (9, 4, 2), (1, 1, 8)])
def test_no_more_than_the_jobs_asked_for_share_the_cores(tmp_path, monkeypatch, jobs, most, threads):
    active, seen = set(), []

    class Ended:
        """A training that has ended once it is looked at."""

        def __init__(self, train, run, log, own):
            self.ready, writer = Pipe(duplex=False)
            writer.close()
            self.process = SimpleNamespace(sentinel=self.ready)
            active.add(self)
            seen.append((len(active), own))

        def end(self):
            active.remove(self)

    monkeypatch.setattr(side_by_side, "_Training", Ended)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    assert train_side_by_side(write, runs(tmp_path, "abcd"), jobs)
    assert len(seen) == 4 and max(count for count, _ in seen) == most and {own for _, own in seen} == {threads}


def test_what_fails_stops_the_others(tmp_path):
    with pytest.raises(ValueError, match="b cannot be"):
        train_side_by_side(refuse, runs(tmp_path, "ab"), 2)
    assert not (tmp_path / "a").exists() or written(tmp_path, "stopped", "a")


def test_want_of_memory_is_told_with_its_cure(tmp_path):
    with pytest.raises(ValueError, match=f"^{failure.TOO_LARGE}$"):
        train_side_by_side(exhaust, runs(tmp_path, "a"), 1)
    assert (tmp_path / "a.log").read_text() == f"{failure.TOO_LARGE}\n"


def test_a_training_that_is_killed_is_told_of(tmp_path):
    (tmp_path / "a.log").write_text("what an earlier stretch said")
    with pytest.raises(ValueError, match="a training was killed"):
        train_side_by_side(die, runs(tmp_path, "a"), 1)
    assert (tmp_path / "a.log").read_text().startswith("what an earlier stretch said")


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGKILL, marks=pytest.mark.slow)])
def test_trainings_stop_with_the_process_that_began_them(tmp_path, number):
    with child(tmp_path / "printed", begin, work, tmp_path, "abc") as process:
        wait_for(lambda: all((tmp_path / name).exists() and (tmp_path / name).read_text() for name in "ab"))
        os.kill(process.pid, number)
        wait_for(lambda: written(tmp_path, "stopped", "a", "b"))
        process.join(60)
    assert process.exitcode == (3 if number == signal.SIGTERM else -number), (tmp_path / "printed").read_text()
    assert not (tmp_path / "c").exists()
