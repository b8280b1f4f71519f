"""Training of a generator with the true code (paper, section 4.1): L1 between SR and HR.

Photos live on the device as one uint8 pool; crops, flips, blur, downsampling and rounding are batched there, so there is no data
loader. It starts with PyTorch, NumPy, OpenCV, safetensors and PyYAML alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

import generators
from blindsr_env import degradation, images, kernels
from experiments.run_folder import RunFolder, commit, graceful_stop
from experiments.validation import Validation
from generators import AMNet


@dataclass(frozen=True)
class TrainGenerator:
    """Settings of `blindsr train-generator`.

    Attributes:
        data: folders of HR photos to train on.
        output: the run's folder; a state in it is resumed.
        arch: `amnet`, `amnet_l` or `amnet_s`.
        modulation: `amlayer` (Eq. 7) or `adain` (Eq. 4).
        scale: 2, 3 or 4.
        init: a generator checkpoint whose weights to start from.
        steps: optimiser steps in all.
        batch_size: patches a step.
        patch_size: LR side of a patch, pixels.
        learning_rate: the highest one.
        schedule: `cosine` to 1% of it after a linear warm-up, or `paper`: constant, halved every `halve_every` steps.
        warmup: steps of the warm-up of `cosine`.
        halve_every: steps between halvings of `paper`.
        betas: Adam's.
        clip_norm: the gradient's largest norm.
        ema: decay of the weights' running mean, which is what ships.
        validation: folder of HR photos for PSNR while training; None for no validation.
        validation_widths: kernel widths of it.
        validate_every: steps between validations.
        checkpoint_seconds: time between saved states.
        compile: fuse the network with torch.compile (needs a C++ compiler on the CPU).
        amp: autocast to bfloat16 (GPU).
        device: `auto`, `cpu`, `cuda`.
        seed: of weights, crops and kernels.
    """

    data: list[str]
    output: str = "runs/generator"
    arch: str = "amnet"
    modulation: Literal["amlayer", "adain"] = "amlayer"
    scale: int = 4
    init: str | None = None
    steps: int = 500_000
    batch_size: int = 64
    patch_size: int = 64
    learning_rate: float = 2e-4
    schedule: Literal["cosine", "paper"] = "cosine"
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
    seed: int = 0


@dataclass
class Batches:
    """Endless training batches, degraded on the device.

    Attributes:
        pool: HR photos.
        scale: 2, 3 or 4.
        patch_size: LR side.
        batch_size: patches a batch.
        width_range: kernel widths, uniform.
        rng: on the pool's device; its state is the stream's state.
    """

    pool: images.PhotoPool
    scale: int
    patch_size: int
    batch_size: int
    width_range: tuple[float, float]
    rng: torch.Generator
    _area: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Weigh photos by their number of crops, so each crop of the whole set is as likely."""
        size = self.scale * self.patch_size
        room = (self.pool.heights - size + 1).clamp(min=0) * (self.pool.widths - size + 1).clamp(min=0)
        if not bool((room > 0).any()):
            raise images.ImageError(f"no photo is as large as {size}x{size}: lower patch_size or give larger photos")
        self._area = room.double().cumsum(0)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield (HR, LR, kernel): `(N, 3, s p, s p)` and `(N, 3, p, p)` in [0, 1], and `(N, 21, 21)`."""
        pool, n, size = self.pool, self.batch_size, self.scale * self.patch_size
        low, high = self.width_range
        while True:
            u = torch.rand(5, n, generator=self.rng, device=pool.device, dtype=torch.float64)
            image = torch.searchsorted(self._area, u[0] * self._area[-1], right=True)
            top = (u[1] * (pool.heights[image] - size + 1)).long()
            left = (u[2] * (pool.widths[image] - size + 1)).long()
            hr = pool.crops(image, top, left, size, (u[3] * 8).long()).float().div_(255)
            width = low + (high - low) * u[4]
            yield hr, degradation.degrade(hr, kernels.gaussian_profile(width), self.scale), kernels.gaussian(width)


def learning_rate(config: TrainGenerator, step: int) -> float:
    """Learning rate of a step, counted from 0."""
    if config.schedule == "paper":
        return config.learning_rate * 0.5 ** (step // config.halve_every)
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    progress = (step - config.warmup) / max(1, config.steps - config.warmup)
    return config.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


class GeneratorTrainer:
    """Network, its running mean, optimiser and random stream: all that a resumed run needs.

    Args:
        config: settings.
    """

    def __init__(self, config: TrainGenerator) -> None:
        self.config = config
        self.device = torch.device(pick_device(config.device))
        torch.manual_seed(config.seed)  # weights are drawn from the global generator by torch's layers
        self.network, self.ema = _network(config, self.device), _network(config, self.device)
        self.ema.load_state_dict(self.network.state_dict())
        self.ema.requires_grad_(False).eval()
        fused = self.device.type in ("cpu", "cuda")
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=0.0, betas=config.betas, fused=fused)
        self.rng = torch.Generator(self.device).manual_seed(config.seed)
        photos = [photo for folder in config.data for photo in images.load(folder)]
        pool = images.PhotoPool(photos, self.device)
        self.batches = Batches(
            pool, config.scale, config.patch_size, config.batch_size, self.network.codec.width_range, self.rng
        )
        self._stream = iter(self.batches)
        self._forward: Any = torch.compile(self.network) if config.compile else self.network
        self.done = 0

    def step(self) -> Tensor:
        """Take one optimiser step; give the loss, still on the device."""
        config = self.config
        hr, lr, kernel = next(self._stream)
        action = self.network.codec.encode(kernel)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(config, self.done)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=config.amp):
            sr = self._forward(lr.contiguous(memory_format=torch.channels_last), action)
        loss = F.l1_loss(sr.float(), hr)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), config.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.done += 1
        decay = min(config.ema, (1 + self.done) / (10 + self.done))  # a short memory at first, when weights still move fast
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
        """Continue from what `state` gave after `step` steps."""
        self.network.load_state_dict(parts["weights"])
        self.ema.load_state_dict(parts["ema"])
        for name, parameter in self.network.named_parameters():
            if name in parts["moment1"]:
                self.optimizer.state[parameter] = {
                    "step": torch.tensor(float(step), device=self.device if self.device.type == "cuda" else None),
                    "exp_avg": parts["moment1"][name].to(self.device),
                    "exp_avg_sq": parts["moment2"][name].to(self.device),
                }
        self.rng.set_state(parts["rng"]["stream"].cpu())
        self.done = step


def train_generator(config: TrainGenerator) -> Path:
    """Train a generator; resume the run if its folder holds a state.

    Returns:
        The checkpoint of the EMA weights, `generator.safetensors` in the run's folder.

    Raises:
        ImageError: the training photos cannot be used.
        CheckpointError: the folder's state cannot be resumed.
    """
    folder = RunFolder(config.output)
    trainer = GeneratorTrainer(config)
    saved = folder.load_state()
    if saved is not None:
        parts, metadata = saved
        trainer.load_state(parts, metadata["step"])
    folder.write_config(config)
    validation = None
    if config.validation is not None:
        validation = Validation(config.validation, config.validation_widths, config.scale, trainer.device)
    path = folder.path / "generator.safetensors"
    log = folder.log()
    psnr: dict[float, float] = {}
    mean_loss = torch.zeros((), device=trainer.device)
    last_saved = time.monotonic()

    def save() -> None:
        folder.save_state(trainer.done, trainer.state(), {"arch": config.arch})
        trained = {"data": config.data, "steps": trainer.done, "commit": commit(), "psnr": psnr}
        generators.save(path, trainer.ema, trained)

    with graceful_stop() as stop, tqdm(total=config.steps, initial=trainer.done, unit="step", smoothing=0.05) as bar:
        bar.set_description(f"training {config.arch}")
        while trainer.done < config.steps and not stop:
            mean_loss.lerp_(trainer.step(), 0.01 if trainer.done > 100 else 0.5)
            bar.update()
            if trainer.done % 100 == 0:  # the only place where the loop waits for the device
                loss = mean_loss.item()
                if not math.isfinite(loss):
                    raise FloatingPointError(f"the loss is {loss} at step {trainer.done}: lower learning_rate and resume {folder.path}")
                rate = bar.format_dict["rate"] or 0.0
                shown = " ".join(f"{value:.2f}" for value in psnr.values())
                bar.set_postfix_str(f"L1 {loss:.4f}, {rate * config.batch_size:.0f} patches/s, PSNR {shown or '-'}")
                log.add_scalar("train/l1", loss, trainer.done)
                log.add_scalar("train/learning_rate", learning_rate(config, trainer.done), trainer.done)
            if validation is not None and (trainer.done % config.validate_every == 0 or trainer.done == config.steps):
                psnr = validation(trainer.ema)
                for width, value in psnr.items():
                    log.add_scalar(f"psnr/width_{width}", value, trainer.done)
            if time.monotonic() - last_saved > config.checkpoint_seconds:
                save()
                last_saved = time.monotonic()
        save()
    log.close()
    if stop:
        print(f"stopped at step {trainer.done}; the same command goes on from there")
    else:
        folder.write_results({"steps": trainer.done, "psnr": psnr}, config, config.seed)
    return path


def pick_device(name: str) -> str:
    """Resolve `auto` to CUDA where there is one."""
    if name != "auto":
        return name
    return "cuda" if torch.cuda.is_available() else "cpu"


def _network(config: TrainGenerator, device: torch.device) -> AMNet:
    network = generators.build(config.arch, scale=config.scale, modulation=config.modulation)
    if config.init is not None:
        network.load_state_dict(generators.load(config.init).state_dict())
    return network.to(device=device, memory_format=torch.channels_last)
