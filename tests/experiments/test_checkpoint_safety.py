"""No partial file ever stands in place of a good one: errors, kills and full folders while saving."""

import errno
import json
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
import time
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from experiments import sheets
from experiments.quickstart import Quickstart, quickstart
from experiments.results_file import ResultsFile, write_results
from experiments.run_folder import RunFolder
from experiments.train_agent import TrainAgent, train_agent
from experiments.train_generator import train_generator
from generators import CheckpointError, checkpoint
from generators.atomic import atomic_write

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


def test_an_error_while_writing_keeps_the_old_file(tmp_path):
    path = tmp_path / "file.json"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="stop"), atomic_write(path) as partial:
        partial.write_text("new, but not whole")
        raise RuntimeError("stop")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_the_new_file_appears_whole(tmp_path):
    path = tmp_path / "deep" / "down" / "file.json"
    with atomic_write(path) as partial:
        assert partial.parent == path.parent and partial.suffix == ".json" and partial.name.startswith(".")
        partial.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new" and list(path.parent.iterdir()) == [path]


def test_it_is_on_the_disk_before_it_replaces_the_old_one(tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr(os, "fsync", lambda _: done.append((tmp_path / "file.json").exists()))
    with atomic_write(tmp_path / "file.json") as partial:
        partial.write_text("new")
    assert done == [False]


def test_of_a_link_what_it_points_to_is_written(tmp_path):
    (tmp_path / "scratch").mkdir()
    link, target = tmp_path / "file.json", tmp_path / "scratch" / "real.json"
    link.symlink_to(target)
    for text in ("first", "second"):
        with atomic_write(link) as partial:
            partial.write_text(text)
        assert link.is_symlink() and target.read_text() == text
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file.json", "real.json", "scratch"]


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_permissions_are_those_of_any_new_file(tmp_path, mask):
    before = os.umask(mask)
    try:
        with atomic_write(tmp_path / "a") as partial:
            partial.write_text("x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o666 & ~mask


def test_folders_that_cannot_be_written_give_one_line(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    for path in (tmp_path / "file" / "a.json", tmp_path / "file" / "deep" / "a.json"):
        with (
            pytest.raises(OSError, match="cannot write into the folder .*: choose another") as error,
            atomic_write(path),
        ):
            pass
        assert "\n" not in str(error.value)
    if os.geteuid() != 0:  # root may write anywhere
        tmp_path.chmod(0o555)
        with pytest.raises(OSError, match="Permission denied"), atomic_write(tmp_path / "a.json"):
            pass


def test_a_file_that_cannot_be_replaced_leaves_no_partial_one(tmp_path):
    with pytest.raises(OSError, match="directory"), atomic_write(tmp_path / "a") as partial:
        partial.write_text("x")
        (tmp_path / "a").mkdir()  # meanwhile: one that is there before is refused by its name
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def kill_amid(work, seconds):
    """Run `work` in a child process and kill it after a while, without a chance to clean up."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(1)  # only reached where work fails: the parent kills it before
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1]), "the child ended by itself"


ROUNDS = 12


def test_killed_while_saving_the_old_checkpoint_loads(tmp_path):
    path, rng = tmp_path / "c.safetensors", np.random.default_rng(0)
    versions = [{"x": torch.full((300_000,), float(i)), "y": torch.full((7,), float(i))} for i in range(2)]
    checkpoint.save(path, versions[0], {"version": 0})

    def work():
        while True:
            for i, tensors in enumerate(versions):
                checkpoint.save(path, tensors, {"version": i})

    for _ in range(ROUNDS):
        kill_amid(work, rng.uniform(0.005, 0.06))
        tensors, metadata = checkpoint.read(path)
        for name in ("x", "y"):
            assert torch.equal(tensors[name], versions[metadata["version"]][name])
    checkpoint.save(path, versions[1], {"version": 5})
    assert checkpoint.read(path)[1]["version"] == 5


def test_a_full_disk_is_one_line_and_keeps_the_old_file(tmp_path):
    path = tmp_path / "c.safetensors"
    checkpoint.save(path, {"x": torch.ones(3)}, {"version": 0})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
        with pytest.raises(OSError, match="too large") as error:
            checkpoint.save(path, {"x": torch.ones(300_000)}, {"version": 1})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(error.value)
    assert checkpoint.read(path)[1]["version"] == 0 and list(tmp_path.iterdir()) == [path]


def test_tensors_of_any_kind_are_saved_to_a_file_like_any_other(tmp_path):
    os.umask(mask := os.umask(0))
    path, x = tmp_path / "c.safetensors", torch.arange(24.0).view(2, 3, 4)
    tensors = {"x": x, "again": x, "part": x[1], "turned": x.transpose(0, 2), "none": x[:0], "number": x[0, 0, 1]}
    tensors["learned"] = torch.nn.Parameter(torch.ones(2, dtype=torch.float16))
    tensors |= {"first": torch.zeros(0), "second": torch.zeros(0), "lasts": torch.eye(2, 5)[:, 2:]}
    tensors |= {
        str(dtype): torch.tensor([0, 1, 1]).to(dtype)
        for dtype in (torch.float64, torch.bfloat16, torch.int64, torch.uint8, torch.bool)
    }
    checkpoint.save(path, tensors, {"text": "Küche"})
    found, metadata = checkpoint.read(path)
    assert metadata["text"] == "Küche"
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(found[name], tensor) and found[name].dtype == tensor.dtype, name


def parts(step):
    return {name: {"t": torch.full((20_000,), float(step))} for name in ("weights", "ema", "moment1", "moment2")}


def test_killed_while_saving_the_training_state_loads(tmp_path):
    folder, rng = RunFolder(tmp_path), np.random.default_rng(1)
    folder.save_state(1, parts(1), {"figures": {"psnr": 1.0}})

    def work():
        step = 1
        while True:  # a run may save one step twice: by the clock, and at its end
            step += 1
            for _ in range(2):
                folder.save_state(step, parts(step), {"figures": {"psnr": float(step)}})

    for _ in range(ROUNDS):
        kill_amid(work, rng.uniform(0.005, 0.08))
        tensors, metadata = folder.load_state()
        assert set(tensors) == {"weights", "ema", "moment1", "moment2"}
        for part in tensors.values():
            assert torch.equal(part["t"], torch.full((20_000,), float(metadata["step"])))
        assert metadata["figures"]["psnr"] == metadata["step"]
    folder.save_state(10**6, parts(10**6), {})
    assert [path.name for path in tmp_path.iterdir()] == ["state-001000000"], "leftovers of the kills"


def test_what_a_kill_leaves_behind_is_passed_over(tmp_path):
    folder = RunFolder(tmp_path / "new")
    assert folder.load_state() is None and folder.states() == []
    folder.save_state(3, parts(3), {})
    checkpoint.save(folder.path / ".state-partial" / "weights.safetensors", {"t": torch.zeros(1)}, {"step": 4})
    (folder.path / "state-000000009").write_text("a file, not a state")
    assert folder.load_state()[1]["step"] == 3
    shutil.copytree(folder.path / "state-000000003", tmp_path / "old")
    folder.save_state(20, parts(20), {})
    shutil.copytree(tmp_path / "old", folder.path / "state-000000003")  # killed before the last one was removed
    assert folder.load_state()[1]["step"] == 20
    folder.save_state(20, parts(20), {})
    assert [path.name for path in folder.states()] == ["state-000000020"]
    (weights,) = folder.states()[0].glob("weights*")
    checkpoint.save(weights, {"t": torch.zeros(1)}, {"kind": "agent", "parts": sorted(parts(20))})
    with pytest.raises(CheckpointError, match="holds no whole training state: remove it to start again"):
        folder.load_state()


@dataclass
class Settings:
    """Of a run; an older version did not know `rate`."""

    images: object
    steps: int
    rate: float = 0.5


def test_a_folder_is_one_process_at_a_time(tmp_path, settings):
    run = settings(output=str(tmp_path / "run"), steps=1)
    with RunFolder(run.output).taken():
        agent = TrainAgent(output=run.output, images=run.data[0], generator="amnet_s", metric="psnr", device="cpu")
        quick = Quickstart(output=run.output, renders=16, scenes=1, device="cpu")
        for begin in (lambda: train_generator(run), lambda: train_agent(agent), lambda: quickstart(quick)):
            with pytest.raises(
                OSError, match="^another process is training in .*run: wait for it, stop it, or give an"
            ):
                begin()
        assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]
        with RunFolder(tmp_path / "other").taken():
            pass
    assert train_generator(run).exists()


def test_a_folder_is_free_once_its_process_is_killed(tmp_path):
    hold = "import sys, time\nfrom experiments.run_folder import RunFolder\nwith RunFolder(sys.argv[1]).taken():\n"
    hold += "    print('taken', flush=True)\n    time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", hold, str(tmp_path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "taken\n"
        with pytest.raises(OSError, match="another process"), RunFolder(tmp_path).taken():
            pass
        other.kill()
    with RunFolder(tmp_path).taken():
        pass


def test_where_no_locks_are_known_the_folder_is_taken_as_it_is(tmp_path, monkeypatch, capsys):
    def fails(number):
        def flock(*_):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr("experiments.run_folder.fcntl.flock", flock)

    fails(errno.ENOLCK)
    with RunFolder(tmp_path).taken():
        assert "cannot be locked (No locks available): do not train twice in it" in capsys.readouterr().out
    fails(errno.EIO)
    with pytest.raises(OSError, match="Input/output error"), RunFolder(tmp_path).taken():
        pass


def test_a_run_goes_on_with_the_settings_that_it_was_begun_with(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = RunFolder("run")
    folder.check_config(Settings("anything", 1))
    folder.write_config(Settings(["photos/", "b"], 7))
    folder.check_config(Settings(["./photos", str(tmp_path / "b")], 7))  # the same places
    for changes in ({"images": ["photos", "c"]}, {"images": ["photos"]}, {"steps": 8}, {"rate": 1.0}):
        (name,) = changes
        with pytest.raises(ValueError, match=f"was begun with {name}=.*, not .*: give another output folder, or that"):
            folder.check_config(Settings(**{"images": ["photos", "b"], "steps": 7} | changes))
        folder.check_config(Settings(**{"images": ["photos", "b"], "steps": 7} | changes), free=(name,))
    config = folder.path / "config.yaml"
    config.write_text(config.read_text().replace("rate: 0.5\n", ""))
    folder.check_config(Settings(["photos", "b"], 7))
    with pytest.raises(ValueError, match="begun with rate=0.5, not 1.0"):
        folder.check_config(Settings(["photos", "b"], 7, 1.0))
    config.write_text("unheard_of: 1\n" + config.read_text())
    with pytest.raises(ValueError, match="run holds another run, with unheard_of: give another output folder"):
        folder.check_config(Settings(["photos", "b"], 7))


def test_a_damaged_training_state_gives_one_line(tmp_path):
    folder = RunFolder(tmp_path)
    folder.save_state(3, parts(3), {})
    state = folder.states()[0]
    whole = (state / "ema.safetensors").read_bytes()
    (state / "ema.safetensors").write_bytes(whole[:1000])
    with pytest.raises(CheckpointError, match=r"ema\.safetensors is truncated .* or remove .*state-000000003 to start"):
        folder.load_state()
    (state / "ema.safetensors").unlink()
    with pytest.raises(CheckpointError, match="holds no whole training state: remove it"):
        folder.load_state()
    for file in state.iterdir():
        file.unlink()
    with pytest.raises(CheckpointError, match="holds no whole training state: remove it"):
        folder.load_state()


def test_a_run_cut_short_keeps_what_it_has_but_not_in_place_of_a_whole_one(tmp_path):
    def read():
        content = json.loads((tmp_path / "r.json").read_text())
        return content["figures"]["n"], content.get("whole", True)

    def file():
        return ResultsFile(tmp_path / "r", {"a": 1}, 0, {"photos": "x"})

    assert file().keep({"n": 1}, whole=False) and read() == (1, False)
    again = file()
    assert again.keep({"n": 2}, whole=False) and again.keep({"n": 3}, whole=True) and read() == (3, True)
    later = file()
    assert not later.keep({"n": 4}, whole=False) and read() == (3, True)
    assert later.keep({"n": 5}, whole=True) and read() == (5, True)
    assert later.keep({"n": 6}, whole=False) and read() == (6, False)  # its own is its to replace
    assert ResultsFile(tmp_path / "r", {"a": 2}, 0, {}).path == tmp_path / "r_2.json"
    one, two = (ResultsFile(tmp_path / "s", {"b": n}, 0, {}) for n in (1, 2))  # both found the name free
    assert one.keep({"n": 1}, whole=True) and two.keep({"n": 2}, whole=False)
    assert (one.path, two.path) == (tmp_path / "s.json", tmp_path / "s_2.json")
    with pytest.warns(UserWarning, match="s_2.json is of a run that was cut short: run it again"):
        sheets.read(str(tmp_path / "s_2.json"))
    assert {path.name for path in tmp_path.iterdir()} == {"r.json", "s.json", "s_2.json"}, "nothing else"
    ResultsFile(tmp_path / "new" / "folder" / "r", {"a": 1}, 0, {})
    assert not (tmp_path / "new").exists(), "a command that is refused then leaves no folder"
    nowhere = ResultsFile(None, {"a": 1}, 0, {})
    assert nowhere.path is None and not nowhere.keep({"n": 7}, whole=True)


def test_results_are_standard_json(tmp_path):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    nan, high = float("nan"), float("inf")
    write_results(tmp_path / "r.json", {"low": nan, "scores": [[1.0, high]], "count": 1}, {"a": 1}, seed=0)
    content = json.loads((tmp_path / "r.json").read_text(), parse_constant=refuse)
    assert content["figures"] == {"low": None, "scores": [[1.0, None]], "count": 1}


def test_results_that_cannot_be_written_keep_the_old_ones(tmp_path):
    path = tmp_path / "results.json"
    write_results(path, {"psnr": 30.0}, {"a": 1}, seed=0)
    old = path.read_text()
    with pytest.raises(TypeError):
        write_results(path, {("not", "a key"): 1}, {}, seed=0)
    assert path.read_text() == old and list(tmp_path.iterdir()) == [path]
