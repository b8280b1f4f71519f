"""Training of AMGAN: a trained AMNet goes on with L1 + perceptual + realness adversarial loss (paper, section 4.1).

We add a fourth term, which keeps G from printing a pattern instead of texture.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from blindsr_env.metrics.grid import Grid
from blindsr_env.metrics.squeezenet import MIN_SIZE
from blindsr_env.patch import sides
from experiments import adam, options
from experiments.counts import at_least
from experiments.discriminator import Discriminator
from experiments.perceptual import PerceptualLoss
from experiments.realness import Realness
from experiments.train_generator import GeneratorTrainer, TrainGenerator, run
from experiments.trainer import fuse, place

TERMS = ("l1", "perceptual", "adversarial", "grid", "discriminator", "realness_hr", "realness_sr")
"""What is reported: G's four terms unweighted, D's loss, and D's mean level of realness for HR and for SR."""


@dataclass(frozen=True, kw_only=True)
class TrainGan(TrainGenerator):
    """Settings of `blindsr train-gan`, which extend those of `blindsr train-generator`.

    Attributes:
        init: AMNet of the same scale to start from: a name (`amnet`, `amnet_l`, `amnet_s`, `amnet_s_open`,
            `amnet_s_x2`) or a checkpoint file.
        perceptual: file with the weights of VGG19 or SqueezeNet 1.1 for the perceptual loss; required unless
            `perceptual_weight` is 0.
        l1_weight: weight of the L1 loss.
        perceptual_weight: weight of the perceptual loss.
        adversarial_weight: weight of the realness adversarial loss.
        grid_weight: weight of the grid loss, the share of the picture's fine detail that repeats with the pixel
            shuffle. Without it the generator's cheapest texture is a printed pattern: within 500 steps `grid` reached
            16 times a photo's own, and NIQE liked it.
        discriminator_width: channels of the discriminator at full resolution.
        outcomes: number of realness levels that the discriminator distinguishes.
        discriminator_learning_rate: peak learning rate of the discriminator, which follows the generator's schedule.
        discriminator_warmup: initial steps during which only the discriminator learns.
    """

    output: str = "runs/gan"
    init: str | None = "amnet"
    batch_size: int = 16
    learning_rate: float = 1e-4
    perceptual: str | None = None
    l1_weight: float = 1.0
    perceptual_weight: float = 0.1
    adversarial_weight: float = 0.005
    grid_weight: float = 100.0
    discriminator_width: int = 64
    outcomes: int = 51
    discriminator_learning_rate: float = 1e-4
    discriminator_warmup: int = 500

    def __post_init__(self) -> None:
        """Refuse invalid settings."""
        super().__post_init__()
        for name in ("l1_weight", "perceptual_weight", "adversarial_weight", "grid_weight", "discriminator_warmup"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        if not self.discriminator_learning_rate > 0:
            raise ValueError(f"discriminator_learning_rate must be above 0, got {self.discriminator_learning_rate}")
        at_least(1, self, "discriminator_width")
        if self.outcomes < 2:
            raise ValueError(f"outcomes must be at least 2, got {self.outcomes}")
        if self.init is None:
            raise ValueError("init is missing: AMGAN starts from a trained AMNet, give its name or checkpoint")
        if self.perceptual is None and self.perceptual_weight > 0:
            raise ValueError(
                "perceptual is missing: give a weight file of VGG19 or SqueezeNet 1.1, or perceptual_weight=0"
            )
        least = -(-(MIN_SIZE - 1) // self.scale) + 1  # what is left of HR when shifted, see GanTrainer
        if min(sides(self.patch_size)) < least:
            raise ValueError(f"patch_size must be at least {least}, got {self.patch_size}")

    def learning_rate_at(self, step: int) -> float:
        """G's learning rate: 0 while D learns alone, then the schedule's, with a warm-up of its own in place of its."""
        if step < self.discriminator_warmup:
            return 0.0
        ramp = min(1.0, (step - self.discriminator_warmup + 1) / max(1, self.warmup))
        # The cosine begins after a warm-up of its own, the halving schedule has none.
        return ramp * super().learning_rate_at(step if self.schedule == "halving" else max(step, self.warmup))

    def discriminator_learning_rate_at(self, step: int) -> float:
        """D's learning rate of a step, counted from 0."""
        return super().learning_rate_at(step) * self.discriminator_learning_rate / self.learning_rate


class GanTrainer(GeneratorTrainer):
    """Trains G against D: at each step G first, then D on the very pictures that G made.

    Args:
        settings: of the training.

    Raises:
        ValueError: `init` is for another scale.
    """

    across_scales = False
    settings: TrainGan

    def __init__(self, settings: TrainGan) -> None:
        super().__init__(settings)
        self.network.name = self.ema.name = self.network.name.replace("amnet", "amgan")
        self.discriminator = place(Discriminator(settings.discriminator_width, settings.outcomes), self.device)
        self._judge = fuse(self.discriminator, settings)
        self.discriminator_optimizer = torch.optim.Adam(
            self.discriminator.parameters(), lr=0.0, betas=settings.betas, fused=True
        )
        self.turns = frozenset({settings.discriminator_warmup})
        self.realness = Realness(settings.outcomes, self.device)
        self._grid = Grid(settings.scale)
        self.perceptual = None
        if settings.perceptual is not None and settings.perceptual_weight > 0:
            self.perceptual = PerceptualLoss(settings.perceptual, self.device)
        self._seen = torch.zeros(2, len(TERMS), device=self.device)  # sums since the last report, and their counts

    def step(self) -> Tensor:
        """Take one step of G, unless D learns alone, and one of D; give the sum of their losses, on the device."""
        settings = self.settings
        hr, lr, kernel = self._begin()
        hr = hr.contiguous(memory_format=torch.channels_last)
        alone = self.done < settings.discriminator_warmup
        terms, real, fake = self._compared(hr, lr, kernel, alone)
        loss = torch.zeros((), device=self.device) if alone else self._weighted(terms)
        judged = self.realness.discriminator_loss(real, fake)
        if not alone:
            self._update(self.optimizer, loss, settings.learning_rate_at(self.done))
        rate = settings.discriminator_learning_rate_at(self.done)
        self._update(self.discriminator_optimizer, judged, rate)
        self.done += 1
        if not alone:
            self.average(self.done - settings.discriminator_warmup)
        with torch.no_grad():
            terms |= {"discriminator": judged}
            terms |= {"realness_hr": self.realness.mean_level(real), "realness_sr": self.realness.mean_level(fake)}
            for column, name in enumerate(TERMS):
                if name in terms:
                    self._seen[0, column] += terms[name]
                    self._seen[1, column] += 1
        return (loss + judged).detach()

    def loss(self, hr: Tensor, lr: Tensor, kernel: Tensor) -> Tensor:
        """G's loss: L1, perceptual and realness adversarial loss and grid, weighted."""
        return self._weighted(self._compared(hr, lr, kernel, alone=False)[0])

    def work(self, hr: Tensor, lr: Tensor, kernel: Tensor) -> None:
        """Compute what a step of a batch computes, and change nothing."""
        alone = self.done < self.settings.discriminator_warmup
        self.discriminator.eval()  # else its power iterations go on
        terms, real, fake = self._compared(hr, lr, kernel, alone)
        if not alone:
            torch.autograd.grad(self._weighted(terms), list(self.network.parameters()), allow_unused=True)
        # The counter's hooks on the spectral norms know backward() alone, not autograd.grad().
        self.realness.discriminator_loss(real, fake).backward()
        self.discriminator.train().zero_grad(set_to_none=True)

    def networks(self) -> list[nn.Module]:
        """List the networks that must be equal on all processes."""
        return [*super().networks(), self.discriminator]

    def report(self) -> dict[str, float]:
        """Give the means of `TERMS` since the last report; terms that did not occur are left out."""
        total, count = self._seen.tolist()
        self._seen.zero_()
        return {name: round(t / n, 5) for name, t, n in zip(TERMS, total, count, strict=True) if n}

    def state(self) -> dict[str, dict[str, Tensor]]:
        """Give every tensor that an exact continuation needs, by part."""
        first, second = adam.moments(self.discriminator, self.discriminator_optimizer)
        return {
            **super().state(),
            "discriminator": dict(self.discriminator.state_dict()),
            "discriminator_moment1": first,
            "discriminator_moment2": second,
            "report": {"seen": self._seen},
        }

    def load_state(self, parts: dict[str, dict[str, Tensor]], step: int) -> None:
        """Continue from what `state` gave after `step` steps.

        Raises:
            ValueError: the state is of other networks.
        """
        super().load_state(parts, step)
        try:
            self.discriminator.load_state_dict(parts["discriminator"])
        except (KeyError, RuntimeError):
            raise ValueError(
                f"the run in {self.settings.output} trains another discriminator: give another output folder"
            ) from None
        for moments in self.optimizer.state.values():  # Adam counts G's own steps
            moments["step"].fill_(max(0, step - self.settings.discriminator_warmup))
        first, second = parts["discriminator_moment1"], parts["discriminator_moment2"]
        adam.restore(self.discriminator, self.discriminator_optimizer, first, second, step)
        self._seen.copy_(parts["report"]["seen"])

    def _compared(
        self, hr: Tensor, lr: Tensor, kernel: Tensor, alone: bool
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Render a batch: G's terms, unless D learns alone, and D's logits of HR and of SR with a gradient to D alone.

        D judges both in one batch, so that its power iterations go on once; G's terms then take it as it stands.
        """
        with self._autocast():
            with torch.set_grad_enabled(not alone):
                sr = self.render(lr, kernel)
            real, fake = self._judge(self._shifted(torch.cat([hr, sr.detach()]))).chunk(2)
            return {} if alone else self._terms(sr, hr, real), real, fake

    def _terms(self, sr: Tensor, hr: Tensor, real: Tensor) -> dict[str, Tensor]:
        """G's terms, unweighted; D judges as it is, as it judged HR, and learns nothing from it."""
        terms = {"l1": F.l1_loss(sr.float(), hr), "grid": self._grid(sr).mean()}
        sr, hr = self._shifted(sr), self._shifted(hr)
        if self.perceptual is not None:
            terms["perceptual"] = self.perceptual(sr, hr)
        training = self.discriminator.training
        self.discriminator.requires_grad_(False).eval()
        terms["adversarial"] = self.realness.generator_loss(real, self._judge(sr))
        self.discriminator.requires_grad_(True).train(training)
        return terms

    def _shifted(self, x: Tensor) -> Tensor:
        """Cut up to s - 1 pixels off two sides, and the rest off the others: another phase at each step, all in turn.

        Networks with strides have a gradient that repeats with them, and each pixel of G's s x s has weights of its
        own: at one phase G would learn to print a grid. A sixth of the energy of D's gradient was one and the same
        s x s pattern on all patches, and G's grid rose from 4e-5 to 1.5e-3 in 270 steps of 4 patches.
        """
        scale = self.settings.scale
        top, left = self.done // scale % scale, self.done % scale
        height, width = (side - scale + 1 for side in x.shape[-2:])
        return x[..., top : top + height, left : left + width]

    def _weighted(self, terms: dict[str, Tensor]) -> Tensor:
        settings = self.settings
        loss = settings.l1_weight * terms["l1"] + settings.adversarial_weight * terms["adversarial"]
        loss = loss + settings.grid_weight * terms["grid"]
        return loss + settings.perceptual_weight * terms["perceptual"] if "perceptual" in terms else loss


def train_gan(settings: TrainGan) -> Path:
    """Train AMGAN, or resume the run in the output folder.

    Returns:
        The checkpoint of G's EMA weights, `generator.safetensors` in the output folder.

    Raises:
        ImageError: the training photos cannot be used.
        CheckpointError: the folder's state, or the generator to start from, cannot be read.
        ValueError: the perceptual weights cannot be used, or `init` is for another scale.
        OSError: another process is training in the folder.
    """
    return run(settings, GanTrainer)


if __name__ == "__main__":
    options.main(TrainGan, train_gan)
