"""The networks that act: the paper's predictor, which is also the actor, and a small one for CPUs.

The paper's predictor is Fig. 3c of Hui et al., CVPR 2021. The paper counts 1,982K parameters for predictor + AMNet and
1,599K for AMNet; every convolution and both layers of the channel attention with bias give 382,627 exactly.

The networks are trained and shipped without an environment: nothing here imports Gymnasium or OpenCV.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from generators import inputs
from generators.nearest import unknown

PREDICTORS: dict[str, dict[str, Any]] = {
    "predictor": {"kind": "cnn", "width": 64, "blocks": 5},
    "predictor_s": {"kind": "spectral"},
}
"""What `build` knows: settings for `from_settings`."""

UNTRAINED = "untrained:"
"""What an agent's `actor` puts before a key of `PREDICTORS`: `untrained:predictor_s`."""

WAVE = 8
"""Side of the spectral predictor's waves, LR pixels."""

QUIET = 1e-5
"""Added to energies before the logarithm: about the energy of rounding to 8 bit."""


def build(name: str = "predictor", *, actions: int = 15) -> Actor:
    """Give an untrained predictor.

    Args:
        name: a key of `PREDICTORS`.
        actions: components of the action.

    Returns:
        The network in training mode, on the CPU.

    Raises:
        ValueError: the name is unknown.
    """
    if name not in PREDICTORS:
        raise ValueError(unknown("predictor", name, PREDICTORS))
    return from_settings({**PREDICTORS[name], "actions": actions})


def from_settings(settings: Mapping[str, Any]) -> Actor:
    """Give an untrained network of another one's `settings`.

    Raises:
        ValueError: the settings are of no known network.
    """
    kind = settings.get("kind")
    if kind not in KINDS:
        raise ValueError(unknown("kind of predictor", kind, KINDS))
    return KINDS[kind](**{key: value for key, value in settings.items() if key != "kind"})


def from_observation(observation: Tensor) -> Tensor:
    """Turn observations into what the networks read.

    Args:
        observation: (N, H, W, 3), whole numbers of 0 to 255 of any type, or floats from 0 to 1. Any device.

    Returns:
        (N, 3, H, W) float32 in [0, 1]. A view in channels_last memory, so the permutation costs nothing.

    Raises:
        ValueError: the shape is not (N, H, W, 3), or floats go far beyond 0 and 1 (on a GPU they are not looked at).
    """
    if observation.ndim != 4 or observation.shape[-1] != 3:
        raise ValueError(f"observations are (N, H, W, 3), not {tuple(observation.shape)}")
    lr = observation.permute(0, 3, 1, 2)
    if not lr.is_floating_point():
        return lr.float() / 255
    inputs.check_range(lr, "observations of floats", "give uint8, or divide 8-bit ones by 255")
    return lr.float()


def answer(observation: Any, device: torch.device, choose: Callable[[Tensor], Tensor]) -> Any:
    """Answer one observation or a batch, NumPy or torch, with actions of the same kind.

    Args:
        observation: (H, W, 3) or (N, H, W, 3) uint8.
        device: where `choose` works.
        choose: (N, 3, H, W) in [0, 1] -> (N, actions).

    Returns:
        (actions,) or (N, actions) float32; tensors stay on `device`.
    """
    if isinstance(observation, np.ndarray):
        observation = np.require(observation, requirements=["C", "W"])  # torch knows no others
    images = torch.as_tensor(observation).to(device)
    with torch.no_grad(), torch.autocast(device.type, enabled=False):  # the caller's, in which actions were rounded
        action = choose(from_observation(images[None] if images.ndim == 3 else images))
    action = action[0] if images.ndim == 3 else action
    return action if isinstance(observation, Tensor) else action.cpu().numpy()


class ChannelAttention(nn.Module):
    """Scales each channel by a number in (0, 1) that all channels' means decide: (N, C, H, W) -> the same.

    Args:
        width: channels, C.
        reduction: the two layers, both with bias, are width -> width / reduction -> width.
    """

    def __init__(self, width: int, reduction: int = 16) -> None:
        super().__init__()
        self.squeeze = nn.Linear(width, max(width // reduction, 1))
        self.excite = nn.Linear(max(width // reduction, 1), width)

    def forward(self, x: Tensor) -> Tensor:
        """Give the scaled features."""
        scale = torch.sigmoid(self.excite(torch.relu(self.squeeze(x.mean((2, 3))))))  # (N, C)
        return x * scale[:, :, None, None]


class ResidualBlock(nn.Module):
    """Convolution, ReLU, convolution, channel attention; added to the input. (N, C, H, W) -> the same.

    Args:
        width: channels, C; both convolutions are 3x3 with bias.
        reduction: of the channel attention.
    """

    def __init__(self, width: int, reduction: int = 16) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.attention = ChannelAttention(width, reduction)

    def forward(self, x: Tensor) -> Tensor:
        """Give the refined features."""
        return x + self.attention(self.conv2(torch.relu(self.conv1(x))))


class Trunk(nn.Module):
    """Convolution 3 -> width, ReLU, (stride-2 convolution, ReLU,) residual blocks: an LR photo's features.

    Args:
        width: channels.
        blocks: residual blocks.
        stride: 1, or 2 to halve the resolution after the first convolution.
        reduction: of the channel attention.

    Raises:
        ValueError: another stride.
    """

    def __init__(self, width: int, blocks: int, stride: int = 1, reduction: int = 16) -> None:
        super().__init__()
        if stride not in (1, 2):
            raise ValueError(f"stride is 1 or 2, not {stride}")
        self.first = nn.Conv2d(3, width, 3, padding=1)
        self.down = nn.Conv2d(width, width, 3, stride=2, padding=1) if stride == 2 else None
        self.blocks = nn.Sequential(*(ResidualBlock(width, reduction) for _ in range(blocks)))

    def forward(self, lr: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] -> (N, width, H / stride, W / stride)."""
        x = torch.relu(self.first(lr))
        if self.down is not None:
            x = torch.relu(self.down(x))
        return self.blocks(x)


class Actor(nn.Module, ABC):
    """LR photo -> action: a predictor (Eq. 3), and the actor of Eq. 12 that starts as its copy.

    The action is `tanh` of the last linear layer. True kernels lie in [-0.8, 0.8] by the codec's design, where tanh
    bends little, so nothing is lost for the prediction; and the actor can neither leave the box, where the
    environment would clip it and the critic has no data, nor get stuck outside, where a clamp has no gradient.

    Attributes:
        settings: what `from_settings` needs to make the same network.
        trunk: LR photo -> features with a place.
        pooled_size: length of what `pooled` gives.
        head: pooled features -> the action before its tanh.
    """

    settings: dict[str, Any]
    trunk: nn.Module
    head: nn.Module
    pooled_size: int

    @abstractmethod
    def pooled(self, lr: Tensor) -> Tensor:
        """Give a photo's features without a place: (N, 3, H, W) in [0, 1] -> (N, pooled_size)."""

    @property
    @abstractmethod
    def last(self) -> nn.Linear:
        """The last linear layer, before the tanh."""

    def calibrate(self, lr: Tensor) -> None:
        """Adapt constants to typical photos, (N, 3, H, W) in [0, 1], before training; most networks have none."""

    def act(self, pooled: Tensor) -> Tensor:
        """Give the action for pooled features: (N, pooled_size) -> (N, actions) in (-1, 1)."""
        return torch.tanh(self.head(pooled))

    def forward(self, lr: Tensor) -> Tensor:
        """Predict the action: (N, 3, H, W) float in [0, 1] -> (N, actions) in (-1, 1)."""
        return self.act(self.pooled(lr))

    @torch.no_grad()
    def to_free_code(self, gain: Tensor) -> None:
        """Turn a predictor of actions into one of codes, in place: x = gain * u.

        The last layer is scaled inside the tanh: exact where the gain is 1, close where it or the component is small.
        Between, of true kernels' components (at most 0.8) the codes are off by up to 0.09 at scale 4 (0.06 in the
        eighth and 0.09 in the ninth) and 0.10 at scale 2 (in the seventh); towards the box's edge by up to 1 less the
        gain, 0.5 of the ninth where its component is 0.999.

        Args:
            gain: the codec's gain, `(actions,)`.
        """
        gain = gain.to(self.last.weight)
        self.last.weight.mul_(gain[:, None])
        self.last.bias.mul_(gain)


class Predictor(Actor):
    """The paper's predictor (Fig. 3c): a convolution, residual blocks, a convolution to the code, the mean over space.

    That last convolution and the mean are linear in the nine means of its shifted inputs (zero padding drops a border
    row or column from each). `pooled` gives those, `head` is the convolution's weight as a matrix: the same parameters
    and result, and it shows what a frozen trunk leaves to learn: a linear layer.

    Args:
        width: channels.
        blocks: residual blocks.
        stride: 2 halves the resolution after the first convolution.
        reduction: of the channel attention.
        actions: components of the action.
    """

    head: nn.Linear

    def __init__(
        self, width: int = 64, blocks: int = 5, stride: int = 1, reduction: int = 16, actions: int = 15
    ) -> None:
        super().__init__()
        sizes = {"width": width, "blocks": blocks, "stride": stride, "reduction": reduction, "actions": actions}
        self.settings = {"kind": "cnn", **sizes}
        self.trunk = Trunk(width, blocks, stride, reduction)
        self.pooled_size = 9 * width
        self.head = nn.Linear(self.pooled_size, actions)

    @property
    def last(self) -> nn.Linear:
        """The head itself."""
        return self.head

    def pooled(self, lr: Tensor) -> Tensor:
        """Give the nine shifted means of the features: (N, 3, H, W) in [0, 1] -> (N, 9 * width)."""
        return shifted_means(self.trunk(lr))


class SpectralPredictor(Actor):
    """A small predictor for CPUs: what a blur leaves of each frequency, then a small network.

    A blur multiplies a photo's spectrum, so in logarithms it adds a constant to each frequency, whatever the photo's
    contrast. The 63 waves of an 8x8 cosine transform measure local energies on every second pixel; three means over
    space (of the energy, of its logarithm, and of that where there is much to see) give 189 numbers, and two hidden
    layers read the code off them. The waves stay as they are: gradient steps make them see brightness, a million
    times the energy that tells one blur from another.

    Args:
        hidden: width of the two hidden layers.
        actions: components of the action.
    """

    head: nn.Sequential

    def __init__(self, hidden: int = 256, actions: int = 15) -> None:
        super().__init__()
        self.settings = {"kind": "spectral", "hidden": hidden, "actions": actions}
        self.trunk = Waves()
        self.pooled_size = 3 * (WAVE**2 - 1)
        self.head = nn.Sequential(
            nn.Linear(self.pooled_size, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, actions),
        )
        self.centre: Tensor
        self.spread: Tensor
        self.register_buffer("centre", torch.zeros(self.pooled_size))
        self.register_buffer("spread", torch.ones(self.pooled_size))

    @property
    def last(self) -> nn.Linear:
        """The last layer of the head."""
        layer = self.head[-1]
        assert isinstance(layer, nn.Linear)
        return layer

    def calibrate(self, lr: Tensor) -> None:
        """Set centre and spread of each pooled feature from typical photos, so that the head sees numbers near 1."""
        with torch.no_grad():
            raw = self._measure(lr)
            self.centre.copy_(raw.mean(0))
            self.spread.copy_(raw.std(0) + 1e-3)

    def pooled(self, lr: Tensor) -> Tensor:
        """Give the log-energies, standardised: (N, 3, H, W) in [0, 1] -> (N, 189)."""
        return (self._measure(lr) - self.centre) / self.spread

    def _measure(self, lr: Tensor) -> Tensor:
        grey = lr.mean(1, keepdim=True)
        lack = [max(0, WAVE - side) for side in grey.shape[2:]]
        if any(lack):  # a picture smaller than a wave is continued by its border
            grey = functional.pad(grey, (0, lack[1], 0, lack[0]), mode="replicate")
        energy = self.trunk(grey)  # (N, 63, h, w)
        log = (energy + QUIET).log()
        total = energy.sum(1, keepdim=True) + QUIET
        weight = total / total.sum((2, 3), keepdim=True)
        return torch.cat([(energy.mean((2, 3)) + QUIET).log(), log.mean((2, 3)), (log * weight).sum((2, 3))], 1)


KINDS: dict[str, type[Predictor] | type[SpectralPredictor]] = {"cnn": Predictor, "spectral": SpectralPredictor}
"""The networks that files can hold, by the `kind` of their settings."""


class Waves(nn.Module):
    """Energies of 8x8 cosine waves at every second pixel: (N, 1, H, W) -> (N, 63, h, w).

    The constant wave is left out: brightness tells nothing of a blur.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waves: Tensor
        self.register_buffer("waves", cosine_waves(WAVE)[1:, None], persistent=False)

    def forward(self, grey: Tensor) -> Tensor:
        """Give the energies."""
        return functional.conv2d(grey, self.waves, stride=2).square()


def cosine_waves(side: int) -> Tensor:
    """Give the waves of the two-dimensional discrete cosine transform (type II), orthonormal: (side^2, side, side)."""
    k = torch.arange(side, dtype=torch.float64)
    wave = torch.cos(torch.pi * (k + 0.5) * k[:, None] / side) * (2 / side) ** 0.5  # (frequency, pixel)
    wave[0] /= 2**0.5
    return torch.einsum("ai,bj->abij", wave, wave).reshape(side * side, side, side).float()


def shifted_means(x: Tensor) -> Tensor:
    """Give the means over space of the nine shifts that a zero-padded 3x3 convolution sees: (N, C, H, W) -> (N, 9 C).

    The order is that of a flattened (O, C, 3, 3) weight: channel, row, column.
    """
    rows = _shifted_sums(x, dim=3)  # 3 x (N, C, H)
    means = [s for row in rows for s in _shifted_sums(row, dim=2)]  # column-major: 9 x (N, C)
    stacked = torch.stack([means[3 * column + row] for row in range(3) for column in range(3)], dim=-1)  # (N, C, 9)
    return stacked.flatten(1) / (x.shape[2] * x.shape[3])


def _shifted_sums(x: Tensor, dim: int) -> list[Tensor]:
    """Sums along `dim` without the last entry, of all, without the first: what taps -1, 0, 1 see."""
    total = x.sum(dim)
    return [total - x.select(dim, -1), total, total - x.select(dim, 0)]


def named_state(network: nn.Module, prefix: str) -> Iterator[tuple[str, Any]]:
    """Give the network's tensors under `prefix.`."""
    for name, tensor in network.state_dict().items():
        yield f"{prefix}.{name}", tensor
