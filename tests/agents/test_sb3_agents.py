"""Stable-Baselines3's algorithms as agents: they move what a predictor names, learn, and come back from files."""

import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded
from gymnasium.spaces import Box
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from torch import nn
from toy_worlds import ColourWorld, SingleColour

from agents import policies
from agents.checkpoints import load_predictor, shipped_predictor_file
from agents.ddpg import DDPG
from agents.networks import Actor, Predictor, from_observation
from agents.residual import Residual
from agents.sb3_agents import SB3Config
from generators import checkpoint
from generators.checkpoint import CheckpointError

NAMES = ("sb3-ppo", "sb3-a2c", "sb3-sac", "sb3-td3", "sb3-ddpg")
FEW = {
    "sb3-ppo": {"n_steps": 2, "batch_size": 8, "n_epochs": 2},
    "sb3-a2c": {"n_steps": 2},
    "sb3-sac": {"batch_size": 8, "gradient_steps": 1},
    "sb3-td3": {"batch_size": 8, "gradient_steps": 1},
    "sb3-ddpg": {"batch_size": 8, "gradient_steps": 1},
}


@pytest.fixture
def actor():
    torch.manual_seed(0)
    return Predictor(width=8, blocks=1, actions=3)


def make(name, world, actor, seed=3, **changes):
    changes = {"arguments": {"policy_kwargs": {"net_arch": [16]}, **FEW[name]}, **changes}
    return policies.algorithm(name)(world, SB3Config(**changes), actor=actor, seed=seed)


@pytest.mark.parametrize("output", ["numpy", "torch"])
def test_residual_plays_the_actors_actions_moved(actor, output):
    plain, env = ColourWorld(4, output="numpy"), Residual(ColourWorld(4, output=output), actor, reach=0.5)
    image, _ = plain.reset(seed=5)
    seen, infos = env.reset(seed=5)
    rng = np.random.default_rng(0)
    for _ in range(3):
        with torch.no_grad():
            lr = from_observation(torch.from_numpy(image))
            pooled, named = actor.pooled(lr).numpy(), actor(lr).numpy()
        np.testing.assert_allclose(seen, pooled, rtol=1e-5, atol=1e-6)
        assert env.single_observation_space.contains(seen[0]) and np.asarray(infos["colour"]).shape == (4, 3)
        offset = rng.uniform(-1, 1, (4, 3)).astype(np.float32)
        image, expected, _, _, _ = plain.step(np.clip(named + 0.5 * offset, -1, 1))
        before = seen
        seen, reward, terminated, _, infos = env.step(offset)
        np.testing.assert_allclose(np.asarray(reward), expected, rtol=1e-4, atol=1e-6)
        assert np.asarray(terminated).all() and data_equivalence(infos["final_obs"], before)


def test_residual_keeps_the_environments_contract(actor):
    env = Residual(ColourWorld(4), actor, reach=0.5)
    with pytest.raises(ResetNeeded, match="call reset before step"):
        env.step(np.zeros((4, 3), np.float32))
    seen, infos = env.reset(seed=0)
    for shape in ((3,), (1, 3), (4, 1), (4, 4)):
        with pytest.raises(ValueError, match=r"actions must have shape \(4, 3\), got"):
            env.step(np.zeros(shape, np.float32))
    seen[:] = 0  # a caller's array is its own
    far, edge = Residual(ColourWorld(4), actor), Residual(ColourWorld(4), actor)
    for each in (far, edge):
        each.reset(seed=1)
    rewards = [np.asarray(each.step(np.full((4, 3), x, np.float32))[1]) for each, x in ((far, 1.9), (edge, 1.0))]
    np.testing.assert_array_equal(*rewards)
    infos = env.step(np.zeros((4, 3), np.float32))[4]
    assert np.abs(infos["final_obs"]).max() > 0
    assert "score" in infos["final_info"] and "gradient" not in infos["final_info"]


@pytest.mark.parametrize(
    ("env", "settings", "message"),
    [
        ({}, {"actor": Predictor(width=8, blocks=1)}, "^the actor gives 15 components, the environment takes 3$"),
        ({"mode": AutoresetMode.DISABLED}, {}, "autoreset mode is Disabled: make it with autoreset_mode="),
        *(
            ({}, {"reach": reach}, f"^reach must be above 0 and finite, got {reach}$")
            for reach in (0.0, np.inf, np.nan)
        ),
    ],
)
def test_residual_refuses_what_does_not_fit(actor, env, settings, message):
    with pytest.raises(ValueError, match=message):
        Residual(ColourWorld(4, **env), **{"actor": actor, **settings})


def test_residual_refuses_other_spaces_and_longer_episodes(actor):
    world = ColourWorld(4)
    world.single_observation_space = Box(0, 1, (8, 8, 3), np.float32)
    with pytest.raises(ValueError, match="^observations must be uint8 images"):
        Residual(world, actor)
    world, never = ColourWorld(4), torch.zeros(4, dtype=torch.bool)
    env, step = Residual(world, actor), world.step
    world.step = lambda actions: (*step(actions)[:2], never, never, {})
    env.reset(seed=0)
    with pytest.raises(ValueError, match="^an episode did not end after one step: residuals are for"):
        env.step(np.zeros((4, 3), np.float32))


@pytest.mark.parametrize("name", NAMES)
def test_agents_begin_at_the_predictor_and_stay_in_reach(name, actor):
    world = ColourWorld(4)
    agent = make(name, world, actor, reach=0.25)
    image, _ = world.reset(seed=0)
    with torch.no_grad():
        base = actor(from_observation(image))
    action, _ = agent.predict(image)
    assert isinstance(action, torch.Tensor)
    torch.testing.assert_close(action, base, atol=1e-6, rtol=0)
    noisy, _ = agent.predict(image, deterministic=False)
    assert 0.01 < (noisy - base).abs().max() <= 0.25 + 1e-6 and noisy.abs().max() <= 1
    single, _ = agent.predict(image[0].numpy())
    np.testing.assert_allclose(single, action[0].numpy(), atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_first_actions_deviate_from_the_predictors_by_the_configs_noise(name, actor):
    world, played = ColourWorld(64), []
    step = world.step
    world.step = lambda actions: played.append(torch.as_tensor(actions)) or step(actions)
    agent = make(name, world, actor, noise=(0.1, 0.02), reach=0.5)
    shown = []
    draw = world._draw
    world._draw = lambda: shown.append(draw()) or shown[-1]
    agent.learn(64)
    with torch.no_grad():
        base = actor(from_observation(shown[0]))
    deviation = (played[0] - base).std(0)
    np.testing.assert_allclose(deviation, [0.1, 0.02, 0.02], rtol=0.35)


def test_runs_of_neighbouring_seeds_share_no_scene(actor):
    colours = []
    for seed in (0, 1):
        world = SyncVectorEnv([SingleColour] * 4, autoreset_mode=AutoresetMode.SAME_STEP)
        seeds, reset = [], world.reset
        world.reset = lambda *, seed=None, options=None, seeds=seeds, reset=reset: (
            seeds.append(seed) or reset(seed=seed, options=options)
        )
        make("sb3-ppo", world, actor, seed=seed).learn(8)
        colours.append(seeds)
    first, second = (seeds[-1] for seeds in colours)
    assert abs(first - second) > 1_000


@pytest.mark.parametrize("name", NAMES)
def test_they_learn_report_save_and_come_back(name, actor, tmp_path):
    agent, told = make(name, ColourWorld(4), actor), []
    before = {key: value.clone() for key, value in agent.policy.state_dict().items()}
    agent.learn(32, lambda agent, figures: told.append(dict(figures)), log_interval=2)
    assert any(key.endswith("loss") for key in told[-1]), "the library's losses"
    assert agent.num_timesteps == 32 and not agent.interrupted
    assert [figures["timesteps"] for figures in told] == [8, 16, 24, 32]
    assert all(np.isfinite(figures["reward"]) and figures["reward"] < 0 for figures in told)
    assert any(not torch.equal(before[key], value) for key, value in agent.policy.state_dict().items())
    assert all(torch.equal(a, b) for a, b in zip(actor.parameters(), agent.actor.parameters(), strict=True))
    path = tmp_path / "agent.safetensors"
    agent.save(path, training={"metric": "none"})
    image, _ = ColourWorld(4).reset(seed=1)
    loaded = policies.load(path)
    torch.testing.assert_close(loaded.predict(image)[0], agent.predict(image)[0])
    assert type(loaded) is policies.algorithm(name) and loaded.config == agent.config
    again = type(agent).load(path, ColourWorld(4)).learn(8, reset_num_timesteps=False)
    assert (again.num_timesteps, again.total_timesteps) == (40, 40)
    more = again.model
    assert again.learn(8, reset_num_timesteps=False).model is more, "replay and optimisers live on in a process"
    with pytest.raises(CheckpointError, match="use agents.load"):
        policies.algorithm("ddpg").load(path)
    for start in (lambda: DDPG(ColourWorld(4), actor=path), lambda: load_predictor(path)):
        with pytest.raises(
            CheckpointError, match="agent.safetensors is an agent of sb3-.*: its policy is no predictor"
        ):
            start()


def test_files_of_older_versions_load(actor, tmp_path):
    """They name settings that no algorithm of the library knows, and keep random numbers that none draws."""
    path = tmp_path / "agent.safetensors"
    agent = make("sb3-ppo", ColourWorld(4), actor).learn(8)
    agent.save(path)
    tensors, metadata = checkpoint.read(path)
    config = {**metadata["config"], "average": 0.0, "constant": False}
    older = {"config": config, "rng_device": "cpu", "scenes": None, "replay": None}
    checkpoint.save(path, {**tensors, "rng": torch.Generator().get_state()}, {**metadata, **older})
    image, _ = ColourWorld(4).reset(seed=1)
    loaded = policies.load(path)
    assert torch.equal(loaded.predict(image)[0], agent.predict(image)[0]) and loaded.config == agent.config


LEARNING = {
    "sb3-ppo": {"n_steps": 4, "batch_size": 32},
    "sb3-a2c": {"n_steps": 1},
    "sb3-sac": {"batch_size": 64, "gradient_steps": 6},
    "sb3-td3": {"batch_size": 64, "gradient_steps": 6},
    "sb3-ddpg": {"batch_size": 64, "gradient_steps": 6},
}


@pytest.mark.parametrize("name", NAMES)
def test_they_learn_what_no_constant_can(name, actor):
    world, fixed = ColourWorld(24), ColourWorld(256)
    image, infos = fixed.reset(seed=9)
    best = fixed.best(infos["colour"].numpy())

    def reward(agent):
        return -np.square(agent.predict(image)[0].numpy() - best).sum(1).mean()

    arguments = {"policy_kwargs": {"net_arch": [64]}, **LEARNING[name]}
    agent = make(name, world, actor, reach=1.0, noise=(0.2,), actor_lr=3e-3, lr_final=0.1, arguments=arguments)
    before = reward(agent)
    after = reward(agent.learn(2_400))
    assert after > -0.45 and after > before + 0.08, (before, after)  # the best constant gets -0.49


def test_learning_is_the_seeds(actor):
    image, _ = ColourWorld(4).reset(seed=1)
    first, second = (make("sb3-ppo", ColourWorld(4), actor).learn(24).predict(image)[0] for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("resets", [False, True])
@pytest.mark.parametrize("name", ["sb3-td3", "sb3-ddpg", "sb3-sac"])
def test_an_agent_that_learned_before_fills_its_new_replay_before_it_learns(name, resets, actor, tmp_path):
    path = tmp_path / "agent.safetensors"
    make(name, ColourWorld(4), actor, noise=(0.001,)).learn(32).save(path)
    world, played, updates = ColourWorld(4), [], []
    loaded, start = type(policies.load(path)).load(path, world), policies.load(path)
    step = world.step

    def spied(actions):
        expected, _ = start.predict(torch.from_numpy(world.shown))
        played.append((torch.as_tensor(actions) - expected).abs().max().item())
        return step(actions)

    world.step = spied
    loaded.learn(96, lambda now, _: updates.append(now.model._n_updates), log_interval=1, reset_num_timesteps=resets)
    filled = 24 // 4  # steps until the replay holds a quarter of what is to come
    assert len(updates) == 24 and updates[: filled + 1] == [0] * filled + [1] and updates[-1] == 24 - filled
    if name != "sb3-sac":  # whose deviation is its own
        assert max(played[:filled]) < 0.01, "actions are the policy's, not uniform ones"


@pytest.mark.parametrize(("batch_size", "size", "first"), [(16, 100, 4), (64, 32, 8)])
def test_a_new_replay_holds_a_batch_or_is_full_before_it_is_learned_from(batch_size, size, first, actor, tmp_path):
    arguments = {
        "policy_kwargs": {"net_arch": [16]},
        "gradient_steps": 1,
        "batch_size": batch_size,
        "buffer_size": size,
    }
    make("sb3-td3", ColourWorld(4), actor, arguments=arguments).learn(8).save(tmp_path / "agent.safetensors")
    agent, updates = policies.algorithm("sb3-td3").load(tmp_path / "agent.safetensors", ColourWorld(4)), []
    agent.learn(40, lambda now, _: updates.append(now.model._n_updates), log_interval=1)
    assert updates == [0] * first + list(range(1, 11 - first))


@pytest.mark.parametrize("name", ["sb3-ppo", "sb3-td3"])
def test_shares_of_invalid_and_broken_actions_are_reported(name, actor):
    class Telling(ColourWorld):
        def step(self, actions):
            *rest, infos = super().step(actions)
            infos["final_info"] |= {"invalid": np.arange(4) < 2, "broken": np.arange(4) == 3}
            return *rest, infos

    seen = []
    make(name, Telling(4), actor).learn(16, lambda _, figures: seen.append(figures), log_interval=2)
    assert [(figures["invalid"], figures["broken"]) for figures in seen] == [(0.5, 0.25)] * 2
    make(name, ColourWorld(4), actor).learn(8, lambda _, figures: seen.append(figures), log_interval=2)
    assert not {"invalid", "broken"} & set(seen[-1])


def test_a_callback_ends_the_learning(actor):
    agent = make("sb3-ppo", ColourWorld(4), actor).learn(400, lambda agent, figures: False, log_interval=1)
    assert agent.interrupted and agent.num_timesteps == 4


@pytest.mark.parametrize("name", ["sb3-ppo", "sb3-sac"])
def test_who_was_stopped_acts_on_the_scenes_that_are_shown(name, actor):
    """The library forgets the last step of a stopped run, and knows nothing of what others do to the environment."""
    world = ColourWorld(4)
    agent = make(name, world, actor).learn(40, lambda agent, figures: False, log_interval=1)
    world.reset(seed=5)
    residual, seen = agent.model.get_env().env, []
    step = residual.step

    def spied(action):
        seen.append(torch.equal(torch.as_tensor(agent.model._last_obs), torch.as_tensor(residual._seen)))
        return step(action)

    residual.step = spied
    agent.learn(8, reset_num_timesteps=False)
    assert all(seen) and len(seen) == 2


def test_first_deviations_are_the_configs(actor):
    agent = make("sb3-ppo", ColourWorld(4), actor, noise=(0.2, 0.1), reach=0.5)
    torch.testing.assert_close(agent.policy.log_std.exp(), torch.tensor([0.4, 0.2, 0.2]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"average": 0.9}, "unknown key of SB3Config 'average'"),
        ({"constant": True}, "unknown key of SB3Config 'constant'"),
        ({"reach": 0.0}, "reach in SB3Config must be above 0"),
        ({"noise": (0.1, 0.0)}, "noise in SB3Config must be above 0"),
        ({"arguments": 3}, "arguments in SB3Config must be settings by name, got 3"),
        ({"arguments": {"policy_kwargs": {"activation_fn": nn.ReLU}}}, "must be plain values, .* activation_fn by its"),
    ],
)
def test_mistakes(changes, message):
    with pytest.raises(ValueError, match=message):
        SB3Config.from_dict(changes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gama": 1}, "unknown argument of sb3-ppo 'gama': did you mean 'gamma'"),
        ({"learning_rate": 1e-3}, "unknown argument of sb3-ppo 'learning_rate'"),
        ({"policy_kwargs": {"net_arc": [8]}}, "policy_kwargs in arguments of sb3-ppo: .*net_arc"),
        ({"n_steps": 1, "batch_size": "many"}, "arguments of sb3-ppo: "),
        ({"policy_kwargs": {"activation_fn": "Relu"}}, "must be the name of a class of torch.nn, got 'Relu'"),
    ],
)
def test_mistakes_in_the_librarys_arguments(actor, arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        policies.algorithm("sb3-ppo")(ColourWorld(4), SB3Config(arguments=arguments), actor=actor).learn(4)
    assert "\n" not in str(error.value)


def test_texts_of_the_command_line_are_read_as_numbers(actor):
    agent = make("sb3-ppo", ColourWorld(4), actor, arguments={"n_steps": "2", "batch_size": "8"}).learn(8)
    assert agent.model.n_steps == 2
    agent = make("sb3-sac", ColourWorld(4), actor, arguments={"tau": "5e-3", "batch_size": 4}).learn(8)
    assert agent.model.tau == 5e-3


def test_an_activation_is_named_and_kept(actor, tmp_path):
    arguments = {"n_steps": 2, "batch_size": 8, "policy_kwargs": {"activation_fn": "ReLU"}}
    make("sb3-ppo", ColourWorld(4), actor, arguments=arguments).learn(8).save(tmp_path / "agent.safetensors")
    loaded = policies.load(tmp_path / "agent.safetensors")
    assert any(isinstance(layer, nn.ReLU) for layer in loaded.policy.modules())


def test_reports_after_the_end_keep_their_interval(actor):
    """PPO goes on to a whole rollout."""
    agent, told = make("sb3-ppo", ColourWorld(4), actor, arguments={"n_steps": 8, "batch_size": 32}), []
    agent.learn(8, lambda _, figures: told.append(figures["timesteps"]), log_interval=5)
    assert told == [8, 28] and agent.num_timesteps == 32


@pytest.mark.parametrize("name", ["sb3-ppo", "sb3-sac"])
def test_broken_rewards_are_named(name, actor):
    with pytest.raises(ValueError, match="reward that is not finite"):
        make(name, ColourWorld(4, broken=True), actor).learn(64)


def test_without_an_environment_nothing_is_learned(actor):
    with pytest.raises(ValueError, match="no environment to learn in"):
        policies.algorithm("sb3-ppo")(None, actor=actor).learn(8)


def test_the_shipped_predictor_has_features():
    predictor, _ = load_predictor(shipped_predictor_file())
    assert isinstance(predictor, Actor) and predictor.pooled_size == 189


def test_the_learning_rate_ends_at_its_end(actor):
    """Where a rollout overshoots the budget, progress is more than whole."""
    agent = make("sb3-ppo", ColourWorld(4), actor, actor_lr=1e-3, lr_final=0.01)
    agent.learn(8)
    rate = agent.model.lr_schedule
    assert rate(-23.0) == pytest.approx(1e-5) and rate(1.0) == pytest.approx(1e-3)


@pytest.mark.parametrize("name", ["sb3-ppo", "sb3-sac"])
def test_who_learns_again_goes_on_with_what_it_has(name, actor):
    subject = make(name, ColourWorld(8), actor).learn(32)
    model, env = subject.model, subject.model.get_env()
    first = env.env.env.colour.copy()
    subject.learn(32)
    assert subject.model is model and subject.num_timesteps == model.num_timesteps == 32
    assert not np.array_equal(first, env.env.env.colour)
    if name == "sb3-sac":
        assert model.replay_buffer.size() * 8 == 64
