"""The normalised score against plain arithmetic, a resampling loop and its coverage."""

import numpy as np
import pytest

from experiments.normalised import normalised


def drawn(count, seed=0, share=0.6):
    rng = np.random.default_rng(seed)
    best = rng.gamma(1.0, 1.0, count)
    return share * best + 0.2 * rng.standard_normal(count), best


def test_true_code_is_0_and_the_search_is_1():
    _, best = drawn(20)
    assert normalised(np.zeros(20), best).mean == 0
    one = normalised(best, best)
    assert (one.mean, one.low, one.high, one.count) == (1, 1, 1, 20)
    scaled = normalised(0.3 * best, best)
    assert (scaled.low, scaled.high) == pytest.approx((0.3, 0.3))


def test_a_ratio_of_means_so_that_scenes_without_a_gain_weigh_nothing():
    reward, best = [0.5, -0.1, 0.0], [1.0, 1e-9, 0.0]
    assert normalised(reward, best).mean == pytest.approx(0.4)
    assert normalised([-1.0, 0.5], [1.0, 1.0]).mean == pytest.approx(-0.25)


def test_interval_of_few_photos_is_students_of_the_linearised_ratio():
    reward, best = np.array([1.0, 3.0, 2.0, 0.0]), np.array([4.0, 5.0, 3.0, 4.0])
    residual = (reward - 6 / 16 * best) / 4  # of the means 1.5 and 4
    half = 3.182446 * residual.std(ddof=1) / 2  # Student's, three degrees of freedom
    found = normalised(reward, best)
    assert (found.low, found.high) == pytest.approx((0.375 - half, 0.375 + half), abs=1e-6)


def test_interval_is_that_of_a_plain_paired_resampling():
    reward, best = drawn(60)
    rng = np.random.default_rng(5)
    rows = rng.integers(0, 60, (20_000, 60))
    low, high = np.percentile(reward[rows].mean(1) / best[rows].mean(1), [2.5, 97.5])
    found = normalised(reward, best)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.01)
    assert found == normalised(reward, best)  # the same every time


@pytest.mark.parametrize("count", [6, 25, 60])
def test_interval_covers_the_truth(count):
    inside = [a.low <= 0.6 <= a.high for a in (normalised(*drawn(count, seed)) for seed in range(60))]
    assert 0.85 <= np.mean(inside) <= 1


def test_scenes_without_a_number_are_left_out_of_both():
    found = normalised([1.0, np.nan, 3.0, 2.0], [2.0, 9.0, 4.0, np.nan])
    assert found.mean == pytest.approx(4 / 6) and found.count == 2
    assert np.isnan(normalised([1.0], [2.0]).low)


@pytest.mark.parametrize(
    ("reward", "best", "message"),
    [
        ([1.0, 2.0], [1.0], "cannot be normalised"),
        ([np.nan], [1.0], "no scene has a finite reward"),
        ([1.0, 1.0], [0.0, 1e-6], "less than 0.001: there is nothing to normalise by"),
    ],
)
def test_nothing_to_normalise_by(reward, best, message):
    with pytest.raises(ValueError, match=message):
        normalised(reward, best)


def test_scenes_of_a_photo_count_once():
    reward, best = drawn(4)
    photo = np.arange(12) % 4
    found = normalised(np.tile(reward, 3), np.tile(best, 3), photo=photo)
    once = normalised(reward, best)  # scenes told three times tell nothing new
    assert (found.mean, found.low, found.high) == pytest.approx((once.mean, once.low, once.high))
    assert found.count == once.count == 4
    uneven = normalised([1.0, 3.0, 5.0], [4.0, 4.0, 8.0], photo=[0, 0, 1])
    assert uneven.mean == pytest.approx((2 + 5) / (4 + 8)) and uneven.count == 2


def test_resamples_in_which_the_search_won_nothing_have_a_score_too():
    reward, best = np.full(60, 0.001), np.zeros(60)
    reward[0], best[0] = 0.5, 1.0
    found = normalised(reward, best)
    assert np.isfinite([found.low, found.high]).all()
