"""The batched core of both environments: scenes -> LR and true score; actions -> SR, score and reward."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blindsr_env import images as photos
from blindsr_env import sharing
from blindsr_env.actions import checked
from blindsr_env.degradation import degrade
from blindsr_env.kernels import check_width, gaussian, gaussian_profile, least_side
from blindsr_env.patch import PatchSize, scaled, sides
from blindsr_env.scenes import Degradation, Draw, Scenes, SceneSampler
from blindsr_env.scorer import MetricLike, Scorer
from generators import Generator
from generators.nearest import unknown

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

BROKEN_REWARD = -10.0
"""Reward, in units of the metric's score, of a picture that the metric has no finite number for, though it has one for
the true code's: far less than a code near the kernel's earns. It is no bound: NIQE rewards of codes far off are lower
still, to -60 in the corners of the box."""

DegradationLike = str | Mapping[str, Any] | Degradation | None


def dtype_of(name: str) -> torch.dtype:
    """Give the precision of rendering by its name, or raise a ValueError that lists the nearest."""
    if name not in DTYPES:
        raise ValueError(unknown("dtype", name, DTYPES))
    return DTYPES[name]


class BlindSRCore(Scorer):
    """What the two environments share. It has settings and no state but recorded graphs: scenes are handed in and out.

    Args:
        metric: M, a name, a mixture or a metric (see `blindsr_env.metrics`).
        generator: G: None for `amnet`, what `generators.load` takes, or a module.
        images: None for the built-in photos, a folder, a file, or a list of uint8 arrays.
        split: which built-in photos, `"train"` or `"test"`.
        patch_size: side of the LR patch, or its height and width.
        degradation: `"isotropic"`, another kind, a dict of `Degradation`'s fields, or a `Degradation`.
        action: `"code"`, `"free-code"` or `"width"`.
        report: further metrics.
        device: where everything lives.
        dtype: of the rendering, `"float32"`, `"float16"` or `"bfloat16"`.
        gradient: whether `play` also gives the reward's gradient.
        cuda_graphs: whether a GPU's kernels are launched as recorded graphs.
        compile: whether the generator is compiled.

    Raises:
        TypeError: as `BlindSREnv`.
        ValueError: unknown names (with the nearest ones), sizes that do not fit, a device that is not there; a gradient
            is asked for of a metric that has none.
    """

    def __init__(
        self,
        *,
        metric: MetricLike,
        generator: str | os.PathLike[str] | Generator | None,
        images: photos.Source,
        split: str,
        patch_size: PatchSize,
        degradation: DegradationLike,
        action: str,
        report: Sequence[MetricLike],
        device: str | torch.device,
        dtype: str,
        gradient: bool = False,
        cuda_graphs: bool = False,
        compile: bool = False,
    ) -> None:
        self.patch, place, precision = sides(patch_size), sharing.device_of(device), dtype_of(dtype)
        if cuda_graphs and place.type != "cuda":
            raise ValueError(f"cuda_graphs are a GPU's, and the device is {place}: give device='cuda', or leave it out")
        degradation = Degradation.parse(degradation)
        super().__init__(
            sharing.generator(generator, place, precision, compile),
            metric=metric,
            report=report,
            action=action,
            device=place,
            dtype=precision,
            gradient=gradient,
            cuda_graphs=cuda_graphs,
        )
        self.crop = scaled(self.patch, self.scale)
        if min(self.patch) < (least := least_side(self.scale)):
            raise ValueError(
                f"patch_size {patch_size} is too small to blur at scale {self.scale}: take at least {least}"
            )
        for each in self.metrics:
            if each.min_size > min(self.crop):
                raise ValueError(
                    f"metric {each.name!r} needs pictures of at least {each.min_size} pixels, but patch_size "
                    f"{min(self.patch)} gives {min(self.crop)}: take a patch_size of at least "
                    f"{-(-each.min_size // self.scale)}"
                )
        self.pool = sharing.pool(images, split, self.device, self.crop)
        self.sampler = SceneSampler(
            self.pool.names,
            self.pool.heights.cpu().numpy(),
            self.pool.widths.cpu().numpy(),
            crop=self.crop,
            patch=self.patch,
            degradation=degradation,
            width_range=self.codec.width_range,
        )
        self.observation_space = gymnasium.spaces.Box(0, 255, (*self.patch, 3), np.uint8)

    @torch.no_grad()
    def scenes(self, streams: Sequence[np.random.Generator], fixed: Mapping[str, NDArray[Any]] | None = None) -> Scenes:
        """Draw a scene from each stream, degrade it, and render and score its true code.

        Args:
            streams: N generators; each is advanced, or none where an error is raised.
            fixed: what the scenes are not free to choose, from `self.sampler.fix`.

        Raises:
            ValueError: no crop can be what is fixed; or a metric raises it.
        """
        before = [stream.bit_generator.state for stream in streams]
        try:
            return self._drawn(self.sampler.draw(streams, fixed))
        except BaseException:
            for stream, state in zip(streams, before, strict=True):
                stream.bit_generator.state = state
            raise

    def _drawn(self, draw: Draw) -> Scenes:
        """Make scenes of what was drawn on the host."""
        place = self.to_device(np.stack([draw.image, draw.top, draw.left, draw.flip], axis=1))  # (N, 4)
        width = self.to_device(draw.width)  # (N,) float64: the last components of the code are 1e-6 of the first
        image, top, left, flip = place.unbind(1)
        hr = self.pool.crops(image, top, left, self.crop, flip)  # (N, 3, H, W)
        kernel = None if draw.kernel is None else self.to_device(draw.kernel)  # (N, 21, 21) float64
        noise = None if draw.noise is None else self.to_device(draw.noise)
        return self._degraded(hr, place, width, self.to_device(draw.axes), kernel, noise)

    @torch.no_grad()
    def whole(self, photo: NDArray[np.uint8], widths: Sequence[float], *, image: int = 0) -> Scenes:
        """Degrade a whole photo with isotropic kernels, one scene a width, and render and score its true codes.

        Args:
            photo: `(H, W, 3)` uint8, cropped to a multiple of the scale from the top left. It need not be of the pool.
            widths: K kernel widths, HR pixels, above 0.
            image: number of the photo, for `Scenes.place`.

        Returns:
            K scenes of the photo's size, without noise.

        Raises:
            ImageError: the photo is of another shape or dtype.
            ValueError: a width that no kernel of the generator has.
        """
        for each in widths:
            self.check_width(each)
        pixels = photos.load([photo])[0].pixels
        height, breadth = (side - side % self.scale for side in pixels.shape[:2])
        hr = self.to_device(pixels[:height, :breadth].copy()).permute(2, 0, 1)  # (3, H, W)
        width = torch.tensor(widths, dtype=torch.float64, device=self.device)
        place = torch.tensor([[image, 0, 0, 0]], device=self.device).expand(len(widths), -1)
        axes = torch.stack([width, width, torch.zeros_like(width)], dim=1)
        return self._degraded(hr.expand(len(widths), -1, -1, -1), place, width, axes, None, None)

    @torch.no_grad()
    def turned(self, scenes: Scenes, flip: int) -> Scenes:
        """Turn scenes' photos and degrade them anew with the same kernels: what a code wins should not hang on that.

        Args:
            scenes: N of them.
            flip: 0 to 7: bit 0 flips left to right, bit 1 top to bottom, then bit 2 transposes.

        Returns:
            N scenes, `place` being the turned crop's.

        Raises:
            ValueError: another flip, or scenes have noise, which is not known any more.
        """
        if flip not in range(8):
            raise ValueError(f"flip must be 0 to 7, got {flip!r}")
        if self.sampler.degradation.noise:
            raise ValueError("scenes with noise cannot be turned, since their noise is not kept: leave it out")
        hr, (image, top, left, before) = scenes.hr, scenes.place.unbind(1)
        for bit, axis in ((0, 3), (1, 2)):
            hr = hr.flip(axis) if flip >> bit & 1 else hr
        hr = hr.transpose(2, 3) if flip & 4 else hr
        # Where the crop was transposed already, left to right there is top to bottom of the photo.
        swapped = (flip & 1) << 1 | (flip & 2) >> 1
        both = torch.where(before >= 4, (before ^ swapped) ^ (flip & 4), before ^ flip)
        hr = hr.contiguous(memory_format=torch.channels_last)
        width = scenes.width.double()
        # Of a Gaussian the profile does, and gives the LR that `scenes` gave; but options may have fixed other kernels.
        is_gaussian = torch.allclose(gaussian(width).float(), scenes.kernel, rtol=0, atol=1e-6)
        kernel = gaussian_profile(width).float() if is_gaussian else scenes.kernel
        lr = _levels(degrade(hr.float().div_(255), kernel, self.scale))
        (scores,) = self._call(self._score_code, lr, hr, scenes.code)
        return replace(scenes, hr=hr, lr=lr, place=torch.stack([image, top, left, both], dim=1), true_scores=scores)

    def check_width(self, width: float) -> None:
        """Raise a ValueError where a kernel width, HR pixels, lies outside those that the generator knows."""
        check_width(width, self.codec.width_range, self.generator.name)

    def _degraded(
        self, hr: Tensor, place: Tensor, width: Tensor, axes: Tensor, kernel: Tensor | None, noise: Tensor | None
    ) -> Scenes:
        """Make scenes of photos `(N, 3, H, W)` uint8; without kernels, `(N, 21, 21)` float64, isotropic of `width`."""
        filters = gaussian_profile(width) if kernel is None else kernel
        kernel = gaussian(width) if kernel is None else kernel
        seen = _levels(degrade(hr.float().div_(255), filters.float(), self.scale, noise))  # (N, h, w, 3)
        code = self.codec.encode(kernel)
        (scores,) = self._call(self._score_code, seen, hr, code)
        true_action = self.actions.of(code, width)
        return Scenes(hr, seen, place, width.float(), axes.float(), kernel.float(), code, true_action, scores)

    @torch.no_grad()
    def play(self, scenes: Scenes, action: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Render each scene with the code of its action, and compare with the true code's picture (paper, Eq. 8).

        Where the true score is no finite number (NIQE of a flat photo) there is nothing to compare with: the reward is
        0, marked in `invalid`. Where only the chosen code's is none, the action broke the metric: the reward is
        `BROKEN_REWARD`, marked in `broken`. Scores and gains in `info` are given as they are.

        Args:
            scenes: N scenes, of this core or of the one that this is `without_report` of.
            action: `(N, d)` float32, checked by `to_action`; clipped here.

        Returns:
            Rewards `(N,)` float32, and `info`: score, true_score, clipped, invalid, broken, and a score and a gain
            for each metric of the report; with `gradient` also that, `(N, d)` float32: see `BlindSREnv`. All are new
            tensors of length N.
        """
        gradient: Tensor | None = None
        if self.gradient:
            scores, gradient = self._call(self._score_and_climb, scenes.lr, scenes.hr, action)
        else:
            (scores,) = self._call(self._score_action, scenes.lr, scenes.hr, action)
        gain = self.zeta * (scores - scenes.true_scores[:, : scores.shape[1]])
        invalid = ~torch.isfinite(scenes.true_scores[:, 0])
        broken = ~torch.isfinite(scores[:, 0]) & ~invalid
        info = {
            "score": scores[:, 0].clone(),
            "true_score": scenes.true_scores[:, 0].clone(),
            "clipped": (action.abs() > 1).sum(dim=1),
            "invalid": invalid,
            "broken": broken,
        }
        if gradient is not None:
            lost = (invalid | broken)[:, None] | ~gradient.isfinite().all(1, keepdim=True)  # see BlindSREnv
            info["gradient"] = gradient.masked_fill(lost, 0.0)
        for r, metric in enumerate(self.report, start=1):
            info[f"score_{metric.name}"] = scores[:, r].clone()
            info[f"gain_{metric.name}"] = gain[:, r].clone()
        return gain[:, 0].masked_fill(invalid, 0.0).masked_fill(broken, BROKEN_REWARD), info

    def info(self, scenes: Scenes) -> dict[str, Tensor]:
        """What `info` says of scenes at their reset: new tensors of length N."""
        info = {
            "image": scenes.place[:, 0].clone(),
            "crop": scenes.place[:, 1:3].clone(),
            "flip": scenes.place[:, 3].clone(),
            "width": scenes.width.clone(),
            "true_action": scenes.true_action.clone(),
            "true_score": scenes.true_scores[:, 0].clone(),
        }
        kind = self.sampler.degradation.kind
        if kind == "anisotropic":
            info |= {"widths": scenes.axes[:, :2].clone(), "angle": scenes.axes[:, 2].clone()}
        if kind == "kernel":
            info["kernel"] = scenes.kernel.clone()
        return info

    def to_action(self, action: Any, shape: tuple[int, ...]) -> Tensor:
        """Check an action, or a batch of them, and bring it to the device; see `actions.checked`."""
        if isinstance(action, Tensor) and self.device.type == "cpu":
            action = action.cpu()  # of a policy on a GPU: waits for it, so that it can be looked at here
        return self._move(checked(action, shape))

    def to_device(self, array: NDArray[Any]) -> Tensor:
        """Bring a host array to the device without waiting for it; on the CPU the tensor shares its memory."""
        return self._move(torch.from_numpy(array))

    def _move(self, x: Tensor) -> Tensor:
        if x.device == self.device:
            return x
        if self.device.type != "cuda":
            return x.to(self.device)
        # From pageable memory a copy would wait for all work before it; from pinned memory it queues behind it.
        return (x if x.is_cuda else x.pin_memory()).to(self.device, non_blocking=True)

    @torch.no_grad()
    def pictures(self, scenes: Scenes, action: Tensor) -> dict[str, NDArray[Any]]:
        """What a rendering shows of each scene, on the host.

        Args:
            scenes: N scenes.
            action: `(N, d)`.

        Returns:
            `lr`, `sr`, `true` (SR with the true code) and `hr`, each `(N, height, width, 3)` uint8; `kernel` (true) and
            `chosen`, `(N, 21, 21)` float32; `scores` and `true_scores`, `(N, 1 + R)` float32.
        """
        action = action.clamp(-1, 1)
        sr = self.render(scenes.lr, action)
        true = self.render_code(scenes.lr, scenes.code)

        shown = {
            "lr": scenes.lr,
            "sr": _levels(sr),
            "true": _levels(true),
            "hr": scenes.hr.permute(0, 2, 3, 1),
            "kernel": scenes.kernel,
            "chosen": self.actions.kernel(action),
            "scores": self.scores(sr, scenes.hr),
            "true_scores": scenes.true_scores,
        }
        return {name: x.cpu().numpy() for name, x in shown.items()}


def _levels(pictures: Tensor) -> Tensor:
    """Give pictures in [0, 1], `(N, 3, h, w)`, as agents and people see them: `(N, h, w, 3)` uint8."""
    return (pictures * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
