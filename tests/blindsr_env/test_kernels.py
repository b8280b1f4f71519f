"""Blur kernels of the world: anisotropic Gaussians against plain sums."""

import math

import pytest
import torch

from blindsr_env import kernels


def test_anisotropic_is_the_formula():
    width_x, width_y, angle = 3.0, 1.2, 0.7
    kernel = kernels.anisotropic(*(torch.tensor([v], dtype=torch.float64) for v in (width_x, width_y, angle)))[0]
    expected = torch.empty(21, 21, dtype=torch.float64)
    for row in range(21):
        for column in range(21):
            x, y = column - 10, 10 - row
            along = x * math.cos(angle) + y * math.sin(angle)
            across = -x * math.sin(angle) + y * math.cos(angle)
            expected[row, column] = math.exp(-0.5 * ((along / width_x) ** 2 + (across / width_y) ** 2))
    assert (kernel - expected / expected.sum()).abs().max() < 1e-15


def test_equal_widths_give_the_isotropic_kernel_at_any_angle():
    width = torch.tensor([0.5, 1.7, 4.0], dtype=torch.float64)
    kernel = kernels.anisotropic(width, width, torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64))
    assert (kernel - kernels.gaussian(width)).abs().max() < 1e-15


def test_angles_turn_counter_clockwise_as_seen():
    one = torch.ones(1)
    rising = kernels.anisotropic(3 * one, 0.5 * one, math.pi / 4 * one)[0]
    assert rising[5, 15] > 1e-3 > rising[5, 5]  # up and to the right of the centre
    level = kernels.anisotropic(3 * one, 0.5 * one, 0 * one)[0]
    assert level[10, 15] > 1e-3 > level[15, 10]


def test_dtype_size_and_sum():
    width = torch.tensor([0.2, 4.0])
    kernel = kernels.anisotropic(width, width.flip(0), width, size=15)
    assert kernel.shape == (2, 15, 15) and kernel.dtype == torch.float32
    assert torch.allclose(kernel.sum(dim=(1, 2)), torch.ones(2))
    with pytest.raises(ValueError, match="odd"):
        kernels.anisotropic(width, width, width, size=14)


@pytest.mark.parametrize("width", [0.0, -1.0, float("nan"), float("inf")])
def test_impossible_widths_are_refused(width):
    for function in (kernels.gaussian, kernels.gaussian_profile):
        for given in (width, torch.tensor([1.0, width, 2.0])):
            with pytest.raises(ValueError, match=f"width must be a finite number above 0, in HR pixels, got {width:g}"):
                function(given)
