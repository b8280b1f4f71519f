"""CUDA graphs: a function of tensors is recorded once for each shape of them, and replayed from then on.

A rendering with its score is a thousand small kernels, which a GPU finishes sooner than the host can ask for them one
by one. Replayed, they are asked for at once; they are the same kernels, so the numbers are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

KEPT = 6
"""Graphs that are kept at a time: each holds all memory that its function needs."""

WARM_UP = 2
"""Calls before recording: libraries set themselves up in the first, which cannot be recorded."""

Function = Callable[..., tuple[Tensor, ...]]


@dataclass(frozen=True)
class _Graph:
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    graph: torch.cuda.CUDAGraph

    def replay(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        for mine, given in zip(self.inputs, inputs, strict=True):
            mine.copy_(given)
        self.graph.replay()
        return tuple(x.clone() for x in self.outputs)


class Recordings:
    """CUDA graphs by what was called, and with which shapes."""

    def __init__(self) -> None:
        self._graphs: dict[tuple[Any, ...], _Graph] = {}

    def __call__(self, function: Function, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Call a function by its graph, which is recorded where there is none yet.

        Args:
            function: of tensors on one GPU, giving tensors there; known by its name. It must not wait for the device,
                nor draw random numbers. What else it uses must stay the same, and where it is.
            inputs: of it.

        Returns:
            What it gives: new tensors, without a gradient.

        Raises:
            ValueError: it cannot be recorded.
        """
        key = (function.__name__, *((x.shape, x.dtype) for x in inputs))
        with torch.inference_mode(False), torch.no_grad():
            graph = self._graphs.pop(key, None)
            if graph is None:
                while len(self._graphs) >= KEPT:
                    del self._graphs[next(iter(self._graphs))]  # the one that was not called for the longest
                graph = _record(function, inputs)
            self._graphs[key] = graph
            return graph.replay(inputs)


def _record(function: Function, inputs: tuple[Tensor, ...]) -> _Graph:
    static = tuple(torch.empty_like(x).copy_(x) for x in inputs)
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(WARM_UP):
            function(*static)
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            outputs = function(*static)
    except RuntimeError as error:
        raise ValueError(
            f"a metric or the generator cannot be recorded as a CUDA graph, since it waits for the GPU or draws "
            f"random numbers: leave cuda_graphs=True out ({str(error).splitlines()[0]})"
        ) from error
    return _Graph(static, outputs, graph)
