"""Supervised training: settings, one optimiser step, exact state, and the loop around them.

It starts without Gymnasium, Stable-Baselines3, pyiqa and jsonargparse, so that it runs on a bare GPU machine.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn
from tqdm import tqdm

from agents.interruption import Interruption
from blindsr_env import images
from blindsr_env.pool import PhotoPool
from experiments.batches import Batches
from experiments.run_folder import RunFolder, commit, plain

N = TypeVar("N", bound=nn.Module)

LOG_EVERY = 50
"""Steps between two readings of the loss: the only times at which the loop waits for the device."""


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """Settings that every supervised training has.

    Attributes:
        data: folders of HR photos to train on.
        output: the run's folder; a run found in it is resumed.
        steps: optimiser steps in all.
        batch_size: patches a step.
        patch_size: LR side of a patch, pixels.
        learning_rate: the highest one.
        schedule: `cosine` to 1% of it after a linear warm-up, or `halving`: constant, halved every `halve_every` steps.
        warmup: steps of the warm-up of `cosine`.
        halve_every: steps between halvings of `halving`.
        betas: Adam's.
        clip_norm: the gradient's largest norm.
        ema: decay of the weights' running mean, which is what is shipped.
        validation: folder of HR photos for PSNR while training; none without it.
        validation_widths: kernel widths of it.
        validate_every: steps between validations.
        checkpoint_seconds: time between saved states.
        compile: fuse the network with torch.compile (on the CPU it needs a C++ compiler).
        amp: autocast to bfloat16, for GPUs.
        device: `auto`, `cpu` or `cuda`.
        soften: widest Gaussian, HR pixels, that half of the HR crops are blurred by beforehand; 0 for none.
        seed: of weights, crops and kernels.
    """

    data: list[str]
    output: str
    steps: int
    batch_size: int = 64
    patch_size: int = 64
    learning_rate: float = 2e-4
    schedule: Literal["cosine", "halving"] = "cosine"
    warmup: int = 500
    halve_every: int = 200_000
    betas: tuple[float, float] = (0.9, 0.99)
    clip_norm: float = 1.0
    ema: float = 0.999
    validation: str | None = None
    validation_widths: tuple[float, ...] = (0.2, 1.3, 2.6)
    validate_every: int = 1000
    checkpoint_seconds: float = 60.0
    compile: bool = False
    amp: bool = False
    device: str = "auto"
    soften: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be trained with."""
        for name in ("steps", "batch_size", "patch_size", "halve_every", "validate_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be above 0, got {self.learning_rate}")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema must be at least 0 and below 1, got {self.ema}")

    def learning_rate_at(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        if self.schedule == "halving":
            return self.learning_rate * 0.5 ** (step // self.halve_every)
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        progress = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


class Trainer(ABC):
    """Network, its running mean (EMA), optimiser and random stream: all that a resumed run needs.

    Args:
        settings: of the training.
        network: what is trained, on its device.
        ema: a second instance of it, whose weights become the running mean.
        scale: of the degradation.
        width_range: kernel widths.
    """

    def __init__(
        self,
        settings: TrainingSettings,
        network: nn.Module,
        ema: nn.Module,
        scale: int,
        width_range: tuple[float, float],
    ) -> None:
        self.settings, self.network, self.ema = settings, network, ema
        self.device = next(network.parameters()).device
        ema.load_state_dict(network.state_dict())
        ema.requires_grad_(False).eval()
        self.optimizer = torch.optim.Adam(network.parameters(), lr=0.0, betas=settings.betas, fused=True)
        self.rng = torch.Generator(self.device).manual_seed(settings.seed)
        photos = [photo for folder in settings.data for photo in images.load(folder)]
        self._stream = iter(
            Batches(
                PhotoPool(photos, self.device),
                scale=scale,
                patch_size=settings.patch_size,
                batch_size=settings.batch_size,
                width_range=width_range,
                soften=settings.soften,
                rng=self.rng,
            )
        )
        self.done = 0

    @abstractmethod
    def loss(self, hr: Tensor, lr: Tensor, kernel: Tensor) -> Tensor:
        """Give the batch's loss, a scalar with a gradient to the network."""

    def step(self) -> Tensor:
        """Take one optimiser step; give the loss, still on the device."""
        settings = self.settings
        for group in self.optimizer.param_groups:
            group["lr"] = settings.learning_rate_at(self.done)
        batch = next(self._stream)  # outside autocast: photos are degraded in float32
        with torch.autocast(self.device.type, torch.bfloat16, enabled=settings.amp):
            loss = self.loss(*batch)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), settings.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.done += 1
        decay = min(settings.ema, (1 + self.done) / (10 + self.done))  # short at first, while weights move fast
        with torch.no_grad():
            torch._foreach_lerp_(list(self.ema.parameters()), list(self.network.parameters()), 1 - decay)
        return loss.detach()

    def state(self) -> dict[str, dict[str, Tensor]]:
        """Give every tensor that an exact continuation needs, by part."""
        named = dict(self.network.named_parameters())
        moments = {name: self.optimizer.state[p] for name, p in named.items() if p in self.optimizer.state}
        return {
            "weights": dict(self.network.state_dict()),
            "ema": dict(self.ema.state_dict()),
            "moment1": {name: m["exp_avg"] for name, m in moments.items()},
            "moment2": {name: m["exp_avg_sq"] for name, m in moments.items()},
            "rng": {"stream": self.rng.get_state()},
        }

    def load_state(self, parts: dict[str, dict[str, Tensor]], step: int) -> None:
        """Continue from what `state` gave after `step` steps.

        Raises:
            ValueError: the state is of another network.
        """
        try:
            self.network.load_state_dict(parts["weights"])
            self.ema.load_state_dict(parts["ema"])
        except (KeyError, RuntimeError):
            raise ValueError(
                f"the run in {self.settings.output} trains another network: give another output folder"
            ) from None
        for name, parameter in self.network.named_parameters():
            if name in parts["moment1"]:
                self.optimizer.state[parameter] = {
                    "step": torch.tensor(float(step), device=self.device),
                    "exp_avg": torch.empty_like(parameter).copy_(parts["moment1"][name]),
                    "exp_avg_sq": torch.empty_like(parameter).copy_(parts["moment2"][name]),
                }
        self.rng.set_state(parts["rng"]["stream"].cpu())
        self.done = step


FREE = (
    *("output", "steps", "learning_rate", "schedule", "warmup", "halve_every", "clip_norm", "generator", "init"),
    *("validation", "validation_widths", "validate_every", "checkpoint_seconds", "compile", "amp", "device"),
)
"""Settings that may change when a run goes on."""


def train(
    trainer: Trainer,
    *,
    name: str,
    save: Callable[[dict[str, float]], None],
    validate: Callable[[], dict[str, float]] | None,
) -> dict[str, float]:
    """Run a trainer to its last step, or until Ctrl-C or SIGTERM; resume the run that its folder holds.

    Args:
        trainer: what to train.
        name: what the progress bar calls it.
        save: writes the checkpoint that users load; gets the last validation's figures.
        validate: gives figures of the EMA network.

    Returns:
        The last validation's figures.
    """
    settings = trainer.settings
    folder = RunFolder(settings.output)
    figures: dict[str, float] = {}
    resumed = folder.load_state()
    if resumed is not None:
        folder.check_config(settings, FREE)
        parts, metadata = resumed
        trainer.load_state(parts, metadata["step"])
        figures = metadata.get("figures", {})
    folder.write_config(settings)
    log = folder.log()
    mean_loss = torch.zeros((), device=trainer.device)
    since, saved_at = 0, time.monotonic()

    def loss_so_far() -> float:  # waits for the device
        loss = mean_loss.item() / max(1, since)
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"the loss is {loss} at step {trainer.done}: lower learning_rate and go on from {folder.path}"
            )
        return loss

    def checkpoint() -> None:
        loss_so_far()  # weights that broke since the last reading must not replace good ones
        folder.save_state(trainer.done, trainer.state(), {"figures": figures})
        save(figures)

    with Interruption() as stop, tqdm(total=settings.steps, initial=trainer.done, unit="step", smoothing=0.05) as bar:
        bar.set_description(name)
        while trainer.done < settings.steps and not stop.requested:
            mean_loss += trainer.step()
            since += 1
            bar.update()
            if since == LOG_EVERY or trainer.done == settings.steps:
                loss, since = loss_so_far(), 0
                mean_loss.zero_()
                _show(bar, log, trainer, loss, figures)
            if validate is not None and (trainer.done % settings.validate_every == 0 or trainer.done == settings.steps):
                figures = validate()
                for key, value in figures.items():
                    log.add_scalar(f"validation/{key}", value, trainer.done)
            if time.monotonic() - saved_at > settings.checkpoint_seconds:
                checkpoint()
                saved_at = time.monotonic()
        checkpoint()
    log.close()
    if trainer.done < settings.steps:
        print(f"stopped at step {trainer.done} of {settings.steps}: the same command goes on from {folder.path}")
    else:
        folder.write_results({"steps": trainer.done, **figures}, settings, settings.seed)
        print(f"finished after {trainer.done} steps: checkpoint, config and log are in {folder.path}")
    return figures


def _show(bar: Any, log: Any, trainer: Trainer, loss: float, figures: dict[str, float]) -> None:
    rate = (bar.format_dict["rate"] or 0.0) * trainer.settings.batch_size
    shown = ", ".join(f"{key} {value:.2f}" for key, value in figures.items())
    bar.set_postfix_str(f"loss {loss:.4f}, {rate:.0f} patches/s" + (f", {shown}" if shown else ""))
    log.add_scalar("train/loss", loss, trainer.done)
    log.add_scalar("train/learning_rate", trainer.settings.learning_rate_at(trainer.done - 1), trainer.done)


def place(network: N, device: torch.device) -> N:
    """Move a network to its device, in the memory format that convolutions are fastest in; give it back."""
    return network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def record(trainer: Trainer, figures: dict[str, float]) -> dict[str, Any]:
    """Say in a checkpoint how it was trained; of folders only the names, since paths tell of a machine, not of data."""
    settings = {
        key: [Path(folder).name for folder in value] if key == "data" else value
        for key, value in plain(trainer.settings).items()
        if key not in ("output", "validation", "init", "generator", "device", "checkpoint_seconds")
    }
    return {"settings": settings, "steps": trainer.done, "figures": figures, "commit": commit()}


def pick_device(name: str) -> torch.device:
    """Resolve `auto` to CUDA where there is one.

    Raises:
        ValueError: there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"device must be auto, cpu or cuda, got {name!r}") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device is {name}, but PyTorch finds no CUDA GPU here: take cpu or auto")
    return device
