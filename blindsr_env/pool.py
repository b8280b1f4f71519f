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
            flat = torch.from_numpy(np.ascontiguousarray(photo.pixels)).view(-1, 3)
            buffer[start : start + len(flat)] = flat
            start += len(flat)
        self._pixels = buffer.to(device)  # (sum of H W, 3)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def device(self) -> torch.device:
        """Where the buffer lives."""
        return self._pixels.device

    def crops(self, image: Tensor, top: Tensor, left: Tensor, size: int, flip: Tensor) -> Tensor:
        """Gather square crops, flipped and turned.

        Args:
            image: which photo, `(N,)` int64, on the pool's device, as are the others.
            top: first row `(N,)` int64; the crop must lie inside the photo (unchecked: that would wait for the device).
            left: first column, `(N,)` int64.
            size: side in pixels.
            flip: `(N,)` int64 in 0..7: bit 0 flips left to right, bit 1 top to bottom, then bit 2 transposes.

        Returns:
            `(N, 3, size, size)` uint8, channels_last in memory.
        """
        step = torch.arange(size, device=self.device)
        bit = [(flip >> b & 1).bool()[:, None] for b in range(3)]
        down = torch.where(bit[1], size - 1 - step, step) + top[:, None]  # (N, size): source row of each target row
        across = torch.where(bit[0], size - 1 - step, step) + left[:, None]
        width = self.widths[image]
        index = (self._offset[image, None] + down * width[:, None])[:, :, None] + across[:, None, :]  # (N, size, size)
        index = torch.where(bit[2][:, :, None], index.transpose(1, 2), index)
        # The index of transposed crops is not contiguous, and plain indexing would hand its strides on; this also takes
        # half the time.
        crops = self._pixels.index_select(0, index.reshape(-1))  # (N size size, 3)
        return crops.view(*index.shape, 3).permute(0, 3, 1, 2)
