"""Toy one-step worlds with known optima: the colour of a flat image says which action is best."""

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space


class ColourWorld(VectorEnv):
    """An image of one colour; reward = -|action - best|^2, best = 0.7 (2 colour - 1) + shift in each component.

    The best policy gets 0, the best constant -0.49.
    """

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}

    def __init__(
        self, num_envs=24, repeats=1, output="torch", side=8, broken=False, shift=0.0, mode=AutoresetMode.SAME_STEP
    ):
        self.shift, self.steps = shift, 0
        self.render_mode = None
        self.num_envs, self.repeats, self.output, self.side, self.broken = num_envs, repeats, output, side, broken
        self.metadata = {"autoreset_mode": mode}
        self.device = torch.device("cpu")
        self.single_observation_space = Box(0, 255, (side, side, 3), np.uint8)
        self.single_action_space = Box(-1, 1, (3,), np.float32)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._draw(), self._info(colour=self.colour)

    def best(self, colour):
        return (2 * colour - 1) * 0.7 + self.shift

    def step(self, actions):
        self.steps += 1
        actions = np.asarray(actions)
        assert actions.shape == (self.num_envs, 3) and np.abs(actions).max() <= 1
        error = actions - self.best(self.colour)
        reward = -np.square(error).sum(1)
        if self.broken:
            reward[1] = np.nan
        before = self._out(self.shown.copy())
        ended = np.ones(self.num_envs, bool)
        reward = reward.astype(np.float32)
        final = {
            "final_obs": before,
            "final_info": self._info(score=reward, gradient=np.float32(-2 * error)),
            "_final_obs": ended,
            "_final_info": ended,
        }
        following = self._draw()
        infos = self._info(colour=self.colour) | final
        return following, self._out(reward), self._out(ended), self._out(~ended), infos

    def _info(self, **values):
        masks = {"_" + key: np.ones(self.num_envs, bool) for key in values}
        return {key: self._out(value.copy()) for key, value in values.items()} | masks

    def _draw(self):
        scenes = self.num_envs // self.repeats
        pixels = self.np_random.integers(0, 256, (scenes, 1, 1, 3)).astype(np.uint8)
        image = np.broadcast_to(pixels, (scenes, self.side, self.side, 3))
        self.shown = image.repeat(self.repeats, 0)
        self.colour = (pixels[:, 0, 0] / 255).repeat(self.repeats, 0)
        return self._out(self.shown.copy())

    def _out(self, x):
        return torch.from_numpy(x) if self.output == "torch" else x


class ReusingWorld(ColourWorld):
    """Hands out the same memory for all observations, and writes into the actions that it gets."""

    def step(self, actions):
        answer = super().step(actions)
        actions[:] = 0
        return answer

    def _draw(self):
        drawn = super()._draw()
        if hasattr(self, "memory"):
            self.memory[:] = drawn
        else:
            self.memory = drawn
        return self.memory


class SingleColour(gymnasium.Env):
    """The same, one at a time."""

    def __init__(self):
        self.world = ColourWorld(1, output="numpy")
        self.observation_space = self.world.single_observation_space
        self.action_space = self.world.single_action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        observation, _ = self.world.reset(seed=seed)
        return observation[0], {}

    def step(self, action):
        _, reward, _, _, infos = self.world.step(action[None])
        return infos["final_obs"][0], float(reward[0]), True, False, {}
