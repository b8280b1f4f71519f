"""AMNet: residual super-resolution whose features a blur-kernel code modulates (paper, section 3.1 and Fig. 1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from generators import inputs
from generators.codec import CODE_LENGTH, KernelCodec
from generators.modulation import modulate, moments

EPSILON = 1e-5  # added to the variance in Eq. 6
EMBEDDING = 16  # length of e, the code's embedding in each AMLayer
CACHED_BYTES = 2**22  # of one layer's features: with its input and output, what a CPU's cache holds


class Modulation(nn.Module):
    """y = gamma (x - mu) / sigma + beta: the features' statistics over space become what the code asks for."""

    def targets(self, code: Tensor, mu: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Give gamma and beta, `(N, C)` each, for codes `(N, 15)` and the statistics that they replace."""
        raise NotImplementedError

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        """Modulate features `(N, C, H, W)` by codes `(N, 15)`; shape and dtype of `x`."""
        return self._replace(x, code, None, overwrite=False)

    def after(self, conv: nn.Conv2d, x: Tensor, code: Tensor) -> Tensor:
        """Convolve features and modulate what comes out: `self(conv(x), code)`, in one pass over the features less.

        The convolution's bias moves the mean, which is replaced, and nothing else: it is added to the mean alone. With
        AdaIN, which does not look at the mean, the bias has no effect, and no gradient.

        Args:
            conv: with a bias. Its hooks are not called.
            x: features `(N, C, H, W)`.
            code: `(N, 15)`.
        """
        return self._replace(conv._conv_forward(x, conv.weight, None), code, conv.bias, overwrite=True)

    def _replace(self, x: Tensor, code: Tensor, bias: Tensor | None, *, overwrite: bool) -> Tensor:
        mu, variance = moments(x)  # (N, C)
        sigma = (variance + EPSILON).sqrt()
        gamma, beta = self.targets(code, mu if bias is None else mu + bias, sigma)
        return modulate(x, mu, gamma / sigma, beta, overwrite=overwrite)


class AMLayer(Modulation):
    """Adaptive modulation (paper, Eq. 7): y = gamma (x - mu) / sigma + beta.

    e = FC(code); gamma = FC1([e, sigma]), beta = FC2([e, mu]): unlike AdaIN, the layer knows the statistics that it
    replaces. FC1 and FC2 start as the identity on sigma and mu, so a fresh layer passes x through nearly as is and an
    untrained AMNet is a plain residual network; the first steps need not undo a normalisation that costs
    super-resolution its contrast.
    """

    def __init__(self, channels: int, code_length: int = CODE_LENGTH) -> None:
        super().__init__()
        self.embed = nn.Linear(code_length, EMBEDDING)
        self.gamma = nn.Linear(EMBEDDING + channels, channels)
        self.beta = nn.Linear(EMBEDDING + channels, channels)
        with torch.no_grad():
            for layer in (self.gamma, self.beta):
                layer.weight[:, :EMBEDDING].mul_(0.1)
                layer.weight[:, EMBEDDING:].copy_(torch.eye(channels))
                layer.bias.zero_()

    def targets(self, code: Tensor, mu: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Give gamma and beta, `(N, C)` each, for codes `(N, 15)` and the statistics that they replace."""
        e = self.embed(code)  # (N, 16)
        gamma = self.gamma(torch.cat([e, sigma.to(e.dtype)], dim=1))
        return gamma, self.beta(torch.cat([e, mu.to(e.dtype)], dim=1))


class AdaIN(Modulation):
    """Adaptive instance normalisation (paper, Eq. 4): gamma and beta from the code alone."""

    def __init__(self, channels: int, code_length: int = CODE_LENGTH) -> None:
        super().__init__()
        self.gamma = nn.Linear(code_length, channels)
        self.beta = nn.Linear(code_length, channels)
        nn.init.ones_(self.gamma.bias)
        nn.init.zeros_(self.beta.bias)

    def targets(self, code: Tensor, mu: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Give gamma and beta, `(N, C)` each, for codes `(N, 15)`; the statistics are ignored."""
        return self.gamma(code), self.beta(code)


MODULATION: dict[str, type[AMLayer] | type[AdaIN]] = {"amlayer": AMLayer, "adain": AdaIN}


class AMRB(nn.Module):
    """Adaptive modulation residual block (paper, Fig. 1): conv, modulation, ReLU, conv, modulation, skip."""

    def __init__(self, channels: int, modulation: str) -> None:
        super().__init__()
        layer = MODULATION[modulation]
        self.conv1, self.modulate1 = _conv(channels, channels), layer(channels)
        self.conv2, self.modulate2 = _conv(channels, channels), layer(channels)
        with torch.no_grad():
            self.conv2.weight.mul_(0.1)  # each block starts near the identity, so depth does not inflate the features

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        """Map features `(N, C, H, W)` and codes `(N, 15)` to features of the same shape."""
        y = F.relu(self.modulate1.after(self.conv1, x, code), inplace=True)
        return self.modulate2.after(self.conv2, y, code).add_(x)


@dataclass(frozen=True)
class Architecture:
    """What fixes a network's shape; stored in every checkpoint.

    Attributes:
        blocks: number of AMRBs.
        width: feature channels.
        scale: 2, 3 or 4.
        modulation: `"amlayer"` (Eq. 7) or `"adain"` (Eq. 4).
    """

    blocks: int = 16
    width: int = 64
    scale: int = 4
    modulation: Literal["amlayer", "adain"] = "amlayer"

    def __post_init__(self) -> None:
        """Refuse shapes that no network has."""
        if self.scale not in (2, 3, 4):
            raise ValueError(f"scale must be 2, 3 or 4, got {self.scale}")
        if self.modulation not in MODULATION:
            raise ValueError(f"modulation must be one of {sorted(MODULATION)}, got {self.modulation!r}")
        if self.blocks < 1 or self.width < 1:
            raise ValueError(f"blocks and width must be at least 1, got {self.blocks} and {self.width}")

    def to_dict(self) -> dict[str, int | str]:
        """Return the settings as plain values."""
        return asdict(self)


class AMNet(nn.Module):
    """G: renders a low-resolution photo sharp, given the code of the kernel that blurred it.

    Args:
        architecture: blocks, width, scale, modulation.
        codec: the kernel code's language; fixed for the life of the weights.
        name: what messages and result files call it.

    Attributes:
        scale: SR side over LR side.
        codec: see above.
        name: see above.
        fingerprint: twelve hexadecimal digits of the weights that it was loaded with; None of one made otherwise.
    """

    gain: Tensor
    fingerprint: str | None = None

    def __init__(self, architecture: Architecture, codec: KernelCodec, name: str = "amnet") -> None:
        super().__init__()
        self.architecture, self.codec, self.name = architecture, codec, name
        width, scale = architecture.width, architecture.scale
        self.head = _conv(3, width)
        self.body = nn.ModuleList(AMRB(width, architecture.modulation) for _ in range(architecture.blocks))
        self.conv = _conv(width, width)
        self.modulate = MODULATION[architecture.modulation](width)
        self.tail = _conv(width, 3 * scale * scale)
        self.register_buffer("gain", codec.gain.to(torch.float32), persistent=False)

    @property
    def scale(self) -> int:
        """SR side over LR side."""
        return self.architecture.scale

    def forward(self, lr: Tensor, action: Tensor) -> Tensor:
        """Render photos for actions in the kernels' own box.

        Args:
            lr: photos `(N, 3, h, w)` in [0, 1], any floating dtype.
            action: `(N, 15)`, any floating dtype; [-1, 1] holds every kernel of the family.

        Returns:
            SR `(N, 3, s h, s w)` in the photos' dtype, not clamped. What is added to the photo has the precision of
            the network's dtype.

        Raises:
            ValueError: see `inputs.check`.
        """
        inputs.check(lr, action, values=False)  # by render
        return self.render(lr, action * self.gain.to(action.dtype))

    def render(self, lr: Tensor, code: Tensor) -> Tensor:
        """Render photos for codes x = gain * action, as the layers see them (the free-code space).

        Args:
            lr: photos `(N, 3, h, w)` in [0, 1], any floating dtype.
            code: `(N, 15)`, any floating dtype.

        Returns:
            SR `(N, 3, s h, s w)` in the photos' dtype, not clamped.

        Raises:
            ValueError: see `inputs.check`.
        """
        inputs.check(lr, code, values=not self.training)
        return self.in_parts(self.layers, lr, code)

    def in_parts(self, layers: Callable[[Tensor, Tensor], Tensor], lr: Tensor, code: Tensor) -> Tensor:
        """Render photos for codes, on a CPU few at a time.

        Args:
            layers: what renders a part of them, `self.layers` or what stands in for it.
            lr: as `render`.
            code: as `render`.

        Returns:
            As `render`.
        """
        code = code.to(self.modulate_dtype)
        part = self._part(lr)
        if part >= len(lr):
            return layers(lr, code)
        parts = -(-len(lr) // part)  # of sizes that differ by one at most
        pairs = zip(lr.tensor_split(parts), code.tensor_split(parts), strict=True)
        return torch.cat([layers(*pair) for pair in pairs])

    def _part(self, lr: Tensor) -> int:
        """How many photos to render at once: all, but on a CPU without gradients as many as its cache holds."""
        if lr.device.type != "cpu" or torch.is_grad_enabled() or torch.compiler.is_compiling():
            return len(lr)
        size = self.head.weight.element_size()
        photo = self.architecture.width * lr.shape[2] * lr.shape[3] * size  # bytes of its features
        return max(1, CACHED_BYTES // photo)

    def layers(self, lr: Tensor, code: Tensor) -> Tensor:
        """Render photos for codes of the small layers' dtype, all at once; else as `render`."""
        head = self.head(lr.to(self.head.weight.dtype))
        x = head
        for block in self.body:
            x = block(x, code)
        x = self.modulate.after(self.conv, x, code).add_(head)
        # The nearest-neighbour upsampled LR is one value for all the pixels that become of one: cheaper added before.
        # In the photo's own dtype: bfloat16 has steps of a whole grey level where pictures are bright.
        residual = self.tail(x).to(lr.dtype)
        residual.unflatten(1, (3, self.scale**2)).add_(lr[:, :, None])
        return F.pixel_shuffle(residual, self.scale)

    @property
    def modulate_dtype(self) -> torch.dtype:
        """Dtype of the fully connected layers."""
        return next(self.modulate.parameters()).dtype


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)
