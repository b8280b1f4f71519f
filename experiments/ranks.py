"""Processes that train one network together: torchrun starts them, accelerate connects them.

With one process everything here does nothing and accelerate is not imported.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

T = TypeVar("T")

PATIENCE = timedelta(hours=2)
"""How long the others wait for a process, which may validate or save."""

_STRIDE = 0x9E3779B97F4A7C15  # an odd constant, also in its lower 32 bits, which are all that CPU generators take


class Ranks:
    """This process among those that train together.

    Args:
        device: where this process trains.

    Attributes:
        count: how many processes there are.
        index: which one this is, from 0.
        first: whether it is the one that writes files, validates and prints.

    Raises:
        ImportError: there are several processes, and accelerate is missing.
    """

    def __init__(self, device: torch.device) -> None:
        self.count, self.index = int(os.environ.get("WORLD_SIZE", "1")), 0
        self._hosts: Any = None  # connects the processes' CPUs: asking it does not wait for the GPUs
        if self.count > 1:
            try:
                from accelerate import PartialState
            except ImportError:
                raise ImportError(
                    "training with several processes needs accelerate: pip install accelerate (extra: train)"
                ) from None
            joined = not torch.distributed.is_initialized()
            state = PartialState(cpu=device.type == "cpu", timeout=PATIENCE)
            self.index = state.process_index
            self._hosts = torch.distributed.new_group(backend="gloo", timeout=PATIENCE)
            if joined:
                atexit.register(state.destroy_process_group)
        self.first = self.index == 0

    def share(self, batch_size: int) -> int:
        """Give this process's part of a batch.

        Raises:
            ValueError: the batch cannot be shared equally.
        """
        if batch_size % self.count:
            raise ValueError(f"{self.count} processes cannot share batch_size {batch_size}: give a multiple")
        return batch_size // self.count

    def seed(self, seed: int) -> int:
        """Give each process a seed of its own; the first keeps the run's."""
        return (seed + self.index * _STRIDE) % 2**63

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors, on the device, by their means over the processes, bit-identical on all of them."""
        if self.count == 1:
            return
        from accelerate.utils import reduce

        mean = reduce(torch.cat([tensor.reshape(-1) for tensor in tensors]), "mean")  # one message for all
        parts = mean.split([tensor.numel() for tensor in tensors])
        torch._foreach_copy_(list(tensors), [part.view(x.shape) for part, x in zip(parts, tensors, strict=True)])

    def equalise(self, *networks: nn.Module) -> None:
        """Give all processes the first one's weights."""
        if self.count == 1:
            return
        from accelerate.utils import broadcast

        with torch.no_grad():
            for network in networks:
                for tensor in network.state_dict().values():
                    tensor.copy_(broadcast(tensor.contiguous()))

    def any(self, *flags: bool) -> list[bool]:
        """Tell for each flag whether it is set on any process."""
        if self.count == 1:
            return list(flags)
        raised = torch.tensor(flags, dtype=torch.uint8)
        torch.distributed.all_reduce(raised, torch.distributed.ReduceOp.MAX, group=self._hosts)
        return raised.bool().tolist()

    def from_first(self, make: Callable[[], T]) -> T:
        """Let the first process make something, such as a file's content, and give it, or its error, to all."""
        if self.count == 1:
            return make()
        made: list[Any] = [None, None]
        if self.first:
            try:
                made[0] = make()
            except Exception as error:
                made[1] = error
        torch.distributed.broadcast_object_list(made, src=0, group=self._hosts)
        if made[1] is not None:
            raise made[1]
        return made[0]

    def gather(self, streams: dict[str, Tensor]) -> dict[str, Tensor]:
        """Put all processes' random states together: those of process r > 0 as `name@r`."""
        if self.count == 1:
            return streams
        every: list[Any] = [None] * self.count
        torch.distributed.all_gather_object(every, {k: v.cpu() for k, v in streams.items()}, group=self._hosts)
        return {_name(key, r): state for r, each in enumerate(every) for key, state in each.items()}

    def own(self, streams: dict[str, Tensor]) -> tuple[dict[str, Tensor], bool]:
        """Undo `gather`.

        Returns:
            This process's random states, and whether they are its own: not where another number of processes
            gathered them; they are then the first one's.
        """
        stored = 1 + max((int(name.partition("@")[2] or 0) for name in streams), default=0)
        plain = [name for name in streams if "@" not in name]
        index = self.index if stored == self.count else 0
        return {name: streams[_name(name, index)] for name in plain}, stored == self.count


def _name(key: str, index: int) -> str:
    return f"{key}@{index}" if index else key
