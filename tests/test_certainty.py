"""Intervals of strength over all explanations that are nearly the weakest, against HiGHS."""

import numpy as np
import pytest
import scipy.optimize
from games import dictionaries, planted

import andor
from andor.core import lattice
from andor.solvers import effect_interval, path, share_of_orders, strength_interval


def extremes(v: np.ndarray, bound: float, counted: np.ndarray, most: float) -> tuple[float, float]:
    """Least and most strength of counted effects among those of at most so much strength.

    The most of a sum of absolute values is no linear programme: signs are those of the plus or the minus part, and a
    mixed integer programme sees to it that only one is there.
    """
    n_players = lattice.n_players_of(v)
    size = 2**n_players
    within, touching = dictionaries(n_players)
    orders = lattice.orders(n_players)
    columns = np.hstack([within[1:, 1:], touching[1:][:, orders >= 2]])
    chosen = np.concatenate([counted[0, 1:], counted[1, orders >= 2]]).astype(float)
    k = columns.shape[1]
    # Unknowns: plus, minus, is plus, noise.
    zero, one = np.zeros((size - 1, k)), np.eye(k)
    large = 10 * most
    constraints = [
        scipy.optimize.LinearConstraint(np.hstack([columns, -columns, zero, np.eye(size - 1)]), *[(v - v[0])[1:]] * 2),
        scipy.optimize.LinearConstraint(np.r_[np.ones(2 * k), np.zeros(k + size - 1)], -np.inf, most),
        scipy.optimize.LinearConstraint(np.hstack([one, 0 * one, -large * one, zero.T]), -np.inf, 0),
        scipy.optimize.LinearConstraint(np.hstack([0 * one, one, large * one, zero.T]), -np.inf, large),
    ]
    price = np.r_[chosen, chosen, np.zeros(k + size - 1)]
    found = []
    for sign in (1, -1):
        result = scipy.optimize.milp(
            sign * price,
            constraints=constraints,
            integrality=np.r_[np.zeros(2 * k), np.ones(k), np.zeros(size - 1)],
            bounds=scipy.optimize.Bounds(
                np.r_[np.zeros(3 * k), np.full(size - 1, -bound)],
                np.r_[np.full(2 * k, large), np.ones(k), np.full(size - 1, bound)],
            ),
        )
        assert result.status == 0, result.message
        found.append(sign * result.fun)
    return found[0], found[1]


@pytest.mark.parametrize("game", ["planted", "tied"])
def test_the_interval_holds_every_explanation(game):
    orders = lattice.orders(3)
    v = planted(3, 1, n_and=3, n_or=2) if game == "planted" else lattice.zeta((orders == 1).astype(float))
    solution = andor.extract(v, 0.05)
    counted = np.tile(orders <= 1, (2, 1))
    low, high = strength_interval(v, solution, counted)
    least, most = extremes(v, solution.noise_bound, counted, 1.001 * solution.primal)
    # From outside, and within slack / step of the strength where the programme ends at a corner.
    assert low <= least + 1e-6 and most - 1e-6 <= high
    assert least - low <= 0.03 * solution.primal and high - most <= 0.03 * solution.primal
    if game == "tied":  # {i} + {j} = AND{ij} + OR{ij}
        assert high - low > 0.3 * solution.primal


def test_share_of_orders():
    v = planted(5, 0)
    solution = andor.extract(v, 0.02)
    low, high = share_of_orders(v, solution)
    strength = [
        np.abs(effects[lattice.orders(5) <= 2])[1:].sum() for effects in (solution.and_effects, solution.or_effects)
    ]
    assert 0 <= low <= sum(strength) / solution.primal <= high <= 1
    # Of as much strength as any explanation in question has, and of as little.
    bounds = strength_interval(v, solution, np.tile(lattice.orders(5) <= 2, (2, 1)))
    shares = bounds[0] / (1.001 * solution.primal), min(1.0, bounds[1] / solution.dual)
    assert (low, high) == pytest.approx(shares, rel=1e-9)
    assert np.isnan(share_of_orders(np.ones(4), andor.extract(np.ones(4)))).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(step=1.0), "between 0 and 1"),
        (dict(slack=-1.0), "not negative"),
        (dict(counted=np.ones((2, 4), bool)), "shapes"),
    ],
)
def test_bad_input_is_refused(arguments, message):
    v = np.arange(8.0)
    given = dict(counted=np.ones((2, 8), bool)) | arguments
    with pytest.raises(ValueError, match=message):
        strength_interval(v, andor.extract(v), **given)


def test_intervals_of_single_effects_hold_the_optimum_and_its_rivals():
    v = planted(5, 2, n_and=5, n_or=3)
    solution = andor.extract(v, 0.05)
    other = andor.extract(
        v, solution.noise_bound, noise_unit="log-odds", weights=np.random.default_rng(0).uniform(1, 1.0005, (2, 32))
    )
    strongest = np.argsort(-np.abs(solution.and_effects[1:]))[:3] + 1
    for subset in strongest.tolist():
        low, high = effect_interval(v, solution, subset, False)
        for each in (solution, other):  # a thousandth stronger at most
            assert low - 1e-6 <= abs(each.and_effects[subset]) <= high + 1e-6
        assert 0 <= low < high


def test_a_tie_may_be_none():
    v = lattice.zeta(np.isin(np.arange(16), (1, 2)).astype(float))  # {0} + {1}, or AND{01} + OR{01}
    solution = andor.extract(v, 0.0)
    assert effect_interval(v, solution, 3, True)[0] == 0 < effect_interval(v, solution, 3, True)[1]


def test_the_path_is_the_optimum_at_every_bound():
    v = planted(4, 0)
    solutions = path(v, (0.05, 0.2))
    for bound, found in zip((0.05, 0.2), solutions, strict=True):
        alone = andor.extract(v, bound, noise_unit="spread")
        assert found.primal == pytest.approx(alone.primal, rel=1e-6) and found.converged
        assert found.noise_bound == pytest.approx(bound * v.std())
    assert solutions[0].primal > solutions[1].primal
    with pytest.raises(ValueError, match="at least one bound"):
        path(v, ())
