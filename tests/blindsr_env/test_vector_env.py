"""The native vector environment against Gymnasium's SyncVectorEnv of single ones, in all three autoreset modes."""

import json
import warnings

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import blindsr_env  # noqa: F401
from blindsr_env import autoreset
from blindsr_env import images as photos
from blindsr_env.env import BlindSREnv
from blindsr_env.vector_env import BlindSRVectorEnv

N = 4
MODES = list(AutoresetMode)


@pytest.fixture
def settings(tiny_generator, tiny_photos):
    return dict(metric="psnr", generator=tiny_generator, images=tiny_photos, patch_size=24, report=("grid",))


@pytest.fixture
def make(settings):
    return lambda count=N, **changes: BlindSRVectorEnv(count, **(settings | changes))


def actions(count=N, seed=0, d=15):
    return np.random.default_rng(seed).uniform(-1, 1, (count, d)).astype(np.float32)


def assert_same_pictures(a, b):
    difference = np.abs(np.stack(list(a)).astype(int) - np.stack(list(b)))
    assert difference.max() <= 1 and (difference > 0).mean() < 1e-3


def assert_same_info(native, sync):
    """The same keys, masks and values, but for names of photos, which have no place in arrays."""
    assert set(native) == {key for key in sync if not key.endswith("image_name")}
    for key, value in native.items():
        if isinstance(value, dict):
            assert_same_info(value, sync[key])
        elif key == "final_obs":
            assert value.dtype == np.uint8  # dense, where SyncVectorEnv has an array of objects
            assert_same_pictures(value[native["_final_obs"]], sync[key][native["_final_obs"]])
        elif value.dtype == bool or np.issubdtype(value.dtype, np.integer):
            assert value.dtype == sync[key].dtype and np.array_equal(value, sync[key]), key
        else:
            assert np.allclose(value, sync[key], rtol=1e-3, atol=1e-3), key


# Against Gymnasium's own


@pytest.mark.parametrize("mode", MODES)
def test_equals_sync_vector_env(make, settings, mode):
    native = make(autoreset_mode=mode)
    sync = SyncVectorEnv([lambda: BlindSREnv(**settings)] * N, autoreset_mode=mode)
    assert native.metadata["autoreset_mode"] is native.autoreset_mode is mode
    assert native.observation_space == sync.observation_space and native.action_space == sync.action_space
    (a, info_a), (b, info_b) = native.reset(seed=5), sync.reset(seed=5)
    assert_same_pictures(a, b)
    assert_same_info(info_a, info_b)

    def reset(mask):
        """Each gets a mask of its own: SyncVectorEnv takes it out of the options."""
        (a, info_a), (b, info_b) = (env.reset(options={"reset_mask": mask.copy()}) for env in (native, sync))
        assert_same_pictures(a, b)
        assert_same_info(info_a, info_b)

    for step in range(4):
        rows = np.array([True, False, False, True])
        if step == 2 and mode is not AutoresetMode.SAME_STEP:
            reset(rows)  # now they are out of step with the others
        if mode is AutoresetMode.DISABLED and step:
            reset(~rows if step == 2 else np.ones(N, dtype=bool))
        ours, theirs = (env.step(actions(seed=step)) for env in (native, sync))
        assert_same_pictures(ours[0], theirs[0])
        assert np.allclose(ours[1], theirs[1], atol=1e-3) and ours[1].dtype == theirs[1].dtype
        for flag in (2, 3):
            assert np.array_equal(ours[flag], theirs[flag]) and ours[flag].dtype == theirs[flag].dtype
        assert_same_info(ours[4], theirs[4])


@pytest.mark.parametrize(
    ("metric", "patch", "tolerance"), [("psnr", 24, 1e-3), ("psnr", (24, 40), 1e-3), ("niqe", 48, 0.1)]
)
def test_row_equals_the_single_environment(settings, photo, metric, patch, tolerance):
    # A batch is rounded otherwise than one picture: a pixel in ten thousand differs by a grey level, and on pictures as
    # bad as the tiny network's, at a NIQE of 17, that shows in the second decimal.
    changes = {"metric": metric, "patch_size": patch, "images": [photo(220, 260, 4), photo(192, 200, 5)]}
    vector, single = BlindSRVectorEnv(3, **(settings | changes)), BlindSREnv(**(settings | changes))
    observations, infos = vector.reset(seed=11)
    final = vector.step(actions(3))[4]["final_info"]
    compared = 0
    for i in range(3):
        observation, info = single.reset(seed=11 + i)
        assert_same_pictures([observations[i]], [observation])
        assert infos["image"][i] == info["image"] and np.array_equal(infos["crop"][i], info["crop"])
        if np.array_equal(observation, observations[i]):
            compared += 1
            _, reward, _, _, end = single.step(actions(3)[i])
            assert abs(end["score"] - final["score"][i]) < tolerance
            assert abs(reward - (final["score"] - final["true_score"])[i] * (-1 if metric == "niqe" else 1)) < tolerance
    assert compared


# Seeds, repeats, options


def test_seeded_rollouts_are_equal(make):
    first, second = make(), make()
    for env in (first, second):
        env.reset(seed=3)
    for step in range(3):
        a, b = first.step(actions(seed=step)), second.step(actions(seed=step))
        assert all(np.array_equal(x, y) for x, y in zip(a[:4], b[:4], strict=True))
        assert np.array_equal(a[4]["final_info"]["score_grid"], b[4]["final_info"]["score_grid"])


def test_seeds(make):
    env = make()
    start, _ = env.reset(seed=20)
    assert len({picture.tobytes() for picture in start}) == N  # each row its own stream
    listed, _ = env.reset(seed=[23, 22, 21, 20])
    assert_same_pictures(listed[::-1], start)
    unseeded = make()
    fresh, _ = unseeded.reset()
    assert not np.array_equal(unseeded.reset()[0], fresh)
    assert np.array_equal(unseeded.reset(seed=unseeded.np_random_seed)[0], fresh)
    with pytest.raises(ValueError, match="one for each scene, 4, got 2"):
        env.reset(seed=[1, 2])
    with pytest.raises(gymnasium.error.Error, match="[Ss]eed"):
        env.reset(seed=-1)


def test_none_in_a_list_of_seeds_leaves_a_stream_as_it_is(make):
    env, other = make(2), make(2)
    for one in (env, other):
        one.reset(seed=1)
    mixed, plain = env.reset(seed=[None, 5])[0], other.reset()[0]
    assert_same_pictures(mixed[:1], plain[:1])
    assert not np.array_equal(mixed[1], plain[1])


def test_repeats_share_scenes(make):
    env, apart = make(6, repeats=3), make(2)
    (observation, info), (alone, info_alone) = env.reset(seed=9), apart.reset(seed=9)
    assert_same_pictures(observation[::3], alone)  # group g has the stream of seed + g
    assert all(np.array_equal(observation[i], observation[i // 3 * 3]) for i in range(6))
    assert np.allclose(info["true_score"], info_alone["true_score"].repeat(3), atol=1e-3)
    final = env.step(actions(6))[4]["final_info"]
    assert len(np.unique(final["score"])) == 6
    for j in range(3):
        one = make(2)
        one.reset(seed=9)
        expected = one.step(actions(6)[j::3])[1]
        assert np.allclose(final["score"][j::3] - final["true_score"][j::3], expected, atol=1e-3)
    with pytest.raises(ValueError, match="whole groups"):
        env.reset(options={"reset_mask": np.arange(6) < 2})
    env.reset(options={"reset_mask": np.arange(6) < 3, "width": [1.0, 2.0]})
    assert env.reset(options={"width": [1.0, 2.0]})[1]["width"].tolist() == [1, 1, 1, 2, 2, 2]
    with pytest.raises(ValueError, match="one for each scene"):
        env.reset(options={"width": np.ones(6)})


def test_repeats_score_the_true_code_once(make):
    env = make(8, repeats=4)
    rendered = []
    generator, env.core.generator = env.core.generator, lambda lr, code: rendered.append(len(lr)) or generator(lr, code)
    env.reset(seed=0)
    env.step(actions(8))
    assert rendered == [2, 8, 2]


def test_next_step_renders_nothing_for_rows_that_rest(make):
    env = make(autoreset_mode="next step")
    rendered = []
    generator, env.core.generator = env.core.generator, lambda lr, code: rendered.append(len(lr)) or generator(lr, code)
    env.reset(seed=0)
    for _ in range(3):
        env.step(actions())
    assert rendered == [4, 4, 4, 4]  # true codes, actions, true codes, actions


def test_rows_that_play_beside_ones_that_rest_have_their_own_actions(make):
    env, given = make(autoreset_mode="next step"), actions(seed=5)
    env.reset(seed=0)
    env.step(actions())
    env.reset(options={"reset_mask": np.array([False, True, False, True])})
    expected, played = env.core.play(env._rows(np.array([False, True, False, True])), torch.from_numpy(given[1::2]))
    _, rewards, terminated, _, info = env.step(given)
    assert terminated.tolist() == [False, True, False, True] == info["_score"].tolist()
    np.testing.assert_allclose(rewards, [0, expected[0], 0, expected[1]], rtol=1e-5)
    np.testing.assert_allclose(info["score"][1::2], played["score"], rtol=1e-5)
    assert info["_true_score"].all() and (info["true_score"] != 0).all()  # of episodes that ended, and of new scenes
    assert info["_width"].tolist() == [True, False, True, False]


def test_actions_of_rows_that_rest_may_be_anything(make):
    for output in ("numpy", "torch"):
        env = make(autoreset_mode="next step", output=output)
        env.reset(seed=0)
        env.step(actions())
        nothing = np.full((N, 15), np.nan, np.float32)
        env.step(torch.from_numpy(nothing) if output == "torch" else nothing)


@pytest.mark.gpu
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_actions_on_a_gpu_of_rows_that_rest_may_be_anything(make, tiny_checkpoint, device):
    env = make(autoreset_mode="next step", output="torch", device=device, generator=tiny_checkpoint)
    env.reset(seed=0)
    env.step(actions())
    env.step(torch.full((N, 15), torch.nan, device="cuda"))
    assert env.step(actions())[1].isfinite().all()


def test_a_scene_can_be_made_again_of_what_info_tells(make):
    """Where the kernel had more digits than `info`, one LR photo of some hundreds differed: so look at the digits."""
    first, info = (env := make()).reset(seed=3)
    again, told = env.reset(options={key: info[key] for key in ("image", "crop", "flip", "width")})
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(info["true_score"], told["true_score"])
    np.testing.assert_array_equal(env.core.turned(env._rows(), 0).lr, first)
    for kind in ("isotropic", "anisotropic"):
        sampler = make(degradation={"kind": kind}).unwrapped._core.sampler
        draw = sampler.draw([np.random.default_rng(seed) for seed in range(8)])
        told = draw.width if kind == "isotropic" else draw.axes
        np.testing.assert_array_equal(told, told.astype(np.float32))


def test_options(make, settings):
    env, single = make(), BlindSREnv(**settings)
    observation, info = env.reset(seed=0, options={"image": ["array-0", 1, 2, 1], "crop": (0, 3), "width": 1.5})
    assert info["image"].tolist() == [0, 1, 2, 1] and info["crop"].tolist() == [[0, 3]] * 4
    assert info["width"].tolist() == [1.5] * 4 and env.image_names[1] == "array-1"
    for i in range(4):
        options = {"image": int(info["image"][i]), "crop": [0, 3], "flip": int(info["flip"][i]), "width": 1.5}
        assert_same_pictures([single.reset(options=options)[0]], [observation[i]])
    _, _, _, _, after = env.step(actions())
    assert len(np.unique(after["width"])) == 4  # the next scenes are free again


def test_reset_mask(make):
    env = make(autoreset_mode="disabled")
    mask = np.array([False, True, False, True])
    with pytest.raises(ResetNeeded, match="all rows"):
        env.reset(options={"reset_mask": mask})
    before, _ = env.reset(seed=0)
    options = {"reset_mask": mask, "width": [1.0, 2.0, 3.0, 4.0]}
    after, info = env.reset(options=options)
    assert options["reset_mask"] is mask and list(options) == ["reset_mask", "width"]  # read, not popped
    assert np.array_equal((after != before).any(axis=(1, 2, 3)), mask)
    assert info["width"].tolist() == [0, 2, 0, 4] and np.array_equal(info["_width"], mask)
    for wrong in (mask[:3], mask.astype(int), ~mask & mask):
        with pytest.raises(ValueError, match="reset_mask must"):
            env.reset(options={"reset_mask": wrong})


@pytest.mark.parametrize("degradation", ["isotropic", {"kind": "anisotropic", "noise": 3.0}])
@pytest.mark.parametrize("mode", ["same step", "next step", "disabled"])
def test_a_state_leads_back_to_the_same_scenes_and_those_that_follow(make, mode, degradation):
    settings = dict(repeats=2, autoreset_mode=mode, degradation=degradation)
    env, other = make(**settings), make(**settings)
    env.reset(seed=3)
    env.step(actions())
    if mode == "disabled":
        env.reset(options={"reset_mask": np.array([True, True, False, False])})
    state = json.loads(json.dumps(env.state()))
    shown = env._rows()
    observation, info = other.set_state(state)
    for name, own in vars(shown).items():
        tolerance = {"rtol": 1e-5, "atol": 0} if mode == "disabled" else {"rtol": 0, "atol": 0}
        torch.testing.assert_close(own, getattr(other._rows(), name), **tolerance)
    np.testing.assert_array_equal(observation, shown.lr)
    np.testing.assert_array_equal(info["true_action"], shown.true_action)
    assert info["_width"].all() and other.state() == state
    if mode == "disabled":
        for each in (env, other):
            with pytest.raises(ResetNeeded, match=r"rows \[2, 3\] are over"):
                each.step(actions())
            each.reset(options={"reset_mask": np.array([False, False, True, True])})
    for _ in range(2):
        for own, theirs in zip(env.step(actions())[:4], other.step(actions())[:4], strict=True):
            np.testing.assert_allclose(own, theirs, rtol=1e-5)
        if mode == "disabled":
            np.testing.assert_array_equal(env.reset()[0], other.reset()[0])


def test_states_that_cannot_be_are_refused(make):
    env = make()
    with pytest.raises(ValueError, match="the state must be what state.. gave, got NoneType"):
        env.set_state(None)
    for wrong in (1.5, "1234"):
        with pytest.raises(ValueError, match="^seed must be a whole number, or a list of one for each scene, got"):
            env.reset(seed=wrong)
    with pytest.raises(ResetNeeded, match="before state"):
        env.state()
    env.reset(seed=0)
    state = env.state()
    with pytest.raises(ValueError, match="the state is of num_envs=4, the environment's is 2"):
        make(2).set_state(state)
    with pytest.raises(ValueError, match="the state is of repeats=1, the environment's is 2"):
        make(repeats=2).set_state(state)
    for damage in ({"streams": state["streams"][:1]}, {"streams": [{}] * N}, {"ended": [False]}):
        with pytest.raises(ValueError, match="the state is damaged"):
            env.set_state({**state, **damage})
    assert env.state() == state
    for stream in env.state()["streams"]:
        stream["state"]["state"] = 0  # the caller's own
    assert all(stream["state"]["state"] for stream in env.state()["streams"])
    env.reset(options={"width": 2.0})
    with pytest.raises(ValueError, match="options fixed the scene of group 0"):
        env.state()
    env.step(actions())
    env.state()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (dict(autoreset_mode="same step"), "autoreset_mode='Disabled', the environment's is 'SameStep'"),
        (dict(degradation={"noise": 3.0}), "degradation="),
        (dict(degradation={"widths": [1.0, 2.0]}), "degradation="),
        (dict(patch_size=20), "patch_size="),
    ],
)
def test_a_state_of_another_environment_is_refused(make, changes, told):
    env = make(autoreset_mode="disabled")
    env.reset(seed=0)
    env.step(actions())
    state = json.loads(json.dumps(env.state()))
    other = make(**{"autoreset_mode": "disabled"} | changes)
    with pytest.raises(ValueError, match=f"the state is of {told}.*: make it with the state's"):
        other.set_state(state)
    assert told in other.mismatch(state) and make(autoreset_mode="disabled").mismatch(state) is None


def test_a_state_knows_its_photos_by_name_and_size_wherever_they_lie(make, tiny_photos, tmp_path):
    for folder, side in (("here", 100), ("there", 100), ("smaller", 96)):
        (tmp_path / folder).mkdir()
        photos.write(tmp_path / folder / "a.png", np.zeros((side, 100, 3), np.uint8))
    env = make(images=tmp_path / "here")
    env.reset(seed=0)
    state = env.state()
    make(images=tmp_path / "there").set_state(state)
    for other in (make(images=tmp_path / "smaller"), make()):
        with pytest.raises(ValueError, match="the state is of images='1 photos, a to a, digest .*', the environment's"):
            other.set_state(state)


def test_a_state_of_an_older_version_is_set_where_it_can_be(make):
    env = make(autoreset_mode="disabled")
    env.reset(seed=0)
    env.step(actions())
    old = {key: env.state()[key] for key in ("num_envs", "repeats", "streams", "ended")}
    make(autoreset_mode="disabled").set_state(old)
    with pytest.raises(ValueError, match="rows that wait for a reset: make the environment with its"):
        make().set_state(old)
    make().set_state(old | {"ended": [False] * N})


@pytest.mark.parametrize("name", ["next step", "next_step", "next-step", "NextStep", AutoresetMode.NEXT_STEP])
def test_a_mode_has_several_names(name):
    assert autoreset.mode(name) is AutoresetMode.NEXT_STEP


def test_disabled_mode_refuses_steps_after_the_end(make):
    env = make(autoreset_mode="disabled")
    with pytest.raises(ResetNeeded, match="before the first step"):
        env.step(actions())
    env.reset(seed=0)
    env.step(actions())
    env.reset(options={"reset_mask": np.array([True, True, False, True])})
    with pytest.raises(ResetNeeded, match=r"rows \[2\] are over"):
        env.step(actions())
    env.reset()
    assert env.step(actions())[2].all()


# Output


@pytest.mark.parametrize("mode", MODES)
def test_torch_output_equals_numpy(make, mode):
    arrays, tensors = make(autoreset_mode=mode), make(autoreset_mode=mode, output="torch")
    plain, given = arrays.reset(seed=1), tensors.reset(seed=1)
    compare(plain[0], given[0])
    compare(plain[1], given[1])
    if mode is AutoresetMode.DISABLED:
        plain, given = arrays.step(actions()), tensors.step(torch.from_numpy(actions()))
        compare(plain, given)
        return
    for step in range(3):
        if step == 1:
            mask = np.array([True, False, False, False])
            compare(*(env.reset(options={"reset_mask": mask}) for env in (arrays, tensors)))
        compare(arrays.step(actions(seed=step)), tensors.step(torch.from_numpy(actions(seed=step))))


def compare(plain, given, exact=False):
    """Equal results; unless exact, `plain` are arrays and `given` tensors, and rewards may be float64 in the one."""
    if isinstance(plain, dict):
        assert plain.keys() == given.keys()
        for key in plain:
            compare(plain[key], given[key], exact)
    elif isinstance(plain, tuple):
        for a, b in zip(plain, given, strict=True):
            compare(a, b, exact)
    elif exact:
        assert np.array_equal(np.asarray(plain), np.asarray(given))
    else:
        assert isinstance(given, torch.Tensor) and not given.requires_grad and not given.is_inference()
        assert np.allclose(plain, given.numpy()) and (plain.dtype == given.numpy().dtype or plain.dtype == np.float64)


@pytest.mark.parametrize("output", ["numpy", "torch"])
@pytest.mark.parametrize("mode", MODES)
def test_what_is_handed_out_is_the_callers_own(make, output, mode):
    """Memory is fresh on every call, and writing to it reaches neither the environment nor an earlier call's."""
    env, untouched = (make(output=output, autoreset_mode=mode) for _ in range(2))
    kept = {}

    def scribble(value):
        if isinstance(value, dict | tuple):
            for part in value.values() if isinstance(value, dict) else value:
                scribble(part)
            return
        address = value.data_ptr() if isinstance(value, torch.Tensor) else value.__array_interface__["data"][0]
        assert address not in kept
        kept[address] = value  # so that its address cannot come back
        value[...] = 1

    steps = 1 if mode is AutoresetMode.DISABLED else 3
    for _ in range(2):
        calls = [lambda env: env.reset(seed=0)] + [lambda env, s=s: env.step(actions(seed=s)) for s in range(steps)]
        for call in calls:
            result, expected = call(env), call(untouched)
            compare(expected, result, exact=True)
            scribble(result)


def test_actions_may_be_tensors_or_arrays_but_not_wrong(make):
    env = make()
    env.reset(seed=0)
    for wrong, message in (
        (actions(3), r"shape \(4, 15\), got \(3, 15\)"),
        (np.full((N, 15), np.nan), "finite"),
        (torch.full((N, 15), np.inf), "finite"),
    ):
        with pytest.raises(ValueError, match=message):
            env.step(wrong)
    large = torch.zeros(N, 15)
    large[1] = 2
    assert env.step(large)[4]["final_info"]["clipped"].tolist() == [0, 15, 0, 0]


def test_observations_permute_to_channels_last(make):
    observation, _ = make(output="torch").reset(seed=0)
    assert observation.permute(0, 3, 1, 2).is_contiguous(memory_format=torch.channels_last)


# As Gymnasium makes it


def test_make_vec(tiny_checkpoint):
    settings = dict(metric="psnr", generator=tiny_checkpoint, patch_size=24)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gymnasium.make_vec("BlindSR-v0", num_envs=N, autoreset_mode="next_step", **settings)
    assert isinstance(env, BlindSRVectorEnv) and env.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    assert type(env).metadata["autoreset_mode"] is AutoresetMode.SAME_STEP  # the class's own stays
    spec = gymnasium.envs.registration.EnvSpec.from_json(env.spec.to_json())
    twin = gymnasium.make_vec(spec)
    assert twin.num_envs == N and np.array_equal(env.reset(seed=2)[0], twin.reset(seed=2)[0])
    sync = gymnasium.make_vec("BlindSR-v0", num_envs=2, vectorization_mode="sync", **settings)
    assert_same_pictures(sync.reset(seed=2)[0], env.reset(seed=2)[0][:2])
    env.close()
    with pytest.raises(ClosedEnvironmentError):
        env.reset()


def test_gymnasium_wrappers(make):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gymnasium.wrappers.vector.RecordEpisodeStatistics(make())
        env.reset(seed=0)
        _, rewards, _, _, info = env.step(actions())
        assert np.allclose(info["episode"]["r"], rewards) and info["episode"]["l"].tolist() == [1] * N
        env = gymnasium.wrappers.vector.DictInfoToList(make())
        _, infos = env.reset(seed=0)
        assert len(infos) == N and infos[1]["true_action"].shape == (15,)
        infos = env.step(actions())[4]
        assert infos[2]["final_info"]["clipped"] == 0
        env = gymnasium.wrappers.vector.FlattenObservation(make(autoreset_mode="next step"))
        assert env.reset(seed=0)[0].shape == (N, 24 * 24 * 3)


def test_attributes_of_rows(make):
    env = make()
    assert env.get_attr("autoreset_mode") == (AutoresetMode.SAME_STEP,) * N
    assert env.call("get_attr", "num_envs")[3] == (N,) * N
    env.set_attr("tag", [7] * N)
    assert env.tag == 7
    env.set_attr("tag", 8)
    assert env.call("tag") == (8,) * N
    env.set_attr("tag", [np.zeros(2)] * N)
    with pytest.raises(ValueError, match="share 'tag'"):
        env.set_attr("tag", [1, 2, 3, 4])
    with pytest.raises(ValueError, match="^patch_size of a BlindSR vector environment stays as it was made: "):
        env.set_attr("patch_size", 128)
    assert env.get_attr("action_space") == (env.single_action_space,) * N == env.call("action_space")
    assert env.get_attr("observation_space")[0].shape == (24, 24, 3)
    for name in ("reset", "step", "render", "close"):
        with pytest.raises(ValueError, match=rf"environment {name} together: call its own {name}\(\)$"):
            env.call(name)
    assert env.device == torch.device("cpu")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_envs": 0}, "num_envs must be"),
        ({"num_envs": 4, "repeats": 3}, "repeats must divide"),
        ({"num_envs": 4, "repeats": 2.0}, "repeats must be a whole number above 0, got 2.0"),
        ({"num_envs": True}, "num_envs must be a whole number above 0, got True"),
        ({"output": "tensor"}, "there are 'numpy', 'torch'"),
        ({"autoreset_mode": "same stop"}, "did you mean 'same step'"),
        ({"render_mode": "rgb"}, "did you mean 'rgb_array'"),
    ],
)
def test_impossible_settings(settings, changes, message):
    with pytest.raises(ValueError, match=message):
        BlindSRVectorEnv(**(settings | changes))


def test_one_row(make):
    env = make(1)
    observation, _ = env.reset(seed=0)
    assert observation.shape == (1, 24, 24, 3) and env.step(actions(1))[1].shape == (1,)


@pytest.mark.gpu
@pytest.mark.parametrize("cuda_graphs", [False, True])
def test_steps_never_wait_for_the_gpu(make, tiny_checkpoint, cuda_graphs):
    settings = {"generator": tiny_checkpoint, "metric": "niqe", "report": ("psnr", "grid"), "cuda_graphs": cuda_graphs}
    env = make(64, device="cuda", output="torch", **settings)
    env.reset(seed=0)
    action = torch.zeros(64, 15, device="cuda")
    env.step(action)
    allocated = []
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(8):
            result = env.step(action)
            allocated.append(torch.cuda.memory_allocated())
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert max(allocated[4:]) <= max(allocated[:4])  # no growth
    assert result[0].is_cuda and result[1].is_cuda and result[4]["_final_info"].is_cuda


def test_a_refused_reset_changes_nothing(tiny_generator, tiny_photos):
    settings = dict(metric="psnr", generator=tiny_generator, images=tiny_photos, patch_size=24)
    env = gymnasium.make_vec("BlindSR-v0", num_envs=2, **settings).unwrapped
    env.reset(seed=0)
    following = env.reset()[1]
    env.reset(seed=0)
    for options in ({"flip": 9}, {"crop": (99_999, 0)}):
        for seed in (None, 6):
            with pytest.raises(ValueError):
                env.reset(seed=seed, options=options)
    for seeds in ([7, -5], [7, 8, 9], -1):
        with pytest.raises((ValueError, gymnasium.error.Error)):
            env.reset(seed=seeds)
    metric, env.core.metric = env.core.metric, lambda sr, hr: None
    with pytest.raises(AttributeError):
        env.reset()
    env.core.metric = metric
    assert env.state()["streams"] is not None and env.np_random_seed == 0
    again = env.reset()[1]
    assert np.array_equal(again["crop"], following["crop"]) and np.array_equal(again["width"], following["width"])


def test_random_numbers_may_be_set_from_outside(make):
    def crops(env, count=2):
        return [env.reset()[1]["crop"].tolist() for _ in range(count)]

    env = make()
    env.np_random = np.random.default_rng(3)
    first = crops(env)
    assert first[0] != first[1] and len({tuple(crop) for crop in first[0]}) > 1
    env.np_random = np.random.default_rng(3)
    assert crops(env) == first
    env.reset(seed=5)
    assert crops(env) != first
    assert env.np_random_seed == 5


def test_a_first_seed_of_none_leaves_the_other_streams_alone(make):
    def rows():
        env = make(3)
        env.reset(seed=[None, 2, 3])
        return env.reset()[1]["crop"][1:]

    assert np.array_equal(rows(), rows())


def test_scenes_of_a_state_are_shown_without_an_action(make):
    env = make(2, autoreset_mode="disabled", render_mode="rgb_array")
    env.reset(seed=0)
    before = env.render()[0]
    env.step(actions(2))
    played = env.render()[0]
    env.set_state(env.state())
    assert np.array_equal(env.render()[0], before) and not np.array_equal(played, before)


def test_rows_rest_under_another_default_dtype(make):
    env = make(2, autoreset_mode="next step", output="torch")
    torch.set_default_dtype(torch.float64)
    try:
        env.reset(seed=0)
        env.step(actions(2))
        env.reset(options={"reset_mask": np.array([True, False])})
        assert env.step(actions(2))[1].dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_state_that_cannot_be_set_changes_nothing(make):
    env, other = make(), make()
    env.reset(seed=3)
    state = env.state()
    for each in (env, other):
        each.reset(seed=0)
        each.step(actions())
    scores = env.core.scores
    env.core.scores = lambda *arguments: 1 / 0
    with pytest.raises(ZeroDivisionError):
        env.set_state(state)
    env.core.scores = scores
    for each in (env.step(actions()), env.step(actions())):
        assert np.array_equal(each[0], other.step(actions())[0])


def test_seeds_and_options_of_another_type_are_refused(make):
    env = make(2)
    for seeds in ([1.7, 2.2], ["1", "2"]):
        with pytest.raises(ValueError, match="a list of seeds must have whole numbers or None"):
            env.reset(seed=seeds)
    with pytest.raises(ValueError, match="options must be a dict of"):
        env.reset(options=[("image", 0)])
    with pytest.raises(ValueError, match="an action must be real numbers"):
        env.reset()
        env.step(1j * actions(2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a width that is not drawn
        env.reset(options={"reset_mask": np.array([True, False]), "width": [1.0, 9.0]})
