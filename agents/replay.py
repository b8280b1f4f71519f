"""Replay memory for one-step episodes, on the device where training runs.

A transition is (what was seen, action, reward). Nothing comes after it, so no next observation is kept. And since a
scene's reward for an action never changes, old transitions stay true.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

MEMINFO = Path("/proc/meminfo")
"""Where Linux says how much memory can be taken."""


class Replay:
    """A ring of transitions in preallocated tensors.

    Args:
        capacity: transitions; the oldest are overwritten.
        seen: shape of what the agent saw, such as `(64, 64, 3)`.
        actions: components of the action.
        dtype: of what was seen.
        device: where the memory lies.

    Raises:
        ValueError: the capacity is below 1.

    Warns:
        UserWarning: it takes more memory than the device has free.
    """

    def __init__(
        self,
        capacity: int,
        seen: tuple[int, ...],
        actions: int,
        *,
        dtype: torch.dtype = torch.uint8,
        device: torch.device | str = "cpu",
    ) -> None:
        if capacity < 1:
            raise ValueError(f"a replay needs room for at least one transition, not {capacity}")
        self.capacity = capacity
        self.device = torch.device(device)
        self._cursor = 0  # where the next transition goes
        self._size = 0
        _warn_if_too_large(capacity, seen, actions, dtype, self.device)
        self.seen = torch.zeros((capacity, *seen), dtype=dtype, device=self.device)
        self.action = torch.zeros((capacity, actions), device=self.device)
        self.reward = torch.zeros(capacity, device=self.device)

    def __len__(self) -> int:
        """Count the transitions held."""
        return self._size

    def add(self, seen: Tensor, action: Tensor, reward: Tensor) -> None:
        """Append N transitions; the last `capacity` stay.

        Args:
            seen: (N, *shape) of the replay's dtype.
            action: (N, actions).
            reward: (N,).
        """
        keep = slice(-self.capacity, None)  # of a batch larger than the ring only its end would survive
        seen, action, reward = seen[keep], action[keep], reward[keep]
        n, start = len(seen), 0
        while start < n:  # at most two pieces: up to the ring's end, and from its beginning
            length = min(n - start, self.capacity - self._cursor)
            piece, into = slice(start, start + length), slice(self._cursor, self._cursor + length)
            self.seen[into] = seen[piece]
            self.action[into] = action[piece]
            self.reward[into] = reward[piece]
            self._cursor = (self._cursor + length) % self.capacity
            self._size = min(self._size + length, self.capacity)
            start += length

    def sample(self, n: int, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Draw n transitions, uniformly with replacement.

        Args:
            n: how many.
            rng: on the replay's device.

        Returns:
            seen (n, *shape), action (n, actions), reward (n,).

        Raises:
            ValueError: the replay is empty.
        """
        if self._size == 0:
            raise ValueError("the replay is empty: add transitions before sampling")
        index = torch.randint(self._size, (n,), generator=rng, device=self.device)
        return self.seen[index], self.action[index], self.reward[index]

    def state(self) -> dict[str, Tensor]:
        """Give the transitions held and the cursor, for a checkpoint."""
        held = slice(self._size)
        return {
            "seen": self.seen[held],
            "action": self.action[held],
            "reward": self.reward[held],
            "cursor": torch.tensor(self._cursor),
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave, of a replay of this capacity and these shapes.

        Raises:
            KeyError: a tensor is missing.
            ValueError: the tensors are of another size or shape.
        """
        held = slice(len(state["reward"]))
        for name, own in (("seen", self.seen), ("action", self.action), ("reward", self.reward)):
            if state[name].shape != own[held].shape:
                raise ValueError(f"{name} is {tuple(state[name].shape)}, this replay holds {tuple(own.shape)}")
        self._size = len(state["reward"])
        self.seen[held] = state["seen"].to(self.device)
        self.action[held] = state["action"].to(self.device)
        self.reward[held] = state["reward"].to(self.device)
        self._cursor = int(state["cursor"])


def _warn_if_too_large(
    capacity: int, seen: tuple[int, ...], actions: int, dtype: torch.dtype, device: torch.device
) -> None:
    need = capacity * (torch.Size(seen).numel() * dtype.itemsize + 4 * (actions + 1))
    free = _free_bytes(device)
    if free is not None and need > free:
        warnings.warn(
            f"a replay of {capacity} transitions takes {need / 2**30:.1f} GiB, but {free / 2**30:.1f} GiB are free on "
            f"{device}: choose a smaller replay_size",
            UserWarning,
            stacklevel=3,
        )


def _free_bytes(device: torch.device) -> int | None:
    """Give the memory that can still be taken on a device, or None where that is not known."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if MEMINFO.is_file():
        for line in MEMINFO.read_text().splitlines():
            if line.startswith("MemAvailable:"):  # counts caches, which give way
                return int(line.split()[1]) * 1024
    if hasattr(os, "sysconf") and "SC_AVPHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None
