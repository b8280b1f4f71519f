"""What happens between an agent's steps, whoever's loop it is: counting, reports to the user, the wish to stop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agents.interruption import Interruption

if TYPE_CHECKING:
    from agents.agent import Agent, Callback


@dataclass
class Watch:
    """Watches an agent learn.

    Attributes:
        agent: whose `num_timesteps` and `interrupted` are kept here.
        callback: see `Callback`.
        bar: tqdm's.
        interruption: Ctrl-C and SIGTERM.
        log_interval: steps between two reports.
        steps: those since the last report.
    """

    agent: Agent[Any]
    callback: Callback | None
    bar: Any
    interruption: Interruption
    log_interval: int
    steps: int = 0

    def count(self, num_timesteps: int) -> bool:
        """Take note of a step after which so many actions have been rendered; say whether a report is due."""
        agent = self.agent
        ends = agent.num_timesteps < agent.total_timesteps <= num_timesteps  # the library may go on to a whole rollout
        agent.num_timesteps = num_timesteps
        agent.interrupted = agent.interrupted or self.interruption.requested
        self.bar.update(min(num_timesteps, agent.total_timesteps) - self.bar.n)
        self.steps += 1
        return self.steps == self.log_interval or agent.interrupted or ends

    def report(self, figures: dict[str, float]) -> None:
        """Show figures, `reward` among them, and ask the callback whether to go on."""
        self.steps = 0
        self.bar.set_postfix(reward=f"{figures['reward']:+.3f}")
        answer = None if self.callback is None else self.callback(self.agent, figures)
        if answer is not None and not answer:  # NumPy's False too
            self.agent.interrupted = True
