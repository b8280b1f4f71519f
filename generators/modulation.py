"""What modulation does over space, in few passes over memory, forward and backward: moments, and one multiply-add.

Written plainly, each step of these formulas reads and writes all features; with their gradients that takes as long as
the convolutions do. Here the moments take three reads and no write, the multiply-add one pass; backward, two sums over
space come from one read, the gradient of the features from one pass for each of its two parts. On a CPU the planes of a
picture lie in the cache between reads, since pictures are measured one by one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance over space; differentiable, and its gradient is.

    Args:
        x: features `(N, C, H, W)`, floating point.

    Returns:
        Each `(N, C)`, in float32 at least: sums over a picture do not fit bfloat16.
    """
    if torch.compiler.is_compiling():  # the compiler fuses the plain formula itself
        return plain_moments(x)
    return _Moments.apply(x) if torch.is_grad_enabled() and x.requires_grad else _measure(x)


def modulate(x: Tensor, mu: Tensor, a: Tensor, beta: Tensor, *, overwrite: bool = False) -> Tensor:
    """Compute a (x - mu) + beta as one multiply-add per element: x a + (beta - a mu); differentiable as `moments`.

    Args:
        x: features `(N, C, H, W)`.
        mu: their mean `(N, C)`.
        a: factor `(N, C)`.
        beta: the new mean `(N, C)`.
        overwrite: x is not needed any more: where no gradient is asked for, the result takes its place in memory.

    Returns:
        Shape and dtype of `x`.
    """
    if torch.compiler.is_compiling():
        return multiply_add(x, mu, a, beta)
    a, beta = a.to(mu.dtype), beta.to(mu.dtype)
    if torch.is_grad_enabled() and any(value.requires_grad for value in (x, mu, a, beta)):
        return _Modulate.apply(x, mu, a, beta)
    return multiply_add(x, mu, a, beta, out=x if overwrite else None)


def plain_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Moments by their formula; as `moments`, with a plain gradient."""
    wide = x if x.dtype == torch.float64 else x.float()
    if x.is_cuda:
        variance, mu = torch.var_mean(wide, dim=(2, 3), correction=0)
        return mu, variance
    # On a CPU torch.var_mean takes as long as a convolution.
    mu = wide.mean(dim=(2, 3))
    centred = wide - mu[:, :, None, None]
    return mu, (centred * centred).mean(dim=(2, 3))


def multiply_add(x: Tensor, mu: Tensor, a: Tensor, beta: Tensor, out: Tensor | None = None) -> Tensor:
    """Compute a (x - mu) + beta by its formula; as `modulate`, or into `out`, which may be x.

    Its gradient is autograd's own.
    """
    # Where a gradient is wanted of a gradient, autograd has to follow.
    followed = torch.is_grad_enabled() and any(value.requires_grad for value in (x, mu, a, beta))
    if _is_half_on_cpu(x) and not torch.compiler.is_compiling() and not followed:
        return _normalise(x, mu, a, beta, torch.empty_like(x) if out is None else out)
    offset = torch.addcmul(beta, a, mu, value=-1)
    return torch.addcmul(offset.to(x.dtype)[:, :, None, None], x, a.to(x.dtype)[:, :, None, None], out=out)


def _measure(x: Tensor) -> tuple[Tensor, Tensor]:
    if x.is_cuda and x.dtype.itemsize < 4:
        # Without a copy in float32. The mean is not rounded to x's dtype: times a steep factor that would be seen.
        return x.mean(dim=(2, 3), dtype=torch.float32), x.var(dim=(2, 3), correction=0).float()
    if x.device.type != "cpu" or x.numel() == 0:
        return plain_moments(x)
    if _is_half_on_cpu(x):
        zero, one = (x.new_full(x.shape[1:2], value, dtype=torch.float32) for value in (0.0, 1.0))
        # Running statistics in float32, which stay as they are, have the sums taken in float32, without a copy of x.
        each = [torch.batch_norm_update_stats(picture, zero, one, 0.0) for picture in x.split(1)]
        mu, variance = (torch.stack(values) for values in zip(*each, strict=True))
        return mu, variance
    wide = x.dtype if x.dtype == torch.float64 else torch.float32
    mu = x.mean(dim=(2, 3), dtype=wide)
    # A batch of one picture has that picture's variance for its own; but its mean, a plain running sum, is off by 1e-5.
    each = [torch.batch_norm_update_stats(picture.to(wide), None, None, 0.0) for picture in x.split(1)]
    rough_mean, rough_variance = (torch.stack(values) for values in zip(*each, strict=True))
    error = rough_mean.sub_(mu)
    return mu, rough_variance.addcmul_(error, error, value=-1).clamp_(min=0)  # which rounding may pass


def _is_half_on_cpu(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype.itemsize < 4 and x.numel() > 0


def _normalise(x: Tensor, mu: Tensor, a: Tensor, beta: Tensor, out: Tensor) -> Tensor:
    """Compute a (x - mu) + beta in half precision on a CPU, mu, a and beta in float32, into `out`, which may be x.

    That is batch normalisation of a picture by given statistics. Plain multiplications and additions in half precision
    take twice as long there, and round a and beta.
    """
    one, unused = torch.ones_like(mu[0]), mu.new_empty(0)
    pictures = zip(x.split(1), out.split(1), mu, a.to(mu.dtype), beta.to(mu.dtype), strict=True)
    for picture, into, mean, factor, offset in pictures:
        torch.ops.aten.native_batch_norm.out(
            picture, factor, offset, mean, one, False, 0.0, 0.0, out=into, save_mean=unused, save_invstd=unused
        )
    return out


def _sums(gradient: Tensor, x: Tensor, mu: Tensor) -> tuple[Tensor, Tensor]:
    """Sum g and g (x - mu) over space: `(N, C)` each, in the dtype of mu."""
    if x.is_cuda and x.dtype.itemsize < 4:
        # Products rounded to half precision, their sum not: the roundings are random, and average out.
        total = gradient.sum(dim=(2, 3), dtype=mu.dtype)
        return total, (gradient * x).sum(dim=(2, 3), dtype=mu.dtype) - mu * total
    # Second derivatives are asked for where a gradient is wanted of this one: of sums that autograd can follow.
    if x.device.type != "cpu" or x.numel() == 0 or torch.is_grad_enabled():
        total = gradient.sum(dim=(2, 3), dtype=mu.dtype)
        return total, (gradient.to(mu.dtype) * (x.to(mu.dtype) - mu[:, :, None, None])).sum(dim=(2, 3))
    one = torch.ones_like(mu[0])
    totals, products = [], []
    for g, picture, mean in zip(gradient.split(1), x.split(1), mu, strict=True):
        # The sums that batch normalisation's backward pass begins with, for a deviation of 1.
        _, product, total = torch.ops.aten.native_batch_norm_backward(
            g, picture, None, None, None, mean, one, True, 0.0, [False, True, True]
        )
        totals.append(total)
        products.append(product)
    return torch.stack(totals), torch.stack(products)


class _Moments(torch.autograd.Function):
    generate_vmap_rule = True  # for torch.func

    @staticmethod
    def forward(x: Tensor) -> tuple[Tensor, Tensor]:
        return _measure(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor]) -> None:
        ctx.save_for_backward(inputs[0], output[0])

    @staticmethod
    def backward(ctx: Any, to_mu: Tensor, to_variance: Tensor) -> Tensor:
        x, mu = ctx.saved_tensors
        pixels = x.shape[2] * x.shape[3]
        return multiply_add(x, mu, to_variance * (2 / pixels), to_mu / pixels)


class _Modulate(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, mu: Tensor, a: Tensor, beta: Tensor) -> Tensor:
        return multiply_add(x, mu, a, beta)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:3])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor, Tensor]:
        x, mu, a = ctx.saved_tensors
        total, product = _sums(gradient, x, mu)
        to_x = gradient * a.to(x.dtype)[:, :, None, None] if ctx.needs_input_grad[0] else None
        return to_x, -a * total, product, total
