"""Weight files of other people's networks: plain tensors by name, safetensors or a PyTorch state dict."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

SUFFIXES = (".safetensors", ".pth", ".pt")

PARALLEL = "module."
"""How all names begin where a network was saved inside of `torch.nn.DataParallel`."""


def read(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read tensors by name, float32, on the CPU. A `.pth` is read without running any code that it may hold.

    Raises:
        ValueError: the file is missing, damaged, or holds something else; one line says which.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{path} is no weight file: give one that ends in {' or '.join(SUFFIXES)}")
    if not path.is_file():
        raise ValueError(f"no weight file at {path}: check the path")
    try:
        if path.suffix.lower() == ".safetensors":
            tensors = load_file(path)
        else:
            tensors = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a pickle that is damaged may raise anything
        raise ValueError(
            f"{path} cannot be read ({type(error).__name__}): it is damaged, or holds more than tensors"
        ) from error
    if not isinstance(tensors, Mapping) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise ValueError(f"{path} holds no state dict: save the network's state_dict() alone")
    parallel = all(name.startswith(PARALLEL) for name in tensors)
    return {
        name.removeprefix(PARALLEL) if parallel else name: value.float() if value.is_floating_point() else value
        for name, value in tensors.items()
    }


def fill(network: nn.Module, tensors: Mapping[str, Tensor], what: str) -> None:
    """Put weights into a network, in place, in float32, and freeze it; tensors of layers that it lacks are left out.

    Args:
        network: whose weights are replaced.
        tensors: by the network's own names.
        what: the file, for the error.

    Raises:
        ValueError: a tensor lacks or has another shape.
    """
    network.float()  # whatever PyTorch's default dtype is
    for name, parameter in network.named_parameters():
        if name not in tensors:
            raise ValueError(f"{what} lacks {name}: give this network's weights, by its authors' names")
        if tensors[name].shape != parameter.shape:
            raise ValueError(
                f"{what} has {name} of shape {tuple(tensors[name].shape)}, not {tuple(parameter.shape)}: "
                "it belongs to another network"
            )
        with torch.no_grad():
            parameter.copy_(tensors[name])
    network.eval().requires_grad_(False)


def fingerprint(network: nn.Module) -> str:
    """Give twelve hexadecimal digits of a network's weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode() + tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:12]
