"""From photos and codes to pictures and scores, and from scores back to the action."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self

import torch
from torch import Tensor

from blindsr_env import metrics
from blindsr_env.actions import ActionSpace
from blindsr_env.degradation import quantize
from blindsr_env.exact import exact
from blindsr_env.metrics import Metric
from blindsr_env.metrics.metric import apart
from blindsr_env.recording import Function, Recordings
from generators import AMNet, ByKernel, Generator, Wrapper
from generators.compiled import compiling

CLIMBING_ROWS = {"cpu": 8, "cuda": 32}
"""Scenes whose gradient is found at once, by device: what the generator's layers keep for it is large."""

SCORED_ROWS = {"cpu": 16}
"""Scenes that are rendered and scored at once, by device; all of them elsewhere."""

SLOPE_ROWS = {"cpu": 2}
"""Pictures whose slopes are found at once, by device, all of a part elsewhere: what the metric keeps of so few is still
in a CPU's cache on the way back."""

SLOPE_NORM = 1.0
"""Length of a picture's slopes on their way back through the generator, whatever the metric's: float16 holds those."""

MetricLike = str | Metric | metrics.Recipe


class Scorer:
    """A frozen generator and the metrics that rate its pictures.

    Args:
        generator: G, on its device.
        metric: M, a name, a mixture or a metric (see `blindsr_env.metrics`).
        report: further metrics.
        action: what the agent chooses, `"code"`, `"free-code"` or `"width"`.
        device: the generator's.
        dtype: of the rendering.
        gradient: whether scores are also followed back to the action.
        cuda_graphs: whether a GPU's kernels are launched as recorded graphs.

    Raises:
        ValueError: unknown names (with the nearest ones); a metric is named twice; a gradient is asked for of a metric
            that has none.
    """

    @torch.inference_mode(False)  # the caller's, whose tensors no gradient could pass later
    def __init__(
        self,
        generator: Generator,
        *,
        metric: MetricLike,
        report: Sequence[MetricLike],
        action: str,
        device: torch.device,
        dtype: torch.dtype,
        gradient: bool,
        cuda_graphs: bool,
    ) -> None:
        self.generator, self.device, self.dtype, self.gradient = generator, device, dtype, gradient
        self.codec, self.scale = generator.codec, generator.scale
        self.actions = ActionSpace(action, self.codec)
        self.action, self.action_space = self.actions.kind, self.actions.box
        if isinstance(report, str) or not isinstance(report, Iterable):
            right = [report] if isinstance(report, str) else []
            raise TypeError(f"report must be a list of metrics, got {report!r}: write {right}")
        self.metric = metrics.get(metric, scale=self.scale, device=device)
        if gradient and not metrics.differentiable(self.metric):
            raise ValueError(
                f"the metric {self.metric.name!r} has no gradient: leave gradient=True out, or, if its call can be "
                "followed backwards, set differentiable = True on it"
            )
        self.report = tuple(metrics.get(name, scale=self.scale, device=device) for name in report)
        named = [m.name for m in self.metrics]
        for name in named:
            if named.count(name) > 1:
                raise ValueError(f"the metric {name!r} is named twice: name each once in metric and report together")
        zeta = [-1.0 if m.lower_is_better else 1.0 for m in self.metrics]
        self.zeta = torch.tensor(zeta, dtype=torch.float32, device=device)  # (1 + R,)
        self._recordings = Recordings() if cuda_graphs else None

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The reward's metric and each of the report's, in the order in which pictures are scored."""
        return (self.metric, *self.report)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Share with the copy what is never written to, such as networks and photos: an environment's copy is light."""
        other = copy.copy(self)
        other._recordings = copy.copy(self._recordings)
        return other

    def without_report(self) -> Self:
        """Give a copy with the reward's metric alone, which plays the same scenes, for less."""
        lean = copy.deepcopy(self)
        lean.report, lean.zeta = (), self.zeta[:1]
        return lean

    def _call(self, function: Function, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Call one of the three ways from photos to scores, plainly or as a recorded graph."""
        return function(*inputs) if self._recordings is None else self._recordings(function, *inputs)

    def _score_code(self, seen: Tensor, hr: Tensor, code: Tensor) -> tuple[Tensor]:
        """Render scenes with their true codes, and score the pictures: `(N, 1 + R)`."""
        return (self._in_parts(self.render_code, seen, hr, code),)

    def _score_action(self, seen: Tensor, hr: Tensor, action: Tensor) -> tuple[Tensor]:
        """Render scenes with the codes of actions, and score the pictures: `(N, 1 + R)`."""
        return (self._in_parts(self.render, seen, hr, action),)

    def _in_parts(self, render: Callable[[Tensor, Tensor], Tensor], seen: Tensor, hr: Tensor, code: Tensor) -> Tensor:
        """Render and score, on a CPU few scenes at a time, so that pictures are scored before they leave its cache."""
        rows = SCORED_ROWS.get(self.device.type, len(seen))
        if len(seen) <= rows:
            return self.scores(render(seen, code), hr)
        parts = zip(seen.split(rows), hr.split(rows), code.split(rows), strict=True)
        return torch.cat([self.scores(render(lr, each), reference) for lr, reference, each in parts])

    def _score_and_climb(self, seen: Tensor, hr: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Render scenes with the codes of actions, score the pictures, and follow the reward back to the action.

        Returns:
            Scores `(N, 1 + R)`, and the reward's gradient at the clipped action, `(N, d)`.
        """
        rows = CLIMBING_ROWS.get(self.device.type, CLIMBING_ROWS["cpu"])
        parts = zip(seen.split(rows), hr.split(rows), action.clamp(-1, 1).split(rows), strict=True)
        scores, gradients = zip(*(self._climb_part(*part) for part in parts), strict=True)
        return torch.cat(scores), torch.cat(gradients)

    def _climb_part(self, seen: Tensor, hr: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        # Out of the caller's inference mode too, whose tensors no gradient may pass.
        with torch.inference_mode(False), torch.enable_grad():
            seen, hr, action = (x.clone() if x.is_inference() else x for x in (seen, hr, action))
            action = action.detach().requires_grad_()
            sr = self._sr(seen, self.actions.generator_input(action), free=self.action == "free-code")
            if not sr.requires_grad:
                raise ValueError(self._without_gradient())
            reference = hr.float() / 255 if self.metric.needs_reference else None
            with exact(self.device):
                rows = SLOPE_ROWS.get(sr.device.type, len(sr))
                pictures = sr.detach().split(rows)
                references = [None] * len(pictures) if reference is None else reference.split(rows)
                each = [self._slopes(*pair) for pair in zip(pictures, references, strict=True)]
                score, slopes = (torch.cat(values) for values in zip(*each, strict=True))
                length = torch.linalg.vector_norm(slopes, dim=(1, 2, 3)) / SLOPE_NORM
                length += length == 0
                slopes = slopes / length[:, None, None, None]
                with compiling("leave compile=True out"):  # a compiled generator's backward pass is when it first runs
                    (gradient,) = torch.autograd.grad(sr, action, slopes, allow_unused=True)
                if gradient is None:
                    raise ValueError(self._without_gradient())
                gradient = gradient * length[:, None]
        with torch.no_grad():
            others = self.scores(sr.detach(), hr, self.report)
            return torch.cat([score[:, None], others], dim=1), gradient

    def _without_gradient(self) -> str:
        return (
            f"{self.generator.name}'s pictures have no gradient with respect to the action: leave gradient out, or "
            "take an agent that needs rewards alone"
        )

    def _slopes(self, picture: Tensor, reference: Tensor | None) -> tuple[Tensor, Tensor]:
        """Score pictures `(N, 3, S, S)`: `(N,)`, and the reward's slope in each of their numbers."""
        picture = picture.requires_grad_()
        score = _score(self.metric, picture, reference)
        if not score.requires_grad:
            raise ValueError(
                f"the metric {self.metric.name!r} says differentiable = True, but its scores have no gradient: its "
                "call must not detach them"
            )
        return score.detach(), torch.autograd.grad(self.zeta[0] * score.sum(), picture)[0]

    @torch.no_grad()
    def render(self, seen: Tensor, action: Tensor) -> Tensor:
        """Render low-resolution pictures of any size with the codes of actions.

        Args:
            seen: `(N, h, w, 3)` uint8.
            action: `(N, d)` float32 in the environment's action space; clipped.

        Returns:
            `(N, 3, s h, s w)`, 8-bit levels as float32 in [0, 1].
        """
        return self._sr(seen, self.actions.generator_input(action.clamp(-1, 1)), free=self.action == "free-code")

    @torch.no_grad()
    def render_code(self, seen: Tensor, code: Tensor) -> Tensor:
        """Render low-resolution pictures of any size with kernels' own codes, whatever the environment's action space.

        Args:
            seen: `(N, h, w, 3)` uint8.
            code: `(N, 15)`, the generator's actions, as `codec.encode` gives them; not clipped, since the code of a
                kernel outside the codec's family may lie outside the box.

        Returns:
            `(N, 3, s h, s w)`, 8-bit levels as float32 in [0, 1].
        """
        return self._sr(seen, code)

    def _sr(self, seen: Tensor, code: Tensor, free: bool = False) -> Tensor:
        """Render LR `(N, h, w, 3)` uint8 to what a viewer sees: `(N, 3, S, S)`, 8-bit levels as float32 in [0, 1]."""
        lr = seen.permute(0, 3, 1, 2).float() / 255  # channels_last, as the observation lies in memory
        # Ours take photos in float32 whatever their own dtype is.
        if not isinstance(self.generator, AMNet | ByKernel | Wrapper):
            lr = lr.to(self.dtype)
        with exact(self.device):
            sr = self.generator.render(lr, code) if free else self.generator(lr, code)
            if not sr.requires_grad:
                return quantize(sr)
            clamped = sr.float().clamp(0, 1)
            # Rounded, with the gradient of the unrounded picture.
            return quantize(sr.detach()) + (clamped - clamped.detach())

    def scores(self, sr: Tensor, hr: Tensor, by: Sequence[Metric] | None = None) -> Tensor:
        """Score pictures.

        Args:
            sr: `(N, 3, H, W)` float32, 8-bit levels in [0, 1].
            hr: their references, `(N, 3, H, W)` uint8; looked at only by metrics that need one.
            by: metrics, M of them; the core's own and each of the report's where None.

        Returns:
            `(N, M)` float32.
        """
        every = self.metrics if by is None else by
        if not every:
            return sr.new_empty(len(sr), 0)
        reference = hr.float() / 255 if any(m.needs_reference for m in every) else None
        with exact(self.device):
            scores = [_score(m, sr, reference if m.needs_reference else None) for m in every]
        return torch.stack(scores, dim=1)


def _score(metric: Metric, sr: Tensor, reference: Tensor | None) -> Tensor:
    """Score pictures by one metric, `(N,)` float32."""
    return _checked(metric, metric(*apart(metric, sr, reference)), len(sr), sr.device)


def _checked(metric: Metric, scores: Any, count: int, device: torch.device) -> Tensor:
    """Return a metric's scores of so many pictures in float32, or raise a ValueError where they are no such tensor."""
    if not isinstance(scores, Tensor) or scores.shape != (count,):
        what = f"a tensor of shape {tuple(scores.shape)}" if isinstance(scores, Tensor) else type(scores).__name__
        raise ValueError(
            f"the metric {metric.name!r} gave {what} for {count} pictures: it must give a tensor of shape ({count},), "
            "one score for each"
        )
    if scores.device != device:
        raise ValueError(
            f"the metric {metric.name!r} gave scores on {scores.device} of pictures on {device}: "
            "return scores.to(sr.device)"
        )
    return scores.float()
