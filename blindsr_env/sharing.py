"""What environments of one process share on each device: frozen generators, and photos, once for each size of crop."""

from __future__ import annotations

import functools
import os
import warnings
import weakref
from pathlib import Path
from typing import Any, Literal

import torch

import generators
from blindsr_env import images as photos
from blindsr_env.patch import fits
from blindsr_env.pool import PhotoPool
from generators import stamps
from generators.compiled import Compiled
from generators.entry_point import is_entry_point
from generators.generator import Generator, lacking
from generators.self_ensemble import SelfEnsemble
from generators.tiles import Tiled
from generators.wrapper import Wrapper


def device_of(device: str | torch.device) -> torch.device:
    """Return a device with its index, so that equal ones compare equal, or raise a ValueError if it is not there."""
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        cause = str(error).splitlines()[0]
        raise ValueError(f"device {device!r} is not usable here ({cause}): try device='cpu'") from None


def generator(
    source: str | os.PathLike[str] | Generator | None,
    device: torch.device | str,
    dtype: torch.dtype,
    compiled: bool = False,
) -> Generator:
    """Return a frozen generator; a file, however it is named, is loaded, and compiled, once for each device and dtype.

    Raises:
        TypeError: a module to compile is no AMNet; or the source is neither a name, a path nor a module.
        ValueError: unknown name, unreadable file, or a module that is no generator, is in training mode, is elsewhere
            or of another dtype.
    """
    device = device_of(device)
    if source is not None and not isinstance(source, str | os.PathLike):
        module = _checked(source, device, dtype)
        return Compiled(module) if compiled and not _is_compiled(module) else module
    if is_entry_point(os.fspath(source or "")):
        # Made anew, since its weights may lie anywhere, and dropped again where an equal one is in use.
        made = generators.load(source, device=device, dtype=dtype)
        own: Any = _own.setdefault((os.fspath(source or ""), device, made.fingerprint), made)
        return _fused(own) if compiled else own
    files = [file.resolve() for file in generators.files(source)]
    # A checkpoint is the same by whichever path.
    name = files[0] if generators.is_checkpoint(source) else os.fspath(source or "")
    # What was written anew is another generator.
    return (_load_compiled if compiled else _load_generator)(name, stamps.of(files), device, dtype)


def wrapped(
    source: str | os.PathLike[str] | Generator | None,
    tile: int | Literal["auto"] | None,
    self_ensemble: bool,
    device: torch.device | str,
    dtype: torch.dtype = torch.float32,
    compiled: bool = False,
) -> Generator:
    """Return a shared generator, as `Tiled` with tiles of that side, LR pixels, as `SelfEnsemble`, as both or bare.

    `"auto"` is `Tiled`'s own choice of a side.

    Raises:
        ValueError: as `generator`, or the tile is too small for its overlap.
    """
    bare = generator(source, device, dtype, compiled)
    each = SelfEnsemble(bare) if self_ensemble else bare
    return each if tile is None else Tiled(each, None if tile == "auto" else tile)


def _is_compiled(module: Any) -> bool:
    """Whether a generator is compiled, or one that it wraps."""
    while isinstance(module, Wrapper) and not isinstance(module, Compiled):
        module = module.generator
    return isinstance(module, Compiled)


def _checked(module: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """Return a module that was handed in, as it is, once it is known to serve."""
    if not isinstance(module, torch.nn.Module):
        raise TypeError(f"generator must be a name, a path or a torch module, got {type(module).__name__}")
    if lack := lacking(module):
        raise ValueError(lack)
    if any(part.training for part in module.modules()):
        raise ValueError("the generator is in training mode: freeze it with generator.eval().requires_grad_(False)")
    weights = list(module.parameters())
    # Some of a network in half precision stay float32.
    if weights and not (weights[0].device == device and any(weight.dtype == dtype for weight in weights)):
        # What renders by the kernel gets photos and kernels in float32, and computes as it likes.
        move = "generator.to(device)" if isinstance(module, generators.ByKernel) else "generator.to(device, dtype)"
        raise ValueError(
            f"the generator is on {weights[0].device} in {weights[0].dtype}, the environment on {device} in {dtype}: "
            f"move it with {move}, or make the environment with its device and dtype"
        )
    return module


_own: weakref.WeakValueDictionary[tuple[Any, ...], torch.nn.Module] = weakref.WeakValueDictionary()


@functools.lru_cache(maxsize=8)
@torch.inference_mode(False)  # the first caller's, whose tensors no later one could follow backwards
def _load_generator(name: str | Path, written: stamps.Stamps, device: torch.device, dtype: torch.dtype) -> Generator:
    return generators.load(name, device=device, dtype=dtype)


@functools.lru_cache(maxsize=8)
def _load_compiled(name: str | Path, written: stamps.Stamps, device: torch.device, dtype: torch.dtype) -> Generator:
    return _fused(_load_generator(name, written, device, dtype))


def _fused(module: Any) -> Generator:
    """Compile a generator that was named.

    Raises:
        ValueError: it is no AMNet.
    """
    try:
        return module if _is_compiled(module) else Compiled(module)
    except TypeError as error:
        raise ValueError(f"{error}: leave compile out") from error


_pools: weakref.WeakValueDictionary[tuple[Any, ...], PhotoPool] = weakref.WeakValueDictionary()


def pool(source: photos.Source, split: str, device: torch.device, crop: tuple[int, int]) -> PhotoPool:
    """Return photos on the device; environments that live at the same time share those of one folder or split.

    With crops of another size they share none, since a pool leaves out the photos that hold no crop.

    Raises:
        ImageError: no photo there, or none as large as a crop.
    """
    if source is None:
        return _builtin_pool(split, device, crop)
    if not isinstance(source, str | os.PathLike):
        return _load_pool(source, split, device, crop)
    if not os.fspath(source):
        return _load_pool(source, split, device, crop)
    path = Path(source).resolve()
    files = photos.find(path) if path.is_dir() else [path]
    key = (path, stamps.of(files), device, crop)  # photos that were changed since are other photos
    shared = _pools.get(key)
    if shared is None:
        shared = _pools[key] = _load_pool(source, split, device, crop)
    return shared


@functools.lru_cache(maxsize=4)
def _builtin_pool(split: str, device: torch.device, crop: tuple[int, int]) -> PhotoPool:
    return _load_pool(None, split, device, crop)


def _load_pool(source: photos.Source, split: str, device: torch.device, crop: tuple[int, int]) -> PhotoPool:
    """Load photos and leave out those that hold no crop, HR height and width, upright or turned.

    Raises:
        ImageError: none is large enough.
    """
    every = photos.load(source, split)
    small = [photo for photo in every if not fits(crop, *photo.pixels.shape[:2])]
    large = [photo for photo in every if fits(crop, *photo.pixels.shape[:2])]
    if small:
        (height, width), first = small[0].pixels.shape[:2], small[0].name
        what = f"{first!r} is {height}x{width} pixels, smaller than the {crop[0]}x{crop[1]} crop"
        if not large:
            raise photos.ImageError(f"no photo is large enough: {what}; give larger photos or a smaller patch_size")
        if source is not None:
            warnings.warn(f"{len(small)} of {len(every)} photos left out: {what}", stacklevel=2)
    return PhotoPool(large, device)
