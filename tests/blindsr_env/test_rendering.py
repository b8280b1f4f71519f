"""Pictures of episodes: their parts are where they should be and show what happened."""

import copy
import logging
import pickle

import numpy as np
import pytest
from gymnasium.error import ResetNeeded

from blindsr_env import rendering
from blindsr_env.env import BlindSREnv
from blindsr_env.vector_env import BlindSRVectorEnv

PATCH = 24, 30
HEIGHT, WIDTH = 192, 240  # HR's 96 and 120 pixels, enlarged twice
GAP, CAPTION = rendering.GAP, rendering.CAPTION


@pytest.fixture
def settings(tiny_generator, tiny_photos):
    return dict(metric="psnr", generator=tiny_generator, images=tiny_photos, patch_size=PATCH, report=("grid",))


def panel(picture, index):
    return picture[CAPTION : CAPTION + HEIGHT, index * (WIDTH + GAP) :][:, :WIDTH]


def test_single(settings):
    env = BlindSREnv(**settings, render_mode="rgb_array")
    with pytest.raises(ResetNeeded, match="reset"):
        env.render()
    observation, info = env.reset(seed=0)
    before = env.render()
    env.step(-info["true_action"])
    after = env.render()
    for picture in (before, after):
        assert picture.dtype == np.uint8 and picture.shape == before.shape and picture.shape[2] == 3
        assert np.array_equal(panel(picture, 0)[::8, ::8], observation)  # LR, each pixel eight times eight
        hr = (
            env.core.scenes(
                [np.random.default_rng(0)],
                env.core.sampler.fix({key: info[key] for key in ("image", "crop", "flip")}, 1),
            )
            .hr[0]
            .permute(1, 2, 0)
            .numpy()
        )
        assert np.array_equal(panel(picture, 3)[::2, ::2], hr)
    assert (panel(before, 1) == rendering.BLANK).all()
    assert panel(after, 1).std() > 10 and not np.array_equal(panel(after, 1), panel(after, 2))
    assert np.array_equal(panel(before, 2), panel(after, 2))
    text = slice(CAPTION + HEIGHT, None)
    assert not np.array_equal(before[text], after[text]) and (after[text] < 128).sum() > 100
    side = (HEIGHT - CAPTION) // 2 // 21 * 21
    upper, lower = (
        [picture[CAPTION + top :, 4 * (WIDTH + GAP) :][:side, :side].astype(int) for picture in (before, after)]
        for top in (0, side + CAPTION)
    )
    assert np.array_equal(*upper) and np.abs(lower[1] - upper[1]).max() > 50  # true, and chosen
    env.reset(seed=0)
    env.step(info["true_action"])
    true = env.render()
    assert np.array_equal(panel(true, 1), panel(true, 2))
    kernels = true[CAPTION:, 4 * (WIDTH + GAP) :]
    upper, lower = kernels[:side, :side], kernels[side + CAPTION :][:side, :side]
    assert upper.max() == 255 and np.abs(upper.astype(int) - lower).max() <= 3  # true and chosen


def test_gains_are_positive_where_the_chosen_code_is_better(settings, monkeypatch):
    lines = []
    monkeypatch.setattr(rendering, "_write", lambda picture, text, baseline: lines.append(text))
    env = BlindSREnv(**settings, render_mode="rgb_array")
    _, start = env.reset(seed=0)
    _, reward, _, _, info = env.step(-start["true_action"])
    env.render()
    told = dict(line.split(": ", 1) for line in lines if "gain" in line)
    assert float(told["psnr"].split("gain ")[1]) == pytest.approx(reward, abs=1e-3)
    assert float(told["grid"].split("gain ")[1]) == pytest.approx(info["gain_grid"], abs=1e-3)
    assert abs(info["gain_grid"]) > 2e-3, "the sign is seen"


def test_no_mode_renders_nothing(settings):
    env = BlindSREnv(**settings)
    env.reset()
    assert env.render() is None


def test_vector_shows_the_episodes_that_ended(settings):
    env = BlindSRVectorEnv(3, **settings, render_mode="rgb_array")
    with pytest.raises(ResetNeeded):
        env.render()
    observation, info = env.reset(seed=0)
    first = env.render()
    assert isinstance(first, tuple) and len(first) == 3 and (panel(first[1], 1) == rendering.BLANK).all()
    env.step(info["true_action"])
    ended = env.render()
    single = BlindSREnv(**settings, render_mode="rgb_array")
    for i in range(3):
        assert np.array_equal(panel(ended[i], 0)[::8, ::8], observation[i])
        _, one = single.reset(seed=i)
        single.step(one["true_action"])
        assert (np.abs(panel(single.render(), 1).astype(int) - panel(ended[i], 1)) > 1).mean() < 0.01
    env.reset(options={"reset_mask": np.array([True, False, False])})
    assert all((panel(picture, 1) == rendering.BLANK).all() for picture in env.render())


def test_next_step_shows_rows_that_rest_as_new_scenes(settings):
    env = BlindSRVectorEnv(2, **settings, render_mode="rgb_array", autoreset_mode="next step", repeats=1)
    env.reset(seed=0)
    env.step(np.zeros((2, 15)))
    assert all(panel(picture, 1).std() > 0 for picture in env.render())
    env.reset(options={"reset_mask": np.array([True, False])})
    assert [panel(picture, 1).std() > 0 for picture in env.render()] == [False, True]
    env.step(np.zeros((2, 15)))
    assert [panel(picture, 1).std() > 0 for picture in env.render()] == [True, False]


def test_human_without_a_display_says_so_once(settings, monkeypatch, caplog):
    monkeypatch.setattr(rendering.sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    for env in (BlindSREnv(**settings, render_mode="human"), BlindSRVectorEnv(2, **settings, render_mode="human")):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            env.reset(seed=0)
            env.step(np.zeros(env.action_space.shape))
            assert env.render() is None
        assert [record.getMessage().count("no display") for record in caplog.records] == [1]
        env.close()


def test_a_copy_has_a_window_of_its_own(settings, monkeypatch):
    import cv2

    shown = set()
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(cv2, "imshow", lambda name, picture: shown.add(name))
    monkeypatch.setattr(cv2, "waitKey", lambda delay: -1)
    monkeypatch.setattr(cv2, "destroyWindow", shown.remove)
    bgr = []
    window = rendering.Window()
    with monkeypatch.context() as patch:
        patch.setattr(cv2, "imshow", lambda name, picture: bgr.extend(picture[0, 0].tolist()))
        window.show(np.array([[[10, 20, 30]]], np.uint8))
    assert bgr == [30, 20, 10]
    env = BlindSREnv(**settings, render_mode="human")
    env.reset(seed=0)
    for other in (copy.deepcopy(env), pickle.loads(pickle.dumps(env))):
        other.close()
        assert len(shown) == 1
    copy.deepcopy(env).reset()
    assert len(shown) == 2


def test_human_shows_every_reset_and_step(settings, monkeypatch):
    shown = []
    monkeypatch.setattr(rendering.Window, "show", lambda self, picture: shown.append(picture.shape))
    env = BlindSREnv(**settings, render_mode="human")
    env.reset()
    env.step(np.zeros(15))
    vector = BlindSRVectorEnv(6, **settings, render_mode="human")
    vector.reset()
    assert len(shown) == 3 and shown[2][0] == 4 * shown[0][0]  # the first four rows below each other
