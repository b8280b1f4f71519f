import warnings

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


def test_what_was_never_filled_is_not_drawn():
    replay = filled(Replay(100, (2, 2, 3), 2), [1, 2, 3])
    assert set(replay.sample(400, torch.Generator().manual_seed(0))[2].tolist()) == {1, 2, 3}


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


def test_bad_use_is_refused():
    with pytest.raises(ValueError, match="empty"):
        Replay(3, (4,), 2).sample(1, torch.Generator())
    with pytest.raises(ValueError, match="at least one"):
        Replay(0, (4,), 2)


@pytest.fixture
def shown():
    """The warnings that a user sees: Python's own filters, not those of tests."""
    with warnings.catch_warnings(record=True) as shown:
        warnings.resetwarnings()
        for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", category)
        yield shown


@pytest.mark.parametrize(("kilobytes", "warned"), [(100, True), (200, False)])
def test_a_user_is_told_of_a_replay_too_large_for_the_memory(monkeypatch, tmp_path, shown, kilobytes, warned):
    meminfo = tmp_path / "meminfo"
    meminfo.write_text(f"MemTotal: 9000 kB\nMemFree: 1 kB\nMemAvailable: {kilobytes} kB\n")
    monkeypatch.setattr("agents.replay.MEMINFO", meminfo)
    Replay(10, (64, 64, 3), 15)  # 121 KiB
    assert [str(each.message).partition(": ")[2] for each in shown] == ["choose a smaller replay_size"] * warned
    assert all(each.filename == __file__ for each in shown)


@pytest.mark.parametrize(("pages", "warned"), [(1, True), (10**6, False)])
def test_systems_without_meminfo_tell_free_pages(monkeypatch, tmp_path, shown, pages, warned):
    monkeypatch.setattr("agents.replay.MEMINFO", tmp_path / "none")
    monkeypatch.setattr("os.sysconf_names", {"SC_AVPHYS_PAGES": 1, "SC_PAGE_SIZE": 2})
    monkeypatch.setattr("os.sysconf", {"SC_AVPHYS_PAGES": pages, "SC_PAGE_SIZE": 4096}.get)
    Replay(10, (64, 64, 3), 15)
    assert len(shown) == warned
