"""Checkpoint files: one safetensors file of tensors, with one JSON string of metadata. Never a pickle."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor

METADATA_KEY = "blindsr"
FORMAT_VERSION = 1


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message names the file, the cause and the cure."""


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a path beside `path` to write to, and move it into place when the block ends well.

    The new file is flushed to disk before it replaces the old one, so a process killed at any moment leaves either the
    old file or the new one. When the block raises, the old file stays and the partial one is removed.

    Args:
        path: the file to write; its folder is created.

    Yields:
        A temporary path in the same folder with the same suffix.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        partial.chmod(0o666 & ~umask)  # mkstemp made it private; a result file should be as readable as any other
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def save(path: str | os.PathLike[str], tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write a checkpoint, replacing an older one only when the new one is whole.

    Args:
        path: where to; `.safetensors` by custom.
        tensors: name to tensor, any device.
        metadata: plain values (str, int, float, bool, None, lists, dicts).
    """
    text = json.dumps({"format_version": FORMAT_VERSION, **metadata}, sort_keys=True)
    flat = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
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
        CheckpointError: the file is missing, truncated, a pickle, or not one of ours; one line says which.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}: check the path (it should name one .safetensors file)")
    with open(path, "rb") as file:
        start = file.read(10)
    if start[:2] == b"PK" or start[:1] == b"\x80":
        raise CheckpointError(f"{path} is a pickle (a .pt or .pth file), which can run code: convert it to safetensors")
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is truncated or not a safetensors file: copy or download it again ({error})") from None
    if METADATA_KEY not in header:
        raise CheckpointError(f"{path} was not written by blindsr (no {METADATA_KEY!r} metadata): use a checkpoint that it saved")
    metadata = json.loads(header[METADATA_KEY])
    version = metadata.get("format_version")
    if version != FORMAT_VERSION:
        raise CheckpointError(f"{path} has format version {version}, this blindsr reads {FORMAT_VERSION}: update blindsr")
    return tensors, metadata
