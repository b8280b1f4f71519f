"""Photos larger than what a generator was trained on, in tiles of that size that overlap and are blended."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor

from generators.generator import Generator
from generators.wrapper import Wrapper

SIDE = 256
"""Side of a tile in the picture where none is given: that of the HR patches that the shipped generators learned from.

In LR pixels, 64 at scale 4 and 128 at scale 2."""

OVERLAP = 8
"""LR pixels that neighbours share; more changes PSNR by less than 0.01 dB."""

AT_ONCE = 32
"""Tiles that are rendered at once."""


class Tiled(Wrapper):
    """A generator that renders photos larger than a tile in tiles, and others as the generator itself.

    AMLayers replace their features' statistics over the whole picture. Those of a large photo are others than a patch's
    in training: of LR photos of some 300 pixels, rendered whole, PSNR is 0.1 to 0.6 dB lower, most where the kernel is
    wide, and larger ones may come out covered with worms. In tiles memory is bounded, too.

    Args:
        generator: G, frozen, or a wrapper of it.
        tile: side of a tile, LR pixels; None for the one of the shipped generators' training, 256 over the scale.
        overlap: LR pixels that neighbours share at least; there one fades into the other.

    Raises:
        TypeError: the generator is a name: load it first.
        ValueError: a tile is not larger than two overlaps.
    """

    def __init__(self, generator: Generator, tile: int | None = None, overlap: int = OVERLAP) -> None:
        super().__init__(generator)
        tile = SIDE // self.scale if tile is None else tile
        if overlap < 0 or tile <= 2 * overlap:
            raise ValueError(f"a tile must be larger than two overlaps of {overlap}, got {tile}")
        self.tile, self.overlap = tile, overlap

    def _by(self, render: Callable[[Tensor, Tensor], Tensor], lr: Tensor, code: Tensor) -> Tensor:
        if max(lr.shape[2:]) <= self.tile:
            return render(lr, code)
        count, s = len(lr), self.scale
        (tops, down), (lefts, across) = (self._fade(side, lr) for side in lr.shape[2:])
        places = list(product(range(len(tops)), range(len(lefts))))
        at_once = max(1, AT_ONCE // max(1, count))
        sr = torch.zeros(count, 3, s * lr.shape[2], s * lr.shape[3], device=lr.device, dtype=down[0].dtype)
        for group in (places[i : i + at_once] for i in range(0, len(places), at_once)):
            parts = [lr[:, :, tops[i] : tops[i] + self.tile, lefts[j] : lefts[j] + self.tile] for i, j in group]
            tiles = render(torch.cat(parts), code.repeat(len(group), 1)).tensor_split(len(group))
            for (i, j), rendered in zip(group, tiles, strict=True):
                rows, columns = (slice(s * start, s * (start + self.tile)) for start in (tops[i], lefts[j]))
                sr[:, :, rows, columns] += rendered * (down[i][:, None] * across[j])
        return sr.to(lr.dtype)

    def _fade(self, side: int, like: Tensor) -> tuple[list[int], list[Tensor]]:
        """Place tiles along one side of a photo, LR pixels: where each begins, and its weight in each SR pixel.

        Weights rise and fall linearly over the overlap, and sum to 1 everywhere.
        """
        tile = min(self.tile, side)
        count = 1 if side <= tile else -(-(side - self.overlap) // (tile - self.overlap))
        starts = [0] if count == 1 else [round(i * (side - tile) / (count - 1)) for i in range(count)]
        # In float32 at least: weights of bfloat16 sum to 1 within half a grey level, which shows as seams.
        wide = torch.promote_types(like.dtype, torch.float32)
        pixel = torch.arange(self.scale * tile, device=like.device, dtype=wide) + 0.5
        length = max(self.scale * self.overlap, 0.5)  # without an overlap nothing fades
        rise, fall = (pixel / length).clamp(max=1), (pixel.flip(0) / length).clamp(max=1)
        one = torch.ones_like(pixel)
        weights = [torch.minimum(rise if start > 0 else one, fall if start + tile < side else one) for start in starts]
        total = torch.zeros(self.scale * side, device=like.device, dtype=wide)
        spans = [slice(self.scale * start, self.scale * (start + tile)) for start in starts]
        for span, weight in zip(spans, weights, strict=True):
            total[span] += weight
        return starts, [weight / total[span] for span, weight in zip(spans, weights, strict=True)]
