"""What all agents owe: determinism, files, resuming, interruptions and clear errors."""

import copy
import os
import signal
import warnings

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import wrappers as single
from gymnasium.spaces import Box
from gymnasium.vector import (
    AsyncVectorEnv,
    AutoresetMode,
    SyncVectorEnv,
    VectorActionWrapper,
    VectorObservationWrapper,
    VectorWrapper,
)
from gymnasium.wrappers.vector import (
    ClipAction,
    DictInfoToList,
    NormalizeReward,
    RecordEpisodeStatistics,
    RescaleAction,
    TransformReward,
)
from stable_baselines3.common.callbacks import CheckpointCallback
from torch import nn
from toy_worlds import ColourWorld, ReusingWorld, SingleColour

import generators
from agents import agent_file, policies
from agents.ddpg import DDPG, DDPGConfig
from agents.group_pg import GroupPG, GroupPGConfig
from agents.meaning import core_of
from agents.networks import PREDICTORS, Predictor, SpectralPredictor, from_observation
from agents.pathwise import Pathwise, PathwiseConfig, clipped
from agents.sb3 import SB3VecEnv
from agents.sb3_agents import SB3SAC
from agents.worlds import device_of
from blindsr_env.vector_env import BlindSRVectorEnv
from generators import checkpoint
from generators.checkpoint import CheckpointError

KINDS = ["ddpg", "ddpg-cnn", "group-pg", "pathwise"]
CLASSES = {"ddpg": DDPG, "ddpg-cnn": DDPG, "group-pg": GroupPG, "pathwise": Pathwise}
WITHOUT_REPLAY = ("group-pg", "pathwise")
BATCH = 12


def world(kind="ddpg", **changes):
    return ColourWorld(**{"num_envs": BATCH, "repeats": 4 if kind == "group-pg" else 1} | changes)


def agent(kind, env=None, seed=0, device=None, **changes):
    torch.manual_seed(123)
    env = env or world(kind)
    actor = Predictor(width=8, blocks=1, actions=env.action_space.shape[-1])
    if kind == "group-pg":
        config = GroupPGConfig(noise=(0.2, 0.1), average=0.9, actor_lr=1e-2, **changes)
    elif kind == "pathwise":
        config = PathwiseConfig(average=0.9, actor_lr=1e-2, **changes)
    else:
        sizes = dict(critics=2, critic_width=8, hidden=8, batch_size=16, critic_updates=1, actor_updates=1)
        sizes |= dict(actor_starts=12, replay_size=40, actor_lr=1e-2)
        config = DDPGConfig(frozen_trunk=kind == "ddpg", **sizes | changes)
    return CLASSES[kind](env, config, actor=actor, seed=seed, device=device)


def same_weights(one, two):
    return all(
        torch.equal(a, b)
        for name, network in one.networks().items()
        for a, b in zip(network.parameters(), two.networks()[name].parameters(), strict=True)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_one_seed_gives_one_result_and_another_seed_another(kind):
    histories, agents = [], []
    for seed in (3, 3, 4):
        history = []
        agents.append(agent(kind, seed=seed).learn(BATCH * 6, lambda _, f, to=history: to.append(f), log_interval=1))
        histories.append(history)
        torch.rand(5)  # the caller's random numbers do not matter
    assert len(histories[0]) == 6 and histories[0] == histories[1] != histories[2]
    assert same_weights(agents[0], agents[1]) and not same_weights(agents[0], agents[2])


@pytest.mark.parametrize("kind", KINDS)
def test_learning_leaves_the_callers_random_numbers_alone(kind):
    torch.manual_seed(123)
    torch.rand(1)
    subject = agent(kind)
    before = torch.random.get_rng_state()
    subject.learn(BATCH * 2)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("kind", KINDS)
def test_a_loaded_agent_goes_on_as_the_one_that_was_saved(kind, tmp_path):
    path = tmp_path / "agent.safetensors"
    subject = agent(kind).learn(BATCH * 4)
    subject.save(path, **({"with_replay": True} if kind not in WITHOUT_REPLAY else {}))
    loaded = CLASSES[kind].load(path, world(kind))
    observation = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), np.uint8)
    assert (subject.predict(observation)[0] == loaded.predict(observation)[0]).all()
    assert same_weights(subject, loaded) and loaded.config == subject.config
    for each in (subject, loaded):
        each.learn(BATCH * 4, reset_num_timesteps=False)
        assert each.num_timesteps == BATCH * 8
    assert same_weights(subject, loaded)
    assert (subject.predict(observation)[0] == loaded.predict(observation)[0]).all()


@pytest.fixture
def native(tiny_generator, tiny_photos):
    """Makes BlindSR's own environment, small: `native(kind)`."""

    def make(kind, **changes):
        settings = dict(num_envs=8, repeats=4 if kind == "group-pg" else 1, gradient=kind == "pathwise")
        settings |= dict(metric="psnr", generator=tiny_generator, images=tiny_photos, patch_size=16, output="torch")
        return BlindSRVectorEnv(**settings | changes)

    return make


def stopped(kind, env, path, at=32):
    """Learn towards 64 renders, stop before, and save."""
    subject = agent(kind, env, batch_size=8, actor_starts=8) if kind.startswith("ddpg") else agent(kind, env)
    subject.learn(64, lambda now, figures: now.num_timesteps < at, log_interval=2)
    assert (subject.num_timesteps, subject.total_timesteps) == (at, 64)
    subject.save(path, with_replay=True)
    return subject


@pytest.mark.parametrize("mode", ["same step", "disabled"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_stopped_run_equals_one_that_was_never_stopped(kind, mode, native, tmp_path):
    path = tmp_path / "agent.safetensors"
    straight = stopped(kind, native(kind, autoreset_mode=mode), tmp_path / "straight.safetensors", at=64)
    here = stopped(kind, native(kind, autoreset_mode=mode), path)
    loaded = CLASSES[kind].load(path, native(kind, autoreset_mode=mode))
    here.env.reset(seed=99)  # what others do with the environment meanwhile does not matter
    for subject in (here, loaded):
        subject.learn(32, reset_num_timesteps=False)
        assert subject.num_timesteps == straight.num_timesteps
        assert same_weights(straight, subject)
        assert torch.equal(straight.rng.get_state(), subject.rng.get_state())
        assert straight.scenes == subject.scenes


@pytest.mark.gpu
@pytest.mark.parametrize(("where", "device"), [("cuda", None), ("cuda", "cpu"), ("cpu", "cuda")])
@pytest.mark.parametrize("kind", KINDS)
def test_agents_learn_on_a_gpu_and_beside_it(kind, where, device, native, tiny_checkpoint, tmp_path):
    def make():
        return native(kind, generator=tiny_checkpoint, device=where)

    settings = {"batch_size": 8, "actor_starts": 8} if kind.startswith("ddpg") else {}
    subject, told = agent(kind, make(), device=device, **settings), []
    act = subject.world.act
    subject.world.act = lambda action: told.append(act(action)) or told[-1]
    subject.learn(32, lambda now, _: now.num_timesteps < 16, log_interval=2)
    subject.save(tmp_path / "agent.safetensors", with_replay=True)
    assert {each.device.type for each in told[0]} == {subject.device.type} == {device or where}
    seen = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), np.uint8)
    for beside in (None, "cpu"):
        loaded = CLASSES[kind].load(tmp_path / "agent.safetensors", make(), device=beside or device)
        np.testing.assert_allclose(loaded.predict(seen)[0], subject.predict(seen)[0], atol=0.01)
        loaded.learn(16, reset_num_timesteps=False)
        assert loaded.num_timesteps == 32 and all(p.isfinite().all() for p in loaded.actor.parameters())


def test_without_the_state_of_its_scenes_a_run_goes_on_in_new_ones(native, tmp_path):
    path = tmp_path / "agent.safetensors"
    stopped("group-pg", native("group-pg"), path)
    tensors, metadata = checkpoint.read(path)
    assert metadata["scenes"]["num_envs"] == 8
    following = native("group-pg")
    following.set_state(metadata["scenes"])

    def first_scenes(values, env):
        """What an agent of this file sees first where it goes on."""
        checkpoint.save(path, tensors, values)
        subject, shown = GroupPG.load(path, env), []
        see = subject.world.see
        subject.world.see = lambda *args: shown.append(see(*args)) or shown[-1]
        subject.learn(1, reset_num_timesteps=False)
        return shown[0]

    expected = following._rows().lr
    old = {key: value for key, value in metadata.items() if key != "scenes"}  # as older versions wrote them
    seed = GroupPG.load(path).scenes_seed()
    assert torch.equal(first_scenes(metadata, native("group-pg")), expected)
    assert torch.equal(first_scenes(old, native("group-pg")), native("group-pg").reset(seed=seed)[0])
    told = "the scenes are others than before the agent was saved: the state is of num_envs=8, the environment's is 12"
    with pytest.warns(UserWarning, match=told):
        more = first_scenes(metadata, native("group-pg", num_envs=12))
    assert torch.equal(more, native("group-pg", num_envs=12).reset(seed=seed)[0])
    with pytest.warns(UserWarning, match="repeats="):
        paired = first_scenes(metadata, native("group-pg", repeats=2))
    assert torch.equal(paired, native("group-pg", repeats=2).reset(seed=seed)[0])
    with pytest.warns(UserWarning, match="degradation="):
        noisy = first_scenes(metadata, native("group-pg", degradation={"noise": 9.0}))
    assert torch.equal(noisy, native("group-pg", degradation={"noise": 9.0}).reset(seed=seed)[0])


def test_pathwise_refuses_a_world_without_gradients(tiny_generator):
    settings = dict(num_envs=2, metric="psnr", generator=tiny_generator, output="torch")
    with pytest.raises(ValueError, match="make the environment with gradient=True"):
        Pathwise(BlindSRVectorEnv(**settings))
    Pathwise(BlindSRVectorEnv(**settings, gradient=True))
    foreign = world()
    foreign._info = lambda **values: ColourWorld._info(foreign, **{k: v for k, v in values.items() if k != "gradient"})
    with pytest.raises(ValueError, match="make the environment with gradient=True"):
        agent("pathwise", foreign).learn(BATCH)


def test_pathwise_stops_at_a_gradient_that_is_not_finite():
    env = world()
    env._info = lambda **values: ColourWorld._info(
        env, **{k: v * np.float32(np.nan) if k == "gradient" else v for k, v in values.items()}
    )
    subject = agent("pathwise", env)
    before = [p.clone() for p in subject.actor.parameters()]
    with pytest.raises(ValueError, match="a gradient that is not finite"):
        subject.learn(BATCH)
    assert all(torch.equal(a, b) for a, b in zip(before, subject.actor.parameters(), strict=True))


def test_pathwise_follows_the_gradient_of_the_rendered_action():
    env = world()
    subject = agent("pathwise", env, slope_clip=0.5)
    before = subject.world.see(0)
    lr = from_observation(before)
    mean = subject.actor(lr)
    rendered = []
    act = subject.world.act
    subject.world.act = lambda action: (rendered.append(action), act(action))[1]
    colour = torch.from_numpy(env.colour)
    subject.optimisers["actor"].step = lambda: None
    subject.iterate(before)
    slope = -2 * (rendered[0] - env.best(colour))
    slope = slope * (0.5 / slope.norm(dim=1, keepdim=True)).clamp(max=1)
    expected = torch.autograd.grad(-(mean * slope.float()).sum() / BATCH, list(subject.actor.parameters()))
    length = torch.stack([g.norm() for g in expected]).norm()
    for own, other in zip(subject.actor.parameters(), expected, strict=True):
        torch.testing.assert_close(own.grad, other / max(1, length), rtol=1e-4, atol=1e-6)


def test_clipped_cuts_long_rows_only():
    cut = clipped(torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]]), 1.0)
    torch.testing.assert_close(cut, torch.tensor([[0.6, 0.8], [0.3, 0.4], [0.0, 0.0]]))


@pytest.mark.parametrize("kind", KINDS)
def test_predict_answers_in_kind(kind):
    subject = agent(kind)
    one = np.full((8, 8, 3), 7, np.uint8)
    action, state = subject.predict(one)
    assert action.shape == (3,) and action.dtype == np.float32 and state is None
    several = subject.predict(torch.from_numpy(np.stack([one, one])))[0]
    assert torch.is_tensor(several) and several.shape == (2, 3)
    np.testing.assert_allclose(several[0], action, atol=1e-6)
    torch.testing.assert_close(subject.predict(one, None, np.ones(1, bool), True)[0], action)  # as SB3 orders them
    noisy = subject.predict(one, deterministic=False)[0]
    assert not np.allclose(noisy, action) and np.abs(noisy).max() <= 1
    assert subject.predict(np.zeros((30, 17, 3), np.uint8))[0].shape == (3,)
    np.testing.assert_array_equal(subject.predict(one[..., ::-1])[0], subject.predict(one[..., ::-1].copy())[0])


def test_the_average_is_what_predicts():
    subject = agent("group-pg").learn(BATCH * 3)
    observation = np.full((8, 8, 3), 90, np.uint8)
    lr = torch.full((1, 3, 8, 8), 90 / 255)
    with torch.no_grad():
        assert not torch.allclose(subject.averaged(lr), subject.actor(lr), atol=1e-5)
        np.testing.assert_allclose(subject.predict(observation)[0], subject.averaged(lr)[0], atol=1e-6)


def test_the_average_moves_by_a_tenth_of_the_way_each_iteration():
    """Of the way to the actor's weights: `average` is 0.9."""
    subject, seen = agent("pathwise"), []
    expected = [weight.detach().clone() for weight in subject.actor.parameters()]
    iterate = subject.iterate

    def iterate_and_keep(observation):
        done = iterate(observation)
        seen.append([weight.detach().clone() for weight in subject.actor.parameters()])
        return done

    subject.iterate = iterate_and_keep
    subject.learn(BATCH * 4)
    assert len(seen) == 4
    for weights in seen:
        expected = [0.9 * mean + 0.1 * weight for mean, weight in zip(expected, weights, strict=True)]
    for mean, weight in zip(expected, subject.averaged.parameters(), strict=True):
        torch.testing.assert_close(weight, mean)


def test_the_actor_starts_as_a_copy_of_the_predictor():
    torch.manual_seed(0)
    predictor = Predictor(width=8, blocks=1, actions=3)
    before = [p.clone() for p in predictor.parameters()]
    subject = GroupPG(world("group-pg"), GroupPGConfig(actor_lr=1e-2), actor=predictor)
    observation = np.full((8, 8, 3), 90, np.uint8)
    with torch.no_grad():
        expected = predictor(torch.full((1, 3, 8, 8), 90 / 255))[0]
    np.testing.assert_allclose(subject.predict(observation)[0], expected, atol=1e-6)
    subject.learn(BATCH * 2)
    assert all(torch.equal(a, b) for a, b in zip(before, predictor.parameters(), strict=True))


def test_a_reader_that_ctrl_c_ended_too_does_not_hinder_the_stop():
    """As `tee` behind a pipe is: nothing can be written any more, and the agent stops whole."""

    def interrupt(_, figures):
        if figures["timesteps"] == BATCH:
            signal.raise_signal(signal.SIGINT)

    kept, (reader, writer) = os.dup(2), os.pipe()
    os.close(reader)
    os.dup2(writer, 2)
    try:
        subject = agent("group-pg").learn(BATCH * 4, interrupt, log_interval=1)
    finally:
        os.dup2(kept, 2)
        for descriptor in (kept, writer):
            os.close(descriptor)
    assert subject.interrupted and subject.num_timesteps == BATCH * 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_ends_after_the_step_and_leaves_a_whole_agent(kind, number, tmp_path):
    env = world(kind)
    subject = agent(kind, env)

    def interrupt(_, figures):
        if figures["timesteps"] == BATCH * 2:
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    subject.learn(BATCH * 50, interrupt, log_interval=1)
    assert subject.interrupted and subject.num_timesteps == BATCH * 3 == BATCH * env.steps
    assert signal.getsignal(number) is before
    subject.save(tmp_path / "a.safetensors")
    loaded = CLASSES[kind].load(tmp_path / "a.safetensors", world(kind))
    assert loaded.num_timesteps == BATCH * 3
    loaded.learn(BATCH * 2, reset_num_timesteps=False)
    assert not loaded.interrupted and loaded.num_timesteps == BATCH * 5


@pytest.mark.skipif(torch.cuda.is_available(), reason="the device is there")
def test_a_device_that_is_not_there_is_named(tmp_path):
    path = tmp_path / "agent.safetensors"
    agent("group-pg").save(path)
    for make in (lambda: GroupPG(world("group-pg"), device="cuda"), lambda: GroupPG.load(path, device="cuda")):
        with pytest.raises(ValueError, match="^device 'cuda' is not usable here .*: try device='cpu'$"):
            make()
    for name in (path, "predictor", "amgan_rl_s"):
        with pytest.raises(ValueError, match="^device 'cuda' is not usable here"):
            policies.load(name, device="cuda")


def test_agents_work_where_the_environment_does():
    class Elsewhere(SingleColour):
        device = "meta"

    beside = SyncVectorEnv([Elsewhere, Elsewhere], autoreset_mode=AutoresetMode.SAME_STEP)
    for env in (Elsewhere(), beside):
        assert device_of(env).type == "meta" and device_of(env, "cpu").type == "cpu"
    assert device_of(None).type == device_of(SingleColour()).type == "cpu"


def test_handlers_that_python_could_not_put_back_stay(monkeypatch):
    installed, getsignal = [], signal.getsignal
    monkeypatch.setattr(signal, "getsignal", lambda number: None if number == signal.SIGTERM else getsignal(number))
    monkeypatch.setattr(signal, "signal", lambda number, handler: installed.append(number) or getsignal(number))
    assert agent("group-pg").learn(BATCH).num_timesteps == BATCH
    assert installed == [signal.SIGINT] * 2  # taken, and put back


def test_the_callback_can_stop_and_gets_means():
    seen = []
    subject = agent("ddpg").learn(BATCH * 50, lambda a, f: seen.append((a, f)) or len(seen) < 2, log_interval=3)
    assert subject.interrupted and subject.num_timesteps == BATCH * 6
    assert seen[0][0] is subject and {"reward", "critic_loss", "timesteps"} <= set(seen[0][1])


def test_figures_are_means_since_the_last_report():
    subject, told = agent("group-pg"), []
    iterate, numbers = subject.iterate, iter(range(6))

    def numbered(observation):
        following, figures = iterate(observation)
        return following, figures | {"reward": torch.tensor(float(next(numbers)))}

    subject.iterate = numbered
    subject.learn(BATCH * 6, lambda _, figures: told.append(figures["reward"]), log_interval=3)
    assert told == [1, 4]


def test_episodes_may_be_truncated_after_their_step():
    class Truncated(ColourWorld):
        def step(self, actions):
            observation, reward, ended, going_on, infos = super().step(actions)
            return observation, reward, going_on, ended, infos

    assert agent("group-pg", Truncated(BATCH, repeats=4)).learn(BATCH).num_timesteps == BATCH


def test_learning_rates_and_counters_follow_the_schedule():
    subject = agent("ddpg", lr_final=0.01, critic_lr=1e-3)
    rates = []
    subject.learn(BATCH * 4, lambda a, f: rates.append(a.optimisers["critic"].param_groups[0]["lr"]), log_interval=1)
    np.testing.assert_allclose(rates, 1e-3 * 0.01 ** np.array([0, 0.25, 0.5, 0.75]))
    subject.learn(BATCH)
    assert subject.num_timesteps == BATCH  # as in Stable-Baselines3, a new learn counts from 0


def filled(**changes):
    """A DDPG agent after enough steps to learn from, and what its next updates hand to its optimisers."""
    subject = agent("ddpg", critics=3, **changes)
    subject.learn(BATCH * 3)
    with torch.no_grad():  # untrained critics give values of one sign, nearly the same
        for parameter in subject.critic.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
        subject.replay.reward.mul_(torch.tensor([1.0, -1.0]).repeat(len(subject.replay.reward) // 2))
    for optimiser in subject.optimisers.values():
        optimiser.zero_grad()
    losses = {}
    subject.descend = lambda name, loss: losses.update({name: loss})
    return subject, losses, subject.rng.get_state()


def drawn(subject, state):
    """What an update saw of the replay, when the random numbers stood so."""
    subject.rng.set_state(state)
    return subject.replay.sample(subject.config.batch_size, subject.rng)


@pytest.mark.parametrize("name", ["eq10", "eq11"])
def test_ddpgs_critics_descend_the_papers_loss(name):
    subject, losses, state = filled(critic_loss=name)
    subject._update_critic()
    seen, action, reward = drawn(subject, state)
    q, r = subject._judge(seen, action).detach().double().numpy(), reward.double().numpy()
    assert q.shape == (3, 16) and (q * r < 0).any() and (q * r > 0).any()
    penalty = np.maximum(0, -np.sign(r) * q) if name == "eq11" else 0
    assert losses["critic"].item() == pytest.approx(np.mean(penalty + (r - q) ** 2), rel=1e-5)


def test_ddpgs_actor_climbs_the_lowest_critic():
    subject, losses, state = filled()
    subject._update_actor()
    seen, _, _ = drawn(subject, state)
    q = subject._judge(seen, subject._act(seen)).detach().numpy()
    assert len(set(q.argmin(axis=0))) > 1, "one critic is lowest everywhere: nothing was tested"
    assert losses["actor"].item() == pytest.approx(-q.min(axis=0).mean(), rel=1e-5)
    losses["actor"].backward()
    assert all(p.grad is None for p in subject.critic.parameters())
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in subject.actor.head.parameters())


def test_ddpgs_noise_decays_to_its_final_share():
    env = world(num_envs=2000)
    subject = agent("ddpg", env, noise=(0.1, 0.05), noise_final=0.25, replay_size=20_000, batch_size=100_000)
    played = []
    step = env.step
    env.step = lambda actions: played.append(np.asarray(actions)) or step(actions)
    shown = [env.shown.copy() for _ in [env.reset(seed=subject.scenes_seed())]]

    def look(_, figures):
        shown.append(env.shown.copy())

    subject.learn(2000 * 4, look, log_interval=1)
    for i, actions in enumerate(played):
        mean, _ = subject.predict(torch.from_numpy(shown[i]))  # it learned nothing: its replay holds too little
        share = 0.25 ** (i / 4)
        expected = np.array([0.1, 0.05, 0.05]) * share
        np.testing.assert_allclose((actions - mean.numpy()).std(axis=0), expected, rtol=0.07)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_clipped_to_their_norm(kind):
    subject = agent(kind, max_grad_norm=0.5)
    parameters = subject.optimisers["actor"].param_groups[0]["params"]
    subject.descend("actor", sum(1e3 * parameter.sum() for parameter in parameters))
    norm = torch.cat([parameter.grad.flatten() for parameter in parameters]).norm()
    assert norm.item() == pytest.approx(0.5, rel=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_constant_is_all_that_learns(kind, tmp_path):
    subject = agent(kind, constant=True)
    before = {name: value.clone() for name, value in subject.actor.state_dict().items()}
    subject.learn(BATCH * 4)
    changed = [name for name, value in subject.actor.state_dict().items() if not torch.equal(value, before[name])]
    assert changed == ["head.bias"]
    subject.save(tmp_path / "a.safetensors")
    loaded = CLASSES[kind].load(tmp_path / "a.safetensors", world(kind))
    loaded.learn(BATCH * 2, reset_num_timesteps=False)
    changed = [name for name, value in loaded.actor.state_dict().items() if not torch.equal(value, before[name])]
    assert loaded.config.constant and changed == ["head.bias"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_reward_that_is_not_finite_is_named(kind):
    with pytest.raises(ValueError, match=r"not finite in rows \[1\]: check its metric"):
        agent(kind, world(kind, broken=True)).learn(BATCH)


def test_a_loss_that_is_not_finite_is_named():
    subject = agent("ddpg")
    with torch.no_grad():
        next(subject.critic.parameters()).fill_(float("nan"))
    with pytest.raises(ValueError, match="critic_loss.* not finite at step 24: lower the learning rates"):
        subject.learn(BATCH * 5, log_interval=1)


def test_worlds_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="every second step.*same step"):
        agent("ddpg", world(mode=AutoresetMode.NEXT_STEP))
    with pytest.raises(ValueError, match="even repeats, such as repeats=6"):
        agent("group-pg", world(repeats=3))
    for low, high in ((-2, 2), (-2, 1), (-1, 2)):
        env = world()
        env.single_action_space = Box(low, high, (3,), np.float32)
        with pytest.raises(ValueError, match=r"flat Box\(-1, 1\).*RescaleAction"):
            agent("ddpg", env)
    with pytest.raises(ValueError, match=r"flat Box\(-1, 1\).*: take the wrapper ClipAction off$"):
        agent("ddpg", ClipAction(world(output="numpy")))
    env = world()
    for shown in (Box(0, 1, (8, 8, 3), np.float32), Box(0, 255, (3, 8, 8), np.uint8), Box(0, 255, (8, 8), np.uint8)):
        env.single_observation_space = shown
        with pytest.raises(ValueError, match="uint8 images"):
            agent("ddpg", env)
    with pytest.raises(ValueError, match="gives 4 components, the environment takes 3"):
        DDPG(world(), actor=Predictor(width=8, blocks=1, actions=4))
    for foreign in (nn.Linear(3, 3), type("Mine", (Predictor,), {})(width=8, blocks=1, actions=3)):
        with pytest.raises(ValueError, match="^actor must be a Predictor or Spectral.*, got a (Linear|Mine)$"):
            DDPG(world(), actor=foreign)
    with pytest.raises(ValueError, match="no environment to learn in"):
        DDPG(None).learn(1)

    class Longer(SingleColour):
        lengths = [1, 1, 2]

        def step(self, action):
            observation, reward, _, _, info = super().step(action)
            return observation, reward, self.lengths.pop(0) == 1, False, info

    longer = agent("ddpg", Longer())
    with pytest.raises(ValueError, match="one-step"):
        longer.learn(4)
    assert longer.num_timesteps == 2


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="unknown key of DDPGConfig 'criticlr': did you mean 'critic_lr'"):
        DDPGConfig.from_dict({"criticlr": 1})
    with pytest.raises(ValueError, match="unknown critic_loss 'eq12': did you mean 'eq1[01]' or 'eq1[01]'"):
        DDPGConfig(critic_loss="eq12")
    assert DDPGConfig.from_dict({"noise": [0.1, 0.2]}).noise == (0.1, 0.2)


def test_settings_come_in_their_types():
    config = DDPGConfig.from_dict({"noise": 0.3, "actor_lr": 1, "critics": 2, "frozen_trunk": False})
    assert config.noise == (0.3,) and config.actor_lr == 1.0 and type(config.actor_lr) is float
    assert GroupPGConfig(noise=[1, 0.5]).noise == (1.0, 0.5)


@pytest.mark.parametrize(
    "kind, key, value, expected",
    [
        (DDPGConfig, "actor_lr", "1e-4", r"a number, got '1e-4' \(str\)"),
        (DDPGConfig, "actor_lr", True, r"a number, got True \(bool\)"),
        (DDPGConfig, "actor_lr", 0, "above 0, got 0"),
        (DDPGConfig, "critic_lr", -1.0, "above 0, got -1.0"),
        (DDPGConfig, "critic_lr", float("nan"), "a number, got nan"),
        (DDPGConfig, "batch_size", 2.5, r"a whole number, got 2.5 \(float\)"),
        (DDPGConfig, "batch_size", 0, "at least 1, got 0"),
        (DDPGConfig, "replay_size", 0, "at least 1, got 0"),
        (DDPGConfig, "actor_starts", -1, "at least 0, got -1"),
        (DDPGConfig, "frozen_trunk", 1, r"true or false, got 1 \(int\)"),
        (DDPGConfig, "critic_loss", 11, r"a string, got 11 \(int\)"),
        (DDPGConfig, "noise", [], "one or more numbers, got none"),
        (DDPGConfig, "noise", [0.1, -0.1], "at least 0, got -0.1"),
        (DDPGConfig, "noise", [0.1, "x"], "a list of numbers, got"),
        (DDPGConfig, "noise", {"a": 1}, "a list of numbers, got"),
        (DDPGConfig, "average", 1.0, "at least 0 and below 1, got 1.0"),
        (DDPGConfig, "lr_final", 0.0, "above 0 and at most 1, got 0.0"),
        (GroupPGConfig, "epochs", 0, "at least 1, got 0"),
        (GroupPGConfig, "clip", 0.0, "above 0, got 0.0"),
        (GroupPGConfig, "noise", 0.0, "above 0, got 0.0"),
    ],
)
def test_a_setting_of_another_type_or_out_of_range_is_named(kind, key, value, expected):
    with pytest.raises(ValueError, match=f"^{key} in {kind.__name__} must be {expected}") as error:
        kind.from_dict({key: value})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("with_replay", [False, True])
def test_an_agent_resumed_without_its_replay_fills_it_before_it_learns(with_replay, tmp_path):
    path = tmp_path / "agent.safetensors"
    settings = dict(actor_starts=BATCH * 3, batch_size=BATCH * 2, replay_size=BATCH * 5)
    agent("ddpg", **settings).learn(BATCH * 4).save(path, with_replay=with_replay)
    start, loaded = DDPG.load(path), DDPG.load(path, world())
    moved = []

    def callback(now, figures):
        pairs = [(start.networks()[name], network) for name, network in now.networks().items()]
        moved.append(
            [any(not torch.equal(a, b) for a, b in zip(x.parameters(), y.parameters(), strict=True)) for x, y in pairs]
        )

    loaded.learn(BATCH * 3, callback, log_interval=1, reset_num_timesteps=False)
    assert moved == ([[True, True]] * 3 if with_replay else [[False, False], [False, True], [True, True]])


def test_a_full_replay_is_enough_for_the_actor():
    subject = agent("ddpg", actor_starts=10_000, replay_size=BATCH * 2, batch_size=10_000)
    before = [p.clone() for p in subject.actor.head.parameters()]
    subject.learn(BATCH * 2)
    assert not all(torch.equal(a, b) for a, b in zip(before, subject.actor.head.parameters(), strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_any_agent_can_be_asked_to_save_its_replay(kind, tmp_path):
    path, beside = tmp_path / "agent.safetensors", tmp_path / "agent.replay.safetensors"
    subject = agent(kind).learn(BATCH * 2)
    for with_replay in (False, True):
        subject.save(path, with_replay=with_replay, training={"note": "x"})
        assert beside.exists() == (with_replay and kind not in WITHOUT_REPLAY)
        assert checkpoint.read(path)[1]["training"] == {"note": "x"}


def test_what_a_file_says_of_the_training_survives_load_and_save(tmp_path):
    path = tmp_path / "agent.safetensors"
    subject = agent("group-pg")
    with pytest.raises(TypeError, match="with_repaly"):
        subject.save(path, with_repaly=True)
    for told, kept in (({"photos": "noise"}, {"photos": "noise"}), (None, {"photos": "noise"}), ({}, {})):
        subject.save(path, training=told)
        subject = GroupPG.load(path)
        subject.save(path)
        assert checkpoint.read(path)[1]["training"] == subject.training == kept
    subject.save(path, training={"photos": "noise"})
    GroupPG.load(path, world("group-pg")).learn(BATCH).save(path)
    assert checkpoint.read(path)[1]["training"] == {}, "it learned on what the file did not tell"


def test_a_replay_older_than_its_agent_serves_and_another_agents_does_not(tmp_path):
    path, beside = tmp_path / "agent.safetensors", tmp_path / "agent.replay.safetensors"
    subject = agent("ddpg").learn(BATCH * 2)
    subject.save(path, with_replay=True)
    subject.learn(BATCH, reset_num_timesteps=False).save(path)  # as before a crash
    loaded = DDPG.load(path, world())
    assert len(loaded.replay) == BATCH * 2 and loaded.num_timesteps == BATCH * 3
    loaded.learn(BATCH, reset_num_timesteps=False).save(path, with_replay=True)
    assert len(DDPG.load(path, world()).replay) == BATCH * 3
    assert DDPG.load(path).replay is None, "to predict needs none"
    other = agent("ddpg", seed=1).learn(BATCH * 2)
    other.save(path)
    assert DDPG.load(path, world()).replay is None
    other.save(path, with_replay=True)
    assert torch.equal(DDPG.load(path, world()).replay.reward, other.replay.reward)
    tensors, metadata = checkpoint.read(beside)
    subject.save(tmp_path / "first.safetensors", with_replay=True)
    (tmp_path / "first.replay.safetensors").replace(beside)
    assert DDPG.load(path, world()).replay is None, "both bear marks, not the same"
    for damaged in (tensors | {"reward": torch.zeros(41)}, {k: v for k, v in tensors.items() if k != "cursor"}):
        checkpoint.save(beside, damaged, metadata)
        with pytest.raises(CheckpointError, match="agent.replay.safetensors is not a whole replay's .* or remove it"):
            DDPG.load(path, world())


def test_a_replay_that_does_not_fit_into_memory_is_not_called_damaged(monkeypatch, tmp_path):
    path = tmp_path / "agent.safetensors"
    agent("ddpg").learn(BATCH * 2).save(path, with_replay=True)

    def full(*arguments, **named):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")

    monkeypatch.setattr("agents.ddpg.Replay", full)
    with pytest.raises(RuntimeError, match="^DefaultCPUAllocator: can't allocate memory"):
        DDPG.load(path, world())


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"metric": "ssim"}, "metric, psnr, not ssim"),
        ({"patch_size": 20}, "patch, "),
        ({"dtype": "bfloat16"}, "precision, float32, not bfloat16"),
        ({"generator": 0}, "generator's w"),
    ],
)
def test_a_replay_of_another_reward_is_not_learned_from(changed, what, native, louder, tiny_generator, tmp_path):
    path = tmp_path / "agent.safetensors"
    DDPG(native("ddpg"), DDPGConfig(batch_size=4, actor_starts=8), seed=0).learn(16).save(path, with_replay=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(DDPG.load(path, native("ddpg")).replay) == 16
    changed = {"generator": generators.load(louder)} if "generator" in changed else changed
    if "dtype" in changed:
        changed = {**changed, "generator": copy.deepcopy(tiny_generator).to(torch.bfloat16)}
    with pytest.warns(UserWarning, match=f"are of another {what}.*: the agent fills a new replay"):
        other = DDPG.load(path, native("ddpg", **changed))
    assert other.replay is None and len(other.learn(8).replay) == 8


class OtherWorld(ColourWorld):
    pass


@pytest.mark.parametrize(
    ("env", "what"),
    [
        (lambda: TransformReward(world(output="numpy"), lambda reward: 2 * reward), "reward wrapper, None, not T"),
        (lambda: OtherWorld(BATCH), "environment, ColourWorld, not OtherWorld"),
    ],
)
def test_a_replay_of_another_world_is_not_learned_from(env, what, tmp_path):
    path = tmp_path / "agent.safetensors"
    agent("ddpg").learn(BATCH * 2).save(path, with_replay=True)
    with pytest.warns(UserWarning, match=f"are of another {what}"):
        assert DDPG.load(path, env()).replay is None


@pytest.mark.parametrize("told", [None, {"patch": [8, 8, 3], "reward wrapper": None}])
def test_a_replay_that_does_not_tell_its_world_is_taken(told, tmp_path):
    path, beside = tmp_path / "agent.safetensors", tmp_path / "agent.replay.safetensors"
    agent("ddpg").learn(BATCH * 2).save(path, with_replay=True)
    tensors, metadata = checkpoint.read(beside)
    checkpoint.save(beside, tensors, metadata | {"of": told})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(DDPG.load(path, world()).replay) == BATCH * 2


def test_an_agent_of_another_kind_of_device_draws_anew_but_the_same_each_time(tmp_path):
    path = tmp_path / "agent.safetensors"
    agent("group-pg", seed=5).learn(BATCH * 2).save(path)
    tensors, metadata = checkpoint.read(path)
    checkpoint.save(path, tensors, metadata | {"rng_device": "cuda"})
    expected = torch.Generator().manual_seed(5 + BATCH * 2)
    assert torch.equal(GroupPG.load(path).rng.get_state(), expected.get_state())


def test_older_files_tell_the_last_end_of_their_schedule_alone():
    assert agent_file.schedule({"total_timesteps": 48}) == [48]
    assert agent_file.schedule({"total_timesteps": 0}) == []
    assert agent_file.schedule({"total_timesteps": 48, "schedule": [24, 48]}) == [24, 48]


def test_numbers_may_be_numpys_and_arguments_must_be_of_their_kind(tmp_path):
    subject = GroupPG(world("group-pg"), GroupPGConfig(), seed=np.int64(3))
    subject.learn(np.int64(BATCH), lambda agent, figures: np.float64(1) > 2, log_interval=1).save(
        tmp_path / "a.safetensors"
    )
    assert subject.interrupted and GroupPG.load(tmp_path / "a.safetensors").seed == 3
    with pytest.raises(ValueError, match="seed must be at least 0, got -1"):
        DDPG(world(), seed=-1)
    with pytest.raises(ValueError, match="config of DDPG must be a DDPGConfig, got a GroupPGConfig"):
        DDPG(world(), GroupPGConfig())
    with pytest.raises(ValueError, match="env must be a Gymnasium environment, got 'CnnPolicy': give DDPG.env."):
        DDPG("CnnPolicy", world())


def as_before(agent, path):
    """Write an agent's file as older versions did: with the replay inside, and the average though it is the actor."""
    agent.save(path, with_replay=True)
    tensors, metadata = checkpoint.read(path)
    replay = {f"replay.{name}": tensor for name, tensor in agent.replay_state().items()}
    average = {f"averaged.{name}": tensor for name, tensor in agent.averaged.state_dict().items()}
    new = ("scenes", "replay")
    checkpoint.save(path, tensors | replay | average, {k: v for k, v in metadata.items() if k not in new})
    path.with_name("agent.replay.safetensors").unlink(missing_ok=True)


def test_ddpg_explores_with_the_noise_that_is_left():
    subject = agent("ddpg", noise=(0.2,), noise_final=0.1, actor_updates=0)
    observation = np.full((2_000, 8, 8, 3), 90, np.uint8)

    def spread():
        noisy, plain = (subject.predict(observation, deterministic=of)[0] for of in (False, True))
        return (noisy - plain).std()

    assert spread() == pytest.approx(0.2, rel=0.05)
    subject.learn(BATCH * 2)
    assert spread() == pytest.approx(0.02, rel=0.1)


def test_figures_are_means_over_a_steps_updates(monkeypatch):
    subject, seen = agent("ddpg", critic_updates=3, actor_updates=2, batch_size=4, actor_starts=4), []
    losses, values = iter([1.0, 2.0, 6.0]), iter([3.0, 5.0])
    monkeypatch.setattr(subject, "_update_critic", lambda: {"critic_loss": torch.tensor(next(losses))})
    monkeypatch.setattr(subject, "_update_actor", lambda: {"actor_value": torch.tensor(next(values))})
    subject.learn(BATCH, lambda _, figures: seen.append(figures))
    assert (seen[0]["critic_loss"], seen[0]["actor_value"]) == (3.0, 4.0)


@pytest.mark.parametrize("kind", KINDS)
def test_files_of_older_versions_load(kind, tmp_path):
    path = tmp_path / "agent.safetensors"
    subject = agent(kind).learn(BATCH * 4)
    as_before(subject, path)
    loaded = CLASSES[kind].load(path, world(kind))
    observation = np.full((8, 8, 3), 90, np.uint8)
    started = DDPG(world(), actor=path)
    np.testing.assert_array_equal(started.predict(observation)[0], loaded.predict(observation)[0])
    for each in (subject, loaded):
        each.learn(BATCH * 2, reset_num_timesteps=False)
    assert same_weights(subject, loaded)


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_an_average_that_is_the_actor_is_not_saved_twice(average, tmp_path):
    path, observation = tmp_path / "agent.safetensors", np.full((8, 8, 3), 90, np.uint8)
    subject = agent("ddpg", average=average).learn(BATCH * 3)
    subject.save(path)
    tensors, metadata = checkpoint.read(path)
    assert any(name.startswith("averaged.") for name in tensors) == (average > 0)
    for loaded in (DDPG.load(path), DDPG(world(), actor=path)):
        np.testing.assert_array_equal(loaded.predict(observation)[0], subject.predict(observation)[0])
    if average:
        gone = {name: tensor for name, tensor in tensors.items() if not name.startswith("averaged.")}
        checkpoint.save(path, gone, metadata)
        for load in (DDPG.load, lambda path: DDPG(world(), actor=path)):
            with pytest.raises(CheckpointError, match="not a whole agent's checkpoint"):
                load(path)


@pytest.mark.parametrize("name", [None, "untrained:predictor_s"])
@pytest.mark.parametrize("make", [SingleColour, lambda: world(side=16)])
def test_an_untrained_small_actor_is_calibrated_on_the_first_scenes(make, name):
    actor = DDPG(make(), actor=name, seed=5).actor
    assert isinstance(actor, SpectralPredictor) and actor.settings["actions"] == 3
    assert actor.centre.abs().min() > 0 and (actor.spread < 1).all() and torch.isfinite(actor.spread).all()
    assert torch.equal(actor.centre, DDPG(make(), actor=name, seed=5).actor.centre)


def test_an_unknown_untrained_actor_is_named():
    with pytest.raises(ValueError, match="unknown predictor 'predictor_m': did you mean 'predictor"):
        DDPG(world(), actor="untrained:predictor_m")
    with pytest.raises(ValueError, match="unknown actor 'amgan_rk': did you mean 'amgan_rl"):
        DDPG(world(), actor="amgan_rk")


@pytest.mark.parametrize("name", ["predictor", "predictor_s"])
def test_an_actor_is_trained_or_not_by_its_name(name):
    assert DDPG(world(), actor=f"untrained:{name}").actor.settings["kind"] == PREDICTORS[name]["kind"]
    with pytest.raises(ValueError, match=f"leave actor out for the predictor that ships, or give 'untrained:{name}'"):
        DDPG(world(), actor=name)


@pytest.mark.parametrize("kind", KINDS)
def test_shares_of_invalid_and_broken_actions_are_logged_where_the_world_tells_them(kind):
    class Telling(ColourWorld):
        def step(self, actions):
            *rest, infos = super().step(actions)
            infos["final_info"]["invalid"] = torch.arange(self.num_envs) < 3
            infos["final_info"]["broken"] = torch.arange(self.num_envs) == 4
            return *rest, infos

    env, seen = Telling(BATCH, repeats=4 if kind == "group-pg" else 1), []
    agent(kind, env).learn(BATCH * 2, lambda _, figures: seen.append(figures))
    assert seen[0]["invalid"] == pytest.approx(3 / BATCH) and seen[0]["broken"] == pytest.approx(1 / BATCH)
    agent(kind).learn(BATCH, lambda _, figures: seen.append(figures))
    assert not {"invalid", "broken"} & set(seen[1])


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_agents_are_refused_in_one_line(kind, tmp_path):
    path, bad = tmp_path / "agent.safetensors", tmp_path / "bad.safetensors"
    as_before(agent(kind).learn(BATCH * 3), path)  # the most that a file can hold
    tensors, metadata = checkpoint.read(path)
    moment = next(name for name in tensors if name.startswith("optimiser.actor.") and name.endswith("exp_avg"))
    weight = next(name for name in tensors if name.startswith("actor.") and tensors[name].ndim > 1)
    average = [weight.replace("actor.", "averaged.")] if metadata["config"]["average"] else []
    damages = [
        ({name: tensor for name, tensor in tensors.items() if name != gone}, metadata)
        for gone in (weight, *average, moment, "rng")
    ]
    damages += [({**tensors, extra: torch.zeros(2)}, metadata) for extra in ("foreign", "actor.x", "optimiser.actor.x")]
    damages += [({**tensors, name: tensors[name][:1]}, metadata) for name in (weight, moment, "rng")]
    damages += [
        (tensors, {key: value for key, value in metadata.items() if key != gone})
        for gone in ("config", "settings", "seed", "num_timesteps", "total_timesteps", "rng_device")
    ]
    damages += [
        (tensors, {**metadata, "config": {**metadata["config"], "unknown": 1}}),
        (tensors, {**metadata, "config": {**metadata["config"], "actor_lr": "fast"}}),
        (tensors, {**metadata, "settings": {**metadata["settings"], "unknown": 1}}),
        (tensors, {**metadata, "settings": {**metadata["settings"], "kind": "transformer"}}),
        (tensors, {**metadata, "meaning": {"unknown": 1}}),
        (tensors, {**metadata, "scenes": [1]}),
    ]
    if kind not in WITHOUT_REPLAY:
        damages += [
            ({name: tensor for name, tensor in tensors.items() if name != "replay.cursor"}, metadata),
            ({**tensors, "replay.reward": torch.zeros(41)}, metadata),
        ]
    for number, (some, values) in enumerate(damages):
        checkpoint.save(bad, some, values)
        with pytest.raises(CheckpointError, match="bad.safetensors is not a whole agent's checkpoint: copy") as error:
            CLASSES[kind].load(bad, world(kind))
        assert "\n" not in str(error.value), number
    checkpoint.save(bad, tensors, {key: value for key, value in metadata.items() if key != "algorithm"})
    with pytest.raises(CheckpointError, match="holds a None agent"):
        CLASSES[kind].load(bad)


def test_bad_files_are_refused(tmp_path):
    path = tmp_path / "agent.safetensors"
    agent("ddpg").save(path)
    with pytest.raises(CheckpointError, match="holds a ddpg agent, not group-pg"):
        GroupPG.load(path)
    with pytest.raises(CheckpointError, match="no checkpoint"):
        DDPG.load(tmp_path / "none.safetensors")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(CheckpointError, match="truncated"):
        DDPG.load(path)
    torch.save({}, path)
    with pytest.raises(CheckpointError, match="pickle"):
        DDPG.load(path)
    checkpoint.save(path, {"x": torch.zeros(1)}, {"kind": "generator"})
    with pytest.raises(CheckpointError, match="holds a generator, not an agent"):
        DDPG.load(path)


@pytest.mark.parametrize("kind", KINDS)
def test_who_learns_again_sees_other_scenes(kind, tmp_path):
    """As with Stable-Baselines3: only the count begins anew."""
    shown = []

    class Watched(ColourWorld):
        def _draw(self):
            drawn = super()._draw()
            shown.append(self.colour.tobytes())
            return drawn

    env = Watched(num_envs=BATCH, repeats=4 if kind == "group-pg" else 1)
    subject = agent(kind, env)
    for _ in range(2):
        subject.learn(BATCH * 2)
    subject.save(tmp_path / "agent.safetensors")
    loaded = CLASSES[kind].load(tmp_path / "agent.safetensors", env)
    assert (loaded.num_timesteps, loaded.earlier_timesteps, loaded.schedule) == (BATCH * 2, BATCH * 2, [BATCH * 2])
    for _ in range(2):
        loaded.learn(BATCH * 2)
    assert len(shown) == 4 * 3 == len(set(shown))


def test_a_schedule_that_was_prolonged_is_known_as_such(tmp_path):
    subject = agent("group-pg").learn(BATCH)
    subject.learn(BATCH, reset_num_timesteps=False)
    assert subject.schedule == [BATCH, 2 * BATCH]
    subject.save(tmp_path / "agent.safetensors")
    assert GroupPG.load(tmp_path / "agent.safetensors").schedule == [BATCH, 2 * BATCH]
    halted = agent("group-pg").learn(BATCH * 4, lambda *_: False, log_interval=1)
    halted.learn(BATCH * 3, reset_num_timesteps=False)
    assert halted.num_timesteps == BATCH * 4 and halted.schedule == [BATCH * 4]
    assert subject.learn(BATCH).schedule == [BATCH]
    for none in (0, -5):
        with pytest.raises(ValueError, match=f"^total_timesteps must be at least 1, got {none}$"):
            subject.learn(none)


class _Negated(VectorActionWrapper):
    def actions(self, actions):
        return -actions


class _Turned(VectorWrapper):
    def step(self, actions):
        observation, reward, *others = self.env.step(actions)
        return observation, -reward, *others


@pytest.mark.parametrize(
    ("wrap", "name"),
    [
        (_Negated, "_Negated"),
        (_Turned, "_Turned"),
        (lambda env: TransformReward(env, lambda reward: -reward), "TransformReward"),
        (lambda env: RecordEpisodeStatistics(NormalizeReward(env)), "NormalizeReward"),
    ],
)
def test_pathwise_refuses_wrappers_that_its_gradient_knows_nothing_of(wrap, name):
    with pytest.raises(ValueError, match=f"gradient is the bare environment's, and {name} changes its actions or rewa"):
        agent("pathwise", wrap(world(output="numpy")))
    rewarded = agent("group-pg", wrap(world("group-pg", output="numpy"))).learn(BATCH)
    assert rewarded.num_timesteps == BATCH


def test_pathwise_takes_wrappers_without_a_step_of_their_own(native):
    class Same(VectorObservationWrapper):
        def observations(self, observations):
            return observations

    class Mine(RecordEpisodeStatistics):
        pass

    for wrapper in (Same, Mine):
        Pathwise(wrapper(native("pathwise", output="numpy", autoreset_mode="disabled"))).learn(8)


def test_wrappers_of_single_environments_are_seen_too():
    env = SyncVectorEnv(
        [lambda: single.TransformReward(SingleColour(), lambda reward: 2 * reward)],
        autoreset_mode=AutoresetMode.SAME_STEP,
    )
    with pytest.raises(ValueError, match="TransformReward changes"):
        agent("pathwise", env)


def test_what_actions_mean_is_not_known_behind_a_wrapper_that_changes_them(native):
    for harmless in (ClipAction, lambda env: RescaleAction(env, -1.0, 1.0), RecordEpisodeStatistics):
        assert core_of(harmless(native("group-pg", output="numpy"))) is not None
    for wrap in (_Negated, lambda env: RescaleAction(env, -2.0, 2.0)):
        env = wrap(native("group-pg", output="numpy"))
        assert core_of(env) is None
    assert GroupPG(_Negated(native("group-pg", output="numpy")), GroupPGConfig()).meaning is None


def test_infos_that_are_lists_are_refused_in_one_line():
    env = DictInfoToList(RecordEpisodeStatistics(world(output="numpy")))
    for take in (lambda: agent("pathwise", env), lambda: SB3SAC(env), lambda: SB3VecEnv(env)):
        with pytest.raises(ValueError, match="infos are a list, .*: take the wrapper DictInfoToList off$"):
            take()


def test_environments_that_write_into_the_same_memory_are_learned_from_rightly():
    class Bright(gymnasium.Env):
        observation_space, action_space = Box(0, 255, (8, 8, 3), np.uint8), Box(-1, 1, (3,), np.float32)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.seen = np.full((8, 8, 3), self.np_random.integers(256), np.uint8)
            return self.seen, {}

        def step(self, action):
            action[:] = 0  # a vector environment hands out its own memory
            return self.seen, float(self.seen[0, 0, 0]), True, False, {}

    env = SyncVectorEnv([Bright] * 4, copy=False, autoreset_mode=AutoresetMode.SAME_STEP)
    subject = agent("ddpg-cnn", env).learn(16)
    replay = subject.replay_state()
    assert torch.equal(replay["seen"][:16, 0, 0, 0].float(), replay["reward"][:16])
    assert (replay["action"][:16] != 0).any(1).all()


def test_worlds_that_hand_out_the_same_tensor_are_learned_from_rightly():
    env = ReusingWorld(4)
    replay = agent("ddpg-cnn", env).learn(16).replay_state()
    best = env.best(replay["seen"][:16, 0, 0] / 255)
    torch.testing.assert_close(replay["reward"][:16], -(replay["action"][:16] - best).square().sum(1))


def test_nothing_is_read_before_a_gpu_has_sent_it(monkeypatch):
    """A copy to the host that does not block gives memory that is filled later."""
    copies, to = [], torch.Tensor.to
    monkeypatch.setattr(torch.Tensor, "to", lambda x, *where, **how: copies.append(how) or to(x, *where, **how))
    env = agent("pathwise").world
    env.see(0)
    env.act(torch.zeros(BATCH, 3))
    assert len(copies) > 3 and not any(how.get("non_blocking") for how in copies)


def test_single_environments_in_processes_are_refused(tiny_generator):
    env = AsyncVectorEnv(
        [lambda: gymnasium.make("BlindSR-v0", metric="psnr", generator=tiny_generator, patch_size=16)],
        autoreset_mode=AutoresetMode.SAME_STEP,
    )
    try:
        with pytest.raises(ValueError, match=r"not in BlindSR environments of several processes: make it with gym"):
            GroupPG(env)
    finally:
        env.close()


def test_an_agent_that_learned_on_says_of_whom(native, louder, tmp_path):
    path = tmp_path / "agent.safetensors"
    GroupPG(native("group-pg")).learn(8).save(path)
    first, second = GroupPG.load(path).meaning, native("group-pg", generator=louder)
    moved = GroupPG.load(path, second)
    moved.learn(8).save(path)
    assert GroupPG.load(path).meaning == moved.world.meaning != first


def test_asking_for_noisy_actions_changes_no_training():
    seen = torch.zeros(2, 8, 8, 3, dtype=torch.uint8)
    asked = agent("group-pg").learn(BATCH * 4, lambda now, _: now.predict(seen, deterministic=False), log_interval=1)
    assert same_weights(asked, agent("group-pg").learn(BATCH * 4, log_interval=1))


def test_making_an_agent_seeds_no_gpu(monkeypatch):
    seeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    before = torch.get_rng_state()
    GroupPG(world("group-pg"), seed=7)
    assert seeded == [] and torch.equal(torch.get_rng_state(), before)


def test_actions_do_not_depend_on_the_callers_autocast():
    subject = agent("group-pg")
    seen = np.full((2, 8, 8, 3), 100, np.uint8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        within, _ = subject.predict(seen)
    np.testing.assert_array_equal(within, subject.predict(seen)[0])


def test_an_error_leaves_the_scenes_where_the_environment_is(native, tmp_path):
    subject = GroupPG(native("group-pg"))
    calls, act = [], subject.world.act

    def stop(action):
        if len(calls) == 3:
            raise MemoryError
        calls.append(action)
        return act(action)

    subject.world.act = stop
    with pytest.raises(MemoryError):
        subject.learn(80)
    assert subject.num_timesteps == 24 and subject.scenes == subject.world.state()


@pytest.mark.parametrize("here", [True, False])
def test_an_error_between_step_and_reset_leaves_an_agent_that_goes_on(here, native, tmp_path):
    env, path = native("group-pg", autoreset_mode="disabled"), tmp_path / "agent.safetensors"
    subject, resets, reset = GroupPG(env), [], env.reset

    def fail_once(**arguments):
        resets.append(arguments)
        if len(resets) == 3:
            raise MemoryError
        return reset(**arguments)

    env.reset = fail_once
    with pytest.raises(MemoryError):
        subject.learn(40)
    subject.save(path)
    goes_on = subject if here else GroupPG.load(path, native("group-pg", autoreset_mode="disabled"))
    before = native("group-pg", autoreset_mode="disabled").set_state(subject.scenes)[0]
    see, shown = goes_on.world.see, []
    goes_on.world.see = lambda *args: shown.append(see(*args)) or shown[-1]
    assert goes_on.learn(8, reset_num_timesteps=False).num_timesteps == 16
    assert not torch.equal(shown[0], before), "that scene's episode is over"


def test_reports_that_would_never_come_are_refused():
    with pytest.raises(ValueError, match="^log_interval must be at least 1, got 0$"):
        agent("group-pg").learn(BATCH, log_interval=0)
    with pytest.raises(ValueError, match="^log_interval must be a whole number, got 1.5$"):
        agent("group-pg").learn(BATCH, log_interval=1.5)
    with pytest.raises(ValueError, match="^callback must be a function of the agent and its figures, got .*Checkpoint"):
        agent("group-pg").learn(BATCH, CheckpointCallback(1, "x"))
