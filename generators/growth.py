"""Growth of a trained AMNet into a larger one that renders the same pictures (Net2Net: Chen et al., ICLR 2016).

Training the larger network then starts where the smaller one ended: on a CPU the first hours' work is not done twice.
So does training at another scale from the features of one scale (EDSR: Lim et al., CVPR Workshops 2017, section 3.2).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from generators.amnet import AMRB, EMBEDDING, AdaIN, AMLayer, AMNet, Architecture
from generators.codec import KernelCodec

Layer = nn.Conv2d | nn.Linear

SPREAD = 0.5
"""Deviation of the shares that a channel's copies take of its weight around equal ones; what tells the copies apart."""


def grow(small: AMNet, architecture: Architecture, name: str, rng: torch.Generator) -> AMNet:
    """Make a wider and deeper AMNet of a trained one: the same function, up to rounding.

    A channel becomes several equal ones, and whoever reads it splits its weight among them, each reader in shares of
    its own: equal shares would give the copies equal gradients for ever. New blocks add nothing at first, since their
    second modulation is 0.

    At another scale only the features are the same at first. What makes pictures of them is drawn anew, and the layers
    that the code steers have to learn the new scale's, in which the same numbers name other kernels.

    Args:
        small: the trained network; it is not changed.
        architecture: of the new one: the same modulation, a multiple of the width, at least the blocks.
        name: of the new one.
        rng: of the shares and of the new layers' weights, on the CPU.

    Returns:
        The new network, in training mode, on the CPU, float32, with the same codec; at another scale with that of its
        isotropic Gaussians.

    Raises:
        ValueError: the architecture does not hold the smaller one.
    """
    old = small.architecture
    if old.modulation != architecture.modulation:
        raise ValueError(
            f"{small.name} has modulation {old.modulation}, the new network {architecture.modulation}: "
            f"its features would mean nothing there, give modulation {old.modulation}"
        )
    if architecture.width % old.width or architecture.blocks < old.blocks:
        raise ValueError(
            f"{small.name} has {old.blocks} blocks of {old.width} channels, the new network {architecture.blocks} of "
            f"{architecture.width}: blocks must not become fewer, and the width must be a multiple"
        )
    with torch.random.fork_rng(devices=[]):  # layers draw their first weights from the global generator
        torch.default_generator.manual_seed(int(torch.randint(2**62, (), generator=rng)))
        same_scale = old.scale == architecture.scale
        codec = small.codec if same_scale else KernelCodec.isotropic(architecture.scale)
        large = AMNet(architecture, codec, name).float()
    widening = _Widening(old.width, architecture.width, rng)
    with torch.no_grad():
        widening.layer(small.head, large.head, inputs=False)
        placed = {k * architecture.blocks // old.blocks: k for k in range(old.blocks)}
        for position, block in enumerate(large.body):
            assert isinstance(block, AMRB)
            if position not in placed:
                _silence(block.modulate2)
                continue
            source = small.body[placed[position]]
            assert isinstance(source, AMRB)
            widening.layer(source.conv1, block.conv1)
            widening.modulation(source.modulate1, block.modulate1)
            widening.layer(source.conv2, block.conv2)
            widening.modulation(source.modulate2, block.modulate2)
        widening.layer(small.conv, large.conv)
        widening.modulation(small.modulate, large.modulate)
        if same_scale:
            widening.layer(small.tail, large.tail, outputs=False)
    return large


@torch.no_grad()
def ignore_unused(network: AMNet) -> None:
    """Make a network ignore, in place, the code's components that true kernels hardly use: those with a gain below 1.

    The other components carry all that matters: `amnet_s` changes by less than 0.03 dB. Training with noise on the
    unused ones keeps the network insensitive to them.
    """
    used = network.gain >= 1
    for layer in network.modules():
        readers: list[nn.Linear] = []  # of the code
        if isinstance(layer, AMLayer):
            readers = [layer.embed]
        elif isinstance(layer, AdaIN):
            readers = [layer.gamma, layer.beta]
        for reader in readers:
            reader.weight.mul_(used)


def _bias(layer: Layer) -> Tensor:
    assert layer.bias is not None
    return layer.bias


class _Widening:
    """Copies layers of `narrow` channels into layers of `wide` ones."""

    def __init__(self, narrow: int, wide: int, rng: torch.Generator) -> None:
        self.copies, self.rng = wide // narrow, rng
        self.source = torch.arange(wide) % narrow  # which old channel each new one copies

    def layer(self, old: Layer, new: Layer, *, inputs: bool = True, outputs: bool = True, kept: int = 0) -> None:
        """Copy weight `(out, in, ...)` and bias; the first `kept` inputs stay as they are."""
        weight, bias = (tensor.detach().float().cpu() for tensor in (old.weight, _bias(old)))
        if outputs:
            weight, bias = weight[self.source], bias[self.source]
        if inputs:
            weight = torch.cat([weight[:, :kept], self._split(weight[:, kept:])], dim=1)
        new.weight.copy_(weight)
        _bias(new).copy_(bias)

    def modulation(self, old: nn.Module, new: nn.Module) -> None:
        """Copy an AMLayer or an AdaIN layer."""
        if isinstance(old, AMLayer) and isinstance(new, AMLayer):
            new.embed.load_state_dict(old.embed.state_dict())
            self.layer(old.gamma, new.gamma, kept=EMBEDDING)
            self.layer(old.beta, new.beta, kept=EMBEDDING)
        elif isinstance(old, AdaIN) and isinstance(new, AdaIN):
            self.layer(old.gamma, new.gamma, inputs=False)
            self.layer(old.beta, new.beta, inputs=False)

    def _split(self, weight: Tensor) -> Tensor:
        """Share each input's weight among its copies: `(out, narrow, ...)` -> `(out, wide, ...)`."""
        if self.copies == 1:
            return weight
        share = SPREAD * torch.randn(len(weight), self.copies, weight.shape[1], generator=self.rng)
        share = share - share.mean(dim=1, keepdim=True) + 1 / self.copies  # the copies' shares sum to 1
        return weight[:, self.source] * share.flatten(1).reshape(len(weight), -1, *[1] * (weight.ndim - 2))


def _silence(layer: nn.Module) -> None:
    """Let a modulation give 0, with gradients that bring it to life."""
    assert isinstance(layer, AMLayer | AdaIN)
    for part in (layer.gamma, layer.beta):
        nn.init.zeros_(part.weight)
        nn.init.zeros_(part.bias)
