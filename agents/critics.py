"""The networks that judge: Q(LR, action), the reward to expect (paper, Eq. 10 to 12)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from agents.networks import Trunk


class Critic(nn.Module):
    """Q(LR, action): the reward to expect. A CNN on the LR photo whose features the action modulates.

    Twice, gamma and beta, linear in the action, scale and shift every channel (as AdaIN does in the generator), so
    the action meets the picture before the mean over space: what a wider kernel gains depends on what it falls on.

    Args:
        actions: components of the action.
        width: channels of the trunk.
        blocks: its residual blocks.
        stride: its stride, 1 or 2.
        hidden: width of the last layers.
    """

    def __init__(self, actions: int = 15, width: int = 32, blocks: int = 2, stride: int = 2, hidden: int = 128) -> None:
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
    """`copies` linear layers, each with its own weights: (copies or 1, N, inputs) -> (copies, N, outputs).

    Args:
        copies: how many layers; their weights are drawn as `nn.Linear` draws its own.
        inputs: length of what comes in.
        outputs: length of what goes out.
    """

    def __init__(self, copies: int, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = inputs**-0.5
        self.weight = nn.Parameter(torch.empty(copies, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(copies, 1, outputs).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        """Give all layers' outputs."""
        return torch.baddbmm(self.bias, x.expand(len(self.weight), -1, -1), self.weight)


class PooledCritics(nn.Module):
    """Q(pooled features, action): small MLPs on what a frozen predictor sees. Hundreds of updates cost one render.

    The action modulates the hidden features, as in `Critic`: the products of feature and action that tell one
    scene's best action from another's are there from the first update.

    Args:
        copies: how many critics.
        features: length of the actor's pooled features.
        actions: components of the action.
        hidden: width of the layers.
    """

    def __init__(self, copies: int, features: int, actions: int = 15, hidden: int = 128) -> None:
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
    """Several CNN critics, each with weights of its own.

    Args:
        copies: how many critics.
        actions: components of the action.
        width: channels of each.
        hidden: width of their last layers.
    """

    def __init__(self, copies: int, actions: int = 15, width: int = 32, hidden: int = 128) -> None:
        super().__init__()
        self.members = nn.ModuleList(Critic(actions, width, hidden=hidden) for _ in range(copies))

    def forward(self, lr: Tensor, action: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] and (N, actions) -> (copies, N)."""
        return torch.stack([critic(lr, action) for critic in self.members])


def mlp(inputs: int, hidden: int) -> nn.Sequential:
    """Make two hidden layers with ReLU and one output: (N, inputs) -> (N, 1)."""
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1)
    )
