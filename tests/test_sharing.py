"""Shared and distinctive effects of two models, and effects shuffled within their orders."""

import numpy as np
import pytest

from andor.core import lattice
from andor.measures import metrics, sharing


def random_effects(rng, n_players=5, count=8):
    and_effects, or_effects = np.zeros((2, 2**n_players))
    and_effects[rng.choice(np.arange(1, 2**n_players), count, replace=False)] = rng.normal(size=count)
    wide = np.flatnonzero(lattice.orders(n_players) >= 2)
    or_effects[rng.choice(wide, count, replace=False)] = rng.normal(size=count)
    return and_effects, or_effects


def test_effects_needed_is_the_least_k_that_matches():
    rng = np.random.default_rng(0)
    for _ in range(10):
        pair = random_effects(rng)
        v = metrics.logic_model(*pair)
        k = int(metrics.effects_needed(v, *pair))
        assert metrics.matching(v, *pair, k).r2 >= 0.95
        assert all(metrics.matching(v, *pair, less).r2 < 0.95 for less in range(1, k))
    assert np.isnan(metrics.effects_needed(rng.normal(size=8), np.zeros(8), np.zeros(8)))


def test_shuffled_effects_keep_their_orders():
    rng = np.random.default_rng(1)
    pair = random_effects(rng)
    moved = metrics.shuffled(pair, rng)
    for before, after in zip(pair, moved, strict=True):
        assert not np.array_equal(before, after)
        for order in range(6):
            at = lattice.orders(5) == order
            assert np.array_equal(np.sort(before[at]), np.sort(after[at]))
    assert metrics.weighted_overlap(pair, pair, (1.0, 1.0)) == 1
    assert metrics.weighted_overlap(pair, moved, (1.0, 1.0)) < 1


def test_groups_split_salient_effects():
    first = np.zeros((2, 8))
    second = np.zeros((2, 8))
    first[0, [1, 2, 3]], second[0, [1, 2, 7]] = (2.0, 1.0, -1.0), (1.0, -1.0, 3.0)  # 2: of opposite sign
    first[1, 6], second[1, 6] = 1.0, 1.0
    one, two = sharing.groups([tuple(first), tuple(second)], np.random.default_rng(0))
    assert one["shared"].order == two["shared"].order == 1.5  # {0} and OR{1, 2}
    assert one["distinctive"].order == 1.5 and two["distinctive"].order == 2.0
    assert one["shared"].cancellation == 0 and one["distinctive"].cancellation == 1
    assert one["shared"].strength.sum() + one["distinctive"].strength.sum() == pytest.approx(1)
    assert two["distinctive"].strength[:, 2].tolist() == [0.5, 0.0]
    assert one["shared"].matched == 0


def test_few_effects_are_compared_with_as_many():
    rng = np.random.default_rng(0)
    alternating = np.array([1.0, -1.0] * 20)
    group = sharing.group(alternating, np.ones(40, int), 3, 40.0, 2, rng)
    assert group.cancellation == 1 and 0.3 < group.matched < 0.7  # two of them have one sign half of the time
