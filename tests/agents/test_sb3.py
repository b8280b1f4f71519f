"""The adapter to Stable-Baselines3: its algorithms run, and rewards are the native environment's."""

import numpy as np
import pytest
import stable_baselines3 as sb3
from gymnasium import wrappers as single
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecMonitor
from toy_worlds import ColourWorld, ReusingWorld, SingleColour

from agents.ddpg import DDPG
from agents.networks import Predictor
from agents.sb3 import SB3VecEnv
from blindsr_env.vector_env import BlindSRVectorEnv

SIDE = 36  # the least that CnnPolicy takes


@pytest.mark.parametrize("output", ["numpy", "torch"])
def test_steps_equal_the_native_environments(output):
    native, adapted = ColourWorld(4, output="numpy"), SB3VecEnv(ColourWorld(4, output=output))
    expected, _ = native.reset(seed=7)
    adapted.seed(7)
    observation = adapted.reset()
    rng = np.random.default_rng(0)
    for _ in range(5):
        assert observation.dtype == np.uint8
        np.testing.assert_array_equal(observation, expected)
        action = rng.uniform(-1, 1, (4, 3)).astype(np.float32)
        finished = expected
        expected, native_reward, _, _, _ = native.step(action)
        observation, reward, done, infos = adapted.step(action)
        np.testing.assert_array_equal(reward, native_reward)
        assert reward.dtype == np.float32 and done.all() and done.dtype == bool
        for i, info in enumerate(infos):
            np.testing.assert_array_equal(info["terminal_observation"], finished[i])
            assert info["TimeLimit.truncated"] is False
            assert info["score"] == native_reward[i]  # of the episode that ended
            np.testing.assert_array_equal(adapted.reset_infos[i]["colour"], expected[i, 0, 0] / 255)


@pytest.mark.parametrize("output", ["numpy", "torch"])
def test_observations_are_the_callers_own(output):
    adapted = SB3VecEnv(ReusingWorld(4, output=output))
    seen = [adapted.reset(), *(adapted.step(np.zeros((4, 3), np.float32))[0] for _ in range(2))]
    assert len({each.tobytes() for each in seen}) == 3


def test_attributes_and_methods_reach_the_environment():
    adapted = SB3VecEnv(ColourWorld(3))
    assert adapted.get_attr("shift") == [0.0] * 3 and adapted.get_attr("shift", [1]) == [0.0]
    adapted.set_attr("shift", 0.5)
    assert adapted.env.shift == 0.5
    adapted.set_attr("shift", 0.25, [0, 1, 2])
    assert adapted.env.shift == 0.25
    assert adapted.env_method("best", 0.5) == [0.25] * 3 == adapted.env_method("best", 0.5, indices=range(3))
    assert adapted.env_is_wrapped(VecMonitor) == [False] * 3
    assert adapted.render_mode is None


def test_attributes_are_found_behind_wrappers_and_in_single_environments():
    wrapped = SB3VecEnv(RecordEpisodeStatistics(ColourWorld(3)))
    wrapped.set_attr("shift", 0.5)
    assert wrapped.get_attr("shift") == [0.5] * 3 and wrapped.env_method("best", 0.5) == [0.5] * 3
    statistics = wrapped.env
    wrapped.set_attr("episode_count", 7)
    assert wrapped.get_attr("episode_count") == [7] * 3 and statistics.episode_count == 7
    wrapped.set_attr("lucky", 9)
    wrapped.set_attr("render_mode", "rgb_array")  # a wrapper shows the environment's, and sets none
    assert wrapped.get_attr("lucky") == [9] * 3 and statistics.env.lucky == 9 and not hasattr(statistics, "lucky")
    assert wrapped.get_attr("render_mode") == ["rgb_array"] * 3 and statistics.env.render_mode == "rgb_array"
    singles = SyncVectorEnv([SingleColour, SingleColour], autoreset_mode=AutoresetMode.SAME_STEP)
    beside = SB3VecEnv(singles)
    beside.set_attr("lucky", 7)
    assert beside.get_attr("lucky") == [7, 7] == [env.lucky for env in singles.envs]
    assert not any(beside.env_is_wrapped(Monitor))
    watched = SyncVectorEnv([lambda: Monitor(SingleColour()), SingleColour], autoreset_mode=AutoresetMode.SAME_STEP)
    assert SB3VecEnv(watched).env_is_wrapped(Monitor) == [True, False]
    assert beside.env_method("get_wrapper_attr", "lucky") == [7, 7] and beside.get_attr("lucky", [1]) == [7]


@pytest.mark.parametrize("indices", [0, [0], [1, 2], []])
def test_what_would_reach_more_rows_than_asked_for_is_refused(indices):
    adapted = SB3VecEnv(ColourWorld(3))
    with pytest.raises(ValueError, match="^set_attr reaches all 3 rows, which are one object: leave indices out$"):
        adapted.set_attr("shift", 0.5, indices)
    assert adapted.env.shift == 0.0
    with pytest.raises(ValueError, match="^env_method reaches all 3 rows"):
        adapted.env_method("best", 0.5, indices=indices)


@pytest.fixture
def adapted(tiny_generator, tiny_photos):
    """Makes BlindSR's own environment, adapted."""

    def make(num_envs=4, **changes):
        settings = dict(metric="psnr", generator=tiny_generator, images=tiny_photos, patch_size=16)
        return SB3VecEnv(BlindSRVectorEnv(num_envs, **settings | changes))

    return make


def told(env, key):
    return [row[key] if np.ndim(row[key]) == 0 else tuple(row[key].tolist()) for row in env.reset_infos]


def test_options_reach_their_rows(adapted):
    env = adapted()
    widths = [1.0, 2.0, 3.0, 1.5]
    env.set_options([{"width": width, "image": i % 3, "crop": (i, 0)} for i, width in enumerate(widths)])
    env.reset()
    assert told(env, "width") == widths and told(env, "image") == [0, 1, 2, 0]
    assert told(env, "crop") == [(0, 0), (1, 0), (2, 0), (3, 0)]
    env.reset()
    assert told(env, "width") != widths, "options are of one reset"
    env.set_options({"width": 2.5, "crop": (4, 5)})  # one dict for all
    env.reset()
    assert told(env, "width") == [2.5] * 4 and told(env, "crop") == [(4, 5)] * 4
    env.set_options([{"width": 2.5}] * 4)
    env.reset()
    assert told(env, "width") == [2.5] * 4
    pairs = adapted(repeats=2)
    pairs.set_options([{"width": width} for width in (1.0, 1.0, 3.0, 3.0)])
    pairs.reset()
    assert told(pairs, "width") == [1.0, 1.0, 3.0, 3.0]


def test_options_that_cannot_be_given_at_once_are_refused(adapted):
    env = adapted()
    env.set_options([{"width": 1.0}, {}, {"width": 1.0}, {}])
    with pytest.raises(
        ValueError, match=r"^options of row 0 fix \['width'\], of row 1 \[\]: fix the same in all rows$"
    ):
        env.reset()
    pairs = adapted(repeats=2)
    pairs.set_options([{"width": width} for width in (1.0, 1.0, 3.0, 2.0)])
    with pytest.raises(ValueError, match="^rows 2 and 3 share a scene, but their options differ: give them the same$"):
        pairs.reset()


def test_other_autoreset_modes_are_refused():
    with pytest.raises(ValueError, match='make it with autoreset_mode="same step"'):
        SB3VecEnv(ColourWorld(2, mode=AutoresetMode.DISABLED))


def test_episode_returns_need_a_monitor():
    lengths = []
    for env in (SB3VecEnv(ColourWorld(4, side=SIDE)), VecMonitor(SB3VecEnv(ColourWorld(4, side=SIDE)))):
        small = dict(features_extractor_kwargs=dict(features_dim=16), net_arch=[8])
        model = sb3.PPO("CnnPolicy", env, n_steps=2, batch_size=8, n_epochs=1, policy_kwargs=small)
        lengths.append(len(model.learn(8).ep_info_buffer))
    assert lengths == [0, 8]


@pytest.mark.parametrize("algorithm", ["PPO", "DDPG", "TD3"])
def test_its_algorithms_run(algorithm):
    env = VecMonitor(SB3VecEnv(ColourWorld(4, side=SIDE)))
    small = dict(features_extractor_kwargs=dict(features_dim=16), net_arch=[8])
    settings = (
        dict(n_steps=4, batch_size=8, n_epochs=1) if algorithm == "PPO" else dict(buffer_size=64, learning_starts=8)
    )
    if algorithm != "PPO":
        settings |= dict(batch_size=8, train_freq=1, gradient_steps=1)
    model = getattr(sb3, algorithm)("CnnPolicy", env, seed=0, policy_kwargs=small, **settings)
    model.learn(24)
    assert model.num_timesteps >= 24 and len(model.ep_info_buffer) > 0
    assert all(e["l"] == 1 and np.isfinite(e["r"]) for e in model.ep_info_buffer)
    assert model.predict(env.reset())[0].shape == (4, 3)


def test_its_evaluation_takes_our_agents():
    agent = DDPG(None, actor=Predictor(width=8, blocks=1, actions=3))
    mean, _ = evaluate_policy(agent, VecMonitor(SB3VecEnv(ColourWorld(4))), n_eval_episodes=12)
    rewards, lengths = evaluate_policy(
        agent,
        SB3VecEnv(ColourWorld(4)),
        n_eval_episodes=12,
        deterministic=False,
        return_episode_rewards=True,
        warn=False,
    )
    assert -6 < mean < 0 and len(rewards) == 12 and set(lengths) == {1}


@pytest.mark.parametrize("where", ["outside", "inside"])
def test_episode_statistics_reach_the_finished_episodes_infos(where):
    """Gymnasium's wrapper keeps a dict of arrays, Stable-Baselines3 looks for one dict in each row."""
    if where == "outside":
        env = RecordEpisodeStatistics(ColourWorld(3, output="numpy"))
    else:
        each = [lambda: single.RecordEpisodeStatistics(SingleColour()) for _ in range(3)]
        env = SyncVectorEnv(each, autoreset_mode=AutoresetMode.SAME_STEP)
    adapted = SB3VecEnv(env)
    adapted.seed(1)
    adapted.reset()
    for _ in range(2):
        _, reward, _, infos = adapted.step(np.full((3, 3), 0.5, np.float32))
        assert [info["episode"]["l"] for info in infos] == [1, 1, 1]
        np.testing.assert_allclose([info["episode"]["r"] for info in infos], reward, rtol=1e-6)
        assert not any("episode" in info for info in adapted.reset_infos)
