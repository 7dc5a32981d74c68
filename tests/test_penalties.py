"""Penalties: each against its definition, its certificate, and the problem with it solved by somebody else."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from games import dictionaries, highs_optimum, planted
from hypothesis import given, settings
from hypothesis import strategies as st

import andor
from andor.core import certificate, lattice
from andor.core.penalties import L1, Huber, OrderWeightedL1, Penalty, RowMax
from andor.solvers import FirstOrder, InteriorPoint, JointInteriorPoint, Published

PENALTIES = [
    L1(),
    OrderWeightedL1(1.5),
    Huber(0.3),
    RowMax(),
    RowMax(weighting="released"),
    RowMax(alpha=0.0),
    RowMax(alpha=1.0),
]
each_penalty = pytest.mark.parametrize("penalty", PENALTIES, ids=str)


def two_models(n_players, seed):
    v = planted(n_players, seed)
    return np.stack([v, v + 0.3 * planted(n_players, seed + 1)])


@each_penalty
def test_the_excess_is_exact(penalty):
    """On the boundary of the dual domain: t·x = P(x) - P(0) is reached for some x, in slope, and never exceeded."""
    rng = np.random.default_rng(0)
    weights = rng.uniform(0.5, 2, size=10)
    t = rng.normal(size=(3, 10))
    on_boundary = t / penalty.excess(t, weights)
    np.testing.assert_allclose(penalty.excess(on_boundary, weights), 1)
    # The slope of P far out, in the direction of the worst x; brute force over sign patterns with equal size.
    patterns = np.array(np.meshgrid(*[[-1, 0, 1]] * 3)).reshape(3, -1, 1) * np.ones(10)
    far = 1e9 * patterns[:, patterns[:, :, 0].any(axis=0)]
    slopes = np.stack(
        [
            np.sum(on_boundary * far[:, i], axis=0) / penalty.price(np.ascontiguousarray(far[:, i]), weights)
            for i in range(far.shape[1])
        ]
    )
    np.testing.assert_allclose(np.max(slopes, axis=0), 1, rtol=1e-6)


@each_penalty
def test_the_conjugate_is_the_conjugate(penalty):
    rng = np.random.default_rng(1)
    weights, x, t = rng.uniform(0.5, 2, size=10), rng.normal(size=(3, 10)), rng.normal(size=(3, 10))
    t = t / np.maximum(penalty.excess(t, weights), 1)
    assert np.all(np.sum(t * x, axis=0) <= penalty.price(x, weights) + penalty.conjugate(t, weights) + 1e-12)
    # With equality where t is the derivative of P at x, which the multipliers are for a small width.
    t = penalty.multipliers(x, 1e-9, weights)
    reached = penalty.price(x, weights) + penalty.conjugate(t, weights)
    np.testing.assert_allclose(np.sum(t * x, axis=0), reached, rtol=1e-6)


@each_penalty
def test_the_multipliers_are_the_best(penalty):
    """Feasible, and better than any other feasible point; the same in JAX."""
    rng = np.random.default_rng(2)
    weights, x, width = rng.uniform(0.5, 2, size=10), rng.normal(size=(3, 10)), 0.7

    def value(p):
        return np.sum(p * x - width / 2 * p**2, axis=0) - penalty.conjugate(p, weights)

    best = penalty.multipliers(x, width, weights)
    assert np.all(penalty.excess(best, weights) <= 1 + 1e-12)
    for _ in range(200):
        other = best + 0.1 * rng.normal(size=x.shape)
        other = other / np.maximum(penalty.excess(other, weights), 1)
        assert np.all(value(other) <= value(best) + 1e-12)
    with jax.enable_x64(True):
        on_device = penalty.multipliers(jnp.asarray(x), width, jnp.asarray(weights))
        np.testing.assert_allclose(on_device, best, rtol=1e-12, atol=1e-15)
        for method in (penalty.excess, penalty.price, penalty.conjugate):
            np.testing.assert_allclose(method(on_device, jnp.asarray(weights)), method(best, weights), rtol=1e-12)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(PENALTIES), st.sampled_from([0.0, 0.3]))
def test_any_dual_values_bound_any_solution(seed, penalty, bound):
    """Weak duality: random feasible dual points stay below random feasible primal points, and below the optimum."""
    rng = np.random.default_rng(seed)
    v, bounds, weights = two_models(3, seed), np.array([bound, 0.3]), rng.uniform(0.5, 2, size=8)
    prices = weights * penalty.order_prices(lattice.orders(3))
    guess = rng.normal(size=(2, 8)) * 10.0 ** rng.uniform(-3, 1)
    y = certificate.feasible_dual(v, bounds, guess, prices, penalty)
    assert np.max(np.abs(np.sum(y, axis=-1))) < 1e-9
    for correlations in (lattice.zeta_transposed(y), lattice.or_sums_transposed(y)):
        assert np.all(penalty.excess(correlations, prices)[1:] <= 1 + 1e-9)
    proved = certificate.dual_bound(v, bounds, y, prices, penalty)
    assert proved >= 0
    for share in (0.5, 0.9):  # no smaller multiple proves more
        assert certificate.dual_bound(v, bounds, share * y, prices, penalty) <= proved + 1e-12
    and_effects, or_effects, noise = certificate.feasible_primal(v, bounds, *rng.normal(size=(2, 2, 8)))
    assert np.all(np.abs(noise) <= bounds[:, None])
    assert proved <= certificate.objective(and_effects, or_effects, prices, penalty)


@pytest.mark.parametrize("penalty", [Huber(0.3), RowMax()], ids=str)
def test_any_dual_values_bound_the_optimum(penalty):
    v, bounds, weights = two_models(3, 0), np.array([0.0, 0.3]), np.random.default_rng(0).uniform(0.5, 2, size=8)
    solution = andor.extract_joint(v, bounds, FirstOrder(), penalty=penalty, noise_unit="log-odds", weights=weights)
    assert solution.status == "converged"
    for seed in range(100):
        moved = solution.dual_values + 10.0 ** -(seed % 5) * np.random.default_rng(seed).normal(size=(2, 8))
        y = certificate.feasible_dual(v, bounds, moved, weights, penalty)
        assert certificate.dual_bound(v, bounds, y, weights, penalty) <= solution.primal


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.02, 0.3]))
@settings(max_examples=25, deadline=None)
def test_no_dual_values_prove_more_than_the_optimum_that_highs_finds(seed, noise):
    """The certificate is true, and with the exact solver's dual values it is nearly tight."""
    rng = np.random.default_rng(seed)
    v, weights = rng.normal(size=16), rng.uniform(0.5, 2, size=16)
    solution = andor.extract(v, noise, weights=weights)
    optimum = highs_optimum(v, solution.noise_bound, weights)
    given_ = v[None], np.array([solution.noise_bound])
    for size in (0.0, 1e-6, 1e-3, 1.0):
        guess = (solution.dual_values + size * rng.normal(size=16))[None]
        y = certificate.feasible_dual(*given_, guess, weights, L1())
        assert certificate.dual_bound(*given_, y, weights, L1()) <= optimum * (1 + 1e-7)
    assert solution.dual >= optimum * (1 - 2e-6)
    assert solution.primal >= optimum * (1 - 1e-7)


def huber_optimum(v, bound, penalty):
    """Least Huber price, by scipy on a smooth problem: effects from noise and OR effects, quasi-Newton with bounds."""
    n_players = lattice.n_players_of(v)
    within, touching = (matrix[1:, 1:] for matrix in dictionaries(n_players))
    touching = touching[:, lattice.orders(n_players)[1:] >= 2]
    inverse = np.linalg.inv(within)
    v, n_or = (v - v[0])[1:], touching.shape[1]

    def price_and_slope(x):
        strength = np.abs(x)
        near = np.minimum(strength, penalty.width)
        return np.sum(near**2 / (2 * penalty.width) + strength - near), np.clip(x / penalty.width, -1, 1)

    def price(unknowns):
        or_effects, noise = unknowns[:n_or], unknowns[n_or:]
        of_and, slope_and = price_and_slope(inverse @ (v - touching @ or_effects - noise))
        of_or, slope_or = price_and_slope(or_effects)
        pull = inverse.T @ slope_and
        return of_and + of_or, np.r_[slope_or - touching.T @ pull, -pull]

    start = np.zeros(n_or + len(v))
    limits = [(None, None)] * n_or + [(-bound, bound)] * len(v)
    options = dict(maxiter=20_000, maxfun=40_000, ftol=1e-15, gtol=1e-10)
    return scipy.optimize.minimize(price, start, jac=True, bounds=limits, method="L-BFGS-B", options=options).fun


@pytest.mark.parametrize("width", [0.02, 10.0])
@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_huber_optimum(width, noise):
    v = planted(4, 0)
    solution = andor.extract(v, noise, FirstOrder(tolerance=1e-4), penalty=Huber(width))
    optimum = huber_optimum(v, solution.noise_bound, Huber(width))
    assert solution.status == "converged" and solution.gap <= 1e-4
    assert solution.primal == pytest.approx(optimum, rel=2e-4)
    assert solution.dual <= optimum * (1 + 1e-6)
    explained = certificate.reconstruct(solution.and_effects, solution.or_effects) + solution.noise
    assert np.max(np.abs(explained - v)) <= 1e-9 * np.ptp(v)


def test_the_unit_of_v_does_not_matter():
    v = planted(3, 0)
    here, there = (andor.extract(c * v, penalty=Huber(0.1 * c)) for c in (1.0, 100.0))
    assert there.primal == pytest.approx(100 * here.primal, rel=1e-6)


@pytest.mark.parametrize("growth", [0.8, 2.0])
def test_order_weighted_optimum(growth):
    v = planted(4, 0)
    exact = andor.extract(v, 0.02, penalty=OrderWeightedL1(growth))
    prices = growth ** np.maximum(lattice.orders(4) - 1.0, 0)
    assert exact.primal == pytest.approx(highs_optimum(v, exact.noise_bound, prices), rel=2e-6)
    solution = andor.extract(v, 0.02, FirstOrder(tolerance=1e-3), penalty=OrderWeightedL1(growth))
    assert solution.converged and exact.dual <= solution.primal and solution.dual <= exact.primal
    both = andor.extract(v, 0.02, penalty=OrderWeightedL1(growth), weights=np.full(16, 3.0))
    assert both.primal == pytest.approx(3 * exact.primal, rel=2e-6)


def test_a_penalty_of_ones_own():
    @dataclasses.dataclass(frozen=True)
    class AndFirst(L1):
        def order_prices(self, orders):
            return np.where(orders == 2, 5.0, 1.0)

    assert isinstance(AndFirst(), Penalty)
    v = planted(3, 0)
    solution = andor.extract(v, 0.0, penalty=AndFirst())
    assert solution.primal == pytest.approx(highs_optimum(v, 0.0, AndFirst().order_prices(lattice.orders(3))), rel=2e-6)


@pytest.mark.parametrize(
    ("penalty", "solver"),
    [(Huber(0.1), InteriorPoint()), (RowMax(), Published()), (L1(), JointInteriorPoint())],
)
def test_a_solver_refuses_what_it_cannot_do(penalty, solver):
    names = rf"extract\(penalty={type(penalty).__name__}.* solver={type(solver).__name__}\(.*Use solver=FirstOrder\(\)"
    with pytest.raises(ValueError, match=names):
        andor.extract(np.zeros(8), solver=solver, penalty=penalty)


@pytest.mark.parametrize(
    ("penalty", "settings_"),
    [(OrderWeightedL1, dict(growth=0.0)), (Huber, dict(width=-1.0)), (RowMax, dict(alpha=2.0))],
)
def test_bad_settings_are_refused(penalty, settings_):
    with pytest.raises(ValueError, match=rf"{penalty.__name__}\("):
        penalty(**settings_)
