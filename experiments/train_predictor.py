"""Training of a predictor, LR -> action: by the image through the frozen generator (paper, Eq. 3), or by the code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

import generators
from agents import checkpoints, networks
from agents.meaning import ActionMeaning, check_meaning
from experiments import options
from experiments.devices import pick_device
from experiments.run_folder import RunFolder
from experiments.trainer import Trainer, fuse, origin, place
from experiments.training import finished_before, record, train
from experiments.training_settings import TrainingSettings


@dataclass(frozen=True, kw_only=True)
class TrainPredictor(TrainingSettings):
    """Settings of `blindsr train-predictor`.

    Attributes:
        network: `predictor`, the paper's with 383K parameters, or `predictor_s`, a small one for CPUs.
        generator: generator whose code is predicted: a name (`amnet`, `amnet_l`, `amnet_s`, `amgan`, `amgan_s`,
            `amnet_s_open`, `amnet_s_x2`), a checkpoint file, `srmdnf@FOLDER` (or `usrnet_tiny`, `imdn`) or
            `module:function` (see `generators.load`); its weights stay fixed.
        loss: `image`, the L1 distance between the HR photo and the picture rendered with the predicted code (the
            paper's Eq. 3); `psnr`, the same with each picture's PSNR, so that soft pictures, whose errors are small,
            count as much as sharp ones; or `code`, the squared error of the code itself.
        init: checkpoint of a predictor of the same network to start from; without it, training starts from random
            weights. A run that goes on needs it no more.
    """

    output: str = "runs/predictor"
    steps: int = 100_000
    network: str = "predictor"
    generator: str = "amnet"
    loss: Literal["image", "psnr", "code"] = "image"
    init: str | None = None


MSE_FLOOR = 1e-6
"""Added to the mean squared error before its logarithm: beyond a quarter of a grey level, accuracy earns nothing."""


class PredictorTrainer(Trainer):
    """Trains P on LR -> action.

    Args:
        settings: of the training.
        generator: G, frozen.

    Attributes:
        meaning: what the actions mean to G.
    """

    settings: TrainPredictor
    network: networks.Actor
    ema: networks.Actor

    def __init__(self, settings: TrainPredictor, generator: generators.Generator) -> None:
        self.meaning = ActionMeaning.of_generator(generator)
        torch.manual_seed(settings.seed)  # torch's layers draw their first weights from the global generator
        device = pick_device(settings.device)
        network, ema = (place(networks.build(settings.network), device) for _ in range(2))
        init = None if RunFolder(settings.output, create=False).states() else settings.init  # a state brings its own
        if init is not None:
            start = checkpoints.predictor_file(init)
            started, meaning = checkpoints.load_predictor(start)
            check_meaning(f"the predictor {init}", meaning, self.meaning)
            if started.settings != network.settings:
                sizes = {name: networks.build(name).settings for name in networks.PREDICTORS}
                like = [f"give --network {name}, or " for name, of in sizes.items() if of == started.settings]
                raise ValueError(f"{init} is no {settings.network}: {''.join(like)}leave init out")
            network, ema = (place(net, device) for net in (started, networks.from_settings(started.settings)))
        super().__init__(settings, network, ema, generator.scale, generator.codec.width_range)
        if init is not None:
            self.origin = origin(start)
        else:
            typical = torch.cat([next(self._stream)[1] for _ in range(max(1, 512 // settings.batch_size))])
            network.calibrate(typical)
            ema.load_state_dict(network.state_dict())
        self.generator = generator
        self._kind = settings.loss
        self._predict = fuse(network, settings)
        self._render = fuse(self.render, settings)

    def render(self, lr: Tensor) -> Tensor:
        """Render LR (N, 3, H, W) in [0, 1] with the action that P names: (N, 3, s H, s W)."""
        sr: Tensor = self.generator(lr, self.network(lr))
        if torch.is_grad_enabled() and not sr.requires_grad:
            raise ValueError(
                f"{self.generator.name}'s pictures have no gradient with respect to the action: take --loss code"
            )
        return sr

    def loss(self, hr: Tensor, lr: Tensor, kernel: Tensor) -> Tensor:
        """Loss of a batch, by the image, its PSNR or the code."""
        lr = lr.contiguous(memory_format=torch.channels_last)
        if self._kind == "image":
            return F.l1_loss(self._render(lr).float(), hr)
        if self._kind == "psnr":
            error = (self._render(lr).float() - hr).square().mean((1, 2, 3))  # (N,)
            return 10 * (error + MSE_FLOOR).log10().mean()  # minus the mean PSNR, dB
        # Errors count as far as they reach G: in the code, not in the action, whose last components hardly do.
        codec = self.generator.codec
        return F.mse_loss(codec.code(self._predict(lr).float()), codec.code(codec.encode(kernel)))

    def notes(self) -> dict[str, Any]:
        """Give the plain values that go with the state: the generator too."""
        return {**super().notes(), "meaning": asdict(self.meaning)}

    def load_notes(self, notes: Mapping[str, Any]) -> None:
        """Take over what `notes` gave when the state was saved.

        Raises:
            ValueError: the run was begun through another generator.
        """
        super().load_notes(notes)
        _check_generator(self.settings, self.meaning, notes)


def _check_generator(settings: TrainPredictor, meaning: ActionMeaning, notes: Mapping[str, Any]) -> None:
    """Raise a ValueError where the run of these notes was begun through another generator than actions mean now."""
    begun = ActionMeaning.from_metadata(notes)  # None in states from before it was kept
    if begun is not None and not begun.same_generator(meaning):
        raise ValueError(
            f"the run in {settings.output} was begun through {begun.generator}, and {settings.generator} is not, or no "
            "longer, that network: give its checkpoint as --generator, or another output folder"
        )


def train_predictor(settings: TrainPredictor) -> Path:
    """Train a predictor, or resume the run in the output folder.

    Returns:
        The checkpoint of the EMA weights, `predictor.safetensors` in the output folder.

    Raises:
        ImageError: the training photos cannot be used.
        CheckpointError: the folder's state, the generator or `init` cannot be read.
        ValueError: the folder's run was begun with other settings, or through another generator.
        OSError: another process is training in the folder.
    """
    generator = generators.load(settings.generator, device=pick_device(settings.device))
    path = Path(settings.output) / "predictor.safetensors"
    if finished_before(settings, path, partial(_check_generator, settings, ActionMeaning.of_generator(generator))):
        return path
    trainer = PredictorTrainer(settings, generator)
    validation = trainer.validation(generator)

    def save(figures: dict[str, float]) -> None:
        checkpoints.save_predictor(path, trainer.ema, trainer.meaning, record(trainer, figures))

    train(
        trainer,
        name=f"training {settings.network} by {settings.loss}",
        path=path,
        save=save,
        validate=None if validation is None else lambda: validation(generator, trainer.ema),
    )
    return path


if __name__ == "__main__":
    options.main(TrainPredictor, train_predictor)
