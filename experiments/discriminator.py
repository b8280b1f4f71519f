"""D: judges patches of pictures, in the manner of VGG as SRGAN's, for the realness adversarial loss."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

LEVELS = 4
"""Times that the picture is halved: a logit sees 108x108 pixels, one every 16."""


class Discriminator(nn.Module):
    """Convolutions only, so pictures of any size from 16x16; a distribution over realness for each patch.

    At each level a 3x3 convolution and one of 4x4 and stride 2. A kernel whose side is a multiple of its stride meets
    every pixel equally often: D's gradient prints no grid on G's pictures, which a 3x3 kernel of stride 2 would.
    All but the last are spectrally normalised (Miyato et al., ICLR 2018): this bounds how steep D is in the picture, and
    needs no statistics of the batch, by which real and fake batches could be told apart.

    Args:
        width: channels at full size; doubled at each level up to eightfold.
        outcomes: K, levels of realness.
    """

    def __init__(self, width: int = 64, outcomes: int = 51) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for level in range(LEVELS):
            wide = width * min(2**level, 8)
            for conv in (nn.Conv2d(channels, wide, 3, padding=1), nn.Conv2d(wide, wide, 4, stride=2, padding=1)):
                nn.init.kaiming_normal_(conv.weight, a=0.2)
                nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
                layers += [spectral_norm(conv), nn.LeakyReLU(0.2)]
            channels = wide
        self.layers = nn.Sequential(*layers, nn.Conv2d(channels, outcomes, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """Map pictures `(N, 3, H, W)` in [0, 1] to logits `(N, outcomes, H // 16, W // 16)`."""
        logits: Tensor = self.layers(2 * x - 1)
        return logits
