"""Training by two processes: one step equals one process's, and a stopped run goes on exactly."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from children import together
from states import assert_same_state, last_state

from experiments import training
from experiments.ranks import Ranks
from experiments.run_folder import RunFolder
from experiments.train_gan import GanTrainer, TrainGan
from experiments.train_generator import GeneratorTrainer, train_generator
from generators import checkpoint

ROOT = Path(__file__).resolve().parents[2]


def steps_and_stops(folder, base):
    """Work in a folder of this process's own, as on hosts that share no files; write findings beside it."""
    rank, found = int(os.environ["RANK"]), {}
    (folder / f"rank{rank}").mkdir()
    os.chdir(folder / f"rank{rank}")

    def settings(**changes):
        return replace(base, **changes)

    # Half of a batch each.
    trainer = GeneratorTrainer(settings(output="step"))
    one_half(folder, rank, trainer, steps=1)
    write(folder, rank, trainer, ("weights", "moment1", "moment2"))

    # Four steps, and four with a signal to one process in the second.
    random = {"code_noise": 1.0, "soften": 0.6}
    train_generator(settings(output="straight", **random))
    step = training.Trainer.step

    def struck(trainer):
        found["stopped"] = trainer.done + 1
        if rank == 1 and trainer.done == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(trainer)

    training.Trainer.step = struck
    train_generator(settings(output="halves", **random))
    training.Trainer.step = step
    trainer = GeneratorTrainer(settings(output="halves", **random))
    training.train(trainer, name="", path=Path("none"), save=lambda figures: None, validate=None)
    found["ema"] = hashlib.sha256(b"".join(p.numpy().tobytes() for p in trainer.ema.parameters())).hexdigest()
    (folder / f"found{rank}.json").write_text(json.dumps(found))


def g_against_d(folder, wanted):
    """Two steps of AMGAN, begun with a D of each process's own until they are made equal."""
    rank = int(os.environ["RANK"])
    trainer = GanTrainer(wanted)
    if rank:
        with torch.no_grad():
            for parameter in trainer.discriminator.parameters():
                parameter.mul_(1.5)
    trainer.ranks.equalise(*trainer.networks())
    one_half(folder, rank, trainer, steps=2)
    write(folder, rank, trainer, GAN_PARTS)


GAN_PARTS = ("weights", "moment1", "discriminator", "discriminator_moment1")


def one_half(folder, rank, trainer, steps):
    """Take steps on this process's half of the joint batch."""
    joint = checkpoint.read(folder / "batch.safetensors")[0]
    trainer._stream = iter([[joint[name].chunk(2)[rank] for name in ("hr", "lr", "kernel")]] * steps)
    for _ in range(steps):
        trainer.step()


def write(folder, rank, trainer, parts):
    state = trainer.state()
    for part in parts:
        checkpoint.save(folder / f"{part}{rank}.safetensors", state[part], {})


def launch(folder, *arguments, processes=2):
    """Run `python arguments...` under torchrun."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run([*command, *arguments], cwd=folder, env=environment, capture_output=True, text=True)


def test_two_processes(settings, tmp_path, capsys):
    single = GeneratorTrainer(settings(steps=4, batch_size=4))
    batch = next(single._stream)
    checkpoint.save(tmp_path / "batch.safetensors", dict(zip(("hr", "lr", "kernel"), batch, strict=True)), {})
    printed = "".join(together(tmp_path, steps_and_stops, tmp_path, settings(steps=4, batch_size=4)))
    found = [json.loads((tmp_path / f"found{rank}.json").read_text()) for rank in range(2)]

    # One step: gradients (the first moment is a tenth of them), so weights too, are those of the joint batch.
    single._stream = iter([batch])
    single.step()
    state = single.state()
    for part in ("moment1", "moment2", "weights"):
        ours, theirs = (checkpoint.read(tmp_path / f"{part}{rank}.safetensors")[0] for rank in range(2))
        assert set(ours) == set(state[part]) and len(ours) > 100
        for name, tensor in state[part].items():
            assert torch.equal(ours[name], theirs[name]), name
            difference = (ours[name] - tensor).abs()
            if part == "weights":  # Adam's first step is the gradient's sign: leave out gradients of rounding's size
                difference = difference * (state["moment1"][name].abs() > 1e-6)
            assert difference.max() <= 1e-6, name
            assert part == "weights" or difference.norm() <= 1e-4 * tensor.norm(), name

    # Stopped after the same step; to the bit as if never stopped; another stream for each; files by the first alone.
    assert [each["stopped"] for each in found] == [2, 2]
    assert found[0]["ema"] == found[1]["ema"]
    first = tmp_path / "rank0"
    whole = assert_same_state(first / "straight", first / "halves")
    assert whole["rng/stream"].shape == whole["rng/stream@1"].shape
    assert not torch.equal(whole["rng/stream"], whole["rng/stream@1"])
    assert list((tmp_path / "rank1").iterdir()) == []
    assert printed.count("stopped at step 2 of 4") == 1 and printed.count("finished after 4 steps") == 2

    # One process goes on where two were, with crops drawn anew.
    capsys.readouterr()
    train_generator(settings(output=str(first / "halves"), steps=5, batch_size=4, code_noise=1.0, soften=0.6))
    assert "goes on with 1 processes, not as many as before" in capsys.readouterr().out
    assert last_state(first / "halves")[1]["step"] == 5


def refused(wanted):
    with pytest.raises(OSError, match="another process is training in"):
        train_generator(wanted)


def test_both_processes_leave_a_folder_that_is_taken(settings, tmp_path):
    wanted = settings(steps=1, batch_size=2)
    with RunFolder(wanted.output).taken():
        together(tmp_path, refused, wanted)
    assert not RunFolder(wanted.output).states()


@pytest.mark.slow
def test_two_processes_train_g_against_d(settings, tmp_path):
    """Two steps, of D alone and of both, equal those of one process with the joint batch; D starts as the first's."""
    base = {"init": "amnet_s", "perceptual_weight": 0.0, "discriminator_width": 4, "outcomes": 5, "batch_size": 4}
    base |= {"discriminator_warmup": 1}
    wanted = settings(TrainGan, **base)
    single = GanTrainer(wanted)
    batch = next(single._stream)
    checkpoint.save(tmp_path / "batch.safetensors", dict(zip(("hr", "lr", "kernel"), batch, strict=True)), {})
    together(tmp_path, g_against_d, tmp_path, wanted)
    single._stream = iter([batch] * 2)
    for _ in range(2):
        single.step()
    state = single.state()
    for part in GAN_PARTS:
        ours, theirs = (checkpoint.read(tmp_path / f"{part}{rank}.safetensors")[0] for rank in range(2))
        assert set(ours) == set(state[part])
        for name, tensor in state[part].items():
            assert torch.equal(ours[name], theirs[name]), name
            if "moment" in part:
                assert (ours[name] - tensor).norm() <= 2e-3 * tensor.norm() + 1e-9, name
            elif part == "discriminator":
                torch.testing.assert_close(ours[name], tensor, atol=3e-4, rtol=1e-3)


STRUCK = """
import os, signal, sys
from experiments import options, training
from experiments.train_generator import TrainGenerator, train_generator

step = training.Trainer.step

def struck(trainer):
    loss = step(trainer)
    if trainer.done == 4:  # states were saved after steps 1 to 3; no more from now on
        object.__setattr__(trainer.settings, "checkpoint_seconds", 1e9)
    if trainer.done == 5 and trainer.ranks.index == 1:
        os.kill(os.getppid() if sys.argv[1] == "SIGTERM" else os.getpid(), getattr(signal, sys.argv[1]))
    return loss

training.Trainer.step = struck
train_generator(options.read(TrainGenerator, sys.argv[2:]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM"])
def test_processes_struck_down_go_on_exactly(tmp_path, data, name):
    """SIGKILL to one process, SIGTERM to torchrun itself; then the same command again, against a run never stopped."""
    program = tmp_path / "program.py"
    program.write_text(STRUCK)
    run = ["--data", f"[{data}]", "--arch", "amnet_s", "--steps", "2000", "--device", "cpu", "--patch_size", "8"]
    run += ["--batch_size", "4", "--checkpoint_seconds", "0", "--soften", "0.6", "--schedule", "halving"]
    struck, straight = tmp_path / "struck", tmp_path / "straight"
    done = launch(tmp_path, str(program), name, *run, "--output", str(struck))
    assert done.returncode != 0  # torchrun's, which was interrupted
    reached = last_state(struck)[1]["step"]
    if name == "SIGKILL":
        assert reached == 3
    else:
        assert 5 <= reached < 2000 and f"stopped at step {reached} of 2000" in done.stdout
    more = ["--steps", str(reached + 3)]  # of which the schedule `halving` knows nothing
    for folder in (struck, straight):
        done = launch(tmp_path, "-m", "experiments.train_generator", *run, *more, "--output", str(folder))
        assert done.returncode == 0, done.stderr
    assert last_state(struck)[1]["step"] == reached + 3
    assert_same_state(struck, straight)


def test_streams_come_back_to_whom_they_belong():
    ranks = Ranks(torch.device("cpu"))
    streams = {"stream": torch.tensor([1]), "stream@1": torch.tensor([2]), "stream@2": torch.tensor([3])}
    ranks.count, ranks.index = 3, 2
    assert ranks.own(streams) == ({"stream": torch.tensor([3])}, True)
    ranks.count, ranks.index = 2, 1
    assert ranks.own(streams) == ({"stream": torch.tensor([1])}, False)
    assert len({ranks.seed(0) % 2**32 for ranks.index in range(64)}) == 64, "CPU generators take 32 bits"


def test_what_cannot_be_shared(monkeypatch, settings):
    ranks = Ranks(torch.device("cpu"))
    ranks.count = 3
    assert ranks.share(6) == 2
    with pytest.raises(ValueError, match="3 processes cannot share batch_size 4: give a multiple"):
        ranks.share(4)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(ImportError, match=r"needs accelerate: pip install accelerate \(extra: train\)$"):
        train_generator(settings())
