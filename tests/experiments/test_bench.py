"""The benchmark runs and its ratios follow from its seconds."""

import json
import statistics

import pytest

from blindsr_env import metrics
from experiments.bench import Bench, bench


class Slow:
    name, lower_is_better, needs_reference, min_size = "slow", True, False, 1

    def __call__(self, sr, hr=None):
        return metrics.get("niqe")(sr.repeat(3, 1, 1, 1))[: len(sr)]


def test_bench_writes_seconds_and_ratios(tmp_path, tiny_checkpoint):
    metrics.register("slow", lambda scale: Slow())
    output = tmp_path / "bench.json"
    bench(Bench(batch=2, rounds=2, rival="slow", generator=tiny_checkpoint, device="cpu", output=str(output)))
    figures = json.loads(output.read_text())["figures"]
    seconds = figures["seconds"]
    assert {len(values) for values in seconds.values()} == {2}
    median = {name: statistics.median(values) for name, values in seconds.items()}
    assert figures["ratios"]["seconds of slow over NIQE's"] == pytest.approx(median["slow"] / median["NIQE"])


def test_a_missing_rival_is_said_and_left_out(tmp_path, tiny_checkpoint, monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "pyiqa", None)
    monkeypatch.setitem(__import__("sys").modules, "pyiqa.default_model_configs", None)
    figures = bench(Bench(batch=1, rounds=1, generator=tiny_checkpoint, device="cpu", output=None))
    assert "without pyiqa:niqe" in capsys.readouterr().out
    assert list(figures["ratios"]) == ["step rate over generator forward rate"]
