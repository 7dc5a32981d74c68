"""Games with known effects have the effects and the noise that were asked for."""

import numpy as np
import pytest

from andor.core import lattice
from andor.core.certificate import reconstruct
from andor.core.games import mixture, random_rules, sparse


@pytest.mark.parametrize(("decay", "orders"), [(0.5, 1.9), (1.0, 4.0)])
def test_the_orders_of_a_few_effects(decay, orders):
    games = [sparse(np.random.default_rng(seed), 7, decay, n_and=4, n_or=3, sigma=0.0) for seed in range(200)]
    for game in games:
        assert np.count_nonzero(game.and_effects) == 4 and np.count_nonzero(game.or_effects) == 3
        assert game.and_effects[0] == 0 and not game.or_effects[lattice.orders(7) < 2].any()
        np.testing.assert_array_equal(game.v, reconstruct(game.and_effects, game.or_effects))
    found = [lattice.orders(7)[np.flatnonzero(game.and_effects)].mean() for game in games]
    assert np.mean(found) == pytest.approx(orders, abs=0.25)


def test_mixtures_have_the_strength_that_was_asked_for():
    rng = np.random.default_rng(0)
    mixtures = [mixture(rng, 7, share=0.6, rate=0.8, ratio=1.0, or_too=True, noise=0.002) for _ in range(40)]
    assert np.mean([share for _, share in mixtures]) == pytest.approx(0.6, abs=0.05)
    assert not any(game.or_effects[lattice.orders(7) <= 1].any() for game, _ in mixtures)


def test_equal_seeds_give_the_same_effects_at_every_noise():
    less, more = (mixture(np.random.default_rng(0), 5, 0.5, 1.0, 1.0, True, noise)[0] for noise in (0.002, 0.01))
    exact = reconstruct(less.and_effects, less.or_effects)
    np.testing.assert_array_equal(exact, reconstruct(more.and_effects, more.or_effects))
    np.testing.assert_allclose(more.v - exact, 5 * (less.v - exact), atol=1e-12)
    assert 0 < np.abs(less.v - exact).max() < 0.02 * abs(exact[-1] - exact[0])


def test_effects_of_rules_add_up_to_their_log_odds():
    rng = np.random.default_rng(0)
    rules = random_rules(7, (1, 2, 3, 4), (2, 2, 3, 4), rng)
    for items in (np.arange(7), np.array([5, 0, 3, 6])):
        and_effects, or_effects = rules.effects(items)
        present = np.zeros((2 ** len(items), 7), bool)
        present[:, items] = lattice.masks(len(items))
        np.testing.assert_allclose(lattice.zeta(and_effects) + lattice.or_sums(or_effects), rules.log_odds(present))
        assert not or_effects[lattice.orders(len(items)) < 2].any()
