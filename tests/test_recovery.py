"""Known effects that are found are counted, up to other ways of writing the same function."""

import numpy as np
import pytest

from andor.core import lattice
from andor.core.games import random_rules
from andor.measures.recovery import canonical, hits, score


def pair(n_players, and_effects=(), or_effects=()):
    arrays = np.zeros((2, 2**n_players))
    for array, effects in zip(arrays, (and_effects, or_effects), strict=True):
        for players, effect in effects:
            array[lattice.subset_of(players)] = effect
    return tuple(arrays)


def test_score_counts_kind_players_and_sign():
    planted = pair(3, [((0,), 1.0), ((0, 1), -1.0)], [((1, 2), 1.0)])
    found = pair(3, [((0,), 0.8), ((0, 1), 1.0), ((2,), 0.01)], [((1, 2), 0.5)])
    np.testing.assert_array_equal(hits(found, planted), [[1, 2, 2], [1, 1, 1]])
    numbers = score(found, planted)
    assert numbers["precision"] == numbers["recall"] == pytest.approx(2 / 3)
    assert (numbers["recall_and"], numbers["recall_or"], numbers["found"]) == (0.5, 1.0, 3)


def test_ties_of_pairs_count_as_the_same():
    singles = pair(3, [((0,), 1.0), ((1,), 1.0)])
    traded = pair(3, [((0, 1), 1.0)], [((0, 1), 1.0)])
    mixed = pair(3, [((0,), 0.4), ((1,), 0.4), ((0, 1), 0.6)], [((0, 1), 0.6)])
    for found in (singles, traded, mixed):
        assert score(found, singles)["precision"] == score(found, singles)["recall"] == 1
    assert score(mixed, singles)["precision_strict"] == 0.5
    # {0} - AND{01}, or OR{01} - {1}: both have strength 2.
    assert score(pair(2, [((0,), 1.0), ((0, 1), -1.0)]), pair(2, [((1,), -1.0)], [((0, 1), 1.0)]))["recall"] == 1


def test_canonical_keeps_function_and_strength():
    rng = np.random.default_rng(1)
    effects = [random_rules(5, (1, 1, 2, 2, 3), (2, 2, 3), rng).effects(np.arange(5)) for _ in range(20)]
    for first in effects:
        second = canonical(first)
        before, after = (lattice.zeta(a) + lattice.or_sums(b) for a, b in (first, second))
        np.testing.assert_allclose(before, after, atol=1e-12)
        assert np.abs(second).sum() == pytest.approx(np.abs(first).sum(), abs=1e-3)
    # What only looks like a tie: OR{01} as AND effects is stronger, and stays.
    alone = pair(2, [((0,), 1.0), ((1,), 1.0), ((0, 1), -1.0)])
    np.testing.assert_array_equal(canonical(alone), alone)
