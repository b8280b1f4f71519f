"""Policies on the real environment (an untrained generator, photos made here) and their files."""

import dataclasses
import warnings
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import RescaleAction
from toy_worlds import ColourWorld

import generators
from agents import baselines, checkpoints, policies, shared_offset
from agents.ddpg import DDPG, DDPGConfig
from agents.group_pg import GroupPG, GroupPGConfig
from agents.meaning import ActionMeaning, core_of
from agents.networks import Predictor, answer
from agents.part import Part
from blindsr_env.env import BlindSREnv
from blindsr_env.vector_env import BlindSRVectorEnv
from generators import checkpoint
from generators.checkpoint import CheckpointError
from generators.codec import KernelCodec


@pytest.fixture(scope="module")
def generator():
    torch.manual_seed(0)
    return generators.build("amnet_s").eval().requires_grad_(False)


@pytest.fixture(scope="module")
def make(generator):
    photo = np.random.default_rng(0).integers(0, 256, (100, 120, 3), np.uint8)

    def make(**changes):
        settings = dict(num_envs=4, metric="psnr", patch_size=16, images=[photo], generator=generator, output="torch")
        return BlindSRVectorEnv(**settings | changes)

    return make


@pytest.fixture
def predictor_file(make, tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "predictor.safetensors"
    checkpoints.save_predictor(path, Predictor(width=8, blocks=1), ActionMeaning.of(make()), {"steps": 0})
    return path


def test_a_policy_in_part_goes_a_share_of_the_way_from_the_prediction(make, predictor_file):
    env = make()
    observation, info = env.reset(seed=0)

    def chosen(name):
        return policies.load(name, env, predictor=predictor_file).predict(observation, info)[0]

    begun, ended = chosen("predictor"), chosen("mean-code")
    assert not torch.allclose(begun, ended)
    for share in (0, 0.25, 1):
        torch.testing.assert_close(chosen(f"mean-code@{share}"), (1 - share) * begun + share * ended)
    numbers = policies.load("mean-code@0.25", env, predictor=predictor_file).predict(observation.numpy())[0]
    np.testing.assert_allclose(numbers, chosen("mean-code@0.25"), atol=1e-6)
    torch.testing.assert_close(chosen(f"{predictor_file}@0.5"), begun)
    beyond, before = (Mock(predict=lambda *_, u=u: (torch.tensor(u), None)) for u in ([3.0, -5.0], [0.5, 2.0]))
    assert Part(beyond, before, 0.5).predict(observation)[0].tolist() == [0.75, 0.0], "both as the environment clips"
    with pytest.raises(ValueError, match="share of mean-code@1.5 must lie in 0"):
        policies.load("mean-code@1.5", env)
    with pytest.raises(ValueError, match="share of amgan_rl must be a number from 0 .* got 'half'"):
        policies.load("amgan_rl@half", env)
    with pytest.raises(ValueError, match="did you mean 'mean-code'"):
        policies.load("mean-cod@0.5", env)


def test_a_policy_in_part_is_loaded_as_the_whole_one(make, predictor_file):
    env = make()
    observation, _ = env.reset(seed=0)

    def chosen(name):
        return policies.load(name, env, predictor=predictor_file, seed=3).predict(observation)[0]

    torch.testing.assert_close(chosen("predictor@0.5"), chosen("predictor"))
    torch.testing.assert_close(chosen("random@1"), chosen("random"))


def test_a_policy_in_part_has_the_file_and_the_generator_of_the_whole(tmp_path):
    assert policies.file_of("amgan_rl@0.5") == policies.file_of("amgan_rl") is not None
    learned = policies.learned_on("amgan_rl@0.5")
    assert learned is not None and learned.generator == "amgan"
    at = tmp_path / "me@home" / "agent.safetensors"
    assert policies.file_of(at) == at, "an @ in a path is no share"
    folder = tmp_path / "seed@1"
    folder.mkdir()
    (folder / "agent.safetensors").touch()
    assert policies.file_of(folder) == folder / "agent.safetensors", "a folder that is there is meant"


@pytest.mark.parametrize("kind", ["code", "free-code", "width"])
def test_true_code_earns_nothing_and_fixed_policies_fit_the_box(make, kind):
    env = make(action=kind)
    observation, info = env.reset(seed=3)
    for name in ("mean-code", "random", "true-code"):
        action, state = policies.load(name, env).predict(observation, info)
        assert env.action_space.contains(action.numpy()) and state is None
    observation, reward, _, _, info = env.step(action)
    torch.testing.assert_close(reward, torch.zeros(4), rtol=0, atol=1e-3)
    action, _ = policies.load("true-code", env).predict(observation, info)  # info of the scenes drawn since
    torch.testing.assert_close(env.step(action)[1], torch.zeros(4), rtol=0, atol=1e-3)


def test_the_true_code_is_none_behind_a_wrapper_that_changes_actions(make):
    env = RescaleAction(make(output="numpy"), np.float32(0), np.float32(1))
    for name in ("true-code", "mean-code"):
        with pytest.raises(ValueError, match=f"'{name}' needs a BlindSR environment, whose actions no wrapper changes"):
            policies.load(name, env)


def test_single_environments_side_by_side_are_known(generator):
    def single():
        return BlindSREnv(metric="psnr", patch_size=16, generator=generator)

    env = SyncVectorEnv([single], autoreset_mode=AutoresetMode.SAME_STEP)
    assert core_of(env) is env.envs[0].unwrapped.core
    assert policies.load("predictor", env)


def test_mean_code_is_the_mean_kernel(make):
    env = make()
    kernel = env.core.codec.decode(baselines.mean_action(env.core)[None])[0]
    torch.testing.assert_close(kernel.flatten().double(), env.core.codec.mean, rtol=0, atol=1e-6)
    free = baselines.mean_action(make(action="free-code").core)
    torch.testing.assert_close(free, env.core.codec.code(baselines.mean_action(env.core)))
    middle = baselines.mean_action(make(action="width").core)
    torch.testing.assert_close(middle, torch.zeros(1), rtol=0, atol=1e-6)


def test_random_is_seeded_and_single_observations_are_answered(make):
    env = make()
    image = np.zeros((16, 16, 3), np.uint8)
    one, same, other = (policies.load("random", env, seed=s).predict(image)[0] for s in (1, 1, 2))
    assert one.shape == (15,) and isinstance(one, np.ndarray)
    assert (one == same).all() and (one != other).any()
    policy = policies.load("random", env, seed=1)
    many = policy.predict(np.zeros((100, 16, 16, 3), np.uint8))[0]
    assert -1 <= many.min() < -0.98 and 0.98 < many.max() <= 1 and abs(many.mean()) < 0.05
    policy.restart()
    assert (policy.predict(image)[0] == one).all()


def test_predictor_policy_gives_the_predictors_actions_and_free_codes(make, predictor_file):
    env = make()
    observation, _ = env.reset(seed=0)
    predictor, meaning = checkpoints.load_predictor(predictor_file)
    assert meaning == ActionMeaning.of(env)
    expected = answer(observation, torch.device("cpu"), predictor)
    torch.testing.assert_close(policies.load(predictor_file, env).predict(observation)[0], expected)
    torch.testing.assert_close(
        policies.load("predictor", env, predictor=predictor_file).predict(observation)[0], expected
    )
    free = policies.load(predictor_file, make(action="free-code")).predict(observation)[0]
    torch.testing.assert_close(free, env.core.codec.code(expected), rtol=0, atol=0.06)
    started = DDPG(make(action="free-code"), actor=predictor_file)  # "before" is where the agent starts, to the bit
    torch.testing.assert_close(started.predict(observation)[0], free, rtol=0, atol=0)


def test_agents_start_from_a_predictor_file_in_both_code_spaces(make, predictor_file):
    predictor, _ = checkpoints.load_predictor(predictor_file)
    env = make()
    observation, _ = env.reset(seed=0)
    expected = answer(observation, torch.device("cpu"), predictor)
    started = DDPG(env, actor=predictor_file)
    torch.testing.assert_close(started.predict(observation)[0], expected)
    free = DDPG(make(action="free-code"), actor=predictor_file).predict(observation)[0]
    torch.testing.assert_close(free, env.core.codec.code(expected), rtol=0, atol=0.06)


@pytest.mark.parametrize("kind", ["code", "free-code"])
def test_agents_start_as_the_shipped_predictor_where_its_actions_have_a_meaning(make, kind):
    env = make(action=kind)
    observation, _ = env.reset(seed=0)
    expected = policies.load("predictor", env).predict(observation)[0]
    torch.testing.assert_close(DDPG(env).predict(observation)[0], expected, rtol=0, atol=0)
    assert expected.std(0).min() > 0 and DDPG(make(action="width")).predict(observation)[0].shape == (4, 1)


@pytest.mark.parametrize("other", [{"scale": 3}, {"codec": KernelCodec.isotropic(2)}])
def test_agents_start_untrained_at_another_basis(other):
    narrow = generators.build("amnet_s", **other).eval()
    photo = np.random.default_rng(0).integers(0, 256, (100, 120, 3), np.uint8)
    env = BlindSRVectorEnv(4, metric="psnr", patch_size=16, images=[photo], generator=narrow, output="torch")
    actor, shipped = DDPG(env).actor, checkpoints.load_predictor(checkpoints.shipped_predictor_file())[0]
    assert actor.settings == shipped.settings and not torch.equal(actor.last.weight, shipped.last.weight)
    assert not torch.equal(actor.centre, torch.zeros_like(actor.centre))


def test_each_scale_has_a_predictor_of_its_own():
    double = BlindSRVectorEnv(2, metric="psnr", patch_size=32, generator="amnet_s_x2")
    observation, _ = double.reset(seed=0)
    expected, _ = policies.load(checkpoints.WEIGHTS / "predictor_s_x2.safetensors", double).predict(observation)
    for policy in (policies.load("predictor", double), DDPG(double)):
        np.testing.assert_array_equal(policy.predict(observation)[0], expected)
    named = {scale: policies.file_of("predictor", generators.build(scale=scale)) for scale in (4, 2, 3)}
    named[None] = policies.file_of("predictor")
    assert named[2] != named[4] == named[None] == named[3]
    with pytest.raises(
        CheckpointError, match="trained for scale 4, not 3: take a generator of scale 4, or train one for it"
    ):
        policies.load("predictor", BlindSREnv(metric="psnr", generator=generators.build("amnet_s", scale=3).eval()))


def test_a_generator_may_bring_a_predictor_of_its_own(make, generator, predictor_file, monkeypatch):
    env, tiled = make(), make(generator=generators.Tiled(generator, 64))
    observation, _ = env.reset(seed=0)
    shipped = policies.load("predictor", env).predict(observation)[0]
    monkeypatch.setitem(checkpoints.OWN_PREDICTORS, (generator.name, 4), predictor_file)
    expected = policies.load(predictor_file, env).predict(observation)[0]
    assert not torch.equal(expected, shipped)
    for policy in (policies.load("predictor", env), DDPG(env), policies.load("predictor", tiled)):
        torch.testing.assert_close(policy.predict(observation)[0], expected, rtol=0, atol=0)
    assert policies.file_of("predictor", generator) == predictor_file != policies.file_of("predictor")


def test_damaged_predictors_are_refused_in_one_line(make, predictor_file, tmp_path):
    bad = tmp_path / "bad.safetensors"
    tensors, metadata = checkpoint.read(predictor_file)
    weight = "predictor.head.weight"
    damages = [
        ({name: tensor for name, tensor in tensors.items() if name != weight}, metadata),
        ({**tensors, "predictor.x": torch.zeros(1)}, metadata),
        ({**tensors, "x": torch.zeros(1)}, metadata),
        ({**tensors, weight: tensors[weight][:3]}, metadata),
        (tensors, {key: value for key, value in metadata.items() if key != "settings"}),
        (tensors, {**metadata, "settings": {**metadata["settings"], "unknown": 1}}),
        (tensors, {**metadata, "settings": {"kind": "transformer"}}),
        (tensors, {**metadata, "meaning": {"unknown": 1}}),
    ]
    for some, values in damages:
        checkpoint.save(bad, some, values)
        with pytest.raises(CheckpointError, match="bad.safetensors is not a whole predictor's checkpoint") as error:
            policies.load(bad, make(), predictor=predictor_file)
        assert "\n" not in str(error.value)


def test_a_policys_file_is_read_once(make, predictor_file, tmp_path, monkeypatch):
    path = tmp_path / "agent.safetensors"
    DDPG(make(), actor=predictor_file).save(path)
    reads, read = [], checkpoint.read
    monkeypatch.setattr(checkpoint, "read", lambda *args: reads.append(args[0]) or read(*args))
    for file in (path, predictor_file):
        reads.clear()
        policies.load(file, make())
        assert len(reads) == 1


def test_unknown_algorithms_are_named():
    assert policies.algorithm("ddpg") is DDPG
    with pytest.raises(ValueError, match="unknown algorithm 'dpg': did you mean 'ddpg'"):
        policies.algorithm("dpg")


@pytest.mark.parametrize("field, value, word", [("scale", 2, "scale 2"), ("basis", "f00", "code basis 'f00'")])
def test_another_scale_or_basis_is_refused(make, predictor_file, tmp_path, field, value, word):
    tensors, metadata = checkpoint.read(predictor_file)
    metadata["meaning"][field] = value
    foreign = tmp_path / "foreign.safetensors"
    checkpoint.save(foreign, tensors, metadata)
    for load in (lambda: policies.load(foreign, make()), lambda: DDPG(make(), actor=foreign)):
        with pytest.raises(CheckpointError, match=f"foreign.safetensors was trained for {word}, not .*train one"):
            load()


def test_agents_of_another_scale_space_or_world_are_refused(make, tmp_path):
    path = tmp_path / "agent.safetensors"
    agent = DDPG(make(), actor=Predictor(width=8, blocks=1))
    agent.meaning = dataclasses.replace(agent.meaning, scale=2)
    agent.save(path)
    for load in (lambda: DDPG.load(path, make()), lambda: policies.load(path, make())):
        with pytest.raises(CheckpointError, match="trained for scale 2, not 4"):
            load()
    DDPG(make(action="free-code"), actor=Predictor(width=8, blocks=1)).save(path)
    with pytest.raises(CheckpointError, match="trained for action space 'free-code', not 'code'"):
        policies.load(path, make())
    DDPG(ColourWorld(4), actor=Predictor(width=8, blocks=1, actions=3)).save(path)
    with pytest.raises(CheckpointError, match="trained on another environment .*, not on BlindSR"):
        policies.load(path, make())


def test_a_predictor_of_widths_speaks_no_free_codes(make, tmp_path):
    path = tmp_path / "width.safetensors"
    meaning = ActionMeaning.of(make(action="width"))
    checkpoints.save_predictor(path, Predictor(width=8, blocks=1, actions=1), meaning, {})
    with pytest.raises(CheckpointError, match="trained for action space 'width', not 'free-code'"):
        policies.load(path, make(action="free-code"))


def test_generators_are_told_apart_by_name_and_by_weights_that_are_known():
    mine = ActionMeaning("code", 4, "basis", "amnet", "weights")
    older = dataclasses.replace(mine, weights=None)
    assert mine.same_generator(mine) and mine.same_generator(older) and older.same_generator(mine)
    for changes in ({"weights": "others"}, {"generator": "amgan"}, {"generator": "amgan", "weights": None}):
        assert not mine.same_generator(dataclasses.replace(mine, **changes))


def test_a_path_is_no_misspelt_name(make, predictor_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for missing in ("nothing.safetensors", "runs/nothing"):
        with pytest.raises(CheckpointError, match="no checkpoint"):
            policies.load(missing, make())
    predictor_file.rename(tmp_path / "mine")
    assert isinstance(policies.load("mine", make()), baselines.PredictorPolicy)


@pytest.mark.parametrize("algorithm", [DDPG, GroupPG])
def test_agents_learn_in_the_real_environment_and_load_as_policies(make, algorithm, tmp_path):
    config = (
        DDPGConfig(actor_starts=4, batch_size=4, critic_updates=1) if algorithm is DDPG else GroupPGConfig(epochs=2)
    )
    agent = algorithm(make(repeats=2), config, actor=Predictor(width=8, blocks=1), seed=1).learn(12)
    path = tmp_path / "agent.safetensors"
    agent.save(path, training={"photos": "noise"})
    observation, info = make().reset(seed=0)
    policy = policies.load(path, make())
    torch.testing.assert_close(policy.predict(observation, info)[0], agent.predict(observation)[0])
    assert type(policy) is algorithm and policy.meaning == ActionMeaning.of(make())
    assert checkpoint.read(path)[1]["training"] == {"photos": "noise"}
    warm = DDPG(make(), actor=path)  # an agent may start where another ended
    torch.testing.assert_close(warm.predict(observation)[0], agent.predict(observation)[0])


def test_a_runs_folder_stands_for_what_it_trained(make, predictor_file, tmp_path):
    with pytest.raises(CheckpointError, match=r"no agent.safetensors or predictor.safetensors in "):
        policies.load(tmp_path.parent, make())
    assert predictor_file.name == "predictor.safetensors" and predictor_file.parent == tmp_path
    observation, _ = make().reset(seed=0)
    assert isinstance(policies.load(tmp_path, make()), baselines.PredictorPolicy)
    agent = GroupPG(make(repeats=2), actor=Predictor(width=8, blocks=1))
    agent.save(tmp_path / "agent.safetensors")
    action = policies.load(str(tmp_path), make()).predict(observation)[0]
    torch.testing.assert_close(action, agent.predict(observation)[0])


def test_who_learned_what_a_generators_pictures_are_worth(make, predictor_file, tmp_path):
    path = tmp_path / "agent.safetensors"
    agent = DDPG(make(), actor=predictor_file)
    agent.save(path)
    assert policies.learned_on(path).generator == "amnet_s" and policies.learned_on("amgan_rl_s").generator == "amgan_s"
    for name in ("predictor", "true-code", predictor_file, "mine:policy"):
        assert policies.learned_on(name) is None
        assert policies.generator_of([name]) is None
    assert policies.generator_of(["predictor", path, f"{path}@0.5"]) == "amnet_s"
    with pytest.raises(ValueError, match="amgan_rl_s learned on amgan_s, .*agent.safetensors on amnet_s: say which"):
        policies.generator_of(["amgan_rl_s", path])
    tensors, metadata = checkpoint.read(path)
    for changes in ({"weights": "of before"}, {"generator": "mine"}):
        checkpoint.save(
            path.with_name("old.safetensors"), tensors, metadata | {"meaning": metadata["meaning"] | changes}
        )
        with pytest.raises(ValueError, match="old.safetensors learned on .* of weights that do not ship: give that as"):
            policies.generator_of([path, path.with_name("old.safetensors")])
    for meaning, known in ((metadata["meaning"] | {"weights": None}, "amnet_s"), ({"unknown": 1}, None)):
        checkpoint.save(path.with_name("old.safetensors"), tensors, metadata | {"meaning": meaning})
        assert policies.generator_of([path.with_name("old.safetensors")]) == known
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        policies.load(path, make())
        policies.load("predictor", make())
    for changes, theirs in (({"generator": "other"}, "other"), ({"weights": "0" * 12}, "another amnet_s")):
        changed = DDPG(make(), actor=predictor_file)
        changed.meaning = dataclasses.replace(agent.meaning, **changes)
        changed.save(path)
        env = make(generator=generators.load("amnet_s")) if "weights" in changes else make()
        with pytest.warns(UserWarning, match=f"learned what {theirs}'s pictures are worth, amnet_s renders here"):
            policies.load(path, env)


def test_a_folder_does_not_hide_a_policy(make, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in policies.NAMES + tuple(checkpoints.NAMED):
        (tmp_path / name).mkdir()
    for name in ("true-code", "mean-code", "random", "predictor"):
        policies.load(name, make())
    assert policies.file_of("amgan_rl_s") == checkpoints.SHIPPED_AGENTS["amgan_rl_s"]
    assert policies.file_of("predictor_s_open") == checkpoints.OWN_PREDICTORS["amnet_s_open", 4]


def test_an_offset_is_learned_on_a_predictor(make, predictor_file, monkeypatch):
    env, bars = make(repeats=2), []
    monkeypatch.setattr(shared_offset, "tqdm", lambda **settings: bars.append(Mock(**settings)) or bars[-1])
    base = policies.load(predictor_file, env)
    offset = shared_offset.learn_offset(env, base, renders=8)
    assert bars[0].desc == "learning the offset" and bars[0].unit.strip() == "renders" and bars[0].total == 8
    assert sum(call.args[0] for call in bars[0].update.call_args_list) == 8
    assert torch.equal(offset, shared_offset.learn_offset(env, base, renders=8)) and offset.abs().max() > 0
    policy = shared_offset.OffsetPolicy(base, offset)
    observation, _ = env.reset(seed=0)
    expected = (base.predict(observation)[0] + offset).clamp(-1, 1)
    torch.testing.assert_close(policy.predict(observation)[0], expected)
    np.testing.assert_allclose(policy.predict(observation.numpy())[0], expected, atol=1e-6)
    far = shared_offset.OffsetPolicy(base, torch.tensor([3.0, -3.0, 3.0] * 5))
    assert (far.predict(observation.numpy())[0] == [1, -1, 1] * 5).all()
    with pytest.raises(ValueError, match="even repeats"):
        shared_offset.learn_offset(make(), base)


def test_what_is_missing_or_unknown_is_named(make, tmp_path):
    with pytest.raises(ValueError, match="unknown policy 'true-cod': did you mean 'true-code'.* Or give the path"):
        policies.load("true-cod")
    with pytest.raises(ValueError, match="give env="):
        policies.load("random")
    with pytest.raises(ValueError, match="stands in the environment's info"):
        policies.load("true-code").predict(np.zeros((16, 16, 3), np.uint8))
    other = tmp_path / "other.safetensors"
    checkpoint.save(other, {"x": torch.zeros(1)}, {"kind": "generator"})
    with pytest.raises(CheckpointError, match="holds a generator"):
        policies.load(other)
    with pytest.raises(CheckpointError, match="holds a generator"):
        DDPG(make(), actor=other)
    checkpoint.save(other, {"x": torch.zeros(1)}, {"kind": "agent", "algorithm": "ppg"})
    with pytest.raises(CheckpointError, match="not an agent of ddpg, group-pg, pathwise"):
        policies.load(other)


@pytest.mark.parametrize("action", ["code", "free-code"])
@pytest.mark.parametrize("output", ["torch", "numpy"])
def test_the_offset_may_lie_on_the_true_code(make, action, output):
    told = []

    class Told(baselines.TrueCode):
        def predict(self, observation, info=None):
            told.append((len(observation), torch.as_tensor(info["true_action"])))
            return super().predict(observation, info)

    env = make(repeats=2, action=action, output=output)
    offset = shared_offset.learn_offset(env, Told(), renders=3 * env.num_envs)
    assert offset.abs().max() > 0 and len(told) == 3
    observation, info = make(repeats=2, action=action).reset(seed=0)
    scenes = env.num_envs // 2
    assert told[0][0] == len(told[0][1]) == scenes
    torch.testing.assert_close(told[0][1], info["true_action"][::2])
    assert not torch.equal(told[0][1], told[1][1]), "each step has new scenes"
    shifted, _ = shared_offset.OffsetPolicy(baselines.TrueCode(), offset * 0 + 0.5).predict(observation, info)
    torch.testing.assert_close(shifted, (info["true_action"] + 0.5).clamp(-1, 1))


@pytest.mark.parametrize(("action", "noise"), [("code", [0.15] * 8 + [0.05] * 7), ("free-code", [0.1] * 15)])
def test_the_offsets_noise_is_that_of_its_action_space(make, action, noise, monkeypatch):
    env, played = make(repeats=2, action=action), []
    step = env.step
    env.step = lambda actions: played.append(actions) or step(actions)
    pair = torch.tensor([1.0, -1.0])[None, :, None]
    monkeypatch.setattr(shared_offset, "antithetic", lambda mean, *_: pair.expand(len(mean), 2, 15))
    shared_offset.learn_offset(env, baselines.Constant(torch.zeros(15)), renders=1)  # a step is the least
    torch.testing.assert_close(played[0][:2], torch.tensor([noise, noise]) * pair[0])


@pytest.mark.parametrize("what", ["noise", "scenes"])
def test_an_offsets_seed_is_that_of_its_noise_and_of_its_scenes(what):
    seeds = []

    class Watched(ColourWorld):
        def reset(self, *, seed=None, options=None):
            seeds.append(seed)
            return super().reset(seed=0)

    still = baselines.Constant(torch.zeros(3))
    one, other = (shared_offset.learn_offset(Watched(8, repeats=2), still, renders=16, seed=seed) for seed in (1, 2))
    assert seeds == [1, 2] if what == "scenes" else not torch.equal(one, other)


def test_the_offsets_steps_become_smaller():
    """Adam's are of the learning rate each where the way is clear: 20 of them, shrinking to nothing."""
    far = shared_offset.learn_offset(ColourWorld(48, repeats=6, shift=0.9), baselines.Constant(torch.zeros(3)), 48 * 20)
    assert 0.2 < far.min() and far.max() < 0.33
