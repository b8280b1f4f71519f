"""A supervised training's state and its optimiser step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from blindsr_env import images
from blindsr_env.patch import fits, scaled, sides
from blindsr_env.pool import PhotoPool
from experiments import adam
from experiments.batches import Batches
from experiments.disjoint import refuse_common
from experiments.ranks import Ranks
from experiments.training_settings import TrainingSettings
from experiments.validation import Validation
from experiments.widths import default_widths
from generators import Generator, checkpoint

N = TypeVar("N", bound=nn.Module)


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
        if settings.validation_widths is None:  # what a run's config says is what it did
            settings = replace(settings, validation_widths=default_widths(width_range))
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

    def validation(self, generator: Generator) -> Validation | None:
        """Give the validation that the settings ask for, of this generator; None where they ask for none."""
        settings = self.settings
        if settings.validation is None:
            return None
        return Validation(settings.validation, settings.validation_widths, generator, self.device)

    def networks(self) -> list[nn.Module]:
        """List the networks that must be equal on all processes."""
        return [self.network, self.ema]

    def report(self) -> dict[str, float]:
        """Give figures of the steps since the last report; waits for the device."""
        return {}

    def step(self) -> Tensor:
        """Take one optimiser step; give the loss of this process's share, still on the device."""
        batch = self._begin()
        with self._autocast():
            loss = self.loss(*batch)
        self._update(self.optimizer, loss, self.settings.learning_rate_at(self.done))
        self.done += 1
        self.average(self.done)
        return loss.detach()

    @torch.no_grad()
    def average(self, steps: int) -> None:
        """Move the EMA towards the weights, after so many steps of theirs."""
        decay = min(self.settings.ema, (1 + steps) / (10 + steps))  # short at first, while weights move fast
        torch._foreach_lerp_(self._means, self._weights, 1 - decay)

    def _begin(self) -> tuple[Tensor, Tensor, Tensor]:
        """Begin a step with its batch, outside autocast, since photos are degraded in float32."""
        if self.settings.compile:
            torch.compiler.cudagraph_mark_step_begin()
        return next(self._stream)

    def _update(self, optimizer: torch.optim.Optimizer, loss: Tensor, rate: float) -> None:
        """Take an optimiser's step, by the gradients' averages over the processes, clipped; drop them."""
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss.backward()
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


def _smaller(photos: list[images.Photo], settings: TrainingSettings, scale: int) -> list[images.Photo]:
    """Give the smaller copies of the photos that are large enough for a patch.

    Raises:
        ImageError: a factor leaves none.
    """
    crop, copies = scaled(sides(settings.patch_size), scale), []
    height, width = crop
    for factor in settings.shrink:
        large = [photo for photo in photos if fits(crop, *(round(factor * side) for side in photo.pixels.shape[:2]))]
        if not large:
            raise images.ImageError(
                f"no photo shrunk by {factor} is as large as {height}x{width}: lower patch_size, or leave {factor} out"
            )
        copies += [images.shrink(photo, factor) for photo in large]
    return copies


def fuse(function: Callable[..., Any], settings: TrainingSettings) -> Callable[..., Any]:
    """Have a function of tensors compiled as `compile` says: forward when it is first called, backward in a step."""
    if not settings.compile:
        return function
    return torch.compile(function, mode=None if settings.compile is True else settings.compile)


def place(network: N, device: torch.device) -> N:
    """Move a network to its device, in the memory format that convolutions are fastest in; give it back."""
    return network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def origin(path: Path) -> dict[str, Any]:
    """Describe a checkpoint that a training starts from, for the record: its file's name, its steps and commit."""
    training = checkpoint.read(path)[1].get("training") or {}
    return {"name": path.name, **{key: training[key] for key in ("steps", "commit", "init") if key in training}}
