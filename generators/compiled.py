"""A generator whose passes over memory are fused: what stands between two convolutions becomes one loop."""

from __future__ import annotations

import os
import sys

import torch
from torch import Tensor

from generators.amnet import AMNet
from generators.wrapper import Wrapper


def _compile_alone() -> None:
    """Compile without helpers: those of a process that was forked are its parent's, and would be waited for in vain."""
    config = sys.modules.get("torch._inductor.config")
    if config is not None:
        config.compile_threads = 1  # type: ignore[attr-defined]


os.register_at_fork(after_in_child=_compile_alone)


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
        if not isinstance(generator, AMNet):
            raise TypeError(
                f"{type(self).__name__} takes an AMNet, not {type(generator).__name__}: wrap the compiled one, as in "
                "Tiled(Compiled(generator)), and compile a network of your own yourself"
            )
        self._layers = torch.compile(generator.layers)

    def forward(self, lr: Tensor, action: Tensor) -> Tensor:
        """Render photos for actions; see `AMNet.forward`.

        Raises:
            ValueError: as `render`.
        """
        return self.render(lr, action * self.generator.gain.to(action.dtype))

    def render(self, lr: Tensor, code: Tensor) -> Tensor:
        """Render photos for codes; see `AMNet.render`.

        Raises:
            ValueError: it cannot be compiled here.
        """
        try:
            return self.generator.in_parts(self._fused, lr, code)
        except RuntimeError as error:
            from torch._dynamo.exc import BackendCompilerFailed  # slow to import

            if not isinstance(error, BackendCompilerFailed):
                raise
            cause = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise ValueError(
                f"the generator cannot be compiled here ({cause}): install a C++ compiler, such as g++, or leave "
                "compile=True out"
            ) from error

    def _fused(self, lr: Tensor, code: Tensor) -> Tensor:
        for x in (lr, code):
            torch._dynamo.maybe_mark_dynamic(x, 0)  # compiled once for any number of photos, as the parts have several
        return self._layers(lr, code)
