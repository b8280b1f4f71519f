"""DDPG for one-step episodes (paper, section 3.3): a critic learns the reward, the actor climbs the critic.

An episode is one step, so Q(LR, action) is the expected reward itself: no bootstrapping, no target networks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from agents.config import ABOVE_0, AT_LEAST_0, AT_LEAST_1, SHARE, AgentConfig, SteppedConfig
from agents.critics import Critics, PooledCritics
from agents.networks import from_observation
from agents.replay import Replay
from agents.stepped_agent import SteppedAgent
from generators.nearest import unknown


def eq10(q: Tensor, reward: Tensor) -> Tensor:
    """Give the critic's loss of Eq. 10, element by element: (r - Q)^2."""
    return (reward - q) ** 2


def eq11(q: Tensor, reward: Tensor) -> Tensor:
    """Give the critic's loss of Eq. 11, element by element: max(0, -sign(r) Q) + (r - Q)^2.

    The first term punishes a critic that takes a worse action than the true code for a better one, or the reverse.
    """
    return torch.relu(-reward.sign() * q) + (reward - q) ** 2


CRITIC_LOSSES = {"eq10": eq10, "eq11": eq11}
"""Losses by their equation's number in the paper."""


@dataclass(frozen=True, kw_only=True)
class DDPGConfig(SteppedConfig):
    """DDPG's settings. The defaults are the recipe for a CPU, where a render costs far more than an update.

    Attributes:
        critic_loss: the paper's loss without (`"eq10"`) or with the sign penalty (`"eq11"`).
        critic_lr: learning rate of the critics (Adam).
        critics: number of critics; the actor climbs the lowest estimate, which protects it from the errors of any one.
        critic_width: channels of a CNN critic.
        hidden: width of the critics' last layers.
        frozen_trunk: keep the actor's trunk fixed: only its head learns, and MLP critics work on the trunk's pooled
            features.
        batch_size: transitions per update; the first update waits for that many.
        replay_size: transitions kept, 12 KiB each for 64x64 images, less with a frozen trunk.
        critic_updates: updates of the critics per environment step.
        actor_updates: updates of the actor per environment step.
        actor_starts: transitions in the replay before the actor's first update; until then only the critics learn. A
            full replay is enough. It applies again to an agent that was saved without its replay.
        noise_final: the exploration noise decays exponentially to this share of itself over `learn`.
    """

    critic_loss: str = "eq11"
    critic_lr: float = 1e-3
    critics: int = 3
    critic_width: int = 32
    hidden: int = 128
    frozen_trunk: bool = True
    batch_size: int = 256
    replay_size: int = 50_000
    critic_updates: int = 12
    actor_updates: int = 6
    actor_starts: int = 1_000
    noise_final: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.critic_loss not in CRITIC_LOSSES:
            raise ValueError(unknown("critic_loss", self.critic_loss, CRITIC_LOSSES))
        self.demand(ABOVE_0, "critic_lr")
        self.demand(AT_LEAST_1, "critics", "critic_width", "hidden", "batch_size", "replay_size")
        self.demand(AT_LEAST_0, "critic_updates", "actor_updates", "actor_starts")
        self.demand(SHARE, "noise_final")


class DDPG(SteppedAgent[DDPGConfig]):
    """One-step DDPG, with a CNN critic (the paper's way) or several small critics on the actor's frozen trunk.

    With `frozen_trunk` the trunk runs once for every scene, when the action is chosen; the replay holds its pooled
    features, and an update costs a fraction of a millisecond.
    """

    algorithm: ClassVar[str] = "ddpg"
    config_class: ClassVar[type[AgentConfig]] = DDPGConfig

    def setup(self) -> None:
        """Make the critics, the replay and the optimisers."""
        super().setup()
        config, settings = self.config, self.actor.settings
        actions, pooled = settings["actions"], self.actor.pooled_size
        self.critic: nn.Module = (
            PooledCritics(config.critics, pooled, actions, config.hidden)
            if config.frozen_trunk
            else Critics(config.critics, actions, config.critic_width, config.hidden)
        ).to(self.device)
        if config.frozen_trunk:
            self.actor.trunk.requires_grad_(False)
        self.adam("actor", self.learning(), config.actor_lr)
        self.adam("critic", self.critic.parameters(), config.critic_lr)
        self.replay: Replay | None = None

    def networks(self) -> dict[str, nn.Module]:
        """Give actor and critic."""
        return {"actor": self.actor, "critic": self.critic}

    def iterate(self, observation: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Render one noisy action a row, store what came of it, and update critic and actor."""
        config = self.config
        assert self.world is not None
        with torch.no_grad():
            seen = self.actor.pooled(from_observation(observation)) if config.frozen_trunk else observation
            action = self.explore(self._act(seen))
        reward, following = self.world.act(action)
        memory = self._memory(seen)
        memory.add(seen, action, reward)
        figures = {"reward": reward.mean()}
        # The replay's own size decides, not the renders so far: an agent resumed without its replay has to fill it.
        if len(memory) >= min(config.batch_size, config.replay_size):
            figures |= _means([self._update_critic() for _ in range(config.critic_updates)])
            if len(memory) >= min(config.actor_starts, config.replay_size):
                figures |= _means([self._update_actor() for _ in range(config.actor_updates)])
        return following, figures

    def deviation(self) -> Tensor:
        """Give the noise's standard deviation, `(actions,)`, which decays over `learn`."""
        return self.noise * self.config.noise_final**self.progress

    def replay_state(self) -> dict[str, Tensor]:
        """Give the replay's tensors."""
        return self.replay.state() if self.replay is not None else {}

    def load_replay_state(self, state: Mapping[str, Tensor]) -> None:
        """Fill the replay with what `replay_state` gave."""
        self._memory(state["seen"]).load_state(state)

    def _act(self, seen: Tensor) -> Tensor:
        return self.actor.act(seen) if self.config.frozen_trunk else self.actor(from_observation(seen))

    def _judge(self, seen: Tensor, action: Tensor) -> Tensor:
        """(critics, N)."""
        return self.critic(seen if self.config.frozen_trunk else from_observation(seen), action)

    def _memory(self, seen: Tensor) -> Replay:
        """The replay, allocated at first use, when the size of what is seen is known."""
        if self.replay is None:
            shape, actions = tuple(seen.shape[1:]), self.actor.settings["actions"]
            self.replay = Replay(self.config.replay_size, shape, actions, dtype=seen.dtype, device=self.device)
        return self.replay

    def _update_critic(self) -> dict[str, Tensor]:
        assert self.replay is not None
        seen, action, reward = self.replay.sample(self.config.batch_size, self.rng)
        q = self._judge(seen, action)
        loss = CRITIC_LOSSES[self.config.critic_loss](q, reward).mean()
        self.descend("critic", loss)
        agreement = (q.detach().sign() == reward.sign()).float().mean()
        return {"critic_loss": loss.detach(), "sign_agreement": agreement}

    def _update_actor(self) -> dict[str, Tensor]:
        """Eq. 12: the gradient of Q with respect to the action, through the actor."""
        assert self.replay is not None
        seen, _, _ = self.replay.sample(self.config.batch_size, self.rng)
        self.critic.requires_grad_(False)
        try:
            value = self._judge(seen, self._act(seen)).amin(0).mean()
            self.descend("actor", -value)
        finally:
            self.critic.requires_grad_(True)
        return {"actor_value": value.detach()}


def _means(updates: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Give the means of the figures of a step's updates; nothing of none."""
    return {name: torch.stack([each[name] for each in updates]).mean() for name in (updates[0] if updates else ())}
