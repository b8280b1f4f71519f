"""D: judges the detail of pictures patch by patch, for the realness adversarial loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

LEVELS = 4
"""Times that the picture is halved: a logit sees 142x142 pixels, one every 16."""

BOX = 5
"""Side in pixels of the mean that is taken off."""

CONTRAST = 10.0
"""What the rest is multiplied by, so that it is about as large as a picture in [-1, 1]."""


GAIN = 1.8
"""Each convolution's spectral norm, about that of He's random weights: signals keep their size through eight layers.

It is the norm of the weights as a matrix, one row a channel, as in Miyato et al.; a convolution may stretch a picture
further, the first four by 1.25 to 1.75 times as much.
"""


class Discriminator(nn.Module):
    """Convolutions only, so pictures of any size from 16x16; a distribution over realness for each patch.

    It sees a picture minus its 5x5 box mean. SR and HR differ in what is left; the rest they share, L1 preserves it,
    and D does not have to learn to ignore it: in short trials (other settings differed too) it told the two apart
    sooner.

    Each level has a 4x4 convolution of stride 2, whose side is a multiple of the stride so that it covers every pixel
    equally often, and a 3x3 convolution.

    All but the last are spectrally normalised (Miyato et al., ICLR 2018), so that D cannot grow ever steeper, which
    would upset the proportions of G's terms, and needs no statistics of a batch, by which real and fake ones could be
    told apart. But to `GAIN`, not to 1: eight layers of norm 1 shrink what is small in the picture to nothing.

    Args:
        width: channels at the first level; doubled at each further one.
        outcomes: K, levels of realness.
    """

    def __init__(self, width: int = 64, outcomes: int = 51) -> None:
        super().__init__()
        convolutions: list[nn.Module] = []
        channels = 3
        for level in range(LEVELS):
            wide = width * 2**level
            for conv in (nn.Conv2d(channels, wide, 4, stride=2, padding=1), nn.Conv2d(wide, wide, 3, padding=1)):
                nn.init.kaiming_normal_(conv.weight, a=0.2)
                nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
                convolutions.append(spectral_norm(conv))
            channels = wide
        self.convolutions = nn.ModuleList(convolutions)
        self.last = nn.Conv2d(channels, outcomes, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map pictures `(N, 3, H, W)` in [0, 1] to logits `(N, outcomes, H // 16, W // 16)`."""
        mean = F.avg_pool2d(x, BOX, stride=1, padding=BOX // 2, count_include_pad=False)
        x = CONTRAST * (x - mean)
        for conv in self.convolutions:
            assert isinstance(conv, nn.Conv2d)
            with torch.autocast(x.device.type, enabled=False):  # which would round the spectral norm to 8 bits
                weight = conv.weight
            x = F.leaky_relu(GAIN * F.conv2d(x, weight, conv.bias, conv.stride, conv.padding), 0.2)
        logits: Tensor = self.last(x)
        return logits
