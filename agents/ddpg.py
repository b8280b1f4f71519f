"""DDPG for one-step episodes (paper, section 3.3): a critic learns the reward, the actor climbs the critic.

An episode is one step, so Q(LR, action) is the expected reward itself: no bootstrapping, no target networks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from agents.agent import Agent, AgentConfig
from agents.checkpoints import Path, under
from agents.critics import Critics, PooledCritics
from agents.networks import from_observation
from agents.replay import Replay


def eq10(q: Tensor, reward: Tensor) -> Tensor:
    """The critic's loss of Eq. 10, element by element: (r - Q)^2."""
    return (reward - q) ** 2


def eq11(q: Tensor, reward: Tensor) -> Tensor:
    """The critic's loss of Eq. 11, element by element: max(0, -sign(r) Q) + (r - Q)^2.

    The first term punishes a critic that takes a worse action than the true code for a better one, or the reverse.
    """
    return torch.relu(-reward.sign() * q) + (reward - q) ** 2


CRITIC_LOSSES = {"eq10": eq10, "eq11": eq11}


@dataclass(frozen=True, kw_only=True)
class DDPGConfig(AgentConfig):
    """DDPG's settings. The defaults are the recipe for a CPU, where a render costs far more than an update."""

    critic_loss: str = "eq11"  # "eq10" or "eq11"
    critic_lr: float = 1e-3  # of Adam
    critics: int = 3  # the actor climbs the least of them, which keeps it from the errors of one
    critic_width: int = 32  # channels of a CNN critic
    hidden: int = 128  # width of the critics' last layers
    frozen_trunk: bool = True  # the actor's trunk stays; its head and MLP critics learn on the trunk's pooled features
    batch_size: int = 256  # transitions of an update
    replay_size: int = 50_000  # transitions kept, of 12 KiB each for images of 64x64, less with a frozen trunk
    critic_updates: int = 12  # for each step of the environment
    actor_updates: int = 6  # for each step of the environment
    actor_starts: int = 1_000  # renders before the actor's first update: until then only the critic learns
    noise_final: float = 0.5  # the noise decays exponentially to this share over `learn`

    def __post_init__(self) -> None:
        """Refuses settings that no run can use."""
        if self.critic_loss not in CRITIC_LOSSES:
            raise ValueError(f"critic_loss is one of {', '.join(CRITIC_LOSSES)}, not {self.critic_loss!r}")
        for name in ("critics", "batch_size", "replay_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")


class DDPG(Agent[DDPGConfig]):
    """One-step DDPG, with a CNN critic (the paper's way) or several small critics on the actor's frozen trunk.

    With `frozen_trunk` the trunk runs once for every scene, when the action is chosen; the replay holds its pooled
    features, and an update costs a fraction of a millisecond.
    """

    algorithm: ClassVar[str] = "ddpg"
    config_class: ClassVar[type[AgentConfig]] = DDPGConfig

    def setup(self) -> None:
        """Makes the critics, the replay and the optimisers."""
        config, settings = self.config, self.actor.settings
        actions, pooled = settings["actions"], self.actor.pooled_size
        self.critic: nn.Module = (
            PooledCritics(config.critics, pooled, actions, config.hidden)
            if config.frozen_trunk
            else Critics(config.critics, actions, config.critic_width, config.hidden)
        ).to(self.device)
        if config.frozen_trunk:
            self.actor.trunk.requires_grad_(False)
        learning = [p for p in self.actor.parameters() if p.requires_grad]
        self.adam("actor", learning, config.actor_lr)
        self.adam("critic", self.critic.parameters(), config.critic_lr)
        self.replay: Replay | None = None
        self._with_replay = False

    def networks(self) -> dict[str, nn.Module]:
        """Gives actor and critic."""
        return {"actor": self.actor, "critic": self.critic}

    def iterate(self, observation: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Renders one noisy action a row, stores what came of it, and updates critic and actor."""
        config = self.config
        assert self.world is not None
        with torch.no_grad():
            seen = self.actor.pooled(from_observation(observation)) if config.frozen_trunk else observation
            decayed = self.noise * config.noise_final**self.progress
            eps = torch.randn(len(seen), len(decayed), generator=self.rng, device=self.device)
            action = (self._act(seen) + decayed * eps).clamp(-1, 1)
        reward, following = self.world.act(action)
        self._memory(seen).add(seen, action, reward)
        figures = {"reward": reward.mean()}
        for _ in range(config.critic_updates):
            figures |= self._update_critic()
        if self.num_timesteps >= config.actor_starts:
            for _ in range(config.actor_updates):
                figures |= self._update_actor()
        return following, figures

    def save(self, path: Path, *, with_replay: bool = False, **extra: Any) -> None:
        """Writes the agent; `with_replay` adds the transitions, so that a resumed run equals an uninterrupted one."""
        self._with_replay = with_replay
        super().save(path, **extra)

    def extra_state(self) -> dict[str, Tensor]:
        """Gives the replay, where it is asked for."""
        if not self._with_replay or self.replay is None:
            return {}
        return {f"replay.{name}": tensor for name, tensor in self.replay.state().items()}

    def load_extra_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes the replay out of a file that has one."""
        state = under(tensors, "replay")
        if state:
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
        value = self._judge(seen, self._act(seen)).amin(0).mean()
        self.descend("actor", -value)
        self.critic.requires_grad_(True)
        return {"actor_value": value.detach()}
