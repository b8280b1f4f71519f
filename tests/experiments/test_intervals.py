"""Means and their bootstrap intervals."""

import numpy as np
import pytest

from experiments.intervals import bootstrap, over_photos


def test_interval_of_normal_values_is_the_textbook_one():
    values = np.random.default_rng(0).normal(3.0, 2.0, 400)
    interval = bootstrap(values)
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert interval.mean == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_same_seed_same_interval():
    values = np.arange(10.0) ** 2
    assert bootstrap(values, 1) == bootstrap(values, 1) != bootstrap(values, 2)


def test_nan_is_left_out_and_counted_out():
    interval = bootstrap([1.0, np.nan, 3.0])
    assert interval.count == 2 and interval.mean == 2.0


def test_values_without_spread_have_no_width():
    interval = bootstrap([2.0, 2.0])
    assert (interval.low, interval.mean, interval.high) == (2.0, 2.0, 2.0)


def test_one_value_has_no_interval():
    interval = bootstrap([2.0])
    assert interval.mean == 2.0 and np.isnan([interval.low, interval.high]).all()


def test_few_values_take_students_t():
    # n = 4, deviation 1: the half-width is 3.182 / 2 (tables of Student's t with three degrees of freedom)
    values = np.array([-1.0, 0.0, 0.0, 1.0]) / np.sqrt(2 / 3)
    assert bootstrap(values).high == pytest.approx(3.182 / 2, abs=1e-3)


def test_nothing_finite_is_an_error():
    with pytest.raises(ValueError, match="no finite value"):
        bootstrap([np.nan])


def test_scenes_of_a_photo_count_once():
    # Two photos, at -1 and +1, ten scenes each: two independent values, Student's t with one degree of freedom.
    values, photo = [-1.0, 1.0] * 10, [0, 1] * 10
    interval = bootstrap(over_photos(values, photo))
    assert interval.count == 2 and interval.high == pytest.approx(12.706, abs=1e-3)
    unlike = over_photos([1.0, 2.0, 3.0, np.nan, np.inf, 7.0], [4, 2, 4, 2, 4, 9])
    np.testing.assert_array_equal(unlike, [2.0, 2.0, 7.0])
    assert np.isnan(over_photos([np.nan, 1.0], [0, 1])).tolist() == [True, False]


def test_interval_over_photos_covers_the_truth():
    # Scenes of a photo share most of what they differ by: taken for independent, their intervals are far too narrow.
    rng = np.random.default_rng(0)
    photo = np.arange(48) % 12
    inside = {"photos": 0, "scenes": 0}
    for _ in range(60):
        values = rng.standard_normal(12)[photo] + 0.3 * rng.standard_normal(48)
        for unit, own in (("photos", over_photos(values, photo)), ("scenes", values)):
            interval = bootstrap(own)
            inside[unit] += interval.low <= 0 <= interval.high
    assert inside["photos"] >= 51 > inside["scenes"]
