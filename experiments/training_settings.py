"""Settings common to all supervised trainings, and the learning-rate schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args, get_origin, get_type_hints

from blindsr_env.patch import PatchSize, sides
from experiments.counts import at_least, check_seed


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """Settings common to all supervised trainings.

    Attributes:
        data: folders of high-resolution (HR) training photos; all photos are kept in the device's memory.
        output: folder of the run; if it already holds one, that run is resumed.
        steps: total number of optimizer steps.
        batch_size: patches per step. Under torchrun the processes divide them equally, so a config means the same
            training on one GPU and on eight.
        patch_size: side of the low-resolution (LR) training patches, in pixels, or their height and width, `[80, 120]`.
        learning_rate: peak learning rate.
        schedule: how the learning rate changes: `cosine`, a linear warm-up followed by a cosine decay to 1% of the
            peak, or `halving`, the paper's: constant, but halved every `halve_every` steps.
        warmup: warm-up steps of the `cosine` schedule.
        halve_every: steps between halvings of the `halving` schedule.
        betas: Adam betas.
        clip_norm: gradient-norm clip.
        ema: decay of the exponential moving average of the weights; the averaged weights are the ones that are saved
            for use.
        validation: folder of HR photos on which PSNR is measured during training; without it there is no validation.
        validation_widths: validation kernel widths (standard deviation, HR pixels); without it, 0.2, 1.3 and 2.6, at
            scale 2 0.2, 1.1 and 2.
        validate_every: steps between validations.
        checkpoint_seconds: seconds between saved checkpoints.
        compile: compile the network with torch.compile (on a CPU this needs a C++ compiler). `true` is its `default`
            mode; on GPUs `reduce-overhead` replays CUDA graphs, and `max-autotune` also tries several kernels for each
            layer.
        amp: train in mixed precision (autocast to bfloat16). It pays on GPUs, and on CPUs with AMX,
            which train 2 to 4 times as fast with it, or with AVX-512 BF16, 1.8 to 2 times as fast.
        device: where to compute: `auto` (a GPU if there is one), `cpu` or `cuda`; under torchrun each process takes the
            GPU of its local rank.
        soften: blur half of the HR crops beforehand by a Gaussian of random width up to this (HR pixels), so that the
            network also learns from soft photos; 0 to leave all crops as they are.
        shrink: also train on copies of the photos reduced by these factors, each below 1: reduced photos are sharper.
        seed: random seed of initial weights, crops and kernels.
    """

    data: list[str]
    output: str
    steps: int
    batch_size: int = 64
    patch_size: PatchSize = 64
    learning_rate: float = 2e-4
    schedule: Literal["cosine", "halving"] = "cosine"
    warmup: int = 500
    halve_every: int = 200_000
    betas: tuple[float, float] = (0.9, 0.99)
    clip_norm: float = 1.0
    ema: float = 0.999
    validation: str | None = None
    validation_widths: tuple[float, ...] | None = None
    validate_every: int = 1000
    checkpoint_seconds: float = 60.0
    compile: bool | Literal["default", "reduce-overhead", "max-autotune"] = False
    amp: bool = False
    device: str = "auto"
    soften: float = 0.0
    shrink: tuple[float, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse invalid settings."""
        if not self.data:
            raise ValueError("data must name at least one folder of photos, as [photos]")
        check_seed(self)
        at_least(1, self, "steps", "batch_size", "halve_every", "validate_every")
        at_least(0, self, "warmup", "checkpoint_seconds")
        sides(self.patch_size)
        for name, value in vars(self).items():
            for number in value if isinstance(value, tuple) else (value,):
                if isinstance(number, float) and not math.isfinite(number):
                    raise ValueError(f"{name} must be finite, got {value}")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be above 0, got {self.learning_rate}")
        if not self.clip_norm > 0:
            raise ValueError(f"clip_norm must be above 0, got {self.clip_norm}")
        if not self.soften >= 0:
            raise ValueError(f"soften must be at least 0, got {self.soften}")
        if not all(0 < factor < 1 for factor in self.shrink):
            raise ValueError(f"shrink must be factors above 0 and below 1, got {self.shrink}")
        if self.validation_widths == ():
            raise ValueError("validation_widths must hold at least one kernel width")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must be at least 0 and below 1, got {self.betas}")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema must be at least 0 and below 1, got {self.ema}")
        for name, hint in get_type_hints(type(self)).items():
            if get_origin(hint) is Literal and getattr(self, name) not in get_args(hint):
                raise ValueError(f"{name} must be one of {', '.join(get_args(hint))}, got {getattr(self, name)!r}")
        if self.compile not in COMPILE:
            raise ValueError(f"compile must be one of {', '.join(map(str, COMPILE))}, got {self.compile!r}")

    def learning_rate_at(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        if self.schedule == "halving":
            return self.learning_rate * 0.5 ** (step // self.halve_every)
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        progress = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


COMPILE = (False, True, "default", "reduce-overhead", "max-autotune")
"""Values of `compile`."""

FREE = (
    *("output", "steps", "learning_rate", "schedule", "warmup", "halve_every", "clip_norm", "generator", "init"),
    *("validation", "validation_widths", "validate_every", "checkpoint_seconds", "compile", "amp", "device"),
)
"""Settings that may change when a run is resumed; `generator` may only move: its fingerprint is in the state."""
