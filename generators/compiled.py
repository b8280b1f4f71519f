"""A generator whose passes over memory are fused: what stands between two convolutions becomes one loop."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from generators import inputs
from generators.amnet import AMNet
from generators.wrapper import Wrapper

KINDS = 64
"""Sizes, precisions and architectures, with a gradient and without, that one process compiles; by PyTorch's limit the
ninth and all later ones would run uncompiled."""


class CompileError(ValueError):
    """A network cannot be compiled on this machine, or compiling it was interrupted."""


@functools.cache
def _layers() -> Callable[[AMNet, Tensor, Tensor], Tensor]:
    """Compile the layers, for all generators of the process; those of one architecture share what comes of it."""
    return torch.compile(AMNet.layers)


def _work_alone() -> None:
    """Work without helpers: those of a process that was forked are its parent's, and would be waited for for ever.

    They are OpenMP's threads and the compiler's. A forked process computes in one thread, as PyTorch's own workers do.
    """
    torch.set_num_threads(1)
    config = sys.modules.get("torch._inductor.config")
    if config is not None:
        config.compile_threads = 1  # type: ignore[attr-defined]


os.register_at_fork(after_in_child=_work_alone)


@contextmanager
def compiling(otherwise: str) -> Iterator[None]:
    """Run what may have to be compiled first.

    Args:
        otherwise: what to do where it cannot be compiled and that cannot be mended.

    Raises:
        CompileError: it cannot be compiled here.
    """
    try:
        yield
    except RuntimeError as error:
        from torch._dynamo.exc import BackendCompilerFailed  # slow to import

        if not isinstance(error, BackendCompilerFailed):
            raise
        raise CompileError(f"the network cannot be compiled here ({_cause(error)}, or {otherwise}") from error


class Compiled(Wrapper):
    """A generator compiled by `torch.compile`, the same function to rounding.

    It is compiled when it first renders, which takes half a minute, or a few seconds where PyTorch's cache on the disk
    has it: once with and once without a gradient, for one photo and for several, and anew for the first photos of
    another size. On a CPU that takes a C++ compiler, on a GPU a C compiler and Triton, which comes with PyTorch.

    Args:
        generator: G, frozen. Tiles and self-ensembles go around a compiled generator, not into it.

    Raises:
        TypeError: the generator is a name, a wrapper or a network of another kind.
    """

    generator: AMNet

    def __init__(self, generator: AMNet) -> None:
        super().__init__(generator)
        if type(generator) is not AMNet:  # a subclass may render by other means than its layers
            raise TypeError(
                f"{type(self).__name__} takes an AMNet, not {type(generator).__name__}: wrap the compiled one, as in "
                "Tiled(Compiled(generator)), and compile other networks yourself"
            )

    def forward(self, lr: Tensor, action: Tensor) -> Tensor:
        """Render photos for actions; see `AMNet.forward`.

        Raises:
            CompileError: as `render`.
            ValueError: as `render`.
        """
        inputs.check(lr, action, values=False)  # by render
        return self.render(lr, action * self.generator.gain.to(action.dtype))

    def render(self, lr: Tensor, code: Tensor) -> Tensor:
        """Render photos for codes; see `AMNet.render`.

        Raises:
            CompileError: it cannot be compiled here.
            ValueError: see `inputs.check`.
        """
        inputs.check(lr, code)
        with compiling("leave compile=True out"):
            return self.generator.in_parts(self._fused, lr, code)

    def _fused(self, lr: Tensor, code: Tensor) -> Tensor:
        layers = _layers()
        for x in (lr, code):
            torch._dynamo.maybe_mark_dynamic(x, 0)  # compiled once for any number of photos, as the parts have several
        with torch._dynamo.config.patch(recompile_limit=KINDS):
            return layers(self.generator, lr, code)


def _cause(error: RuntimeError) -> str:
    """Say in one line why compiling failed, and what helps: the compiler's first complaint, or PyTorch's."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    if "InvalidCxxCompiler" in lines[0]:
        return "there is no C++ compiler): install one, such as g++"
    return next((line for line in lines if "error:" in line), lines[0]) + "): mend that"
