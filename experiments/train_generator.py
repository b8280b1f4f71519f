"""Training of a generator with the true code: L1 between SR and HR (paper, section 4.1)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

import generators
from experiments import options
from experiments.devices import pick_device
from experiments.run_folder import RunFolder
from experiments.trainer import Trainer, fuse, origin, place
from experiments.training import finished_before, record, train
from experiments.training_settings import TrainingSettings
from generators.growth import grow, ignore_unused

S = TypeVar("S", bound="TrainGenerator")

CHECKPOINT = "generator.safetensors"
"""What a run's folder calls the weights that users load."""


@dataclass(frozen=True, kw_only=True)
class TrainGenerator(TrainingSettings):
    """Settings of `blindsr train-generator`.

    Attributes:
        arch: architecture of the generator: `amnet`, the larger `amnet_l` or the smaller `amnet_s`.
        modulation: layer through which the code steers the network: `amlayer` (the paper's Eq. 7) or `adain` (Eq. 4).
        scale: upscaling factor: 2, 3 or 4.
        init: generator to start from: a name (`amnet`, `amnet_l`, `amnet_s`, `amgan`, `amgan_s`, `amnet_s_open`,
            `amnet_s_x2`) or a checkpoint file; one smaller than `arch` is grown to it, one of another scale lends its
            features. Without it, training starts from random weights.
        code_noise: amplitude of uniform noise that is added to the code's components that real kernels hardly use, so
            that the generator learns to ignore them and no agent can exploit them to print textures; 1 covers
            everything that `free-code` actions reach.
    """

    output: str = "runs/generator"
    steps: int = 500_000
    arch: str = "amnet"
    modulation: Literal["amlayer", "adain"] = "amlayer"
    scale: int = generators.DEFAULT_SCALE
    init: str | None = None
    code_noise: float = 0.0

    def __post_init__(self) -> None:
        """Refuse invalid settings."""
        super().__post_init__()
        if not self.code_noise >= 0:
            raise ValueError(f"code_noise must be at least 0, got {self.code_noise}")


class GeneratorTrainer(Trainer):
    """Trains G on (LR, true code) -> HR.

    Args:
        settings: of the training.

    Raises:
        ValueError: `init` is for another scale, and the training is not one `across_scales`.
    """

    across_scales = True
    """Whether `init` may be for another scale: its features are taken over then."""

    settings: TrainGenerator
    network: generators.AMNet
    ema: generators.AMNet

    def __init__(self, settings: TrainGenerator) -> None:
        device = pick_device(settings.device)
        torch.manual_seed(settings.seed)  # torch's layers draw their first weights from the global generator
        first = generators.build(settings.arch, scale=settings.scale, modulation=settings.modulation)
        # A run that goes on takes size and codec from its own checkpoint, and then needs `init` no more.
        start = None if settings.init is None else generators.load_amnet(_begun(settings) or settings.init)
        if start is not None:
            if start.scale != settings.scale and not self.across_scales:
                raise ValueError(
                    f"{settings.init} is for scale {start.scale}: give --scale {start.scale}, or another init"
                )
            first = grow(start, first.architecture, first.name, torch.Generator().manual_seed(settings.seed))
            if settings.code_noise > 0:
                ignore_unused(first)
        network, ema = place(first, device), place(copy.deepcopy(first), device)
        super().__init__(settings, network, ema, settings.scale, network.codec.width_range)
        if start is not None and _begun(settings) is None:  # a state brings its own
            self.origin = origin(generators.find(settings.init))
            if start.scale != settings.scale and self.ranks.first:
                print(
                    f"{settings.init} is for scale {start.scale}: only its features are taken over to scale "
                    f"{settings.scale}"
                )
        self._render = fuse(network.render, settings)
        self._unused = (network.gain < 1).float() * settings.code_noise  # (15,)

    def loss(self, hr: Tensor, lr: Tensor, kernel: Tensor) -> Tensor:
        """L1 between SR and HR, over all samples."""
        return F.l1_loss(self.render(lr, kernel).float(), hr)

    def render(self, lr: Tensor, kernel: Tensor) -> Tensor:
        """Render with the true code, with noise on its unused components if the settings ask for it."""
        code = self.network.codec.code(self.network.codec.encode(kernel))
        if self.settings.code_noise > 0:
            code = code + self._unused * (2 * torch.rand(code.shape, generator=self.rng, device=code.device) - 1)
        sr: Tensor = self._render(lr.contiguous(memory_format=torch.channels_last), code)
        return sr


def _begun(settings: TrainGenerator) -> Path | None:
    """Give the checkpoint of the run that the output folder holds; None where none is there to go on."""
    path = Path(settings.output) / CHECKPOINT
    return path if path.is_file() and RunFolder(settings.output, create=False).states() else None


def train_generator(settings: TrainGenerator) -> Path:
    """Train a generator, or resume the run in the output folder.

    Returns:
        The checkpoint of the EMA weights, `generator.safetensors` in the output folder.

    Raises:
        ImageError: the training photos cannot be used.
        CheckpointError: the folder's state, or `init`, cannot be read.
        ValueError: a photo is used both for training and for validation.
        OSError: another process is training in the folder.
    """
    return run(settings, GeneratorTrainer)


def run(settings: S, make: Callable[[S], GeneratorTrainer]) -> Path:
    """Train with the trainer of some settings, or resume the run in the output folder; give the checkpoint of G's EMA.

    A run that is finished, or cannot go on, needs no trainer, which decodes all photos.
    """
    path = Path(settings.output) / CHECKPOINT
    if finished_before(settings, path):
        return path
    trainer = make(settings)
    validation = trainer.validation(trainer.ema)

    def save(figures: dict[str, float]) -> None:
        generators.save(path, trainer.ema, record(trainer, figures))

    def validate() -> dict[str, float]:
        return {**trainer.report(), **(validation(trainer.ema) if validation is not None else {})}

    train(trainer, name=f"training {trainer.network.name}", path=path, save=save, validate=validate)
    return path


if __name__ == "__main__":
    options.main(TrainGenerator, train_generator)
