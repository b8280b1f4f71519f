"""CUDA graphs: a function of tensors is recorded for each shape of them that comes again, and replayed from then on.

A rendering with its score is a thousand small kernels, which a GPU finishes sooner than the host can ask for them one
by one. Replayed, they are asked for at once; they are the same kernels, so the numbers are the same.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from generators.by_kernel import NetworkError

KEPT = 6
"""Graphs that are kept at a time."""

CURE = "leave cuda_graphs=True out"

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
    """CUDA graphs by what was called, and with which shapes.

    They are made for row counts that stay the same: a shape is called plainly at first sight and recorded at the
    second, which takes three calls' time. All graphs work in the same memory, since one ends before the next begins and
    what they give is copied. A copy of a `Recordings`, pickled or not, starts empty: what it calls may be another's.
    """

    def __init__(self) -> None:
        self._graphs: dict[tuple[Any, ...], _Graph] = {}
        self._met: set[tuple[Any, ...]] = set()
        self._pool: Any = None
        # One for all: cuBLAS keeps memory for each stream that it has worked on, 32 MiB on an H100.
        self._streams: dict[torch.device, torch.cuda.Stream] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle as an empty one."""
        return Recordings, ()

    def __call__(self, function: Function, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Call a function, by its graph where there is one.

        Args:
            function: of tensors on one GPU, giving tensors there; known by its name. It must not wait for the device.
                What else it uses, tensors and settings, must stay as they are, where they are.
            inputs: of it.

        Returns:
            What it gives: new tensors, without a gradient.

        Raises:
            ValueError: it waits for the device, so that it cannot be recorded.
        """
        device = inputs[0].device
        key = (function.__name__, device, *((x.shape, x.dtype) for x in inputs))
        with torch.inference_mode(False), torch.no_grad(), torch.cuda.device(device):
            if key not in self._met:
                self._met.add(key)
                return function(*inputs)
            graph = self._graphs.pop(key, None)
            if graph is None:
                while len(self._graphs) >= KEPT:
                    del self._graphs[next(iter(self._graphs))]  # the one that was not called for the longest
                if self._pool is None:
                    self._pool = torch.cuda.graph_pool_handle()
                if device not in self._streams:
                    self._streams[device] = torch.cuda.Stream(device)
                graph = _record(function, inputs, self._pool, self._streams[device])
            self._graphs[key] = graph
            return graph.replay(inputs)


def _record(function: Function, inputs: tuple[Tensor, ...], pool: Any, aside: torch.cuda.Stream) -> _Graph:
    """Record a function on the current device, in a pool of its memory and on a stream of its own."""
    static = tuple(torch.empty_like(x).copy_(x) for x in inputs)
    current = torch.cuda.current_stream()
    aside.wait_stream(current)
    with torch.cuda.stream(aside):
        function(*static)  # libraries set themselves up in the first call on a stream, which cannot be recorded
        _check(function, static)
    current.wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    try:
        # Other threads, such as those that load photos, may call CUDA meanwhile.
        with torch.cuda.graph(graph, pool=pool, stream=aside, capture_error_mode="thread_local"):
            outputs = function(*static)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, NetworkError) as error:
        raise ValueError(
            f"a metric or the generator cannot be recorded as a CUDA graph: {CURE} ({_line(error)})"
        ) from error
    finally:
        torch.cuda.set_stream(current)  # a broken capture leaves its own behind
    return _Graph(static, outputs, graph)


def _check(function: Function, inputs: tuple[Tensor, ...]) -> None:
    """Raise a ValueError where a function, which works, waits for the device: before a capture breaks on it."""
    mode = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        # That this mode is a prototype, which may miss some waits: the capture finds those.
        warnings.simplefilter("ignore")
        torch.cuda.set_sync_debug_mode("error")
    try:
        function(*inputs)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, NetworkError) as error:
        raise ValueError(
            f"a metric or the generator waits for the GPU (.item(), .cpu()): {CURE} ({_line(error)})"
        ) from error
    finally:
        torch.cuda.set_sync_debug_mode(mode)


def _line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
