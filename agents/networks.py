"""The networks that act and judge: the predictor (which is also the actor) and the critics.

The predictor is Fig. 3c of Hui et al., CVPR 2021. The paper counts 1,982K parameters for predictor + AMNet and
1,599K for AMNet; every convolution and both layers of the channel attention with bias give 382,627 exactly.

Only torch is imported here: the networks are trained and shipped without an environment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

#: What `build` knows: settings of `Predictor`. `predictor_s` is made for two CPU cores: its first convolution sees
#: every pixel, where the blur is; all others work at half resolution.
PREDICTORS: dict[str, dict[str, int]] = {
    "predictor": {"width": 64, "blocks": 5, "stride": 1},
    "predictor_s": {"width": 32, "blocks": 3, "stride": 2},
}


def build(name: str = "predictor", *, actions: int = 15) -> Predictor:
    """Gives an untrained predictor.

    Args:
        name: A key of `PREDICTORS`.
        actions: Components of the action.

    Returns:
        The network in training mode, on the CPU.

    Raises:
        ValueError: If the name is unknown.
    """
    if name not in PREDICTORS:
        raise ValueError(f"unknown predictor {name!r}; there are {', '.join(PREDICTORS)}")
    return Predictor(**PREDICTORS[name], actions=actions)


def from_observation(observation: Tensor) -> Tensor:
    """Turns observations into what the networks read.

    Args:
        observation: (N, H, W, 3) uint8, or float in [0, 1]. Any device.

    Returns:
        (N, 3, H, W) float32 in [0, 1]. A view in channels_last memory, so the permutation costs nothing.

    Raises:
        ValueError: If the shape is not (N, H, W, 3).
    """
    if observation.ndim != 4 or observation.shape[-1] != 3:
        raise ValueError(f"observations are (N, H, W, 3), not {tuple(observation.shape)}")
    lr = observation.permute(0, 3, 1, 2)
    return lr.float() / 255 if lr.dtype == torch.uint8 else lr.float()


def answer(observation: Any, device: torch.device, choose: Callable[[Tensor], Tensor]) -> Any:
    """Answers one observation or a batch, NumPy or torch, with actions of the same kind.

    Args:
        observation: (H, W, 3) or (N, H, W, 3) uint8.
        device: Where `choose` works.
        choose: (N, 3, H, W) in [0, 1] -> (N, actions).

    Returns:
        (actions,) or (N, actions) float32; tensors stay on `device`.
    """
    images = torch.as_tensor(observation).to(device)
    with torch.no_grad():
        action = choose(from_observation(images[None] if images.ndim == 3 else images))
    action = action[0] if images.ndim == 3 else action
    return action if isinstance(observation, Tensor) else action.cpu().numpy()


class ChannelAttention(nn.Module):
    """Scales each channel by a number in (0, 1) that all channels' means decide: (N, C, H, W) -> the same."""

    def __init__(self, width: int, reduction: int = 16) -> None:
        """Makes `width -> width / reduction -> width`, both layers with bias."""
        super().__init__()
        self.squeeze = nn.Linear(width, max(width // reduction, 1))
        self.excite = nn.Linear(max(width // reduction, 1), width)

    def forward(self, x: Tensor) -> Tensor:
        """Gives the scaled features."""
        scale = torch.sigmoid(self.excite(torch.relu(self.squeeze(x.mean((2, 3))))))  # (N, C)
        return x * scale[:, :, None, None]


class ResidualBlock(nn.Module):
    """Convolution, ReLU, convolution, channel attention; added to the input. (N, C, H, W) -> the same."""

    def __init__(self, width: int, reduction: int = 16) -> None:
        """Makes the block; all convolutions are 3x3 with bias."""
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.attention = ChannelAttention(width, reduction)

    def forward(self, x: Tensor) -> Tensor:
        """Gives the refined features."""
        return x + self.attention(self.conv2(torch.relu(self.conv1(x))))


class Trunk(nn.Module):
    """Convolution 3 -> width, ReLU, (stride-2 convolution, ReLU,) residual blocks: an LR photo's features."""

    def __init__(self, width: int, blocks: int, stride: int = 1, reduction: int = 16) -> None:
        """Makes the trunk; `stride` is 1 or 2."""
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


class Predictor(nn.Module):
    """LR photo -> action: the predictor of Eq. 3, and the actor of Eq. 12 that starts as its copy.

    The action is `tanh` of the paper's linear output. True kernels lie in [-0.8, 0.8] by the codec's design, where tanh
    bends little, so nothing is lost for the prediction; and the actor can neither leave the box, where the
    environment would clip it and the critic has no data, nor get stuck outside, where a clamp has no gradient.

    The paper's last layer, a 3x3 convolution to 15 channels and the mean over space, is linear in the nine means of
    its shifted inputs (zero padding drops a border row or column from each). `pooled` gives those, `head` is the
    convolution's weight as a matrix: the same parameters and result, and it shows what a frozen trunk leaves to
    learn: a linear layer.
    """

    def __init__(
        self, width: int = 64, blocks: int = 5, stride: int = 1, reduction: int = 16, actions: int = 15
    ) -> None:
        """Makes an untrained predictor.

        Args:
            width: Channels.
            blocks: Residual blocks.
            stride: 2 halves the resolution after the first convolution.
            reduction: Of the channel attention.
            actions: Components of the action.
        """
        super().__init__()
        self.settings = {"width": width, "blocks": blocks, "stride": stride, "reduction": reduction, "actions": actions}
        self.trunk = Trunk(width, blocks, stride, reduction)
        self.head = nn.Linear(9 * width, actions)

    def pooled(self, lr: Tensor) -> Tensor:
        """Gives the nine shifted means of the features: (N, 3, H, W) in [0, 1] -> (N, 9 * width)."""
        return shifted_means(self.trunk(lr))

    def act(self, pooled: Tensor) -> Tensor:
        """Gives the action for pooled features: (N, 9 * width) -> (N, actions) in (-1, 1)."""
        return torch.tanh(self.head(pooled))

    def forward(self, lr: Tensor) -> Tensor:
        """Predicts the action: (N, 3, H, W) float in [0, 1] -> (N, actions) in (-1, 1)."""
        return self.act(self.pooled(lr))

    @torch.no_grad()
    def to_free_code(self, gain: Tensor) -> None:
        """Turns a predictor of actions into one of codes, in place: x = gain * u.

        The head is scaled inside the tanh: exact where the gain is 1 or the components small, within 0.06 between.

        Args:
            gain: (actions,) the codec's gain.
        """
        gain = gain.to(self.head.weight)
        self.head.weight.mul_(gain[:, None])
        self.head.bias.mul_(gain)


def shifted_means(x: Tensor) -> Tensor:
    """Means over space of the nine shifts that a zero-padded 3x3 convolution sees: (N, C, H, W) -> (N, 9 C).

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


class Critic(nn.Module):
    """Q(LR, action): the reward to expect. A CNN on the LR photo whose features the action modulates.

    Twice, gamma and beta, linear in the action, scale and shift every channel (as AdaIN does in the generator), so
    the action meets the picture before the mean over space: what a wider kernel gains depends on what it falls on.
    """

    def __init__(self, actions: int = 15, width: int = 32, blocks: int = 2, stride: int = 2, hidden: int = 128) -> None:
        """Makes an untrained critic; `width`, `blocks`, `stride` are its trunk's, `hidden` its last layers' width."""
        super().__init__()
        self.trunk = Trunk(width, blocks, stride)
        self.normalise = nn.GroupNorm(1, width, affine=False)  # over all of a photo: what tells photos apart stays
        self.modulations = nn.ModuleList(nn.Linear(actions, 2 * width) for _ in range(2))
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.value = mlp(width + actions, hidden)

    def forward(self, lr: Tensor, action: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] and (N, actions) -> (N,)."""
        x = torch.relu(self._modulate(0, self.normalise(self.trunk(lr)), action))
        x = torch.relu(self._modulate(1, self.normalise(self.conv(x)), action))
        return self.value(torch.cat([x.mean((2, 3)), action], 1)).squeeze(1)

    def _modulate(self, layer: int, x: Tensor, action: Tensor) -> Tensor:
        gamma, beta = self.modulations[layer](action)[:, :, None, None].chunk(2, 1)
        return torch.addcmul(x + beta, x, gamma)  # starts near the identity: 1 + gamma


class ParallelLinear(nn.Module):
    """`copies` linear layers, each with its own weights: (copies or 1, N, inputs) -> (copies, N, outputs)."""

    def __init__(self, copies: int, inputs: int, outputs: int) -> None:
        """Draws the weights as `nn.Linear` does."""
        super().__init__()
        bound = inputs**-0.5
        self.weight = nn.Parameter(torch.empty(copies, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(copies, 1, outputs).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        """Gives all layers' outputs."""
        return torch.baddbmm(self.bias, x.expand(len(self.weight), -1, -1), self.weight)


class PooledCritics(nn.Module):
    """Q(pooled features, action): small MLPs on what a frozen predictor sees. Hundreds of updates cost one render.

    The action modulates the hidden features, as in `Critic`: the products of feature and action that tell one
    scene's best action from another's are there from the first update.
    """

    def __init__(self, copies: int, features: int, actions: int = 15, hidden: int = 128) -> None:
        """Makes `copies` untrained critics for `Predictor.pooled` features, (N, features)."""
        super().__init__()
        self.normalise = nn.LayerNorm(features, elementwise_affine=False)
        self.read = ParallelLinear(copies, features, hidden)
        self.modulations = nn.ModuleList(ParallelLinear(copies, actions, 2 * hidden) for _ in range(2))
        self.think = ParallelLinear(copies, hidden, hidden)
        self.value = ParallelLinear(copies, hidden, 1)

    def forward(self, pooled: Tensor, action: Tensor) -> Tensor:
        """(N, features) and (N, actions) -> (copies, N)."""
        x = torch.relu(self._modulate(0, self.read(self.normalise(pooled)[None]), action))
        x = torch.relu(self._modulate(1, self.think(x), action))
        return self.value(x).squeeze(2)

    def _modulate(self, layer: int, x: Tensor, action: Tensor) -> Tensor:
        gamma, beta = self.modulations[layer](action[None]).chunk(2, 2)
        return torch.addcmul(x + beta, x, gamma)


class Critics(nn.Module):
    """Several CNN critics, each with weights of its own."""

    def __init__(self, copies: int, actions: int = 15, width: int = 32, hidden: int = 128) -> None:
        """Makes `copies` untrained critics."""
        super().__init__()
        self.members = nn.ModuleList(Critic(actions, width, hidden=hidden) for _ in range(copies))

    def forward(self, lr: Tensor, action: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] and (N, actions) -> (copies, N)."""
        return torch.stack([critic(lr, action) for critic in self.members])


def mlp(inputs: int, hidden: int) -> nn.Sequential:
    """Two hidden layers, ReLU, one output: (N, inputs) -> (N, 1)."""
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1)
    )


def parameter_count(network: nn.Module) -> int:
    """Counts the parameters."""
    return sum(p.numel() for p in network.parameters())


def named_state(network: nn.Module, prefix: str) -> Iterator[tuple[str, Any]]:
    """Gives the network's tensors under `prefix.`."""
    for name, tensor in network.state_dict().items():
        yield f"{prefix}.{name}", tensor
