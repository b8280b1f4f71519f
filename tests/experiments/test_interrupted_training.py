"""Trainings that are killed or told to stop, as processes of their own, and go on."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
from children import child
from states import assert_same_state, last_state

import generators
from experiments import cli, training
from experiments.run_folder import RunFolder
from experiments.train_generator import train_generator


def struck_down(settings, number):
    """Train until a signal comes to oneself in the fifth step, two steps after the last state was saved."""
    step = training.Trainer.step

    def struck(trainer):
        loss = step(trainer)
        if trainer.done == 4:  # states were saved after steps 1 to 3; no more from now on
            object.__setattr__(settings, "checkpoint_seconds", 1e9)
        if trainer.done == 5:
            os.kill(os.getpid(), number)
        return loss

    training.Trainer.step = struck
    train_generator(settings)


@pytest.mark.parametrize("name", ["SIGKILL", pytest.param("SIGTERM", marks=pytest.mark.slow)])
def test_a_run_struck_down_equals_one_never_stopped(settings, tmp_path, held_out, name):
    """To the bit, with all that draws random numbers; SIGKILL comes two steps after the last state was saved."""
    changes = {"steps": 7, "code_noise": 1.0, "soften": 0.6, "checkpoint_seconds": 0.0, "validate_every": 2}
    changes |= {"validation": held_out, "validation_widths": (1.0,)}
    straight, struck = (settings(output=str(tmp_path / folder), **changes) for folder in ("straight", "struck"))
    with child(tmp_path / "printed", struck_down, struck, getattr(signal, name)) as process:
        process.join(60)
        printed = (tmp_path / "printed").read_text()
    if name == "SIGKILL":
        assert process.exitcode == -signal.SIGKILL, printed
        assert last_state(struck.output)[1]["step"] == 3
    else:
        assert process.exitcode == 0 and "stopped at step 5 of 7" in printed, printed
        assert last_state(struck.output)[1]["step"] == 5
    train_generator(struck)
    train_generator(straight)
    state = assert_same_state(straight.output, struck.output)
    assert state["rng/stream"].numel() > 0


def command(settings):
    values = {
        "data": json.dumps(settings.data),
        "output": settings.output,
        "arch": settings.arch,
        "patch_size": 8,
        "batch_size": 2,
        "device": "cpu",
        "steps": 100_000,
        "checkpoint_seconds": 0.0,
    }
    return ["train-generator", *(text for key, value in values.items() for text in (f"--{key}", str(value)))]


def wait_for_state(process, folder, after=0):
    for _ in range(3000):
        states = RunFolder(folder).states()
        if states and int(states[-1].name.split("-")[1]) > after:
            return int(states[-1].name.split("-")[1])
        assert process.is_alive()
        time.sleep(0.02)
    raise AssertionError("no state in a minute")


def test_kill_and_terminate(settings, tmp_path):
    """SIGKILL in the midst of saving loses nothing; the run goes on; SIGTERM ends it with a usable checkpoint."""
    wanted = settings()
    with child(tmp_path / "killed", cli.main, command(wanted)) as process:
        step = wait_for_state(process, wanted.output, after=2)  # it saves after each step: any moment is amid a save
        process.kill()
    _, metadata = last_state(wanted.output)
    assert metadata["step"] >= step
    assert generators.load(Path(wanted.output) / "generator.safetensors").name == "amnet_s"
    with child(tmp_path / "ended", cli.main, command(wanted)) as process:
        wait_for_state(process, wanted.output, after=metadata["step"])
        os.kill(process.pid, signal.SIGTERM)
        process.join(60)
        out = (tmp_path / "ended").read_text()
    assert process.exitcode == 143 and "stopped at step" in out and "the same command goes on" in out
    assert last_state(wanted.output)[1]["step"] > metadata["step"]
    assert len(RunFolder(wanted.output).states()) == 1
    assert not (Path(wanted.output) / ".state-partial").exists()
    assert generators.load(Path(wanted.output) / "generator.safetensors").name == "amnet_s"
