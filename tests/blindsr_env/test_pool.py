"""The pool of photos: crops against slices by NumPy."""

import numpy as np
import pytest
import torch

from blindsr_env.images import ImageError, Photo
from blindsr_env.pool import PhotoPool


@pytest.fixture
def pool():
    rng = np.random.default_rng(1)
    sizes = [(9, 30), (25, 8), (17, 17)]
    photos = [Photo(f"p{i}", rng.integers(0, 256, (*size, 3), dtype=np.uint8)) for i, size in enumerate(sizes)]
    return photos, PhotoPool(photos)


def test_pool(pool):
    photos, pool = pool
    assert pool.names == ["p0", "p1", "p2"] and len(pool) == 3 and pool.device == torch.device("cpu")
    assert pool.heights.tolist() == [9, 25, 17] and pool.widths.tolist() == [30, 8, 17]
    assert pool.heights.dtype == torch.int64
    with pytest.raises(ImageError, match="at least one photo"):
        PhotoPool([])


@pytest.mark.parametrize("size", [(7, 7), (5, 8), (8, 1)])
def test_crops_are_slices(pool, size):
    photos, pool = pool
    rng, n = np.random.default_rng(2), 64
    image, flip = rng.integers(0, 3, n), np.arange(n) % 8
    covered = np.where(flip[:, None] >= 4, size[::-1], size)  # of the photo: rows, columns
    rooms = np.array([photos[i].pixels.shape[:2] for i in image]) - covered
    rooms[-1], image[-1] = 17 - covered[-1], 2
    top, left = (rng.random((n, 2)) * (rooms + 1)).astype(np.int64).T.copy()
    top[:2], left[:2] = 0, 0
    top[-1], left[-1] = rooms[-1]  # the last pixel of the buffer
    batch = pool.crops(*(torch.from_numpy(a) for a in (image, top, left)), size, torch.from_numpy(flip))
    assert batch.shape == (n, 3, *size) and batch.dtype == torch.uint8
    assert batch.is_contiguous(memory_format=torch.channels_last)
    for k, (rows, columns) in enumerate(covered):
        crop = photos[image[k]].pixels[top[k] : top[k] + rows, left[k] : left[k] + columns]
        crop = crop[:, ::-1] if flip[k] & 1 else crop
        crop = crop[::-1] if flip[k] & 2 else crop
        crop = crop.transpose(1, 0, 2) if flip[k] & 4 else crop
        assert np.array_equal(batch[k].permute(1, 2, 0).numpy(), crop), (k, flip[k])


def test_crops_are_fresh_memory(pool):
    photos, pool = pool
    zero = torch.zeros(1, dtype=torch.int64)
    pool.crops(zero, zero, zero, (5, 5), zero).zero_()
    assert np.array_equal(
        pool.crops(zero, zero, zero, (5, 5), zero)[0].permute(1, 2, 0).numpy(), photos[0].pixels[:5, :5]
    )


@pytest.mark.parametrize("locked", [False, True])
def test_views_are_taken(photo, locked, recwarn):
    pixels = photo(20, 30, 0)
    pixels = pixels if locked else pixels[::-1, ::2]
    pixels.setflags(write=not locked)
    zero = torch.zeros(1, dtype=torch.int64)
    crop = PhotoPool([Photo("view", pixels)]).crops(zero, zero, zero, (10, 10), zero)
    assert np.array_equal(crop[0].permute(1, 2, 0).numpy(), pixels[:10, :10])
    assert not recwarn
