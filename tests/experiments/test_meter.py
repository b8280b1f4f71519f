"""The clock of a training, and the arithmetic that it is compared with."""

import subprocess
import sys
import time

import pytest
import torch

from experiments.meter import Meter, matmul_rate
from experiments.train_generator import GeneratorTrainer
from experiments.train_predictor import PredictorTrainer, TrainPredictor

CPU = torch.device("cpu")


def test_flops_are_those_of_the_convolutions(settings):
    """Forward, and twice as much backward but for the first layer, whose input needs no gradient."""
    trainer = GeneratorTrainer(settings(batch_size=3, patch_size=8, code_noise=1.0))
    before = trainer.rng.get_state()
    area, width, blocks = 8 * 8, 32, 8
    head, convs, tail = 3 * width, (2 * blocks + 1) * width * width, width * 48
    modulation = 2 * blocks + 1
    # per patch: e = FC(code), gamma and beta from [e, sigma] and [e, mu]; the code itself needs no gradient
    embed, linear = 15 * 16, 2 * (16 + width) * width
    forward = 2 * (9 * area * (head + convs + tail) + modulation * (embed + linear))
    encode = 2 * 15 * 21 * 21
    expected = 3 * forward - 2 * (9 * area * head + modulation * embed) + encode
    assert trainer.flops() == 3 * expected
    assert torch.equal(trainer.rng.get_state(), before), "the count moved the training's random stream"
    assert all(parameter.grad is None for parameter in trainer.network.parameters())


def test_a_frozen_generator_counts_too(data, tmp_path, tiny_generator):
    base = {"data": [data], "output": str(tmp_path), "network": "predictor_s", "patch_size": 8, "batch_size": 2}
    by = {loss: TrainPredictor(**base, steps=1, device="cpu", loss=loss) for loss in ("code", "image")}
    code, image = (PredictorTrainer(by[loss], tiny_generator).flops() for loss in ("code", "image"))
    assert image - code > 2 * 2 * 2 * 9 * 64 * (2 * 8 * 8 + 8 * 48)  # its convolutions, forward and towards the code


def test_the_matmul_rate_is_the_best_of_several_products(monkeypatch):
    """By a clock on which the products take 3, 2, 5, ... seconds; random numbers of the caller's are not taken."""
    matmul_rate.cache_clear()
    torch.manual_seed(3)
    before = torch.get_rng_state()
    took, product = iter([0, 3, 2, *[5] * 10_000]), torch.matmul  # the first is not timed
    now = [0.0]

    def multiply(a, b, *, out):
        now[0] += next(took)
        assert a.shape == b.shape == (1024, 1024) and not torch.equal(a, b)
        return product(a, b, out=out)

    monkeypatch.setattr(torch, "matmul", multiply)
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    rate = matmul_rate(CPU, torch.float32, seconds=20)
    assert rate == 2 * 1024**3 / 2
    assert torch.equal(torch.get_rng_state(), before)
    assert matmul_rate(CPU, torch.float32, seconds=20) == rate and now[0] < 30, "measured again"
    matmul_rate.cache_clear()


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("backends.cudnn.allow_tf32 = True", True),
        ("backends.cudnn.allow_tf32 = False", False),
        ('backends.cuda.matmul.fp32_precision = "ieee"', True),
        ('backends.fp32_precision, backends.cudnn.conv.fp32_precision = "tf32", "ieee"', False),
        ('backends.cuda.matmul.fp32_precision, backends.cudnn.conv.fp32_precision = "tf32", "ieee"', False),
    ],
)
def test_products_take_tf32_where_convolutions_do(setting, expected):
    """Whichever interface says so; in a process of its own, since the older one is refused after the newer."""
    program = f"""
import torch
from torch import backends
from experiments.meter import _as_convolutions, matmul_rate
{setting}
before = backends.cuda.matmul.fp32_precision
assert matmul_rate(torch.device("cpu"), torch.float32, seconds=0.01) > 0
with _as_convolutions(torch.device("cuda")):
    assert (backends.cuda.matmul.fp32_precision == "tf32") is {expected}
assert (backends.cuda.matmul.fp32_precision == "tf32") == (before == "tf32")
inherited = before == backends.fp32_precision
backends.fp32_precision = "ieee"
assert not inherited or backends.cuda.matmul.fp32_precision != "tf32"
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_rates(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    meter = Meter(patches=16, flops=600, rate=1000.0, device=CPU)
    assert meter.read() == {} == meter.total()
    now[0] += 50  # compiling
    meter.step()
    assert meter.read() == {}
    for _ in range(4):
        now[0] += 2
        meter.step()
    with meter.paused():
        now[0] += 1000  # validating
    assert meter.read() == pytest.approx({"patches_per_second": 8.0, "matmul_share": 0.3})
    meter.flops = 300  # from now on a step does half the work
    for _ in range(4):
        now[0] += 1
        meter.step()
    assert meter.read() == pytest.approx({"patches_per_second": 16.0, "matmul_share": 0.3})
    assert meter.total() == pytest.approx(
        {"patches_per_second": 8 * 16 / 12, "matmul_share": (4 * 0.6 + 4 * 0.3) / 12, "matmul_rate": 1000.0}, abs=1e-4
    )
