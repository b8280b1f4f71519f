"""Generators by name: what ships, what lies in files, published networks, and your own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from generators import checkpoint, entry_point, own, peers, state_dict
from generators.amnet import AMNet, Architecture
from generators.by_kernel import ByKernel
from generators.checkpoint import CheckpointError
from generators.codec import KernelCodec
from generators.nearest import unknown

ARCHITECTURES: dict[str, Architecture] = {
    "amnet": Architecture(blocks=16, width=64),
    "amnet_l": Architecture(blocks=32, width=64),
    "amnet_s": Architecture(blocks=8, width=32),
}
"""Networks by name, at scale 4 with AMLayer."""

DEFAULT_SCALE = 4
"""The scale of what is named after its architecture alone."""

SHIPPED: tuple[str, ...] = ("amnet", "amnet_l", "amnet_s", "amgan", "amgan_s", "amnet_s_open", "amnet_s_x2")
"""Trained weights inside the package, the default first: `amnet_l` is hardly better, and takes twice the time."""

_WEIGHTS = Path(__file__).parent / "weights"
_CODEC_PREFIX = "codec."


def names() -> list[str]:
    """List the generators whose weights ship with the package, the default first."""
    return list(SHIPPED)


def build(
    arch: str = "amnet", *, scale: int = DEFAULT_SCALE, codec: KernelCodec | None = None, modulation: str = "amlayer"
) -> AMNet:
    """Make an untrained generator.

    Args:
        arch: `"amnet"`, `"amnet_l"` or `"amnet_s"`.
        scale: 2, 3 or 4.
        codec: kernel code; that of the scale's isotropic Gaussians where none is given.
        modulation: `"amlayer"` (Eq. 7) or `"adain"` (Eq. 4).

    Returns:
        The network, in training mode, on the CPU, named after the architecture: `amnet_s`, at scale 2 `amnet_s_x2`.

    Raises:
        ValueError: unknown architecture (the nearest names are listed), scale or modulation.
    """
    if arch not in ARCHITECTURES:
        raise ValueError(unknown("architecture", arch, ARCHITECTURES))
    shape = ARCHITECTURES[arch]
    architecture = Architecture(shape.blocks, shape.width, scale, modulation)  # type: ignore[arg-type]
    name = arch if scale == DEFAULT_SCALE else f"{arch}_x{scale}"
    return AMNet(architecture, codec or KernelCodec.isotropic(scale), name=name)


def save(
    path: str | os.PathLike[str], generator: AMNet, training: dict[str, Any], dtype: torch.dtype | None = None
) -> None:
    """Write a generator to one self-describing safetensors file.

    Args:
        path: where to.
        generator: the network.
        training: how it was trained (data, steps, commit, figures): plain values.
        dtype: of the weights in the file; as they are where none is given. The codec stays float64.

    Raises:
        ValueError: a weight is too large for the dtype.
    """
    tensors = dict(generator.state_dict())
    if dtype is not None:
        tensors = {name: tensor.to(dtype) for name, tensor in tensors.items()}
        if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
            raise ValueError(f"a weight of {generator.name} is too large for {dtype}: save it in float32")
    tensors |= {_CODEC_PREFIX + name: tensor for name, tensor in generator.codec.state().items()}
    metadata = {
        "kind": "generator",
        "name": generator.name,
        "architecture": generator.architecture.to_dict(),
        "width_range": list(generator.codec.width_range),
        "training": training,
    }
    checkpoint.save(path, tensors, metadata)


def find(name_or_path: str | os.PathLike[str] | None = None) -> Path:
    """Give the checkpoint of a generator.

    Args:
        name_or_path: one of `names()`, a checkpoint file, or None for `amnet`.

    Raises:
        ValueError: unknown name (the nearest ones are listed), or a generator without a checkpoint.
    """
    name = os.fspath(name_or_path or SHIPPED[0])
    if not is_checkpoint(name):
        raise ValueError(f"{name} is no AMNet, which is needed here: give one's name or .safetensors file")
    path = _WEIGHTS / f"{name}.safetensors" if name in SHIPPED else Path(name)
    if name in SHIPPED or path.exists():
        return path
    if ":" in path.name and not path.suffix:
        raise ValueError(
            f"{name} is no file: of a function of your own give module:function, the module without a folder"
        )
    peer, at, _ = name.partition("@")
    if at and not Path(peer).suffix or path.name == name and not path.suffix:
        known = [*SHIPPED, *(f"{each}@FOLDER" for each in peers.PEERS)]
        called = f"{peer}@FOLDER" if at else name
        raise ValueError(unknown("generator", called, known) + " Or give the path of a .safetensors file")
    return path


def is_checkpoint(name_or_path: str | os.PathLike[str] | None = None) -> bool:
    """Say whether this names a checkpoint, and no published network and no function of your own; as `load`."""
    name = os.fspath(name_or_path or SHIPPED[0])
    return not peers.is_peer(name) and not entry_point.is_entry_point(name)


def files(name_or_path: str | os.PathLike[str] | None = None) -> list[Path]:
    """Give the files behind a generator: a checkpoint, a published network's, or the module that makes it.

    Args:
        name_or_path: as `load`.

    Raises:
        ValueError: unknown name (the nearest ones are listed), a file of a published network is not there, or no module
            is called so.
    """
    name = os.fspath(name_or_path or SHIPPED[0])
    if peers.is_peer(name):
        return peers.files(name)
    if entry_point.is_entry_point(name):
        source = entry_point.source_of(name)
        return [] if source is None else [source]
    return [find(name_or_path)]


def load(
    name_or_path: str | os.PathLike[str] | None = None,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> AMNet | ByKernel | Any:
    """Load a trained generator, frozen and in evaluation mode.

    Args:
        name_or_path: one of `names()`, a checkpoint file, None for `amnet`, `NAME@FOLDER` for a published network (see
            `generators.peers`), or `module:function` for one of your own (see `generators.own`).
        device: where it runs.
        dtype: of its convolutions and features. In half precision the AMLayers' small layers, which name means and
            factors, stay float32.

    Returns:
        An `AMNet`, a `ByKernel` or your own module, with `.scale`, `.codec`, `.name`; `sr = g(lr, action)` takes
        `(N, 3, h, w)` in [0, 1] and `(N, 15)` actions and gives `(N, 3, s h, s w)`, unclamped. The memory format of its
        weights is channels_last, but for your own.

    Raises:
        ValueError: unknown name (the nearest ones are listed), a file of a published network is missing or damaged, or
            your own module gives no generator.
        CheckpointError: missing, truncated or foreign file, or the checkpoint of something else.
    """
    name = os.fspath(name_or_path or SHIPPED[0])
    if peers.is_peer(name):
        return peers.load(name, device=device, dtype=dtype)
    if entry_point.is_entry_point(name):
        return own.load(name, device=device, dtype=dtype)
    return load_amnet(name_or_path, device=device, dtype=dtype)


@torch.inference_mode(False)  # the caller's, whose tensors no gradient could pass later
def load_amnet(
    name_or_path: str | os.PathLike[str] | None = None,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> AMNet:
    """Load a trained AMNet; see `load`, of which this does not know published networks."""
    path = find(name_or_path)
    tensors, metadata = checkpoint.read(path)
    if metadata.get("kind") != "generator":
        raise CheckpointError(f"{path} holds a {metadata.get('kind')}, not a generator: give a generator's checkpoint")
    state = {k.removeprefix(_CODEC_PREFIX): tensors.pop(k) for k in list(tensors) if k.startswith(_CODEC_PREFIX)}
    try:
        low, high = metadata["width_range"]
        codec = KernelCodec.from_state(state, (low, high))
        # Whatever PyTorch's default dtype is: the fingerprint is of float32.
        generator = AMNet(Architecture(**metadata["architecture"]), codec, metadata["name"]).float()
        generator.load_state_dict(tensors)
        generator.fingerprint = state_dict.fingerprint(generator)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path} is not a whole generator's checkpoint: copy or train it again") from error
    generator = generator.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    halved = dtype.itemsize < torch.float32.itemsize
    for part in generator.modules() if halved else [generator]:
        if not halved or isinstance(part, nn.Conv2d):
            part.to(dtype)
    return generator.eval().requires_grad_(False)
