"""A generator made of a network that is given the blur kernel itself instead of a code."""

from __future__ import annotations

from torch import Tensor, nn

from generators import inputs, memory
from generators.codec import KernelCodec
from generators.entry_point import described


class NetworkError(ValueError):
    """The network that a `ByKernel` renders with fails; its own error is the cause."""


class ByKernel(nn.Module):
    """Published networks for known blur, and your own, as generators: they render with the kernel that an action names.

    An action names a kernel by the coefficients of the isotropic Gaussians' own basis, as it does for AMNet, so
    predictors and agents of the same scale act here too. What it cannot name, it cannot reach: `free-code` actions are
    kernels of at most a thousandth of the family's spread beside it.

    Args:
        network: called with photos `(N, 3, h, w)` in [0, 1], of the caller's dtype (environments give float32), and
            kernels `(N, 21, 21)` float32, on the same device; gives `(N, 3, s h, s w)`, which need not lie in [0, 1].
            Environments ask for evaluation mode.
        name: what messages and result files call it.
        scale: SR side over LR side: 2, 3 or 4.

    Attributes:
        codec: the kernel code's language.
        fingerprint: twelve hexadecimal digits of the weights that it was loaded with; None of one made otherwise.

    Raises:
        ValueError: the scale is another one.

    Example:
        >>> import torch
        >>> class Soft(torch.nn.Module):
        ...     def forward(self, lr, kernel):
        ...         return torch.nn.functional.interpolate(lr, scale_factor=4, mode="bicubic")
        >>> ByKernel(Soft(), "soft").eval()(torch.rand(1, 3, 8, 8), torch.zeros(1, 15)).shape
        torch.Size([1, 3, 32, 32])
    """

    fingerprint: str | None = None

    def __init__(self, network: nn.Module, name: str, scale: int = 4) -> None:
        super().__init__()
        self.network, self.name, self.scale = network, name, scale
        self.codec = KernelCodec.isotropic(scale)
        self.train(network.training)

    def forward(self, lr: Tensor, action: Tensor) -> Tensor:
        """Render photos for actions.

        Args:
            lr: photos `(N, 3, h, w)` in [0, 1].
            action: `(N, 15)`, any floating dtype; [-1, 1] holds every kernel of the family.

        Returns:
            SR `(N, 3, s h, s w)`, not clamped.

        Raises:
            NetworkError: the network fails.
            ValueError: see `inputs.check`; or the network gives something else.
        """
        inputs.check(lr, action)
        kernel = self.codec.decode(action)
        try:
            sr = self.network(lr, kernel)
        except Exception as error:
            if memory.exhausted(error):
                raise  # a photo too large for it is the caller's to deal with
            raise NetworkError(f"the network {self.name} failed with {described(error)}") from error
        wanted = (len(lr), 3, self.scale * lr.shape[2], self.scale * lr.shape[3])
        if not isinstance(sr, Tensor) or sr.shape != wanted:
            what = f"pictures of {tuple(sr.shape)}" if isinstance(sr, Tensor) else f"a {type(sr).__name__}"
            raise ValueError(f"the network {self.name} gave {what}, not of {wanted}: at scale {self.scale} it should")
        return sr

    def render(self, lr: Tensor, code: Tensor) -> Tensor:
        """Render photos for codes x = gain * action `(N, 15)` (the free-code space); else as `forward`."""
        inputs.check(lr, code, values=False)  # by the call
        return self(lr, code.double() / self.codec.to(code.device).gain)
