"""What renders by way of a generator stands in for it."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from generators import inputs
from generators.amnet import Architecture
from generators.codec import KernelCodec
from generators.generator import Generator


class Wrapper(nn.Module):
    """A generator made of another one: its scale, codec, name, architecture and fingerprint are that one's.

    Args:
        generator: G, or a wrapper of it.

    Raises:
        TypeError: the generator is a name: load it first.
    """

    generator: Generator

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        if not isinstance(generator, nn.Module):
            raise TypeError(f"{type(self).__name__} takes a generator, not {generator!r}: give generators.load(NAME)")
        self.generator = generator
        self.train(generator.training)

    @property
    def scale(self) -> int:
        """SR side over LR side."""
        return self.generator.scale

    @property
    def codec(self) -> KernelCodec:
        """The kernel code's language."""
        return self.generator.codec

    @property
    def name(self) -> str:
        """What messages call the generator."""
        return self.generator.name

    @property
    def architecture(self) -> Architecture:
        """The generator's."""
        return self.generator.architecture  # type: ignore[attr-defined]  # one of a ByKernel is an AttributeError

    @property
    def fingerprint(self) -> str | None:
        """The generator's."""
        return getattr(self.generator, "fingerprint", None)  # which modules of your own need not have

    def forward(self, lr: Tensor, action: Tensor) -> Tensor:
        """Render photos for actions; see `AMNet.forward`."""
        inputs.check(lr, action, values=False)  # by the generator
        return self._by(self.generator, lr, action)

    def render(self, lr: Tensor, code: Tensor) -> Tensor:
        """Render photos for codes; see `AMNet.render`."""
        inputs.check(lr, code, values=False)
        return self._by(self.generator.render, lr, code)

    def _by(self, render: Callable[[Tensor, Tensor], Tensor], lr: Tensor, code: Tensor) -> Tensor:
        """Render photos by what renders for actions, or for codes."""
        raise NotImplementedError
