"""What a training's folder holds, for comparison, and weights made of nothing."""

import torch

from experiments.run_folder import RunFolder


def last_state(output):
    """Give the newest state, tensors by `part/name`, and its metadata."""
    parts, metadata = RunFolder(output).load_state()
    return {f"{part}/{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}, metadata


def assert_same_state(first, second):
    """Check that two runs' newest states are equal to the bit: weights, EMA, moments, random streams."""
    (a, before), (b, after) = last_state(first), last_state(second)
    assert before["step"] == after["step"] and before["figures"] == after["figures"]
    assert set(a) == set(b) and len(a) > 500
    for name, tensor in a.items():
        assert torch.equal(tensor, b[name]), name
    assert all(tensor.isfinite().all() for tensor in a.values())
    assert any(name.startswith("moment2/") and tensor.abs().sum() > 0 for name, tensor in a.items())
    return a


def random_state(network, seed=0):
    """Give weights that no training made, of a size that keeps signals as they are."""
    rng = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(tensor.shape, generator=rng) * (2 / max(1, tensor[0].numel())) ** 0.5
        for name, tensor in network.state_dict().items()
    }
