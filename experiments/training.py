"""Supervised training: one optimiser step, its exact state, and the loop around them.

It needs PyTorch, NumPy, safetensors, PyYAML, OpenCV and tqdm, and no more, so that it starts on a bare GPU machine;
`python -m experiments.train_generator --config FILE.yaml` is the way in without jsonargparse.
"""

from __future__ import annotations

import math
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from agents.interruption import Interruption
from blindsr_env import images
from blindsr_env.pool import PhotoPool
from experiments import adam
from experiments.batches import Batches
from experiments.disjoint import refuse_common
from experiments.meter import Meter, matmul_rate
from experiments.ranks import Ranks
from experiments.run_folder import RunFolder, commit, plain
from experiments.training_settings import FREE, TrainingSettings
from generators import checkpoint

__all__ = ["FREE", "Trainer", "TrainingSettings", "fuse", "origin", "pick_device", "place", "record", "train"]

N = TypeVar("N", bound=nn.Module)

LOG_EVERY = 50
"""Steps between two readings of the loss: the only times at which the loop waits for the device."""


class Trainer(ABC):
    """Network, its running mean (EMA), optimiser and random stream: all that a resumed run needs.

    Args:
        settings: of the training.
        network: what is trained, on its device.
        ema: a second instance of it, whose weights become the running mean.
        scale: of the degradation.
        width_range: kernel widths.

    Attributes:
        ranks: this process among those that train together. Each has a random stream and a share of the batch of its
            own; weights, EMA and optimiser are equal on all.
        done: steps taken.
        norm: sum of the gradients' norms, on the device, since it was last set to 0. One that is no finite number has
            broken the weights, also where the losses were finite.
        turns: steps from which on a step does other work than before.
        origin: the checkpoint that the first weights came from, as `origin` describes it; None where they were drawn.
    """

    turns: frozenset[int] = frozenset()
    origin: dict[str, Any] | None = None

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
        self.ranks = Ranks(self.device)
        ema.load_state_dict(network.state_dict())
        ema.requires_grad_(False).eval()
        self.optimizer = torch.optim.Adam(network.parameters(), lr=0.0, betas=settings.betas, fused=True)
        self._weights: list[Tensor] = list(network.parameters())
        self._means: list[Tensor] = list(ema.parameters())
        self.rng = torch.Generator(self.device).manual_seed(self.ranks.seed(settings.seed))
        photos = [photo for folder in settings.data for photo in images.load(folder)]
        if settings.validation is not None:
            refuse_common(photos, images.load(settings.validation))
        smaller = _smaller(photos, settings, scale)
        self._stream = iter(
            Batches(
                PhotoPool(photos + smaller, self.device),
                scale=scale,
                patch_size=settings.patch_size,
                batch_size=self.ranks.share(settings.batch_size),
                width_range=width_range,
                soften=settings.soften,
                rng=self.rng,
            )
        )
        self.done = 0
        self.norm = torch.zeros((), device=self.device)

    @abstractmethod
    def loss(self, hr: Tensor, lr: Tensor, kernel: Tensor) -> Tensor:
        """Give the batch's loss, a scalar with a gradient to the network."""

    def networks(self) -> list[nn.Module]:
        """List the networks that must be equal on all processes."""
        return [self.network, self.ema]

    def report(self) -> dict[str, float]:
        """Give figures of the steps since the last report; waits for the device."""
        return {}

    def step(self) -> Tensor:
        """Take one optimiser step; give the loss of this process's share, still on the device."""
        settings = self.settings
        if settings.compile:
            torch.compiler.cudagraph_mark_step_begin()
        for group in self.optimizer.param_groups:
            group["lr"] = settings.learning_rate_at(self.done)
        batch = next(self._stream)  # outside autocast: photos are degraded in float32
        with self._autocast():
            loss = self.loss(*batch)
        loss.backward()
        self.descend(self.optimizer)
        self.done += 1
        self.average(self.done)
        return loss.detach()

    @torch.no_grad()
    def average(self, steps: int) -> None:
        """Move the EMA towards the weights, after so many steps of theirs."""
        decay = min(self.settings.ema, (1 + steps) / (10 + steps))  # short at first, while weights move fast
        torch._foreach_lerp_(self._means, self._weights, 1 - decay)

    def descend(self, optimizer: torch.optim.Optimizer) -> None:
        """Average the gradients of its parameters over the processes, clip them, take its step, drop them."""
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.ranks.average([p.grad for p in parameters if p.grad is not None])
        self.norm += nn.utils.clip_grad_norm_(parameters, self.settings.clip_norm, foreach=True)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.amp)

    def work(self, hr: Tensor, lr: Tensor, kernel: Tensor) -> None:
        """Compute what a step of a batch computes, forward and backward, and change nothing."""
        with self._autocast():
            loss = self.loss(hr, lr, kernel)
        torch.autograd.grad(loss, list(self.network.parameters()), allow_unused=True)

    def flops(self) -> int:
        """Count the floating-point operations of this process's share of the next step.

        One patch is counted, uncompiled; nothing that training goes on from is changed. Convolutions and matrix
        products count, a multiply-add as two.
        """
        stream = self.rng.get_state()
        hr, lr, kernel = next(self._stream)
        counter = FlopCounterMode(display=False)
        eager = torch.compiler.set_stance("force_eager") if self.settings.compile else nullcontext()
        with eager, counter:
            self.work(hr[:1], lr[:1], kernel[:1])
        self.rng.set_state(stream)
        return counter.get_total_flops() * len(hr)

    def state(self) -> dict[str, dict[str, Tensor]]:
        """Give every tensor that an exact continuation needs, by part."""
        first, second = adam.moments(self.network, self.optimizer)
        return {
            "weights": dict(self.network.state_dict()),
            "ema": dict(self.ema.state_dict()),
            "moment1": first,
            "moment2": second,
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
        adam.restore(self.network, self.optimizer, parts["moment1"], parts["moment2"], step)
        self.rng.set_state(parts["rng"]["stream"].cpu())
        self.done = step

    def notes(self) -> dict[str, Any]:
        """Give the plain values that go with the state."""
        return {"origin": self.origin}

    def load_notes(self, notes: Mapping[str, Any]) -> None:
        """Take over what `notes` gave when the state was saved; an older version may have given less.

        Raises:
            ValueError: the run cannot go on with what this trainer was made from.
        """
        self.origin = notes.get("origin", self.origin)


def train(
    trainer: Trainer,
    *,
    name: str,
    path: Path,
    save: Callable[[dict[str, float]], None],
    validate: Callable[[], dict[str, float]] | None,
) -> dict[str, float]:
    """Run a trainer to its last step, or until Ctrl-C or SIGTERM; resume the run that its folder holds.

    A run that is finished already stays as it is: its results hold what can no longer be measured.

    Args:
        trainer: what to train.
        name: what the progress bar calls it.
        path: the checkpoint that users load.
        save: writes it; gets the last validation's figures.
        validate: gives figures of the EMA network.

    Returns:
        The last validation's figures.
    """
    settings, ranks = trainer.settings, trainer.ranks
    folder = RunFolder(settings.output, create=ranks.first)
    figures = _resume(trainer, folder)
    if ranks.from_first(lambda: _finished(trainer, folder, path)):
        if ranks.first:
            print(f"{folder.path} is finished already, after {trainer.done} steps: its checkpoint is {path}")
        return figures
    if ranks.first:
        folder.write_config(settings)
    log = folder.log(ranks.first)
    meter = _meter(trainer) if ranks.first and trainer.done < settings.steps else None
    mean_loss = torch.zeros((), device=trainer.device)
    since, saved_at, stopped = 0, time.monotonic(), False

    def loss_so_far() -> float:  # waits for the device
        seen = torch.stack([mean_loss / max(1, since), trainer.norm])
        ranks.average([seen])
        loss, norm = seen.tolist()
        for what, value in (("the loss", loss), ("the gradient's norm", norm)):
            if not math.isfinite(value):
                raise FloatingPointError(
                    f"{what} is {value} at step {trainer.done}: lower learning_rate and go on from {folder.path}"
                )
        return loss

    def save_all() -> None:
        loss_so_far()  # weights that broke since the last reading must not replace good ones
        parts = trainer.state()
        parts["rng"] = ranks.gather(parts["rng"])
        if ranks.first:
            folder.save_state(trainer.done, parts, {"figures": figures, **trainer.notes()})
            save(figures)

    bar = tqdm(total=settings.steps, initial=trainer.done, unit="step", smoothing=0.05, disable=not ranks.first)
    with Interruption() as stop, bar:
        bar.set_description(name)
        while trainer.done < settings.steps and not stopped:
            mean_loss += trainer.step()
            since += 1
            bar.update()
            if meter is not None:
                meter.step()
                if trainer.done in trainer.turns:
                    with meter.paused():
                        meter.flops = trainer.flops()
            last = trainer.done == settings.steps
            if since == LOG_EVERY or last:
                loss, since = loss_so_far(), 0
                mean_loss.zero_()
                trainer.norm.zero_()
                if meter is not None:
                    _report_progress(bar, log, trainer, loss, meter, figures)
            if validate is not None and ranks.first and (trainer.done % settings.validate_every == 0 or last):
                with meter.paused() if meter is not None else nullcontext():
                    figures = validate()
                for key, value in figures.items():
                    log.add_scalar(f"validation/{key}", value, trainer.done)
            # Whoever is told to stop, all stop, after the same step; the first one's clock says when to save.
            stopped, due = ranks.any(stop.requested, time.monotonic() - saved_at > settings.checkpoint_seconds)
            if due:
                with meter.paused() if meter is not None else nullcontext():
                    save_all()
                saved_at = time.monotonic()
        save_all()
    log.close()
    if not ranks.first:
        return figures
    speed = {} if meter is None else meter.total()
    if trainer.done < settings.steps:
        print(f"stopped at step {trainer.done} of {settings.steps}: the same command goes on from {folder.path}")
    else:
        folder.write_results({"steps": trainer.done, **figures, **speed}, settings, settings.seed)
        print(f"finished after {trainer.done} steps: checkpoint, config and log are in {folder.path}")
    if speed:
        print(
            f"{speed['patches_per_second']:.4g} patches/s, {100 * speed['matmul_share']:.0f}% of the "
            f"{speed['matmul_rate'] / 1e12:.3g} TFLOP/s that matrix products reach here"
        )
    return figures


def _resume(trainer: Trainer, folder: RunFolder) -> dict[str, float]:
    """Load the state that the folder holds, if any, and give its figures; start all processes equal."""
    settings, ranks = trainer.settings, trainer.ranks

    def read() -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]] | None:
        state = folder.load_state()
        if state is not None:
            folder.check_config(settings, FREE)
        return state

    resumed = ranks.from_first(read)  # the others may be on hosts that do not have the folder
    if resumed is None:
        ranks.equalise(*trainer.networks())
        return {}
    parts, metadata = resumed
    trainer.load_notes(metadata)
    parts["rng"], own = ranks.own(parts["rng"])
    trainer.load_state(parts, metadata["step"])
    if not own:
        trainer.rng.manual_seed(ranks.seed(settings.seed + metadata["step"]))
        if ranks.first:
            print(f"the run goes on with {ranks.count} processes, not as many as before: its crops are drawn anew")
    return metadata.get("figures", {})


def _finished(trainer: Trainer, folder: RunFolder, path: Path) -> bool:
    """Say whether the last step is done, and the folder holds its checkpoint and results."""
    last = trainer.done >= trainer.settings.steps
    return last and path.is_file() and folder.figures().get("steps") == trainer.done


def _meter(trainer: Trainer) -> Meter:
    settings, device = trainer.settings, trainer.device
    rate = matmul_rate(device, torch.bfloat16 if settings.amp else torch.float32)
    return Meter(settings.batch_size, trainer.flops(), rate, device)


def _report_progress(
    bar: Any, log: Any, trainer: Trainer, loss: float, meter: Meter, figures: dict[str, float]
) -> None:
    rates = meter.read()
    shown = [f"loss {loss:.4f}"]
    if rates:
        shown += [f"{rates['patches_per_second']:.4g} patches/s", f"{100 * rates['matmul_share']:.0f}% of matmul rate"]
    bar.set_postfix_str(", ".join(shown + [f"{key} {value:.2f}" for key, value in figures.items()]))
    log.add_scalar("train/loss", loss, trainer.done)
    log.add_scalar("train/learning_rate", trainer.settings.learning_rate_at(trainer.done - 1), trainer.done)
    for key, value in rates.items():
        log.add_scalar(f"speed/{key}", value, trainer.done)


def _smaller(photos: list[images.Photo], settings: TrainingSettings, scale: int) -> list[images.Photo]:
    """Give the smaller copies of the photos that are large enough for a patch.

    Raises:
        ImageError: a factor leaves none.
    """
    side, copies = scale * settings.patch_size, []
    for factor in settings.shrink:
        large = [photo for photo in photos if round(factor * min(photo.pixels.shape[:2])) >= side]
        if not large:
            raise images.ImageError(
                f"no photo shrunk by {factor} is as large as {side}x{side}: lower patch_size, or leave {factor} out"
            )
        copies += [images.shrink(photo, factor) for photo in large]
    return copies


def fuse(function: Callable[..., Any], settings: TrainingSettings) -> Callable[..., Any]:
    """Compile a function of tensors as `compile` says."""
    if not settings.compile:
        return function
    return torch.compile(function, mode=None if settings.compile is True else settings.compile)


def place(network: N, device: torch.device) -> N:
    """Move a network to its device, in the memory format that convolutions are fastest in; give it back."""
    return network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def record(trainer: Trainer, figures: dict[str, float]) -> dict[str, Any]:
    """Say in a checkpoint how it was trained; of files only the names, since paths tell of a machine, not of data."""
    settings = {
        key: _names(value) if key in ("data", "perceptual") else value
        for key, value in plain(trainer.settings).items()
        if key not in ("output", "validation", "init", "generator", "device", "checkpoint_seconds")
    }
    content = {"settings": settings, "steps": trainer.done, "figures": figures, "commit": commit()}
    return content if trainer.origin is None else {**content, "init": trainer.origin}


def _names(paths: Any) -> Any:
    if isinstance(paths, list):
        return [_names(path) for path in paths]
    return paths if paths is None else Path(paths).name


def origin(path: Path) -> dict[str, Any]:
    """Describe a checkpoint that a training starts from, for the record: its file's name, its steps and commit."""
    training = checkpoint.read(path)[1].get("training") or {}
    return {"name": path.name, **{key: training[key] for key in ("steps", "commit", "init") if key in training}}


def pick_device(name: str) -> torch.device:
    """Resolve `auto` to CUDA where there is one; under torchrun, `cuda` to the GPU of this process.

    Raises:
        ValueError: there is no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"device must be auto, cpu or cuda, got {name!r}") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device is {name}, but PyTorch finds no CUDA GPU here: take cpu or auto")
    if device.type == "cuda" and device.index is None and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        if device.index >= torch.cuda.device_count():
            raise ValueError(f"there are more processes than GPUs here ({torch.cuda.device_count()}): start fewer")
    return device
