"""The search on functions with known optima, and on the real environment with an untrained generator."""

import pytest
import torch

from agents.search import SearchResult, maximise, search
from blindsr_env.core import BlindSRCore

SPREAD = torch.full((5,), 0.15)


@pytest.fixture
def optimum():
    return torch.rand(6, 5, generator=torch.Generator().manual_seed(1)) * 1.6 - 0.8


@pytest.fixture
def bowl(optimum):
    """-|action - optimum|^2, each of the six scenes with its own optimum; counts what it is asked."""

    def reward(action):
        reward.shapes.append(tuple(action.shape))
        assert action.abs().max() <= 1
        return -(action - optimum[:, None]).square().sum(-1)

    reward.shapes = []
    return reward


@pytest.fixture
def make(tiny_generator, tiny_photos):
    def make(**changes):
        settings = dict(metric="psnr", generator=tiny_generator, images=tiny_photos, split="train", patch_size=24)
        settings |= dict(degradation="isotropic", action="code", report=(), device="cpu", dtype="float32")
        return BlindSRCore(**(settings | changes))

    return make


def scenes_of(core, count=3):
    import numpy as np

    return core.scenes([np.random.default_rng(i) for i in range(count)])


def test_finds_a_known_optimum(bowl, optimum):
    result = maximise(bowl, torch.zeros(6, 5), SPREAD, renders=600)
    assert (result.action - optimum).abs().max() < 0.02
    assert result.reward.min() > -1e-3
    torch.testing.assert_close(result.reward, bowl(result.action[:, None])[:, 0])


def test_finds_an_optimum_outside_the_box_at_its_edge(optimum):
    target = optimum.clone()
    target[:, 0] = 3.0
    result = maximise(lambda a: -(a - target[:, None]).square().sum(-1), torch.zeros(6, 5), SPREAD, renders=600)
    assert (result.action[:, 0] == 1).all() and (result.action - target)[:, 1:].abs().max() < 0.05


@pytest.mark.parametrize(("renders", "sizes"), [(1, [1]), (4, [1, 3]), (9, [1, 8]), (20, [1, 8, 8, 3])])
def test_spends_its_budget_to_the_render(bowl, renders, sizes):
    result = maximise(bowl, torch.zeros(6, 5), SPREAD, renders=renders)
    assert bowl.shapes == [(6, size, 5) for size in sizes]
    assert result.curve.shape == (6, renders)


def test_steps_come_in_pairs_of_opposite_sign():
    asked = []

    def reward(action):
        asked.append(action)
        return torch.zeros(action.shape[:2])  # nothing better: the start stays the best

    start = torch.tensor([[0.1, -0.2, 0.0, 0.3, 0.05]])
    maximise(reward, start, SPREAD / 5, renders=9)
    steps = asked[1][0] - start
    torch.testing.assert_close(steps[0::2], -steps[1::2])
    assert steps[0::2].std() > 0.01


def test_more_renders_are_never_worse_and_extend_the_same_search(bowl):
    long = maximise(bowl, torch.zeros(6, 5), SPREAD, renders=90, seed=4)
    assert (long.curve.diff(dim=1) >= 0).all() and (long.curve[:, -1] > long.curve[:, 0]).all()
    for renders in (1, 2, 13, 64):
        short = maximise(bowl, torch.zeros(6, 5), SPREAD, renders=renders, seed=4)
        torch.testing.assert_close(short.curve, long.curve[:, :renders], rtol=0, atol=0)
        torch.testing.assert_close(short.reward, long.curve[:, renders - 1], rtol=0, atol=0)


def test_never_worse_than_its_start_even_at_the_optimum(bowl, optimum):
    result = maximise(bowl, optimum, SPREAD, renders=30)
    assert torch.equal(result.action, optimum) and (result.curve == 0).all()


def test_same_seed_same_result_and_another_seed_another(bowl):
    runs = [maximise(bowl, torch.zeros(6, 5), SPREAD, renders=25, seed=seed) for seed in (3, 3, 4)]
    assert torch.equal(runs[0].action, runs[1].action) and not torch.equal(runs[0].action, runs[2].action)
    torch.rand(3)
    assert torch.equal(maximise(bowl, torch.zeros(6, 5), SPREAD, renders=25, seed=3).curve, runs[0].curve)


def test_a_batch_finds_what_its_scenes_find_one_by_one(bowl, optimum):
    together = maximise(bowl, torch.zeros(6, 5), SPREAD, renders=40, seed=7)
    for i in range(6):
        alone = maximise(
            lambda a, i=i: -(a - optimum[i]).square().sum(-1), torch.zeros(1, 5), SPREAD, renders=40, seed=7 + i
        )
        torch.testing.assert_close(alone.action[0], together.action[i], rtol=0, atol=0)


def test_nan_is_worse_than_any_number(bowl):
    def holed(action):
        return bowl(action).masked_fill(action[..., 0] <= 0, torch.nan)

    result = maximise(holed, torch.zeros(6, 5), SPREAD, renders=40)  # the start itself is NaN
    assert result.reward.isfinite().all() and (result.action[:, 0] > 0).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"renders": 0}, "renders must be at least 1"),
        ({"population": 5}, "even number of 2 or more, got 5"),
        ({"population": 0}, "even number of 2 or more, got 0"),
        ({"spread": torch.zeros(5)}, "deviation above 0"),
    ],
)
def test_settings_out_of_range(bowl, changes, message):
    with pytest.raises(ValueError, match=message):
        maximise(bowl, torch.zeros(6, 5), **({"spread": SPREAD} | changes))


@pytest.mark.parametrize("action", ["code", "free-code", "width"])
@pytest.mark.parametrize("metric", ["psnr", "grid+0.01*psnr"])
def test_wins_over_the_true_code_in_every_action_space(make, action, metric):
    core = make(action=action, metric=metric)
    scenes = scenes_of(core)
    result = search(core, scenes, scenes.true_action, renders=21, population=4)
    assert isinstance(result, SearchResult) and result.action.shape == scenes.true_action.shape
    assert result.curve[:, 0].abs().max() < 1e-3 and (result.reward >= result.curve[:, 0]).all()
    assert result.reward.mean() > 1e-3
    reward, _ = core.play(scenes, result.action)
    torch.testing.assert_close(reward, result.reward, rtol=0, atol=1e-4)


def test_scenes_in_parts_and_one_by_one_give_the_same(make, monkeypatch):
    core = make()
    scenes = scenes_of(core, 3)
    whole = search(core, scenes, scenes.true_action, renders=14, population=4, seed=5)
    monkeypatch.setattr("agents.search.PIXELS", 5 * 16 * 16)  # a scene's candidates fall into two parts
    parts = search(core, scenes, scenes.true_action, renders=14, population=4, seed=5)
    torch.testing.assert_close(parts.curve, whole.curve, rtol=0, atol=1e-4)
    one = scenes.take(torch.tensor([2]))
    alone = search(core, one, one.true_action, renders=14, population=4, seed=7)
    torch.testing.assert_close(alone.curve[0], whole.curve[2], rtol=0, atol=1e-4)


def test_views_share_the_reward(make):
    """The mean over them is what is searched: a view that is the scene itself changes nothing, others do."""
    core = make()
    scenes = scenes_of(core)
    budget = dict(renders=21, population=4, seed=2)
    alone = search(core, scenes, scenes.true_action, **budget)
    twice = search(core, scenes, scenes.true_action, **budget, views=[scenes])
    torch.testing.assert_close(alone.curve, twice.curve)
    turned = [core.turned(scenes, flip) for flip in (1, 6)]
    result = search(core, scenes, scenes.true_action, **budget, views=turned)
    rewards = [core.play(view, result.action)[0] for view in (scenes, *turned)]
    torch.testing.assert_close(torch.stack(rewards).mean(0), result.reward, rtol=0, atol=1e-4)
    assert not torch.allclose(result.action, alone.action)


def test_starts_are_checked_and_clipped(make):
    core = make()
    scenes = scenes_of(core, 2)
    with pytest.raises(ValueError, match=r"shape \(2, 15\), got \(2, 3\)"):
        search(core, scenes, torch.zeros(2, 3))
    result = search(core, scenes, torch.full((2, 15), 2.0), renders=1)
    assert torch.equal(result.action, torch.ones(2, 15))
