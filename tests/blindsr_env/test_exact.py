"""What renders and scores is exact; the caller's settings are as before, whoever else is inside."""

import torch

from blindsr_env.exact import exact


def flags():
    cudnn = torch.backends.cudnn
    return cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32


def test_settings_come_back_when_the_last_thread_leaves(monkeypatch):
    for name, value in (("benchmark", True), ("deterministic", False), ("allow_tf32", True)):
        monkeypatch.setattr(torch.backends.cudnn, name, value)
    before = flags()
    one, other = exact(torch.device("cuda")), exact(torch.device("cuda"))  # as two threads that overlap
    one.__enter__()
    assert flags() == (False, True, False)
    torch.backends.cudnn.allow_tf32 = True  # somebody's metric
    other.__enter__()
    assert flags() == (False, True, False)
    one.__exit__(None, None, None)
    assert flags() == (False, True, False)
    other.__exit__(None, None, None)
    assert flags() == before
    with exact(torch.device("cpu")):
        assert flags() == before
