"""Figures published in the paper, to compare ours with; only those that we know, none is guessed.

Hui, Li, Wang, Gao, *Learning the Non-differentiable Optimization for Blind Super-Resolution*, CVPR 2021, scale 4. PSNR
is of the luminance without a border of 4 pixels, dB. We do not know its figures for AdaIN against AMLayer (Table 4).
"""

SCALE = 4
"""Scale of all figures here."""

WIDTHS = (0.2, 1.3, 2.6)
"""Kernel widths of Tables 1 and 5, HR pixels."""

AMNET_PSNR: dict[str, dict[float, float]] = {
    "Set5": {0.2: 32.28, 1.3: 32.39, 2.6: 32.46},
    "Set14": {0.2: 28.66, 1.3: 28.71, 2.6: 28.53},
    "BSD100": {0.2: 27.60, 1.3: 27.67, 2.6: 27.65},
}
"""AMNet with the true code, by set and kernel width (Table 1)."""

SRMDNF_PSNR: dict[str, dict[float, float]] = {"Set5": {0.2: 31.96, 1.3: 32.00, 2.6: 31.77}}
"""SRMDNF with the true kernel, as its authors published it (Zhang, Zuo, Zhang, CVPR 2018)."""

PHOTOS: dict[str, int] = {"Set5": 5, "Set14": 14, "BSD100": 100}
"""Number of photos in each set."""

AMGAN_RL_NIQE_GAIN: dict[str, float] = {"Set5": 0.226, "Set14": 0.370, "BSD100": 0.578}
"""NIQE of AMGAN with the true code less that of AMGAN-RL, mean over the widths of `AMNET_PSNR`."""

AMNET_RL_GAUSSIAN8_PSNR: dict[str, float] = {"Set5": 32.27}
"""AMNet-RL, blind, mean over the widths `kernels.GAUSSIAN8`."""

ADAIN_WIDTH = 1.8
"""Kernel width of Table 4, AdaIN against AMLayer."""
