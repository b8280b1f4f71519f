"""What a generator is: the contract that environments, wrappers and agents render by."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

from generators.codec import KernelCodec


class Generator(Protocol):
    """G: a frozen torch module that turns (photo, kernel code) into a picture.

    `AMNet`, `ByKernel` and the wrappers are generators; a module of your own is one once it has these.
    """

    @property
    def scale(self) -> int:
        """SR side over LR side."""

    @property
    def codec(self) -> KernelCodec:
        """The kernel code's language."""

    @property
    def name(self) -> str:
        """What messages and result files call it."""

    def __call__(self, lr: Tensor, action: Tensor) -> Tensor:
        """Render photos `(N, 3, h, w)` in [0, 1] for actions `(N, 15)`: `(N, 3, s h, s w)`, not clamped."""

    def render(self, lr: Tensor, code: Tensor) -> Tensor:
        """Render photos for codes x = gain * action `(N, 15)` (the free-code space); else as the call."""


ATTRIBUTES = tuple(name for name in vars(Generator) if not name.startswith("_"))
"""What environments use of a generator, beside calling it, which every module can be."""


def lacking(generator: nn.Module) -> str:
    """Say what a module lacks of a generator, in words; "" where it is one."""
    missing = [name for name in ATTRIBUTES if not hasattr(generator, name)]
    if not missing:
        return ""
    return (
        f"the generator {type(generator).__name__} lacks {', '.join(missing)}: give it {', '.join(ATTRIBUTES)}, as "
        "generators.AMNet has them, or make it of a network for known blur by generators.ByKernel"
    )
