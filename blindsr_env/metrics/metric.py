"""What a metric is: four attributes and a call; and the checks that every metric of ours begins with."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor

ATTRIBUTES = ("name", "lower_is_better", "needs_reference", "min_size")


@runtime_checkable
class Metric(Protocol):
    """A picture's score. Any callable with these attributes is one.

    Attributes:
        name: what tables and `info` call it.
        lower_is_better: True for NIQE, False for PSNR: the sign of the reward.
        needs_reference: whether `hr` must be given.
        min_size: the smallest height and width in pixels that it can score.

    A metric whose call autograd can follow says so by one more, `differentiable = True`; see `differentiable`.
    """

    name: str
    lower_is_better: bool
    needs_reference: bool
    min_size: int

    def __call__(self, sr: Tensor, hr: Tensor | None = None) -> Tensor:
        """Score a batch, each picture for itself.

        Args:
            sr: pictures `(N, 3, H, W)`, RGB, floating point in [0, 1].
            hr: what they should look like, the same shape; metrics without a reference ignore it.

        Returns:
            `(N,)` float32 on the device of `sr`. The same pictures always give the same scores.
        """
        ...


def differentiable(metric: Metric) -> bool:
    """Whether scores of pictures that require a gradient have one."""
    return bool(getattr(metric, "differentiable", False))


def apart(metric: Metric, sr: Tensor, hr: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Give pictures as they are to a metric of ours, copies to any other: it may work in place, and others score on."""
    if type(metric).__module__.startswith(f"{__package__}."):
        return sr, hr
    return sr.clone(), None if hr is None else hr.clone()


def check(metric: Metric, sr: Tensor, hr: Tensor | None = None) -> None:
    """Raise one clear line if `metric` cannot score these pictures. Looks at shapes only: never waits for the device.

    Raises:
        TypeError: the pictures are no floating-point tensor.
        ValueError: wrong shape, pictures below the metric's minimum, a missing or different-sized reference.
    """
    if not isinstance(sr, Tensor) or not sr.is_floating_point():
        what = f"a {sr.dtype} tensor" if isinstance(sr, Tensor) else type(sr).__name__
        raise TypeError(f"{metric.name}: pictures must be a float tensor in [0, 1], got {what}")
    if sr.ndim != 4 or sr.shape[1] != 3:
        raise ValueError(f"{metric.name}: pictures must have shape (N, 3, H, W), got {tuple(sr.shape)}")
    height, width = sr.shape[-2:]
    if min(height, width) < metric.min_size:
        raise ValueError(
            f"{metric.name}: pictures must be at least {metric.min_size}x{metric.min_size} pixels, got {height}x{width}"
        )
    if not metric.needs_reference:
        return
    if hr is None:
        raise ValueError(f"{metric.name}: compares with a reference; pass the HR pictures as the second argument")
    if hr.shape != sr.shape:
        raise ValueError(
            f"{metric.name}: SR and HR must have the same shape, got {tuple(sr.shape)} and {tuple(hr.shape)}"
        )
