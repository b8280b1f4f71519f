"""The benchmark runs, its parts can be chosen, and its ratios follow from its seconds."""

import json
import mmap
import os
import platform
import shutil
import statistics
from copy import deepcopy

import numpy as np
import pytest
import torch

from blindsr_env import metrics
from experiments import contestants, processor, stopwatch
from experiments.bench import MEMORY_ROWS, Bench, bench
from experiments.contestants import tiny_env
from experiments.stopwatch import Contestant, count_flops, race

QUICK = {"batch": 2, "singles": 1, "patch_size": 24, "envs": (1, 2), "inference_batches": (1,), "rounds": 2}


class Slow:
    name, lower_is_better, needs_reference, min_size = "slow", True, False, 1

    def __call__(self, sr, hr=None):
        return metrics.get("niqe")(sr.repeat(3, 1, 1, 1))[: len(sr)]


@pytest.fixture
def run(tmp_path, tiny_checkpoint):
    metrics.register("slow", lambda scale: Slow())

    def run(**settings):
        output = tmp_path / "bench.json"
        settings = QUICK | {"rival": "slow", "generator": tiny_checkpoint, "device": "cpu"} | settings
        bench(Bench(output=str(output), **settings))
        results = json.loads(output.read_text())
        assert results["config"]["generator"] == "tiny.safetensors"  # no paths
        return results["figures"]

    return run


def test_other_weights_of_the_same_name_get_a_file_of_their_own(run, tiny_checkpoint, louder, tmp_path):
    (tmp_path / "other").mkdir()
    for generator in (tiny_checkpoint, tiny_checkpoint, shutil.copy(louder, tmp_path / "other" / "tiny.safetensors")):
        run(parts=("memory",), memory_steps=20, generator=str(generator))
    assert sorted(path.name for path in tmp_path.glob("*.json")) == ["bench.json", "bench_2.json"]


def test_timings_with_other_threads_get_a_file_of_their_own(run, tmp_path, monkeypatch):
    for threads in (1, 1, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        run(parts=("memory",), memory_steps=20)
    found = {path.name: json.loads(path.read_text())["figures"]["threads"] for path in tmp_path.glob("*.json")}
    assert found == {"bench.json": 1, "bench_2.json": 3}


def test_timings_on_another_cpu_of_the_same_architecture_get_a_file_of_their_own(run, tmp_path, monkeypatch):
    monkeypatch.setattr(processor, "INFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(processor.os, "sched_getaffinity", lambda process: {0, 2, 5}, raising=False)
    for model, flags in (("Xeon 8481C", "avx512f amx_bf16 avx512_bf16"), ("EPYC 7B13", "avx2")):
        core = f"processor\t: 0\nmodel name\t: {model}\nflags\t\t: {flags}\n\n"
        (tmp_path / "cpuinfo").write_text(2 * core)
        run(parts=("memory",), memory_steps=20)
    first, second = (json.loads((tmp_path / name).read_text()) for name in ("bench.json", "bench_2.json"))
    for of in ("identity", "environment"):
        assert (first[of]["processor"], second[of]["processor"]) == ("Xeon 8481C", "EPYC 7B13")
        assert (first[of]["bf16"], second[of]["bf16"]) == (["amx_bf16", "avx512_bf16"], [])
        assert first[of]["architecture"] == platform.machine() and first[of]["cores"] == 3


def test_a_machine_that_tells_nothing_of_its_cpu_has_its_architecture(tmp_path, monkeypatch):
    monkeypatch.setattr(processor, "INFO", tmp_path / "none")
    monkeypatch.setattr(platform, "processor", lambda: "")
    assert (processor.model(), processor.bf16()) == (platform.machine(), None)
    monkeypatch.delattr(processor.os, "sched_getaffinity", raising=False)
    assert processor.cores() == os.cpu_count()


def median(row):
    assert len(row["seconds"]) == 2
    return statistics.median(row["seconds"])


def test_ratios_follow_from_seconds(run):
    figures = run(parts=("niqe", "env", "loops"))
    rows = figures["niqe"]["contestants"]
    expected = median(rows["score slow"]) / median(rows["score niqe"])
    assert figures["niqe"]["ratios"] == {"score niqe over score slow": pytest.approx(expected)}
    rows = figures["env"]["contestants"]
    for n in (1, 2):
        expected = median(rows[f"bare forward {n}"]) / median(rows[f"step {n}"])
        assert figures["env"]["ratios"][f"step rate over bare forward rate, {n}"] == pytest.approx(expected)
    rows, ratios = figures["loops"]["contestants"], figures["loops"]["ratios"]
    for other in ("SyncVectorEnv of 1", "DummyVecEnv of 1", "one by one, slow"):
        expected = 2 / median(rows["vector env of 2"]) * median(rows[other])
        assert ratios[f"vector env of 2 over {other}"] == pytest.approx(expected)


def test_compiled_generators_race_the_plain_ones(run, compiled):
    figures = run(parts=("generator", "env"), envs=(1,), compile=True)
    assert len(compiled) == 1  # shared
    assert {"forward 2", "forward 2 compiled"} <= set(figures["generator"]["contestants"])
    rows = figures["env"]["contestants"]
    expected = median(rows["bare forward 1, compiled"]) / median(rows["step 1, compiled"])
    assert figures["env"]["ratios"]["step rate over bare forward rate, 1, compiled"] == pytest.approx(expected)


@pytest.mark.parametrize(("name", "dtypes"), [("amnet_s", 2), ("mine:network", 1)])
def test_on_a_gpu_ones_own_generator_is_timed_in_its_own_precision(monkeypatch, tiny_generator, name, dtypes):
    asked = []
    monkeypatch.setattr(torch, "compile", lambda network, mode: network)
    monkeypatch.setattr(contestants, "_inputs", lambda *_: (torch.rand(1, 3, 8, 8), torch.zeros(1, 15)))
    monkeypatch.setattr(
        contestants.sharing, "generator", lambda _, __, dtype: asked.append(dtype) or deepcopy(tiny_generator).to(dtype)
    )
    contestants.forwards(name, 1, 8, torch.device("cuda"))
    assert len(asked) == dtypes


def test_generator_inference_precision_and_memory(run):
    parts = ("generator", "inference", "precision", "memory")
    figures = run(parts=parts, memory_steps=400, inference_batches=(1, 3))
    assert set(figures) == {"device", "threads", "generator", "inference", "precision", "memory"}
    row = figures["generator"]["contestants"]["forward 2"]
    matmul = figures["generator"]["contestants"]["matmul float32"]
    rates = [flops["flops"] / median(flops) for flops in (row, matmul)]
    assert row["share_of_matmul"] == pytest.approx(rates[0] / rates[1])
    inference = [row["flops"] for row in figures["inference"]["contestants"].values() if "images_per_second" in row]
    assert len(inference) == 2 and inference[1] == pytest.approx(3 * inference[0])
    assert figures["inference"]["multiply_adds_of_one_photo"] > 382_627 * 0.9 * 64 * 64  # the predictor's alone
    moved = [figures["precision"][f"mean_absolute_difference_of_the_reward_in_{d}"] for d in ("float16", "bfloat16")]
    assert all(0 < difference < 1 for difference in moved)
    memory = figures["memory"]
    assert (memory["rows"], memory["steps"], memory["first"]) == (MEMORY_ROWS, 400, MEMORY_ROWS)
    assert tiny_env(3, torch.device("cpu")).action_space.shape == (3, 15)  # the rows asked for
    assert abs(figures["memory"]["growth"]) < 0.5 and figures["memory"]["bytes_after_first"] > 2**20


def test_flops_are_twice_the_multiply_adds():
    conv = torch.nn.Conv2d(3, 8, 3, padding=1)
    assert count_flops(conv, torch.rand(2, 3, 5, 7)) == 2 * (2 * 5 * 7) * 8 * 3 * 9


def test_contestants_take_turns():
    turns = []
    every = [Contestant(name, lambda name=name: turns.append(name), 1) for name in "ab"]
    rows = race(every, 3, torch.device("cpu"), "turns")
    assert turns == ["a", "b"] * 4 and len(rows["a"]["seconds"]) == 3


def test_figures_follow_from_the_rounds_after_the_first(monkeypatch):
    taken = iter([100.0, 100.0, 4.0, 0.5, 1.0, 0.2, 2.0, 0.3])  # a matrix product and a contestant, in turn
    monkeypatch.setattr(stopwatch, "elapsed", lambda run, device: next(taken))
    (product,) = stopwatch._matmuls(torch.device("cpu"), {"float32"})
    rows = race([Contestant("a", lambda: None, 6, flops=3e9)], 3, torch.device("cpu"), "turns")
    assert rows["a"]["seconds"] == [0.5, 0.2, 0.3] and rows["a"]["median"] == 0.3
    assert rows["a"]["images_per_second"] == pytest.approx(20) and rows["a"]["gflops_per_second"] == pytest.approx(10)
    rate = count_flops(product.run) / 2 / 1e9
    assert rows["matmul float32"]["gflops_per_second"] == pytest.approx(rate)
    assert rows["a"]["share_of_matmul"] == pytest.approx(10 / rate)


def test_memory_is_in_bytes():
    cpu = torch.device("cpu")
    before = stopwatch.memory_now(cpu)
    held = mmap.mmap(-1, 2**26)  # of the system itself: malloc may have as much left from before
    np.frombuffer(held, np.uint8)[:] = 1
    grown = stopwatch.memory_now(cpu) - before
    assert 60 < grown / 2**20 < 80 and held[-1] == 1
    assert stopwatch.memory_peak(cpu) > 0.9 * (before + grown)


def test_an_unknown_part_lists_the_nearest():
    with pytest.raises(ValueError, match=r"'niqee': did you mean .*'niqe'"):
        Bench(parts=("niqee",))


@pytest.mark.parametrize(
    ("parts", "message"),
    [((), "give at least one part, of generator, niqe"), (("niqe", "niqe"), "'niqe' is given twice")],
)
def test_no_part_and_a_part_twice_are_refused(parts, message):
    with pytest.raises(ValueError, match=message):
        Bench(parts=parts)


def test_a_missing_rival_is_said_and_left_out(run, monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "pyiqa", None)
    monkeypatch.setitem(__import__("sys").modules, "pyiqa.default_model_configs", None)
    figures = run(parts=("niqe",), rival="pyiqa:niqe")
    assert "without pyiqa:niqe" in capsys.readouterr().out
    assert list(figures["niqe"]["contestants"]) == ["matmul float32", "score niqe"]
