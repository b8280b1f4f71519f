"""Moments and multiply-add against their plain formulas, with numerical and automatic gradients."""

import copy

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from generators import modulation
from generators.amnet import EPSILON, AdaIN, AMLayer
from generators.codec import CODE_LENGTH

LAYOUTS = [torch.contiguous_format, torch.channels_last]


def features(*shape, dtype=torch.float64, layout=torch.channels_last, seed=0):
    x = 0.7 + torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x.to(dtype).contiguous(memory_format=layout)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", [(1, 1), (4, 3)])
def test_gradients_of_the_moments(layout, size):
    x = features(2, 3, *size, layout=layout).requires_grad_()
    variance, mu = torch.var_mean(x, (2, 3), correction=0)
    for actual, expected in zip(modulation.moments(x), (mu, variance), strict=True):
        torch.testing.assert_close(actual, expected)
    assert gradcheck(modulation.moments, x)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradients_of_the_multiply_add(layout):
    x = features(2, 3, 4, 5, layout=layout).requires_grad_()
    mu, a, beta = (features(2, 3, seed=seed, layout=torch.contiguous_format).requires_grad_() for seed in (1, 2, 3))
    expected = a[:, :, None, None] * (x - mu[:, :, None, None]) + beta[:, :, None, None]
    torch.testing.assert_close(modulation.modulate(x, mu, a, beta), expected)
    assert gradcheck(modulation.modulate, (x, mu, a, beta))
    assert gradcheck(lambda *small: modulation.modulate(x.detach(), *small), (mu, a, beta))


def test_second_derivatives():
    x = features(2, 3, 4, 5).requires_grad_()
    mu, a, beta = (features(2, 3, seed=seed, layout=torch.contiguous_format).requires_grad_() for seed in (1, 2, 3))
    assert gradgradcheck(modulation.moments, x)
    assert gradgradcheck(modulation.modulate, (x, mu, a, beta))
    seconds = []
    for dtype in (torch.bfloat16, torch.float32):
        x = features(2, 3, 4, 5).to(torch.bfloat16).to(dtype).requires_grad_()
        y = modulation.modulate(x, *modulation.moments(x), torch.ones(2, 3))
        (slope,) = torch.autograd.grad(y.float().pow(3).sum(), x, create_graph=True)
        seconds.append(torch.autograd.grad(slope.float().square().sum(), x)[0].float())
    torch.testing.assert_close(*seconds, rtol=0.1, atol=0.1 * seconds[1].abs().max().item())


def test_second_derivatives_of_a_network(tiny_generator):
    generator = copy.deepcopy(tiny_generator).double()
    lr, code = features(1, 3, 6, 5, layout=torch.contiguous_format).clamp(0, 1), torch.zeros(1, 15).double()
    direction = torch.randn(1, 15, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def slope(code):
        (gradient,) = torch.autograd.grad(generator.render(lr, code).square().sum(), code, create_graph=True)
        return (gradient * direction).sum()

    (second,) = torch.autograd.grad(slope(code.requires_grad_()), code)
    step = 1e-5 * direction
    ends = [slope((code.detach() + sign * step).requires_grad_()).item() for sign in (1, -1)]
    assert (second * step).sum().item() == pytest.approx((ends[0] - ends[1]) / 2, rel=1e-5)
    jacobian = torch.func.jacrev(lambda code: generator.render(lr, code))(code.detach())
    assert jacobian.shape == (1, 3, 24, 20, 1, 15)


def test_variance_is_not_negative():
    for level in (3e4, 31234.567, 1e5 / 3):
        assert (modulation.moments(torch.full((1, 4, 63, 65), level))[1] >= 0).all()


def test_moments_do_not_lose_a_small_variance_beside_a_large_mean():
    x = features(2, 8, 64, 64, dtype=torch.float32) * 1e-3 + 10
    mu, variance = modulation.moments(x)
    torch.testing.assert_close(mu.double(), x.double().mean((2, 3)), rtol=1e-6, atol=0)
    torch.testing.assert_close(variance.double(), x.double().var((2, 3), correction=0), rtol=1e-3, atol=0)


def plainly(layer, x, code):
    """Eq. 7 or Eq. 4 with nothing but plain operations."""
    mu = x.mean((2, 3))
    sigma = ((x - mu[..., None, None]).square().mean((2, 3)) + EPSILON).sqrt()
    if isinstance(layer, AMLayer):
        e = layer.embed(code)
        gamma, beta = layer.gamma(torch.cat([e, sigma], 1)), layer.beta(torch.cat([e, mu], 1))
    else:
        gamma, beta = layer.gamma(code), layer.beta(code)
    return gamma[..., None, None] * (x - mu[..., None, None]) / sigma[..., None, None] + beta[..., None, None]


@pytest.mark.parametrize("kind", [AMLayer, AdaIN])
@pytest.mark.parametrize("batch", [0, 3])
def test_a_layers_gradients_are_the_formulas(kind, batch):
    torch.manual_seed(0)
    layer = kind(4).double()
    other = copy.deepcopy(layer)
    x, code = features(batch, 4, 5, 6), torch.randn(batch, CODE_LENGTH, dtype=torch.float64)
    weight = features(batch, 4, 5, 6, seed=1)
    inputs = [tensor.clone().requires_grad_() for tensor in (x, code)]
    references = [tensor.clone().requires_grad_() for tensor in (x, code)]
    (layer(*inputs) * weight).sum().backward()
    (plainly(other, *references) * weight).sum().backward()
    for one, reference in zip([*inputs, *layer.parameters()], [*references, *other.parameters()], strict=True):
        torch.testing.assert_close(one.grad, reference.grad)


def losses_gradients(network, autocast):
    """Gradients of a loss of SR, by parameter, as one float64 vector."""
    lr = torch.rand(2, 3, 12, 10, generator=torch.Generator().manual_seed(1))
    code = torch.rand(2, CODE_LENGTH, generator=torch.Generator().manual_seed(2)) * 2 - 1
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        sr = network.render(lr.contiguous(memory_format=torch.channels_last), code)
    (sr.float() - 0.3).square().mean().backward()
    return torch.cat([parameter.grad.double().flatten() for parameter in network.parameters()])


@pytest.mark.parametrize("autocast", [False, True])
def test_a_networks_gradients_are_the_plain_formulas(autocast, tiny_generator, monkeypatch):
    fast, plain = (copy.deepcopy(tiny_generator).requires_grad_() for _ in range(2))
    gradient = losses_gradients(fast, autocast)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)  # the plain formulas
    expected = losses_gradients(plain, autocast)
    # Rounding to bfloat16 falls differently in the two; statistics in bfloat16 would be off by a tenth.
    assert (gradient - expected).norm() < (0.03 if autocast else 1e-5) * expected.norm()


def test_statistics_under_autocast_are_float32():
    x = features(2, 4, 32, 32, dtype=torch.bfloat16)
    exact = x.double()
    expected_moments = (exact.mean((2, 3)), exact.var((2, 3), correction=0))
    for moment, expected in zip(modulation.moments(x), expected_moments, strict=True):
        assert moment.dtype == torch.float32
        torch.testing.assert_close(moment.double(), expected, rtol=1e-5, atol=1e-6)


HALF = [
    pytest.param(device, dtype, marks=pytest.mark.gpu if device == "cuda" else [])
    for device in ("cpu", "cuda")
    for dtype in (torch.float16, torch.bfloat16)
]


@pytest.mark.parametrize(("device", "dtype"), HALF)
def test_half_precision_loses_no_more_than_its_own_rounding(device, dtype):
    x = (features(2, 8, 64, 64) * 0.05 + 3).to(dtype).to(device).contiguous(memory_format=torch.channels_last)
    gradient = features(2, 8, 64, 64, dtype=dtype, seed=1).to(device)
    exact, eps = x.double(), torch.finfo(dtype).eps
    mu, variance = modulation.moments(x)
    torch.testing.assert_close(mu.double(), exact.mean((2, 3)), rtol=1e-6, atol=0)
    torch.testing.assert_close(variance.double(), exact.var((2, 3), correction=0), rtol=eps, atol=0)
    total, product = (each.double() for each in modulation._sums(gradient, x, mu))
    centred = gradient.double() * (exact - mu.double()[:, :, None, None])
    torch.testing.assert_close(total, gradient.double().sum((2, 3)), rtol=1e-5, atol=1e-3)
    # 4,096 products are rounded, each by up to eps / 2 of itself.
    spread = (gradient.double() * exact).square().sum((2, 3)).sqrt()
    assert ((product - centred.sum((2, 3))).abs() < 2 * eps * spread).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("overwrite", [False, True])
def test_the_multiply_add_in_half_precision_rounds_only_its_result(dtype, layout, overwrite):
    x = features(3, 8, 5, 7, dtype=dtype, layout=layout)
    before = x.clone()
    mu, a, beta = (features(3, 8, dtype=torch.float32, layout=torch.contiguous_format, seed=seed) for seed in (1, 2, 3))
    exact = [each.double()[:, :, None, None] for each in (mu, a, beta)]
    expected = exact[1] * (x.double() - exact[0]) + exact[2]
    y = modulation.modulate(x, mu, a, beta, overwrite=overwrite)
    assert y.is_contiguous(memory_format=layout)
    torch.testing.assert_close(y.double(), expected, rtol=torch.finfo(dtype).eps / 2, atol=1e-6)
    assert (y is x) if overwrite else torch.equal(x, before)


@pytest.mark.parametrize(("device", "dtype"), HALF)
def test_a_layer_in_half_precision_is_near_the_formula(device, dtype):
    torch.manual_seed(0)
    layer = AMLayer(8)
    x, code = features(2, 8, 32, 32, dtype=torch.float32), torch.randn(2, CODE_LENGTH).requires_grad_()
    weight = features(2, 8, 32, 32, dtype=torch.float32, seed=1)
    expected = plainly(layer, x, code)
    (slope,) = torch.autograd.grad((expected * weight).sum(), code)
    half, near = copy.deepcopy(layer).to(device, dtype), code.detach().to(device, dtype).requires_grad_()
    y = half(x.to(device, dtype).requires_grad_(), near)
    (gradient,) = torch.autograd.grad((y * weight.to(device, dtype)).sum(), near)
    eps = torch.finfo(dtype).eps
    assert (y.float().cpu() - expected).norm() < 4 * eps * expected.norm()
    assert (gradient.float().cpu() - slope).norm() < 8 * eps * slope.norm()


@pytest.mark.slow
def test_a_network_compiles_to_one_graph(tiny_generator):
    lr = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    code = torch.rand(2, CODE_LENGTH, generator=torch.Generator().manual_seed(1)).requires_grad_()
    compiled = torch.compile(tiny_generator.render, fullgraph=True, backend="aot_eager")
    sr = compiled(lr, code)
    torch.testing.assert_close(sr, tiny_generator.render(lr, code))
    (gradient,) = torch.autograd.grad(sr.square().sum(), code)
    (expected,) = torch.autograd.grad(tiny_generator.render(lr, code).square().sum(), code)
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-4)
