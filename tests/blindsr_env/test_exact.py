"""What renders and scores is exact; the caller's settings are as before, whoever else is inside."""

import subprocess
import sys

import pytest
import torch

from blindsr_env.exact import exact


def flags():
    cudnn = torch.backends.cudnn
    return cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32


def test_settings_come_back_when_the_last_thread_leaves(monkeypatch):
    for name, value in (("enabled", False), ("benchmark", True), ("deterministic", False), ("allow_tf32", True)):
        monkeypatch.setattr(torch.backends.cudnn, name, value)
    before = flags()
    one, other = exact(torch.device("cuda")), exact(torch.device("cuda"))  # as two threads that overlap
    one.__enter__()
    assert flags() == (True, False, True, False)
    torch.backends.cudnn.allow_tf32 = True  # somebody's metric
    other.__enter__()
    assert flags() == (True, False, True, False)
    one.__exit__(None, None, None)
    assert flags() == (True, False, True, False)
    other.__exit__(None, None, None)
    assert flags() == before
    with exact(torch.device("cpu")):
        assert flags() == before


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_products_are_of_float32(device, precision):
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision(precision)
        with exact(torch.device(device)):
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize(
    "setting",
    [
        'backends.cudnn.conv.fp32_precision = "ieee"',
        'backends.fp32_precision = "tf32"',
        'backends.cuda.matmul.fp32_precision = "tf32"',
        'backends.mkldnn.matmul.fp32_precision = "bf16"',
        'backends.mkldnn.conv.fp32_precision = "bf16"',
        'backends.mkldnn.fp32_precision = "bf16"',
        'backends.fp32_precision = "bf16"',
    ],
)
def test_the_newer_interface_of_precisions_serves_as_well(setting):
    """In a process of its own, since the older one is refused from then on."""
    program = f"""
import torch
from torch import backends
from blindsr_env.exact import exact
{setting}
kinds = backends.cuda.matmul, backends.mkldnn.matmul, backends.mkldnn.conv, backends.cudnn.conv
before = [kind.fp32_precision for kind in kinds]
for device in ("cpu", "cuda", "cuda"):
    with exact(torch.device(device)), exact(torch.device(device)):
        inside = [kind.fp32_precision for kind in kinds]
        assert "bf16" not in inside[:3] and "tf32" not in inside[:3], inside
        assert device == "cpu" or inside[3] != "tf32", inside
    assert [kind.fp32_precision for kind in kinds] == before
backends.fp32_precision = backends.mkldnn.fp32_precision = "ieee"
inherited = {{"backends.fp32_precision": kinds[:3], "backends.mkldnn.fp32_precision": kinds[1:3]}}
for kind in inherited.get({setting!r}.split(" = ")[0], ()):
    assert kind.fp32_precision == "ieee", "what was inherited still is"
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_threads_that_overlap_pile_up_nothing():
    from blindsr_env import exact as module

    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        with exact(torch.device("cuda")):
            noted = len(module._settings._exit_callbacks)
            for _ in range(100):
                with exact(torch.device("cuda")):
                    pass
            assert len(module._settings._exit_callbacks) == noted > 0
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
