"""Weights for users: a generator's training checkpoint, or the mean of several, in half precision if quality allows."""

from __future__ import annotations

import math
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

import generators
from experiments import options
from experiments.devices import pick_device
from experiments.validation import Validation

LARGEST = 15 * 2**20
"""Bytes that a shipped file may have."""


@dataclass(frozen=True, kw_only=True)
class Ship:
    """Settings of `blindsr ship`.

    Attributes:
        generator: checkpoint of a trained generator; of several, `[A, B]`, that went on from the same weights, the mean
            of the weights ships, which is often better than each (model soup: Wortsman et al., ICML 2022).
        images: folder of HR photos on which both precisions are compared; not those that results are reported on.
        output: file to write, not one that is there.
        name: what tables, folders and agents call the generator; without it, as the checkpoint does.
        widths: kernel widths (standard deviation, HR pixels) of the comparison; without it, 0.2, 1.3 and 2.6, at scale
            2 0.2, 1.1 and 2.
        tolerance: largest acceptable change of the mean PSNR at any width, in dB; above it the weights stay in float32.
        device: where to compute: `auto` (a GPU if there is one), `cpu` or `cuda`.
    """

    generator: list[str] | str = "runs/generator/generator.safetensors"
    images: str
    output: str = "shipped.safetensors"
    name: str | None = None
    widths: tuple[float, ...] | None = None
    tolerance: float = 0.005
    device: str = "auto"

    def __post_init__(self) -> None:
        """Refuse to compare nothing, and names that are taken or that no file could have."""
        if not self.generator:
            raise ValueError("give at least one generator, as its checkpoint's path")
        if self.widths == ():
            raise ValueError("give at least one width")
        if self.name is not None and not re.fullmatch(r"\w[\w.-]*", self.name, re.ASCII):
            raise ValueError(
                f"name must begin with a letter, a digit or '_', and hold only those, '.' and '-', got {self.name!r}"
            )
        if self.name in generators.names() and self.generator != self.name:
            raise ValueError(f"{self.name} is a generator that ships: give another name")


def ship(settings: Ship) -> Path:
    """Write weights in half precision; in float32 if PSNR moves by more than the tolerance or a weight is too large.

    Returns:
        The file; its metadata is the checkpoint's, of several the first one's with the others' `training` beside it.

    Raises:
        CheckpointError: a checkpoint cannot be read.
        ImageError: the photos cannot be used.
        ValueError: the file exists already, or would be larger than 15 MB; several checkpoints are of different
            networks; or a width is none that their kernels have.
    """
    target = Path(settings.output)
    if target.exists():
        raise ValueError(f"{target} exists already: give another --output, or remove it")
    device = pick_device(settings.device)
    sources = [settings.generator] if isinstance(settings.generator, str) else settings.generator
    full = _mean([generators.load_amnet(source, device=device) for source in sources])
    training, *others = (generators.checkpoint.read(generators.find(source))[1]["training"] for source in sources)
    if others:
        training = {**training, "mean_with": others}
    validation = Validation(settings.images, settings.widths, full, device, "widths")
    full.name = settings.name or full.name
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        moved = math.inf
        if all(bool((weight.abs() <= torch.finfo(torch.float16).max).all()) for weight in full.parameters()):
            generators.save(path, full, training, torch.float16)
            before, after = validation(full), validation(generators.load_amnet(path, device=device))
            moved = max(abs(before[key] - after[key]) for key in before)
        dtype = torch.float16 if moved <= settings.tolerance else torch.float32
        generators.save(path, full, training, dtype)
        size = os.path.getsize(path)
    if size > LARGEST:
        raise ValueError(f"the file takes {size / 2**20:.1f} MB, above {LARGEST >> 20} MB: ship a smaller network")
    generators.save(target, full, training, dtype)
    cost = "cannot hold a weight" if moved == math.inf else f"moves PSNR by {moved:.4f} dB"
    print(f"half precision {cost}: weights in {dtype} in {target}, {size / 2**20:.1f} MB")
    return target


def _mean(networks: list[generators.AMNet]) -> generators.AMNet:
    """Give a network whose weights are the mean of the others'."""
    first = networks[0]
    for other in networks[1:]:
        alike = (other.architecture, other.codec.fingerprint) == (first.architecture, first.codec.fingerprint)
        if not alike or other.name != first.name:
            raise ValueError(f"{other.name} and {first.name} are of different sizes or codecs: ship each by itself")
    with torch.no_grad():
        for weight, *others in zip(*(network.parameters() for network in networks), strict=True):
            weight.copy_(torch.stack([weight, *others]).double().mean(0))
    return first


if __name__ == "__main__":
    options.main(Ship, ship)
