import pytest
import torch

from agents.replay import Replay


def filled(replay, numbers):
    numbers = torch.tensor(numbers)
    seen = numbers.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 2, 2, 3)
    replay.add(seen, numbers.float()[:, None].expand(-1, 2), numbers.float())
    return replay


def held(replay):
    return sorted(replay.reward[: len(replay)].int().tolist())


def test_the_oldest_are_overwritten_across_the_rings_end():
    replay = Replay(5, (2, 2, 3), 2)
    filled(replay, [0, 1, 2])
    assert len(replay) == 3 and held(replay) == [0, 1, 2]
    filled(replay, [3, 4, 5, 6])
    assert len(replay) == 5 and held(replay) == [2, 3, 4, 5, 6]
    filled(replay, [7])
    assert held(replay) == [3, 4, 5, 6, 7]
    filled(replay, list(range(10, 22)))  # more than the ring holds
    assert held(replay) == [17, 18, 19, 20, 21]


def test_columns_stay_together_and_every_transition_is_drawn():
    replay = filled(Replay(4, (2, 2, 3), 2), [1, 2, 3, 4, 5, 6])
    seen, action, reward = replay.sample(400, torch.Generator().manual_seed(0))
    assert seen.shape == (400, 2, 2, 3) and seen.dtype == torch.uint8
    assert torch.equal(seen[:, 1, 0, 2].float(), reward) and torch.equal(action[:, 1], reward)
    assert set(reward.tolist()) == {3, 4, 5, 6}


def test_what_is_stored_is_a_copy():
    seen, action, reward = torch.ones(1, 4), torch.ones(1, 2), torch.ones(1)
    replay = Replay(3, (4,), 2, dtype=torch.float32)
    replay.add(seen, action, reward)
    for x in (seen, action, reward):
        x.zero_()
    assert replay.seen[0].sum() == 4 and replay.action[0].sum() == 2 and replay.reward[0] == 1


def test_state_round_trip_goes_on_as_if_nothing_happened():
    one, two = filled(Replay(5, (2, 2, 3), 2), range(7)), Replay(5, (2, 2, 3), 2)
    two.load_state({name: x.clone() for name, x in one.state().items()})
    for replay in (one, two):
        filled(replay, [8, 9])
    assert torch.equal(one.reward, two.reward) and torch.equal(one.seen, two.seen)


def test_bad_use_is_refused_and_too_large_a_replay_warned_of(monkeypatch):
    with pytest.raises(ValueError, match="empty"):
        Replay(3, (4,), 2).sample(1, torch.Generator())
    with pytest.raises(ValueError, match="at least one"):
        Replay(0, (4,), 2)
    monkeypatch.setattr("os.sysconf", lambda name: 1)
    with pytest.warns(ResourceWarning, match="smaller replay_size"):
        Replay(10, (64, 64, 3), 15)
