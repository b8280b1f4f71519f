"""Photos: reading and writing files, and the built-in set."""

from __future__ import annotations

import importlib.util
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from generators.atomic import atomic_write

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}
"""File name endings taken for photos in a folder."""

JPEG, TIFF = b"\xff\xd8", (b"II*\0", b"MM\0*")  # how these files begin

# Inside the wheels of scikit-image and scikit-learn, so they need no download. Split once and for all: the test photos
# are never trained on, and show what the others do not (fur, night lights, architecture, a person outdoors).
BUILTIN: dict[str, tuple[str, ...]] = {
    "train": (
        "skimage/data/astronaut.png",
        "skimage/data/coffee.png",
        "skimage/data/motorcycle_left.png",
        "skimage/data/brick.png",
        "skimage/data/grass.png",
        "skimage/data/gravel.png",
        "sklearn/datasets/images/flower.jpg",
    ),
    "test": (
        "skimage/data/chelsea.png",
        "skimage/data/rocket.jpg",
        "skimage/data/camera.png",
        "sklearn/datasets/images/china.jpg",
    ),
}


class ImageError(ValueError):
    """A photo that cannot be used; the message names the file, the cause and the cure."""


@dataclass(frozen=True, eq=False)
class Photo:
    """One photo in memory.

    Attributes:
        name: file name without its ending, or `"array-3"`; of a folder's photos the path in it, with the ending where
            another photo has the same name otherwise.
        pixels: `(H, W, 3)` uint8, RGB.
    """

    name: str
    pixels: NDArray[np.uint8]


def read(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Read a photo as a viewer shows it.

    Grey and palette pictures become RGB, 16 bits become 8 (rounded), CMYK is converted, transparency is laid on white
    (but for grey TIFFs, and PNGs with one transparent grey, whose transparency OpenCV does not tell), and the camera's
    orientation tag is applied.

    Args:
        path: an image file.

    Returns:
        `(H, W, 3)` uint8, RGB.

    Raises:
        ImageError: the file is missing, empty, cut short, or not a picture that OpenCV can decode.
    """
    import cv2

    path = Path(path)
    if not path.is_file():
        raise ImageError(f"no image at {path}: check the path")
    data = np.fromfile(path, dtype=np.uint8)
    if data.size == 0:
        raise ImageError(f"{path} is empty: copy it again or remove it")
    start = data[:4].tobytes()
    try:
        pixels = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
        layers = None if start[:2] == JPEG else cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    except cv2.error:
        pixels = layers = None
    if pixels is None:
        raise ImageError(f"{path} is not a readable image: convert it to an 8-bit PNG or a JPEG, or remove it")
    pixels = _eight_bit(pixels, path)
    if layers is not None and layers.ndim == 3 and layers.shape[2] == 4:
        premultiplied = start in TIFF and layers.dtype == np.uint8  # libtiff's own conversion to RGBA
        pixels = _matched_on_white(pixels, _eight_bit(layers, path), premultiplied)
    return np.ascontiguousarray(pixels[..., ::-1])


def _matched_on_white(pixels: NDArray[np.uint8], layers: NDArray[np.uint8], premultiplied: bool) -> NDArray[np.uint8]:
    """Lay a picture on white by the alpha channel of its layers, once they are turned as the picture is.

    Args:
        pixels: `(H, W, 3)`, oriented as the camera's tag says.
        layers: the same as stored, with its alpha: `(H, W, 4)` or `(W, H, 4)`. OpenCV gives alpha in no other way.
        premultiplied: colours are already multiplied by alpha.
    """
    for layout in (layers, layers.transpose(1, 0, 2)):
        for turned in (layout, layout[::-1], layout[:, ::-1], layout[::-1, ::-1]):
            if np.array_equal(turned[..., :3], pixels):
                return on_white(pixels, turned[..., 3:], premultiplied)
    return pixels


def on_white(colour: NDArray[np.uint8], alpha: NDArray[np.uint8], premultiplied: bool = False) -> NDArray[np.uint8]:
    """Lay colours `(H, W, 3)` uint8 with an alpha `(H, W, 1)` uint8 on white.

    Args:
        colour: in any order of channels.
        alpha: 0 is transparent.
        premultiplied: colours are already multiplied by alpha.
    """
    share = alpha.astype(np.float32) / 255
    shown = colour if premultiplied else colour * share
    return np.floor(shown + 255 * (1 - share) + 0.5).clip(0, 255).astype(np.uint8)


def _eight_bit(pixels: NDArray[np.generic], path: Path) -> NDArray[np.uint8]:
    if pixels.dtype == np.uint8:
        return pixels  # type: ignore[return-value]
    if pixels.dtype == np.uint16:
        return np.floor(pixels.astype(np.float32) / 257 + 0.5).astype(np.uint8)
    raise ImageError(f"{path} has {pixels.dtype} samples: convert it to an 8-bit or 16-bit picture")


def write(path: str | os.PathLike[str], pixels: NDArray[np.uint8]) -> None:
    """Write a picture; an older file at the path is replaced only when the new one is whole.

    Args:
        path: where to; its ending gives the format.
        pixels: `(H, W, 3)` uint8, RGB.

    Raises:
        ImageError: the ending is not one of an image format, or the pixels are none.
    """
    import cv2

    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise ImageError(f"cannot write {path}: its name must end in one of {', '.join(sorted(SUFFIXES))}")
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.size == 0:
        raise ImageError(f"cannot write {path}: pixels are {_kind(pixels)}, not uint8 of shape (H, W, 3)")
    try:
        done, data = cv2.imencode(path.suffix.lower(), np.ascontiguousarray(pixels[..., ::-1]))
    except cv2.error:
        done = False
    if not done:
        size = "{}x{}".format(*pixels.shape[:2])
        raise ImageError(f"cannot write {path}: {path.suffix} does not hold {size} pixels: give a name ending in .png")
    with atomic_write(path) as partial:
        data.tofile(partial)


def shrink(photo: Photo, factor: float) -> Photo:
    """Make a photo smaller: bicubic, antialiased, by PyTorch, which is MATLAB's imresize but at the border.

    Args:
        photo: HR.
        factor: of both sides, above 0 and at most 1.

    Returns:
        The photo with sides `round(factor * side)`, at least 1, rounded to 8 bits.

    Raises:
        ValueError: the factor is out of range.
    """
    import torch

    if not 0 < factor <= 1:
        raise ValueError(f"a photo shrinks by a factor above 0 and at most 1, got {factor}")
    size = [max(1, round(factor * side)) for side in photo.pixels.shape[:2]]
    pixels = torch.from_numpy(photo.pixels).permute(2, 0, 1)[None].float()
    small = torch.nn.functional.interpolate(pixels, size, mode="bicubic", antialias=True)
    return Photo(photo.name, small[0].permute(1, 2, 0).round().clamp(0, 255).byte().contiguous().numpy())


def find(folder: str | os.PathLike[str]) -> list[Path]:
    """List the image files below a folder, sorted by path; hidden ones are left out.

    Links are followed, but not up; a folder that several lead to is looked at once.

    Raises:
        ImageError: the folder is missing or holds no image file.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ImageError(f"no folder at {folder}: check the path")
    paths, seen = [], {folder.resolve(), *folder.resolve().parents}
    for above, folders, files in os.walk(folder, followlinks=True):
        here, below = Path(above), []
        for name in sorted(folders, key=lambda name: ((here / name).is_symlink(), name)):
            real = (here / name).resolve()
            if not name.startswith(".") and real not in seen:
                seen.add(real)
                below.append(name)
        folders[:] = below
        # Hidden are thumbnails and half-written files.
        named = [here / name for name in files if not name.startswith(".")]
        paths += [path for path in named if path.suffix.lower() in SUFFIXES and path.is_file()]
    paths.sort()
    if not paths:
        raise ImageError(f"no image in {folder}: it should hold files ending in {', '.join(sorted(SUFFIXES))}")
    return paths


def builtin(split: str = "train") -> list[Photo]:
    """Load the photos that scikit-image's and scikit-learn's wheels carry.

    Args:
        split: `"train"` or `"test"`.

    Raises:
        ValueError: another split.
        ImageError: a package that carries them is missing.
    """
    if split not in BUILTIN:
        raise ValueError(f"split must be 'train' or 'test', got {split!r}")
    photos = []
    for entry in BUILTIN[split]:
        package, _, rest = entry.partition("/")
        spec = importlib.util.find_spec(package)  # finds the folder without paying for the import
        if spec is None or spec.origin is None:
            distribution = {"skimage": "scikit-image", "sklearn": "scikit-learn"}[package]
            raise ImageError(
                f"the built-in photos need {distribution}: pip install {distribution}, or give images=FOLDER"
            )
        path = Path(spec.origin).parent / rest
        photos.append(Photo(path.stem, read(path)))
    return photos


Source = str | os.PathLike[str] | Sequence[NDArray[np.uint8] | Photo] | None
"""Where photos come from: None (built-in), a folder, a file, or a list of arrays."""


def load(source: Source = None, split: str = "train") -> list[Photo]:
    """Load photos.

    Args:
        source: None for the built-in ones, a folder (recursive), one file, or a list of `(H, W, 3)` or `(H, W)` uint8
            arrays or `Photo`s.
        split: which built-in photos.

    Returns:
        The photos, those of a folder in the order of their paths.

    Raises:
        ImageError: nothing usable there.
        ValueError: another split.
        TypeError: another kind of source.
    """
    if split not in BUILTIN:
        raise ValueError(f"split must be 'train' or 'test', got {split!r}")
    if source is None:
        return builtin(split)
    if isinstance(source, str | os.PathLike):
        if not os.fspath(source):
            raise ImageError("images is an empty text: give a folder, or None for the built-in photos")
        path = Path(source)
        if path.is_dir():
            found = find(path)
            return [Photo(name, read(each)) for name, each in zip(_names(path, found), found, strict=True)]
        return [Photo(path.stem, read(path))]
    if isinstance(source, np.ndarray) and source.ndim != 4:
        raise ImageError(f"images is one array, {_kind(source)}: give a list of arrays")
    if not isinstance(source, Sequence | np.ndarray):
        raise TypeError(f"images must be None, a folder, a file or a list of arrays, got {type(source).__name__}")
    photos = [_from_array(i, item) for i, item in enumerate(source)]
    if not photos:
        raise ImageError("the list of images is empty: give at least one array, or None for the built-in photos")
    return photos


def _names(folder: Path, paths: list[Path]) -> list[str]:
    """Name photos by their paths in a folder, without endings unless two would then be called the same."""
    whole = [path.relative_to(folder).as_posix() for path in paths]
    short = [path.relative_to(folder).with_suffix("").as_posix() for path in paths]
    taken = Counter(short) + Counter(whole)  # `img.png.bmp` without its ending is `img.png`, too
    return [name if taken[name] == 1 else full for name, full in zip(short, whole, strict=True)]


def _from_array(index: int, item: object) -> Photo:
    name, array = (item.name, item.pixels) if isinstance(item, Photo) else (f"array-{index}", np.asarray(item))
    pixels = np.repeat(array[..., None], 3, axis=2) if array.ndim == 2 else array
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.size == 0:
        raise ImageError(f"image {index} is {_kind(array)}: give uint8 of shape (H, W, 3) or (H, W)")
    return Photo(name, np.require(pixels, requirements=["C", "W"]))  # what torch.from_numpy takes


def _kind(array: NDArray[np.generic]) -> str:
    return f"{array.dtype} of shape {array.shape}"
