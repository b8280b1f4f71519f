"""Digests of the files behind a run: what tells two runs apart whose files have the same names.

Results files keep the names of files without their folders, since paths tell of a machine. Digests tell of neither, so
they stand beside the config as the run's identity.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

import torch

import generators
from agents import policies
from agents.checkpoints import GeneratorLike
from agents.part import parted
from blindsr_env import images, metrics
from blindsr_env.metrics.mixture import Recipe, terms
from generators import checkpoint, entry_point

DIGITS = 12
"""Hexadecimal digits that are kept of a SHA-256."""


def of_file(path: str | os.PathLike[str]) -> str:
    """Give the digest of a file's content.

    Raises:
        ValueError: there is no such file.
    """
    if not Path(path).is_file():
        raise ValueError(f"no file at {path}: check the path")
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:DIGITS]


def of_checkpoint(path: str | os.PathLike[str]) -> str:
    """Give the digest of a checkpoint's tensors: the same weights, written twice, may be two files.

    Raises:
        CheckpointError: the file cannot be read.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(checkpoint.read(path)[0].items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:DIGITS]


def of_generator(source: str | None) -> str:
    """Give the digest of what is behind a generator, see `generators.load`.

    Raises:
        ValueError: there is no such generator.
        CheckpointError: its checkpoint cannot be read.
    """
    if generators.is_checkpoint(source):
        return of_checkpoint(generators.find(source))
    if entry_point.is_entry_point(source or ""):
        return str(generators.load(source).fingerprint)  # its weights may lie anywhere
    parts = [of_file(file) for file in generators.files(source)]
    return hashlib.sha256("".join(parts).encode()).hexdigest()[:DIGITS]


def of_policy(name: str, generator: GeneratorLike | None = None) -> str | None:
    """Give the digest of what is behind a policy, see `agents.policies.load`; None of those without a file.

    That is a checkpoint, or the module of a `module:function` with those of one's own that it imports.

    Args:
        name: of the policy.
        generator: whose `"predictor"` it is; None for the default.

    Raises:
        CheckpointError: the file cannot be read.
        ValueError: there is no such module or function.
    """
    whole = parted(name)[0]
    if entry_point.is_entry_point(whole):
        entry_point.find(whole, "policy")
        return hashlib.sha256(entry_point.text_of(whole)).hexdigest()[:DIGITS]
    path = policies.file_of(name, generator)
    return None if path is None else of_checkpoint(path)


def of_photos(source: str | None) -> str | None:
    """Give the digest of a photo, or of a folder's photos and their names; None for the built-in ones.

    Raises:
        ValueError: there is no such file.
        ImageError: the folder holds no photo.
    """
    if source is None:
        return None
    return _of_folder(source, images.find(source)) if Path(source).is_dir() else of_file(source)


def of_metric(metric: str | Recipe) -> list[str | None]:
    """Give the digests of the weights that a metric, or a mixture's parts, are given behind an @.

    Returns:
        One for each part with weights: of a file or a folder; None where there is nothing, which the metric reports.
    """
    given = (part.partition("@")[2] for _, part in terms(metric, metrics.names(), metrics.PREFIXES))
    return [_of_weights(Path(place)) for place in given if place]


def _of_weights(place: Path) -> str | None:
    if place.is_dir():
        return _of_folder(place, sorted(file for file in place.iterdir() if file.is_file()))
    return of_file(place) if place.is_file() else None


def _of_folder(folder: str | os.PathLike[str], files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        digest.update(os.fsencode(f"{path.relative_to(folder).as_posix()}\n{of_file(path)}\n"))
    return digest.hexdigest()[:DIGITS]
