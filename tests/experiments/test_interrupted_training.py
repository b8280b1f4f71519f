"""Trainings that are killed or told to stop, as processes of their own, and go on."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from states import assert_same_state, last_state

import generators
from experiments.run_folder import RunFolder
from experiments.train_generator import train_generator

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}

STRUCK = """
import os, signal, sys
from experiments import training
from experiments.train_generator import TrainGenerator, train_generator

step, settings = training.Trainer.step, TrainGenerator(**{settings!r})

def struck(trainer):
    loss = step(trainer)
    if trainer.done == 4:  # states were saved after steps 1 to 3; no more from now on
        object.__setattr__(settings, "checkpoint_seconds", 1e9)
    if trainer.done == 5:
        os.kill(os.getpid(), signal.{signal})
    return loss

training.Trainer.step = struck
train_generator(settings)
"""


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM"])
def test_a_run_struck_down_equals_one_never_stopped(settings, tmp_path, held_out, name):
    """To the bit, with all that draws random numbers; SIGKILL comes two steps after the last state was saved."""
    changes = {"steps": 9, "code_noise": 1.0, "soften": 0.6, "checkpoint_seconds": 0.0, "validate_every": 2}
    changes |= {"validation": held_out, "validation_widths": (1.0,)}
    straight, struck = (settings(output=str(tmp_path / folder), **changes) for folder in ("straight", "struck"))
    program = STRUCK.format(settings=vars(struck), signal=name)
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    if name == "SIGKILL":
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert last_state(struck.output)[1]["step"] == 3
    else:
        assert done.returncode == 0 and "stopped at step 5 of 9" in done.stdout, done.stderr
        assert last_state(struck.output)[1]["step"] == 5
    train_generator(struck)
    train_generator(straight)
    state = assert_same_state(straight.output, struck.output)
    assert state["rng/stream"].numel() > 0


def command(settings, **changes):
    values = {
        "data": json.dumps(settings.data),
        "output": settings.output,
        "arch": settings.arch,
        "patch_size": 8,
        "batch_size": 2,
        "device": "cpu",
        "steps": 100_000,
        "checkpoint_seconds": 0.0,
        **changes,
    }
    options = [text for key, value in values.items() for text in (f"--{key}", str(value))]
    return [sys.executable, "-m", "experiments.cli", "train-generator", *options]


def wait_for_state(process, folder, after=0):
    for _ in range(1200):
        states = RunFolder(folder).states()
        if states and int(states[-1].name.split("-")[1]) > after:
            return int(states[-1].name.split("-")[1])
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise AssertionError("no state in a minute")


def test_kill_and_terminate(settings):
    """SIGKILL in the midst of saving loses nothing; the run goes on; SIGTERM ends it with a usable checkpoint."""
    wanted = settings()
    start = {"cwd": ROOT, "env": ENVIRONMENT, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command(wanted), **start) as process:
        step = wait_for_state(process, wanted.output, after=2)  # it saves after each step: any moment is amid a save
        process.kill()
    _, metadata = last_state(wanted.output)
    assert metadata["step"] >= step
    assert generators.load(Path(wanted.output) / "generator.safetensors").name == "amnet_s"
    with subprocess.Popen(command(wanted), **start) as process:
        wait_for_state(process, wanted.output, after=metadata["step"])
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and "stopped at step" in out and "the same command goes on" in out
    assert last_state(wanted.output)[1]["step"] > metadata["step"]
    assert len(RunFolder(wanted.output).states()) == 1
    assert not (Path(wanted.output) / ".state-partial").exists()
    assert generators.load(Path(wanted.output) / "generator.safetensors").name == "amnet_s"
