"""What generators are given: wrong photos and codes end in one line, whichever generator they meet."""

import pytest
import torch

import generators
from generators import ByKernel, SelfEnsemble, Tiled


@pytest.fixture(params=["plain", "tiled", "ensemble", "by kernel"])
def generator(request, tiny_generator):
    enlarge = torch.nn.Upsample(scale_factor=4)
    by_kernel = ByKernel(type("Own", (torch.nn.Module,), {"forward": lambda self, lr, kernel: enlarge(lr)})(), "own")
    made = {"plain": tiny_generator, "tiled": Tiled(tiny_generator, 16, 4), "ensemble": SelfEnsemble(tiny_generator)}
    return {**made, "by kernel": by_kernel}[request.param]


@pytest.mark.parametrize(
    ("lr", "code", "message"),
    [
        (torch.rand(3, 20, 20), torch.zeros(1, 15), r"must be \(N, 3, h, w\), got \(3, 20, 20\)"),
        (torch.rand(2, 20, 20, 3), torch.zeros(2, 15), r"got \(2, 20, 20, 3\): channels come before"),
        (torch.rand(2, 3, 20, 20), torch.zeros(1, 15), r"must be \(2, 15\), one for each photo, got \(1, 15\)"),
        (torch.rand(2, 3, 20, 20), torch.zeros(2, 1), r"must be \(2, 15\), one for each photo, got \(2, 1\)"),
        (torch.ones(1, 3, 20, 20, dtype=torch.uint8), torch.zeros(1, 15), "must be floats, got torch.uint8 and"),
        (torch.rand(1, 3, 20, 20), torch.zeros(1, 15, dtype=torch.long), "must be floats, got .* and torch.int64"),
        (3 * torch.ones(1, 3, 20, 20), torch.zeros(1, 15), "go from 0 to 1, not to 3: divide 8-bit ones by 255"),
        (2 * torch.eye(20).expand(1, 3, 20, 20) - 1, torch.zeros(1, 15), "go from 0 to 1, not from -1 on: divide"),
        (torch.full((1, 3, 20, 20), torch.nan), torch.zeros(1, 15), "go from 0 to 1, not from nan on"),
        (torch.rand(1, 3, 0, 20), torch.zeros(1, 15), r"must have pixels, got \(1, 3, 0, 20\)"),
    ],
)
def test_what_no_generator_renders_is_refused(generator, lr, code, message):
    for render in (generator, generator.render):
        with pytest.raises(ValueError, match=message):
            render(lr, code)


def test_a_little_overshoot_is_rendered(generator):
    assert generator(1.2 * torch.rand(1, 3, 20, 20), torch.zeros(1, 15)).isfinite().all()


def test_compiled_ones_look_too(tiny_generator, compiled):
    with pytest.raises(ValueError, match="must be floats"):
        generators.Compiled(tiny_generator)(torch.ones(1, 3, 8, 8, dtype=torch.uint8), torch.zeros(1, 15))
    assert compiled == []
