"""The loop of a supervised training: progress, validation, checkpoints, resuming.

It needs PyTorch, NumPy, safetensors, PyYAML, OpenCV and tqdm, and no more, so that it starts on a bare GPU machine;
`python -m experiments.train_generator --config FILE.yaml` is the way in without jsonargparse.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from agents.interruption import Interruption
from experiments.devices import pick_device
from experiments.meter import Meter, matmul_rate
from experiments.ranks import Ranks
from experiments.results_file import commit, plain
from experiments.run_folder import RunFolder
from experiments.trainer import Trainer
from experiments.training_settings import FREE, TrainingSettings
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
        OSError: another process is training in the folder.
    """
    folder = RunFolder(trainer.settings.output, create=trainer.ranks.first)
    with ExitStack() as kept:
        trainer.ranks.from_first(lambda: kept.enter_context(folder.taken()))  # its error stops the others as well
        figures = _resume(trainer, folder)
        if trainer.ranks.from_first(lambda: _finished(trainer.settings, folder, path, trainer.done)):
            return figures
        loop = _Loop(trainer, folder, save, validate, figures)
        loop.run(name)
        if trainer.ranks.first:
            loop.conclude()
        return loop.figures


def finished_before(
    settings: TrainingSettings, path: Path, check: Callable[[Mapping[str, Any]], None] = lambda notes: None
) -> bool:
    """Look into the output folder before photos are decoded for it: say whether it holds this training, finished.

    Args:
        settings: of the training.
        path: the checkpoint that users load.
        check: gets what `Trainer.notes` gave when the state was saved; raises where the run cannot go on.

    Raises:
        ValueError: the folder's run was begun with other settings, or is another command's.
        CheckpointError: its state or config is damaged.
        OSError: another process is training in the folder.
    """
    folder = RunFolder(settings.output, create=False)

    def look() -> bool:
        if not (folder.path / "config.yaml").is_file():  # no run, or one that only a trainer can tell from its own
            return False
        with folder.taken():
            state = _state(settings, folder)
            if state is None:
                return False
            check(state[1])
            return _finished(settings, folder, path, state[1]["step"])

    return Ranks(pick_device(settings.device)).from_first(look)  # the others may be on hosts that lack the folder


class _Loop:
    """The steps of a run, and what is read, measured and saved between them.

    Args:
        trainer: what to train, resumed.
        folder: of the run.
        save: see `train`.
        validate: see `train`.
        figures: of the last validation before.
    """

    def __init__(
        self,
        trainer: Trainer,
        folder: RunFolder,
        save: Callable[[dict[str, float]], None],
        validate: Callable[[], dict[str, float]] | None,
        figures: dict[str, float],
    ) -> None:
        self.trainer, self.folder, self.figures = trainer, folder, figures
        self._save_weights, self._validate = save, validate
        settings, first = trainer.settings, trainer.ranks.first
        if first:
            folder.write_config(settings)
        self._log = folder.log(trainer.done, first)
        self._meter = _meter(trainer) if first and trainer.done < settings.steps else None
        self._mean_loss = torch.zeros((), device=trainer.device)
        self._since = 0  # steps that the mean is of
        self._saved_at = time.monotonic()

    def run(self, name: str) -> None:
        """Train to the last step, or until told to stop, under a progress bar with this name."""
        trainer, settings, ranks = self.trainer, self.trainer.settings, self.trainer.ranks
        bar = tqdm(total=settings.steps, initial=trainer.done, unit="step", smoothing=0.05, disable=not ranks.first)
        with Interruption() as stop, bar:
            bar.set_description(name)
            if settings.compile and ranks.first and trainer.done < settings.steps:
                told = "compiling the network: up to two minutes, seconds where it was done before"
                tqdm.write(told, file=sys.stderr)
            stopped = False
            while trainer.done < settings.steps and not stopped:
                self._step()
                bar.update()
                last = trainer.done == settings.steps
                if self._since == LOG_EVERY or last:
                    self._report(bar)
                if self._validate and ranks.first and (trainer.done % settings.validate_every == 0 or last):
                    self._take_figures(self._validate)
                # Whoever is told to stop, all stop, after the same step; the first one's clock says when to save.
                due = time.monotonic() - self._saved_at > settings.checkpoint_seconds
                stopped, due = ranks.any(stop.requested, due)
                if due:
                    self._save_all()
            self._save_all()
        self._log.close()

    def conclude(self) -> None:
        """Say where the run ended; write the results of one that is whole."""
        trainer, folder = self.trainer, self.folder
        speed = {} if self._meter is None else self._meter.total()
        if trainer.done < trainer.settings.steps:
            print(
                f"stopped at step {trainer.done} of {trainer.settings.steps}: the same command goes on from "
                f"{folder.path}"
            )
        else:
            figures = {"steps": trainer.done, **self.figures, **speed}
            folder.write_results(figures, trainer.settings, trainer.settings.seed)
            print(f"finished after {trainer.done} steps: checkpoint, config and log are in {folder.path}")
        if speed:
            print(
                f"{speed['patches_per_second']:.4g} patches/s, {100 * speed['matmul_share']:.0f}% of the "
                f"{speed['matmul_rate'] / 1e12:.3g} TFLOP/s that matrix products reach here"
            )

    def _step(self) -> None:
        with compiling("give --compile false"):  # the first steps do, and those that find other shapes
            self._mean_loss += self.trainer.step()
        self._since += 1
        if self._meter is not None:
            self._meter.step()
            if self.trainer.done in self.trainer.turns:
                with self._meter.paused():
                    self._meter.flops = self.trainer.flops()

    def _loss(self) -> float:
        """Wait for the device, and give the mean loss since the last report.

        Raises:
            FloatingPointError: see `train`.
        """
        seen = torch.stack([self._mean_loss / max(1, self._since), self.trainer.norm])
        self.trainer.ranks.average([seen])
        loss, norm = seen.tolist()
        for what, value in (("the loss", loss), ("the gradient's norm", norm)):
            if not math.isfinite(value):
                raise FloatingPointError(
                    f"{what} is {value} at step {self.trainer.done}: lower learning_rate and go on from "
                    f"{self.folder.path}"
                )
        return loss

    def _report(self, bar: Any) -> None:
        """Write loss and speed since the last report into the bar and the log."""
        trainer, loss = self.trainer, self._loss()
        self._since = 0
        self._mean_loss.zero_()
        trainer.norm.zero_()
        if self._meter is None:
            return
        rates, shown = self._meter.read(), [f"loss {loss:.4f}"]
        if rates:
            shown.append(f"{rates['patches_per_second']:.4g} patches/s")
            shown.append(f"{100 * rates['matmul_share']:.0f}% of matmul rate")
        bar.set_postfix_str(", ".join(shown + [f"{key} {value:.2f}" for key, value in self.figures.items()]))
        self._log.add_scalar("train/loss", loss, trainer.done)
        self._log.add_scalar("train/learning_rate", trainer.settings.learning_rate_at(trainer.done - 1), trainer.done)
        for key, value in rates.items():
            self._log.add_scalar(f"speed/{key}", value, trainer.done)

    def _take_figures(self, validate: Callable[[], dict[str, float]]) -> None:
        with self._paused():
            self.figures = validate()
        for key, value in self.figures.items():
            self._log.add_scalar(f"validation/{key}", value, self.trainer.done)

    def _save_all(self) -> None:
        """Write the state, and the checkpoint that users load."""
        with self._paused():
            self._loss()  # weights that broke since the last report must not replace good ones
            trainer, ranks = self.trainer, self.trainer.ranks
            parts = trainer.state()
            parts["rng"] = ranks.gather(parts["rng"])
            if ranks.first:
                self.folder.save_state(trainer.done, parts, {"figures": self.figures, **trainer.notes()})
                self._save_weights(self.figures)
        self._saved_at = time.monotonic()

    def _paused(self) -> AbstractContextManager[None]:
        return nullcontext() if self._meter is None else self._meter.paused()


def _resume(trainer: Trainer, folder: RunFolder) -> dict[str, float]:
    """Load the state that the folder holds, if any, and give its figures; start all processes equal."""
    settings, ranks = trainer.settings, trainer.ranks
    resumed = ranks.from_first(lambda: _state(settings, folder))  # the others may be on hosts that lack the folder
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


def _state(settings: TrainingSettings, folder: RunFolder) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]] | None:
    """Read the folder's state, None where there is none; refuse a folder that these settings cannot go on in."""
    state = folder.load_state()
    if state is None:
        folder.check_kind(settings)
    else:
        folder.check_config(settings, FREE)
    return state


def _finished(settings: TrainingSettings, folder: RunFolder, path: Path, done: int) -> bool:
    """Say, to the user too, whether the last step is done, and the folder holds its checkpoint and results."""
    finished = done >= settings.steps and path.is_file() and folder.figures().get("steps") == done
    if finished:
        print(f"{folder.path} is finished already, after {done} steps: its checkpoint is {path}")
    return finished


def _meter(trainer: Trainer) -> Meter:
    settings, device = trainer.settings, trainer.device
    rate = matmul_rate(device, torch.bfloat16 if settings.amp else torch.float32)
    return Meter(settings.batch_size, trainer.flops(), rate, device)


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
