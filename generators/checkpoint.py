"""Checkpoint files: one safetensors file of tensors, with one JSON string of metadata. Never a pickle."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor

from generators.atomic import atomic_write

METADATA_KEY = "blindsr"
FORMAT_VERSION = 1


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message names the file, the cause and the cure."""


def save(path: str | os.PathLike[str], tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write a checkpoint, replacing an older one only when the new one is whole.

    Args:
        path: where to; `.safetensors` by custom.
        tensors: name to tensor, any device.
        metadata: plain values (str, int, float, bool, None, lists, dicts); single numbers of NumPy and PyTorch, and
            paths, become such.

    Raises:
        TypeError: the metadata hold something else.
        OSError: the file cannot be written.
    """
    text = json.dumps({"format_version": FORMAT_VERSION, **metadata}, sort_keys=True, default=_plain)
    flat: dict[str, Tensor] = {}
    stored: set[int] = set()
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        where = tensor.untyped_storage().data_ptr()
        flat[name] = tensor.clone() if where in stored else tensor  # the library refuses tensors that share memory
        stored.add(where)
    data = serialize(flat, metadata={"format": "pt", METADATA_KEY: text})
    with atomic_write(path) as partial:
        partial.write_bytes(data)


def read(path: str | os.PathLike[str], device: torch.device | str = "cpu") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a checkpoint that `save` wrote.

    Args:
        path: the file.
        device: where the tensors go.

    Returns:
        Tensors by name, and the metadata.

    Raises:
        CheckpointError: the file is missing, empty, truncated, a pickle, or not one of ours; one line says which.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}: check the path (it should name one .safetensors file)")
    with open(path, "rb") as file:
        start = file.read(2)
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} {_diagnosis(start)}") from error
    try:
        metadata = json.loads(header[METADATA_KEY])
        version = metadata["format_version"]
    except (KeyError, TypeError, json.JSONDecodeError):
        raise CheckpointError(f"{path} was not written by blindsr: use a checkpoint that it saved") from None
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has format version {version}, this blindsr reads version {FORMAT_VERSION}: "
            "install the blindsr that wrote it"
        )
    return tensors, metadata


def _plain(value: Any) -> Any:
    """Give what JSON can hold of a value that it cannot."""
    if isinstance(value, np.generic | np.ndarray | Tensor) and value.ndim == 0:
        return value.item()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(
        f"a checkpoint's metadata cannot hold {type(value).__name__}: give plain values (numbers, texts, lists, dicts)"
    )


def _diagnosis(start: bytes) -> str:
    """Say what a file that safetensors refuses is, by its first two bytes."""
    if not start:
        return "is empty: copy or download it again"
    # Only asked after a refusal: a safetensors file begins with a length, and lengths too end in 0x80 or spell PK.
    if start == b"PK" or start[:1] == b"\x80":
        return "is a pickle (a .pt or .pth file), which can run code: convert it to safetensors"
    return "is truncated or no safetensors file: copy or download it again"
