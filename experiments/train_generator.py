"""Training of a generator with the true code: L1 between SR and HR (paper, section 4.1)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

import generators
from experiments.training import Trainer, TrainingSettings, pick_device, place, record, train
from experiments.validation import Validation


@dataclass(frozen=True, kw_only=True)
class TrainGenerator(TrainingSettings):
    """Settings of `blindsr train-generator`.

    Attributes:
        arch: `amnet`, `amnet_l` or `amnet_s`.
        modulation: `amlayer` (Eq. 7) or `adain` (Eq. 4).
        scale: 2, 3 or 4.
        init: a generator's name or checkpoint whose weights to start from.
    """

    output: str = "runs/generator"
    steps: int = 500_000
    arch: str = "amnet"
    modulation: Literal["amlayer", "adain"] = "amlayer"
    scale: int = 4
    init: str | None = None


class GeneratorTrainer(Trainer):
    """Trains G on (LR, true code) -> HR.

    Args:
        settings: of the training.
    """

    network: generators.AMNet
    ema: generators.AMNet

    def __init__(self, settings: TrainGenerator) -> None:
        device = pick_device(settings.device)
        torch.manual_seed(settings.seed)  # torch's layers draw their first weights from the global generator
        network, ema = (
            place(generators.build(settings.arch, scale=settings.scale, modulation=settings.modulation), device)
            for _ in range(2)
        )
        if settings.init is not None:
            network.load_state_dict(generators.load(settings.init).state_dict())
        super().__init__(settings, network, ema, settings.scale, network.codec.width_range)
        self._forward: Any = torch.compile(network) if settings.compile else network

    def loss(self, hr: Tensor, lr: Tensor, kernel: Tensor) -> Tensor:
        """L1 between SR and HR, over all samples."""
        sr = self._forward(lr.contiguous(memory_format=torch.channels_last), self.network.codec.encode(kernel))
        return F.l1_loss(sr.float(), hr)


def train_generator(settings: TrainGenerator) -> Path:
    """Train a generator, or go on with the run that the output folder holds.

    Returns:
        The checkpoint of the EMA weights, `generator.safetensors` in the output folder.

    Raises:
        ImageError: the training photos cannot be used.
        CheckpointError: the folder's state cannot be read.
    """
    trainer = GeneratorTrainer(settings)
    path = Path(settings.output) / "generator.safetensors"
    validation = None
    if settings.validation is not None:
        validation = Validation(settings.validation, settings.validation_widths, settings.scale, trainer.device)

    def save(figures: dict[str, float]) -> None:
        generators.save(path, trainer.ema, record(trainer, figures))

    train(
        trainer,
        name=f"training {settings.arch}",
        save=save,
        validate=None if validation is None else lambda: validation(trainer.ema),
    )
    return path
