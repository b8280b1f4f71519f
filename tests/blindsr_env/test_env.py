"""The single environment: Gymnasium's and Stable-Baselines3's contracts, seeds, options, errors, cost of importing."""

import copy
import json
import pickle
import subprocess
import sys
import warnings

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.utils.env_checker import check_env

import blindsr_env  # noqa: F401
from blindsr_env.env import BlindSREnv
from blindsr_env.vector_env import BlindSRVectorEnv


@pytest.fixture
def env(tiny_generator, tiny_photos):
    env = BlindSREnv(metric="psnr", generator=tiny_generator, images=tiny_photos, patch_size=24, report=("grid",))
    yield env
    env.close()


def same(a, b):
    """Two values of `info`, or two infos, are equal to the bit."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return type(a) is type(b) and np.array_equal(a, b)


def test_gymnasium_finds_nothing_to_warn_of(tiny_checkpoint):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gymnasium.make("BlindSR-v0", metric="psnr", generator=tiny_checkpoint, report=("grid",), patch_size=64)
        check_env(env.unwrapped)
        env.close()


def test_stable_baselines3_finds_nothing_to_warn_of(tiny_checkpoint):
    checker = pytest.importorskip("stable_baselines3.common.env_checker")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        checker.check_env(BlindSREnv(metric="psnr", generator=tiny_checkpoint))


def test_an_episode(env):
    observation, info = env.reset(seed=3)
    assert env.observation_space.contains(observation) and observation.shape == (24, 24, 3)
    assert list(info) == ["image", "crop", "flip", "width", "true_action", "true_score", "image_name"]
    assert info["image_name"] == env.image_names[info["image"]] == f"array-{info['image']}"
    assert env.action_space.contains(info["true_action"])
    assert [type(info[key]) for key in ("image", "flip", "width", "true_score")] == [int, int, float, float]
    after, reward, terminated, truncated, end = env.step(env.action_space.sample())
    assert np.array_equal(after, observation) and after is not observation
    assert type(reward) is float and terminated is True and truncated is False
    assert list(end) == ["score", "true_score", "clipped", "invalid", "broken", "score_grid", "gain_grid"]
    assert reward == pytest.approx(end["score"] - info["true_score"], abs=1e-4)
    env.reset(seed=3)
    assert env.step(info["true_action"])[1] == 0.0


def test_what_was_handed_out_stays(env):
    observation, info = env.reset(seed=0)
    first = observation.copy(), copy.deepcopy(info)
    observation[:] = 0  # a caller may write to what it got
    again, *_ = env.step(np.zeros(15))
    assert np.array_equal(again, first[0])
    env.reset()
    env.step(np.ones(15))
    assert same(info, first[1])


def test_seeded_rollouts_are_equal(env, tiny_generator, tiny_photos):
    other = BlindSREnv(metric="psnr", generator=tiny_generator, images=tiny_photos, patch_size=24, report=("grid",))
    env.action_space.seed(0)
    for episode in range(4):
        seed = 7 if episode == 0 else None
        (a, info_a), (b, info_b) = env.reset(seed=seed), other.reset(seed=seed)
        assert np.array_equal(a, b) and same(info_a, info_b)
        action = env.action_space.sample()
        step_a, step_b = env.step(action), other.step(action)
        assert step_a[1:4] == step_b[1:4] and same(step_a[4], step_b[4])
    assert not np.array_equal(env.reset(seed=7)[0], env.reset(seed=8)[0])


def test_options_fix_the_scene(env):
    options = {"image": "array-2", "crop": (5, 6), "flip": 4, "width": 2.5}
    observation, info = env.reset(seed=0, options=options)
    assert (info["image"], info["crop"].tolist(), info["flip"], info["width"]) == (2, [5, 6], 4, 2.5)
    assert np.array_equal(env.reset(seed=1, options=options)[0], observation)
    turned, _ = env.reset(options=options | {"flip": 0})
    assert np.abs(turned.transpose(1, 0, 2).astype(int) - observation).max() <= 1
    with pytest.raises(ValueError, match="did you mean 'image'"):
        env.reset(options={"imgae": 0})
    with pytest.raises(ValueError, match="unknown reset option"):
        env.reset(options={"seed": 0})
    for wrong in ("flip", [("flip", 4)]):
        with pytest.raises(ValueError, match="^options must be a dict of image, crop, flip, width, kernel, got"):
            env.reset(options=wrong)
    assert env.reset(options={"image": np.array("array-2")[None]})[1]["image"] == 2


def test_steps_need_resets(env):
    with pytest.raises(ResetNeeded, match="call reset"):
        env.step(env.action_space.sample())
    env.reset()
    env.step(env.action_space.sample())
    with pytest.raises(ResetNeeded, match="one step long"):
        env.step(env.action_space.sample())


def test_a_refused_action_leaves_the_episode_running(env):
    env.reset(seed=0)
    for action in (np.zeros(14), np.zeros((1, 15)), np.full(15, np.nan)):
        with pytest.raises(ValueError, match="an action must"):
            env.step(action)
    assert env.step(torch.zeros(15))[2] is True


class Broken:
    name, lower_is_better, needs_reference, min_size = "broken", False, False, 1

    def __call__(self, sr, hr=None):
        raise ValueError("no score today")


def test_a_metric_that_fails_leaves_the_episode_running(env):
    _, info = env.reset(seed=0)
    core = env.unwrapped.core
    core.metric, metric = Broken(), core.metric
    with pytest.raises(ValueError, match="no score today"):
        env.step(info["true_action"])
    core.metric = metric
    assert abs(env.step(info["true_action"])[1]) < 1e-3


def test_a_refused_reset_changes_nothing(env):
    env.reset(seed=0)
    scene = env.reset()[1]
    env.reset(seed=0)
    with pytest.raises(ValueError, match="flip"):
        env.reset(seed=6, options={"flip": 9})
    with pytest.raises(ValueError, match="no photo holds a crop"):
        env.reset(seed=6, options={"crop": (99_999, 0)})
    with pytest.raises(ValueError, match="no photo holds a crop"):
        env.reset(options={"crop": (99_999, 0)})
    with pytest.raises(gymnasium.error.Error):
        env.reset(seed=-5)
    core = env.unwrapped.core
    core.metric, metric = Broken(), core.metric
    with pytest.raises(ValueError, match="no score today"):
        env.reset()
    core.metric = metric
    assert env.unwrapped.np_random_seed == 0
    again = env.reset()[1]
    assert np.array_equal(again["crop"], scene["crop"]) and again["width"] == scene["width"]
    with pytest.raises(ValueError, match=r"unknown reset option 'reset_mask'(?!.*did you mean 'reset_mask')"):
        env.reset(options={"reset_mask": [True]})


def test_a_tensor_may_be_used_again_after_the_step(tiny_generator, tiny_photos):
    settings = dict(metric="psnr", generator=tiny_generator, images=tiny_photos, patch_size=24)
    env = gymnasium.make("BlindSR-v0", render_mode="rgb_array", **settings)
    env.reset(seed=0)
    action = torch.full((15,), 0.5)
    env.step(action)
    shown = env.render()
    action.zero_()
    assert np.array_equal(env.render(), shown)


@pytest.mark.parametrize("kind", [BlindSREnv, lambda **settings: BlindSRVectorEnv(2, **settings)])
def test_a_copy_goes_its_own_way_and_shares_what_is_frozen(kind, tiny_generator, tiny_photos):
    env = kind(metric="psnr", generator=tiny_generator, images=tiny_photos, patch_size=24)
    observation, _ = env.reset(seed=0)
    copied = copy.deepcopy(env)
    assert copied.core is not env.core
    assert copied.core.generator is env.core.generator and copied.core.pool is env.core.pool
    action = np.zeros(env.action_space.shape)
    rewards = env.step(action)[1]
    later = [env.reset()[1]["crop"] for _ in range(2)]
    first = copied.step(action)  # what the other did since does not count
    assert np.array_equal(first[1], rewards)
    pickled = pickle.loads(pickle.dumps(copied))
    for each in (copied, pickled):
        assert np.array_equal([each.reset()[1]["crop"] for _ in range(2)], later)
    copied.core.metric = Broken()
    env.reset()


def test_closed(env):
    env.reset()
    env.close()
    env.close()
    for use in (env.reset, env.render, lambda: env.step(np.zeros(15))):
        with pytest.raises(ClosedEnvironmentError, match="make a new one"):
            use()


def test_spec_survives_json(tiny_checkpoint):
    settings = dict(metric="psnr", generator=tiny_checkpoint, patch_size=24, degradation={"widths": [2.0]})
    env = gymnasium.make("blindsr_env:BlindSR-v0", **settings, report=["grid"])
    spec = gymnasium.envs.registration.EnvSpec.from_json(env.spec.to_json())
    assert json.loads(env.spec.to_json())["max_episode_steps"] is None
    twin = gymnasium.make(spec)
    assert np.array_equal(env.reset(seed=5)[0], twin.reset(seed=5)[0])
    assert env.step(np.zeros(15, np.float32))[1] == twin.step(np.zeros(15, np.float32))[1]


def test_make_reports_wrong_arguments(tiny_checkpoint):
    with pytest.raises(ValueError, match="did you mean 'niqe'"):
        gymnasium.make("BlindSR-v0", metric="nieq", generator=tiny_checkpoint)
    with pytest.raises(TypeError, match="patchsize"):
        gymnasium.make("BlindSR-v0", patchsize=3)
    with pytest.raises(ValueError, match="did you mean 'rgb_array'"):
        BlindSREnv(render_mode="rgb")


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ({"report": "grid"}, "report must be a list of metrics, got 'grid'"),
        ({"degradation": 3}, "degradation must be a name, a dict or a Degradation, got int"),
        ({"images": 3}, "images must be None, a folder, a file or a list of arrays, got int"),
        ({"metric": 3}, "a metric is a name or a callable object, got 3"),
        ({"generator": 3}, "generator must be a name, a path or a torch module, got int"),
    ],
)
def test_arguments_of_another_kind_are_type_errors(tiny_checkpoint, argument, told):
    with pytest.raises(TypeError, match=f"^{told}"):
        BlindSREnv(**{"metric": "psnr", "generator": tiny_checkpoint} | argument)


IMPORT = """
import sys
import torch, gymnasium
import blindsr_env
heavy = {"pyiqa", "torchvision", "sklearn", "skimage", "matplotlib", "cv2", "scipy"} & set(sys.modules) - BEFORE
assert "BlindSR-v0" in gymnasium.registry
assert not heavy, heavy
import blindsr_env.env, blindsr_env.vector_env
heavy = {"pyiqa", "torchvision", "sklearn", "skimage", "matplotlib"} & set(sys.modules) - BEFORE
assert not heavy, heavy
""".replace("import torch, gymnasium\n", "import torch, gymnasium\nBEFORE = set(sys.modules)\n", 1)


WITHOUT = """
import sys

class Absent:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == sys.argv[1]:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent)
import blindsr_env, blindsr_env.degradation
"""


@pytest.mark.parametrize(("package", "passes"), [("gymnasium", True), ("gymnasium.core", False)])
def test_only_gymnasium_itself_may_be_missing(package, passes):
    """A part of Gymnasium, or a package that it needs, is another matter: the import must say so."""
    result = subprocess.run([sys.executable, "-c", WITHOUT, package], capture_output=True, text=True)
    assert (result.returncode == 0) is passes, result.stderr
    assert passes or f"No module named '{package}" in result.stderr


NATIVE = """
import multiprocessing
import gymnasium, torch
import blindsr_env

torch.set_num_threads(2)
env = gymnasium.make_vec("BlindSR-v0", num_envs=2, generator="amnet_s", metric="psnr", patch_size=24)
env.reset(seed=0)
child = multiprocessing.get_context("fork").Process(target=lambda: print(env.reset(seed=1)[0].shape))
child.start()
child.join()
"""

FORK = """
import gymnasium, numpy as np, torch
import blindsr_env

torch.set_num_threads(2)
env = gymnasium.make_vec("BlindSR-v0", num_envs=2, vectorization_mode="async", generator="amnet_s", patch_size=24)
env.reset(seed=0)
print(env.step(np.zeros((2, 15), np.float32))[1].shape)
env.close()
"""


@pytest.mark.parametrize(("program", "shape"), [(FORK, "(2,)"), (NATIVE, "(2, 24, 24, 3)")], ids=["async", "native"])
def test_forked_processes_do_not_wait_for_their_parents_threads(program, shape):
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0 and shape in result.stdout, result.stderr


def test_importing_registers_and_loads_nothing_heavy():
    result = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
