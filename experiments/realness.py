"""Realness adversarial loss: D gives each patch a distribution over levels of realness, not one number.

Xiangli, Deng, Dai, Loy, Lin, "Real or Not Real, that is the Question", ICLR 2020. D learns to give real pictures the
anchor distribution A1 and generated ones A0, both over the same K levels (outcomes) from -1 to 1:

    D: min  KL(A1 || D(x)) + KL(A0 || D(G))
    G: min  KL(D(x) || D(G)) - KL(A0 || D(G))

for real pictures x. G's is the second of the paper's three objectives, its best: what G wants for its picture is what
D says of a real one, and here of that very one, patch by patch, since SR knows its HR.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

SKEW = 2.0
SPREAD = 0.7
"""Shape and scale of the anchors' skew-normal density."""


def anchors(outcomes: int) -> tuple[Tensor, Tensor]:
    """Give A0 (fake) and A1 (real).

    A1 is the skew-normal density 2/w phi(x/w) Phi(a x/w), a = 2, w = 0.7, on `outcomes` levels evenly spaced over
    [-1, 1], scaled to sum to 1: 0.36 in the mean. A0 is its mirror image. The paper too takes skewed anchors. These are
    mild ones, of which each keeps some of its mass on every level (KL 1.9 to each other), so that they ask D for
    moderate logits, as smoothed labels do.

    Args:
        outcomes: number of levels, at least 2.

    Returns:
        Two tensors `(outcomes,)` float64 that are positive and sum to 1.

    Raises:
        ValueError: fewer than two levels.
    """
    if outcomes < 2:
        raise ValueError(f"outcomes must be at least 2, got {outcomes}")
    level = torch.linspace(-1, 1, outcomes, dtype=torch.float64) / SPREAD
    density = torch.exp(-level.square() / 2) * torch.special.erfc(-SKEW * level / math.sqrt(2))
    real = density / density.sum()
    return real.flip(0), real


class Realness:
    """The two losses and what D's outputs mean.

    Args:
        outcomes: number of levels K, at least 2.
        device: of the logits to come.
    """

    def __init__(self, outcomes: int, device: torch.device | str = "cpu") -> None:
        self.fake, self.real = (anchor.float().to(device) for anchor in anchors(outcomes))
        self.level = torch.linspace(-1, 1, outcomes, device=device)

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """KL(A1 || D(x)) + KL(A0 || D(G)).

        Args:
            real: D's logits of real pictures, `(N, K, ...)`.
            fake: of generated ones.

        Returns:
            A scalar, the mean over pictures and patches, float32.
        """
        return divergence(_log(self.real, real), _log_softmax(real)) + divergence(
            _log(self.fake, fake), _log_softmax(fake)
        )

    def generator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """KL(D(x) || D(G)) - KL(A0 || D(G)), of which only D(G) gets a gradient.

        Args:
            real: D's logits of real pictures, `(N, K, ...)`.
            fake: of generated ones; the same shape, each beside its real one.

        Returns:
            A scalar, the mean over pictures and patches, float32. Not bounded from below.
        """
        log_fake = _log_softmax(fake)
        return divergence(_log_softmax(real.detach()), log_fake) - divergence(_log(self.fake, fake), log_fake)

    def mean_level(self, logits: Tensor) -> Tensor:
        """Give the mean realness in [-1, 1] over pictures and patches: a scalar to watch. A1's own is 0.36."""
        return (_log_softmax(logits).exp().movedim(1, -1) @ self.level).mean()


def divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p || q) over dimension 1 from logarithms that broadcast, `(N, K, ...)`; mean over the rest: a scalar."""
    return (log_p.exp() * (log_p - log_q)).sum(1).mean()


def _log(anchor: Tensor, like: Tensor) -> Tensor:
    """Logarithm of an anchor `(K,)`, shaped to broadcast with logits `(N, K, ...)`."""
    return anchor.log().view(1, -1, *[1] * (like.ndim - 2))


def _log_softmax(logits: Tensor) -> Tensor:
    return logits.float().log_softmax(1)
