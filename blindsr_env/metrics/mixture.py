"""Mixed metrics: `"niqe+0.1*psnr"` is NIQE with PSNR as a guard.

The score of w_1 M_1 + ... + w_n M_n, all w_i above 0, is

    M = sum_i o_i w_i M_i,   o_i = 1 where M_i has the direction of M_1, else -1,

and its direction is M_1's. So a plus always means that better in M_i is better, and with zeta_i the sign that makes
larger better, the reward (paper, Eq. 8) is the weighted sum of the parts' own: zeta (M - M') = sum_i w_i zeta_i (M_i -
M_i'). For `"niqe+0.1*psnr"`, lower is better and the score is NIQE - 0.1 PSNR: one dB is worth 0.1 NIQE.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from numbers import Real

import torch
from torch import Tensor

from blindsr_env.metrics.metric import Metric, apart, differentiable

Recipe = Mapping[str, float] | Sequence[str]
"""A mixture as settings hold it: `{"niqe": 1, "psnr": 0.1}` or `["niqe", "0.1*psnr"]`."""

HINT = "a mixture is written as 'niqe+0.1*psnr', where + means that better is better, whichever the metric's direction"

_WEIGHT = re.compile(r"\s*(-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*\*\s*")
_PLUS = re.compile(r"\s*\+")


class Mixture:
    """A weighted sum of metrics that all pull the same way.

    Attributes:
        name: the terms, weights of 1 left out: `niqe+0.1*psnr`.
        lower_is_better: the first part's.
        needs_reference: whether any part does.
        min_size: the largest of the parts'.
        differentiable: whether all parts are.
        parts: weight and metric.

    Args:
        parts: weight (above 0) and metric, at least one; no metric twice.

    Raises:
        ValueError: no part, a metric twice, or a weight that is no finite number above 0.
    """

    def __init__(self, parts: Sequence[tuple[float, Metric]]) -> None:
        if not parts:
            raise ValueError(f"a mixture needs at least one metric: {HINT}")
        names = [metric.name for _, metric in parts]
        for (weight, _), name in zip(parts, names, strict=True):
            if not (isinstance(weight, Real) and math.isfinite(weight) and weight > 0):
                raise ValueError(f"the weight of {name!r} must be a finite number above 0, got {weight!r}: {HINT}")
            if names.count(name) > 1:
                raise ValueError(f"the metric {name!r} is twice in the mixture: name it once with the sum of weights")
        self.parts = tuple((float(weight), metric) for weight, metric in parts)
        self.name = "+".join(m.name if weight == 1 else f"{_text(weight)}*{m.name}" for weight, m in self.parts)
        self.lower_is_better = parts[0][1].lower_is_better
        self.needs_reference = any(metric.needs_reference for _, metric in parts)
        self.min_size = max(metric.min_size for _, metric in parts)
        self.differentiable = all(differentiable(metric) for _, metric in parts)

    def __call__(self, sr: Tensor, hr: Tensor | None = None) -> Tensor:
        """Score `sr`, `(N, 3, H, W)` in [0, 1], against `hr` where a part needs it: `(N,)` float32."""
        scores = []
        for weight, metric in self.parts:
            sign = 1.0 if metric.lower_is_better == self.lower_is_better else -1.0
            scores.append(sign * weight * metric(*apart(metric, sr, hr if metric.needs_reference else None)).float())
        return torch.stack(scores).sum(0)


def _text(weight: float) -> str:
    """Write a weight as briefly as it can be read back."""
    brief = f"{weight:g}"
    return brief if float(brief) == weight else repr(weight)


def terms(recipe: str | Recipe, known: Collection[str], prefixes: tuple[str, ...]) -> list[tuple[float, str]]:
    """Read a mixture: TERM + TERM + ..., each `NAME` or `WEIGHT*NAME`, spaces as one likes.

    Names may hold `+` and `*` themselves. A known name is taken as a whole, the longest that fits. A name that begins
    with one of `prefixes` (`pyiqa:clipiqa+`, `lpips@a+b`) ends at the first `+` that is followed by a weight, a known
    name or a prefix; where a file's path looks like that, a list or a dict says what is meant. All other names end at
    the next `+`.

    Args:
        recipe: a string, a list of terms, or a dict of weights by name.
        known: registered names.
        prefixes: of names whose rest is free.

    Returns:
        Weight and name of each term, names not checked.

    Raises:
        TypeError: a list of something else than terms, or a dict of something else than names.

    Example:
        >>> terms("niqe + 0.1*pyiqa:clipiqa+", ["niqe", "psnr"], ("pyiqa:",))
        [(1.0, 'niqe'), (0.1, 'pyiqa:clipiqa+')]
    """
    if isinstance(recipe, Mapping):
        for name in recipe:
            if not isinstance(name, str):
                raise TypeError(f"a mixture's dict holds names and weights, got the name {name!r}: {HINT}")
        return [(weight, name) for name, weight in recipe.items()]
    if not isinstance(recipe, str):
        for term in recipe:
            if not isinstance(term, str):
                raise TypeError(f"a mixture's list holds terms such as '0.1*psnr', got {term!r}: {HINT}")
        return [_weighted(term, known) for term in recipe]
    found = []
    rest: str | None = recipe
    while rest is not None:
        weight, rest = _weighted(rest, known)
        end = _end_of_name(rest, known, prefixes)
        found.append((weight, rest[:end].rstrip()))
        plus = _PLUS.match(rest, end)
        rest = rest[plus.end() :] if plus else None
    return found


def _weighted(text: str, known: Collection[str]) -> tuple[float, str]:
    """Take the weight off the front of a term, unless it belongs to a known name."""
    text = text.strip()
    weight = _WEIGHT.match(text)
    if weight is None or any(_begins(text, name) for name in known):
        return 1.0, text
    return float(weight[1]), text[weight.end() :]


def _end_of_name(text: str, known: Collection[str], prefixes: tuple[str, ...]) -> int:
    """Find where the name ends that `text` begins with."""
    whole = [len(name) for name in known if _begins(text, name)]
    if whole:
        return max(whole)
    for plus in _PLUS.finditer(text):
        following = text[plus.end() :].lstrip()
        if not text.startswith(prefixes) or following.startswith(prefixes) or _WEIGHT.match(following):
            return plus.start()
        if any(_begins(following, name) for name in known):
            return plus.start()
    return len(text)


def _begins(text: str, name: str) -> bool:
    """Whether `text` is `name`, or `name` and a plus."""
    rest = text[len(name) :]
    return text.startswith(name) and (not rest.strip() or _PLUS.match(rest) is not None)
