"""The pool of photos on the device that crops are gathered from."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from blindsr_env.images import ImageError, Photo


class PhotoPool:
    """All photos in one uint8 buffer on the device, that batches of crops are gathered from.

    Args:
        photos: at least one.
        device: where the buffer lives.

    Attributes:
        names: the photos' names.
        heights: `(P,)` int64, pixels.
        widths: `(P,)` int64, pixels.
    """

    def __init__(self, photos: Iterable[Photo], device: torch.device | str = "cpu") -> None:
        photos = list(photos)
        if not photos:
            raise ImageError("a pool needs at least one photo")
        sizes = torch.tensor([photo.pixels.shape[:2] for photo in photos], dtype=torch.int64)
        area = sizes.prod(dim=1)
        self.names = [photo.name for photo in photos]
        self.heights, self.widths = (side.contiguous().to(device) for side in sizes.unbind(1))
        self._offset = (area.cumsum(0) - area).to(device)
        buffer = torch.empty(int(area.sum()), 3, dtype=torch.uint8)
        start = 0
        for photo in photos:
            flat = torch.from_numpy(np.require(photo.pixels, requirements=["C", "W"])).view(-1, 3)
            buffer[start : start + len(flat)] = flat
            start += len(flat)
        self._pixels = buffer.to(device)  # (sum of H W, 3)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def device(self) -> torch.device:
        """Where the buffer lives."""
        return self._pixels.device

    def crops(self, image: Tensor, top: Tensor, left: Tensor, size: tuple[int, int], flip: Tensor) -> Tensor:
        """Gather crops, flipped and turned.

        Args:
            image: which photo, `(N,)` int64, on the pool's device, as are the others.
            top: first row `(N,)` int64; the crop must lie inside the photo (unchecked: that would wait for the device).
            left: first column, `(N,)` int64.
            size: height H and width W in pixels; a crop that is transposed covers W rows and H columns of its photo.
            flip: `(N,)` int64 in 0..7: bit 0 flips left to right, bit 1 top to bottom, then bit 2 transposes.

        Returns:
            `(N, 3, H, W)` uint8, channels_last in memory.
        """
        row = self.widths[image]  # pixels from one row of the photo to the next
        transposed = flip >= 4
        across, down = (flip & 1).bool(), (flip & 2).bool()
        start = self._offset[image] + top * row + left
        # Down the crop, then across it: source pixels from one to the next, and whether they run backwards.
        strides = torch.where(transposed, 1, row), torch.where(transposed, row, 1)
        backwards = torch.where(transposed, across, down), torch.where(transposed, down, across)
        steps = []
        for side, stride, back in zip(size, strides, backwards, strict=True):
            step = torch.arange(side, device=self.device)
            steps.append(torch.where(back[:, None], side - 1 - step, step) * stride[:, None])  # (N, side)
        index = (start[:, None] + steps[0])[:, :, None] + steps[1][:, None, :]  # (N, H, W)
        crops = self._pixels.index_select(0, index.view(-1))  # (N H W, 3); half the time of plain indexing
        return crops.view(*index.shape, 3).permute(0, 3, 1, 2)
