"""Means and their intervals."""

import numpy as np
import pytest
from scipy import stats

from experiments.intervals import FEWEST, Interval, bootstrap, over_photos, over_widths, seeds_and_photos


def test_interval_of_normal_values_is_the_textbook_one():
    values = np.random.default_rng(0).normal(3.0, 2.0, 400)
    interval = bootstrap(values)
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert interval.mean == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_same_seed_same_interval():
    values = np.arange(float(FEWEST)) ** 2
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


def test_below_fifty_values_students_t_serves_from_fifty_on_the_bootstrap():
    values = np.random.default_rng(0).gamma(2.0, 1.0, 50)  # skewed, and so is the bootstrap
    for kept, symmetric in ((values[:14], True), (values[:49], True), (values, False)):
        interval = bootstrap(kept)
        assert (interval.high + interval.low == pytest.approx(2 * interval.mean)) == symmetric
        assert (bootstrap(kept, 1) == interval) == symmetric  # nothing is drawn for Student's t


@pytest.mark.parametrize("count", [10, 14])
def test_intervals_of_few_values_cover_the_truth_95_times_in_100(count):
    rng = np.random.default_rng(count)
    intervals = [bootstrap(rng.normal(1.0, 1.0, count)) for _ in range(2000)]
    covered = np.mean([interval.low < 1.0 < interval.high for interval in intervals])
    assert covered == pytest.approx(0.95, abs=0.015)  # three deviations; the percentile bootstrap has 0.90 and 0.92


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


@pytest.mark.parametrize(
    ("seeds", "photos", "of_seeds", "of_photos", "of_both"),
    [
        (5, 40, 0.3, 1.0, 0.2),
        (3, 100, 1.0, 0.5, 0.2),
        (2, 20, 0.0, 1.0, 0.3),
        (5, 14, 0.0, 0.0, 1.0),
        (5, 5, 0.5, 0.5, 0.5),
    ],
)
def test_seeds_and_photos_cover_the_truth_95_times_in_100(seeds, photos, of_seeds, of_photos, of_both):
    rng = np.random.default_rng(0)
    covered, runs = 0, 400
    for _ in range(runs):
        luck = rng.normal(0, 1, (seeds, 1)) * of_seeds + rng.normal(0, 1, (1, photos)) * of_photos
        interval = seeds_and_photos(1.5 + luck + rng.normal(0, 1, (seeds, photos)) * of_both)
        covered += interval.low < 1.5 < interval.high
    assert 0.92 < covered / runs  # Satterthwaite's approximation errs on the wide side where seeds are two


def test_the_interval_is_not_wider_than_it_need_be():
    rng = np.random.default_rng(3)
    widths = []
    for _ in range(100):
        interval = seeds_and_photos(rng.normal(0, 1, (5, 30)))  # nothing but what seeds and photos share
        widths.append(interval.high - interval.low)
    assert np.mean(widths) < 1.6 * 2 * 1.96 / np.sqrt(5 * 30)


def test_seeds_alone_and_photos_alone_have_students_interval():
    values = np.array([1.0, 2.0, 3.0, 4.0, 7.0])
    expected = bootstrap(values)  # of five values Student's t
    for shaped in (values[:, None], values[None]):
        interval = seeds_and_photos(shaped)
        assert interval.mean == expected.mean and interval.count == len(shaped)
        assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high))
    lone = seeds_and_photos([[2.0]])
    assert lone.mean == 2.0 and np.isnan([lone.low, lone.high]).all()


def test_the_variance_is_that_of_a_two_way_analysis():
    # Two seeds, three photos; sums of squares 6, 9 and 1, mean squares 6, 4.5 and 0.5. The mean's variance is
    # (6 + 4.5 - 0.5) / 6, its degrees of freedom 1.75^2 / (1^2 / 1 + 0.75^2 / 2) (Satterthwaite).
    interval = seeds_and_photos([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0]])
    assert interval.mean == 3 and interval.count == 2
    half = stats.t.ppf(0.975, 1.75**2 / (1 + 0.75**2 / 2)) * (10 / 6) ** 0.5
    assert (interval.low, interval.high) == pytest.approx((3 - half, 3 + half), abs=1e-9)


def test_recipes_are_compared_photo_by_photo():
    rng = np.random.default_rng(2)
    hard = rng.normal(0, 3, (1, 60))  # photos differ far more than recipes do
    ours, theirs = (level + hard + rng.normal(0, 0.1, (5, 60)) for level in (0.5, 0.3))
    difference = seeds_and_photos(ours, theirs)
    assert difference.mean == pytest.approx(0.2, abs=0.03) and difference.low > 0.1 and difference.high < 0.3
    ours[0, 3] = np.nan  # a photo without a score is left out of both
    assert seeds_and_photos(ours, theirs).mean == pytest.approx(np.delete(ours - theirs, 3, axis=1).mean())
    with pytest.raises(ValueError, match="no photo"):
        seeds_and_photos(np.full((2, 3), np.nan))


def test_one_value_is_shown_without_ends():
    assert str(bootstrap([0.5])) == "+0.500 [?]" and str(Interval(1.0, 0.5, 1.5, 3)) == "+1.000 [+0.500, +1.500]"


def test_only_finite_widths_are_averaged():
    found = over_widths([[1.0, np.nan, np.inf], [np.nan] * 3, [1.0, 2.0, 6.0], [-np.inf, 2.0, 4.0]])
    np.testing.assert_array_equal(found, [1.0, np.nan, 3.0, 3.0])
