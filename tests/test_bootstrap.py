"""Percentile bootstrap: coverage, what is undefined, pairs, clusters."""

import numpy as np
import pytest

from andor.measures import bootstrap
from andor.measures.bootstrap import Resampled, holm, interval


def test_intervals_cover_the_mean():
    rng = np.random.default_rng(0)
    inside = 0
    for seed in range(200):
        estimate, low, high = interval(rng.normal(1.0, 1.0, 40), seed=seed, repeats=300)
        assert low <= estimate <= high
        inside += low <= 1.0 <= high
    assert 0.88 <= inside / 200 <= 0.98


def test_the_interval_holds_the_middle_95_percent():
    assert Resampled(500.0, np.arange(1001.0)).interval() == pytest.approx((500.0, 25.0, 975.0))


def test_what_is_undefined_is_left_out():
    assert interval([1.0, np.nan, 3.0])[0] == 2.0
    assert interval([5.0]) == (5.0, 5.0, 5.0)
    assert np.isnan([interval([]), interval([np.nan]), interval([1.0, 2.0], lambda samples: np.nan)]).all()
    assert Resampled(1.0, np.array([2.0, np.nan, 2.0])).interval() == (1.0, 2.0, 2.0)
    assert np.isnan(bootstrap.resampled(0, len).interval()).all()


def test_rows_stay_together():
    rows = np.array([[1.0, 2.0], [3.0, 4.0]])
    ratio = interval(rows, lambda x: x[:, 0].sum() / x[:, 1].sum())
    assert ratio == pytest.approx((4 / 6, 1 / 2, 3 / 4))


def test_a_paired_difference_varies_less():
    rng = np.random.default_rng(0)
    base = rng.normal(size=60)
    after = base + 0.5 + 0.1 * rng.normal(size=60)

    def mean_of(samples, seed):
        return bootstrap.resampled(60, lambda places: samples[places].mean(), seed)

    paired = (mean_of(after, 0) - mean_of(base, 0)).interval()
    unpaired = (mean_of(after, 0) - mean_of(base, 1)).interval()
    assert paired == pytest.approx(interval(after - base))
    assert paired[1] > 0.4 and unpaired[2] - unpaired[1] > 5 * (paired[2] - paired[1])


def test_crossed_draws_take_the_same_samples_of_every_cluster():
    places = bootstrap.crossed_draws(3, 4, 50).reshape(50, 3, 4)
    assert (places % 4 == places[:, :1] % 4).all()
    assert (places // 4 == places[:, :, :1] // 4).all()
    assert set((places // 4)[:, :, 0].ravel()) == {0, 1, 2}
    assert not any((bootstrap.crossed_draws(1, 4, 5) // 4).ravel())


@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_clusters_that_vary_make_intervals_wider(spread):
    rng = np.random.default_rng(1)
    values = rng.normal(size=(8, 20)) + spread * rng.normal(size=(8, 1))
    labels = np.repeat(list("abcdefgh"), 20)
    whole = [values.ravel()[bootstrap.clustered_draw(labels, rng)].mean() for _ in range(500)]
    crossed = values.ravel()[bootstrap.crossed_draws(8, 20)].mean(axis=1)
    _, low, high = interval(values.ravel())
    for drawn in (whole, crossed):
        _, least, most = Resampled(values.mean(), np.array(drawn)).interval()
        assert (most - least > 1.8 * (high - low)) == bool(spread)


def test_a_cluster_is_drawn_whole():
    labels = ["b", "a", "b", "c"]
    for seed in range(10):
        counts = np.bincount(bootstrap.clustered_draw(labels, np.random.default_rng(seed)), minlength=4)
        assert counts[0] == counts[2] and counts[0] + counts[1] + counts[3] == 3


@pytest.mark.parametrize("statistic", [np.mean, np.median])
def test_all_resamples_at_once_are_those_one_by_one(statistic):
    samples = np.random.default_rng(3).normal(size=23)
    one_by_one = bootstrap.resampled(23, lambda places: statistic(samples[places]), 4, 200).interval()
    assert interval(samples, statistic, 4, 200) == one_by_one


def test_holm_adjusts_the_smallest_most():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])  # 3 x, then 2 x, then no less than before
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert len(holm([])) == 0


def test_p_of_a_number_above_zero():
    assert Resampled(1.0, np.array([1.0, 2.0, -1.0, np.nan])).p_above() == pytest.approx(2 / 4)
    assert Resampled(1.0, np.ones(99)).p_above() == pytest.approx(0.01)
    assert Resampled(np.nan, np.empty(0)).p_above() == 1.0
