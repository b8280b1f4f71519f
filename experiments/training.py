"""The loop of a supervised training: progress, validation, checkpoints, resuming.

It needs PyTorch, NumPy, safetensors, PyYAML, OpenCV and tqdm, and no more, so that it starts on a bare GPU machine;
`python -m experiments.train_generator --config FILE.yaml` is the way in without jsonargparse.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from agents.interruption import Interruption
from experiments.meter import Meter, matmul_rate
from experiments.results_file import commit, plain
from experiments.run_folder import RunFolder
from experiments.trainer import Trainer
from experiments.training_settings import FREE
from generators.compiled import compiling

LOG_EVERY = 50
"""Steps between two readings of the loss: the only times at which the loop waits for the device."""


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

    Raises:
        CompileError: the network cannot be compiled here.
        FloatingPointError: the loss or its gradient is no longer finite.
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
    log = folder.log(trainer.done, ranks.first)
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
            with compiling("give --compile false"):  # the first steps do, and those that find other shapes
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
        if state is None:
            folder.check_kind(settings)
        else:
            folder.check_config(settings, FREE)
        return state

    resumed = ranks.from_first(read)  # the others may be on hosts that do not have the folder
    if resumed is None:
        ranks.equalise(*trainer.networks())
        return {}
    parts, metadata = resumed
    trainer.load_notes(metadata)
    parts["rng"], own = ranks.own(parts["rng"])
    alike = parts["rng"]["stream"].shape == trainer.rng.get_state().shape  # a CPU's generator is larger than a GPU's
    if not (own and alike):
        trainer.rng.manual_seed(ranks.seed(settings.seed + metadata["step"]))
        parts["rng"]["stream"] = trainer.rng.get_state()
        if ranks.first:
            how = f"with {ranks.count} processes, not as many as before" if alike else "on another kind of device"
            print(f"the run goes on {how}: its crops are drawn anew")
    trainer.load_state(parts, metadata["step"])
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
