"""Averages over windows: against NumPy's convolution, and their derivatives against differences and plain autograd."""

import numpy as np
import pytest
import torch

from blindsr_env.metrics.window import slide, smooth

UNEVEN = (0.5, 0.25, 0.15, 0.1)


@pytest.mark.parametrize("dim", [-1, 1])
def test_slide_is_a_correlation_with_exact_derivatives(dim):
    x = torch.rand(2, 7, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = np.apply_along_axis(lambda row: np.correlate(row, UNEVEN, "valid"), dim, x.numpy())
    np.testing.assert_allclose(slide(x, UNEVEN, dim).numpy(), expected, rtol=1e-12)
    x.requires_grad_()
    np.testing.assert_allclose(slide(x, UNEVEN, dim).detach().numpy(), expected, rtol=1e-12)
    assert torch.autograd.gradcheck(lambda y: slide(y, UNEVEN, dim), x)
    assert torch.autograd.gradgradcheck(lambda y: slide(y, UNEVEN, dim) ** 3, x)
    # Which compares second derivatives with first ones that are followed: these are computed in another way.
    plain, followed = (torch.autograd.grad((slide(x, UNEVEN, dim) ** 3).sum(), x, create_graph=c)[0] for c in (0, 1))
    torch.testing.assert_close(followed, plain)


def test_smooth_serves_torch_func():
    x = torch.rand(3, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def total(y):
        return (smooth(y, (0.25, 0.5, 0.25)) ** 2).sum()

    each = torch.func.vmap(torch.func.grad(total))(x)
    for picture, gradient in zip(x, each, strict=True):
        picture = picture.clone().requires_grad_()
        (expected,) = torch.autograd.grad(total(picture), picture)
        torch.testing.assert_close(gradient, expected)
