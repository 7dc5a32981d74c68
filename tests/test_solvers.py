"""Every solver against HiGHS, and what is particular to each."""

import hypothesis.extra.numpy
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from games import highs_optimum, planted
from hypothesis import given, settings
from hypothesis import strategies as st

import andor
from andor.core import lattice
from andor.core.penalties import Huber, OrderWeightedL1, RowMax
from andor.core.problem import Problem
from andor.show import cli
from andor.solvers import (
    FirstOrder,
    InteriorPoint,
    JointInteriorPoint,
    Published,
    WorkingSet,
    default_solver,
    interior_point,
    placement,
)
from andor.solvers.cholesky import cholesky_solver
from andor.solvers.coordinates import harsanyi_sum, least_norm_pair, without_empty
from andor.solvers.interior_point import active_pairs, effects_of, solve_one, tie_breaking


@pytest.mark.parametrize("n_players", [1, 3, 6])
@pytest.mark.parametrize("noise", [0.0, 0.02, 0.2])
@pytest.mark.parametrize("game", ["planted", "exact", "random"])
def test_interior_point_reaches_the_optimum(n_players, noise, game):
    if game == "random":
        v = np.random.default_rng(n_players).normal(size=2**n_players)
    else:
        v = planted(n_players, 10 + n_players, sigma=0.01 if game == "planted" else 0.0)
    solution = andor.extract(v, noise)
    optimum = highs_optimum(v, noise * abs(v[-1] - v[0]))
    assert solution.status == "converged"
    assert solution.primal == pytest.approx(optimum, rel=2e-6, abs=1e-12)
    assert solution.dual <= optimum * (1 + 1e-7)


@pytest.mark.parametrize(
    ("v", "noise"),
    [
        (np.random.default_rng(3).normal(size=16), 0.1),  # the gap stalls at first
        ((lattice.orders(7) % 2).astype(float), 0.02),
        (np.cos(2 * lattice.orders(6)), 0.05),  # effects and noise far larger than v
        (lattice.zeta(np.isin(np.arange(32), (3, 5, 17)).astype(float)), 0.0),  # few effects, many dual optima
    ],
)
def test_interior_point_on_games_that_are_hard_for_it(v, noise):
    solution = andor.extract(v, noise)
    assert solution.status == "converged"
    assert solution.primal == pytest.approx(highs_optimum(v, noise * abs(v[-1] - v[0])), rel=2e-6)


def test_a_game_whose_products_part_does_not_jam_the_steps():
    """Few effects within the noise: some products went to 0 long before the rest, and two runs differed by 1e-3."""
    game = planted(6, 0, n_and=15, n_or=10)
    reverse = np.array([lattice.subset_of(5 - i for i in lattice.members(s)) for s in range(64)])
    one, other = andor.extract(np.stack([game, game[reverse]]), 0.02).and_effects
    np.testing.assert_allclose(other[reverse][1:], one[1:], atol=1e-5 * np.max(np.abs(one[1:])))


@settings(max_examples=40, deadline=None)
@given(
    st.one_of(
        hypothesis.extra.numpy.arrays(np.int64, 16, elements=st.integers(-3, 3)).map(lambda v: v.astype(float)),
        st.integers(0, 10_000).map(lambda seed: np.random.default_rng(seed).normal(size=32)),
    ),
    st.sampled_from([0.0, 0.02, 0.1]),
)
def test_interior_point_converges(v, noise):
    solution = andor.extract(v, noise)
    assert solution.status == "converged"
    assert solution.dual <= highs_optimum(v, noise * abs(v[-1] - v[0])) * (1 + 1e-7) + 1e-12


@pytest.mark.parametrize("game", ["gaussian", "integer", "sparse"])
def test_the_answer_is_on_the_central_path(game):
    """Every pair's product is the same, within a hundredth, and the point satisfies the constraints."""
    rng = np.random.default_rng(0)
    if game == "sparse":
        v = planted(4, 3, n_and=3, n_or=2, sigma=0.0)
        v -= v[0]
    else:
        v = rng.normal(size=16) if game == "gaussian" else rng.integers(-3, 4, size=16).astype(float)
        v[0] = 0.0
    with jax.enable_x64(True):
        bound = jnp.asarray(0.02)
        v = jnp.asarray(v / np.max(np.abs(v)))
        progress = solve_one(v, bound, jnp.asarray(tie_breaking(4, 2e-7)), 8e-7, 60)
        products = np.asarray((progress.best.primal * progress.best.slack)[active_pairs(16, bound)])
        missing = without_empty(lattice.moebius(v)) - harsanyi_sum(*effects_of(progress.best))
    assert progress.centred
    assert np.max(products) <= 1.02 * np.min(products)
    assert np.max(np.abs(missing)) < 1e-7


def test_weights_are_prices():
    v = planted(4, 0)
    weights = 1.0 + 0.5 * (lattice.orders(4) - 1)
    solution = andor.extract(v, 0.05, weights=weights)
    assert solution.primal == pytest.approx(highs_optimum(v, solution.noise_bound, weights), rel=2e-6)
    plain = andor.extract(v, 0.05)
    order = lattice.orders(4)
    assert order @ (abs(solution.and_effects) + abs(solution.or_effects)) < order @ (
        abs(plain.and_effects) + abs(plain.or_effects)
    )


@pytest.mark.parametrize("solver", [InteriorPoint(), FirstOrder(tolerance=1e-3)])
def test_weights_of_and_effects_and_of_or_effects_are_prices(solver):
    v = planted(4, 0)
    weights = np.random.default_rng(0).uniform(0.02, 1, (2, 16))
    weights[1, lattice.orders(4) == 1] = weights[0, lattice.orders(4) == 1]
    solution = andor.extract(v, 0.05, solver, weights=weights)
    optimum = highs_optimum(v, solution.noise_bound, weights)
    assert solution.status == "converged"
    assert solution.dual <= optimum * (1 + 1e-7) and solution.primal <= optimum * (1 + 2 * solver.tolerance)
    same = np.tile(weights[0], (2, 1))
    one, two = (andor.extract(v, 0.05, weights=each) for each in (weights[0], same))
    np.testing.assert_array_equal(one.and_effects, two.and_effects)


def test_eight_players_exact():
    solution = andor.extract(planted(8, 0, n_and=15, n_or=10), 0.02)
    assert solution.status == "converged" and solution.steps <= 30


@pytest.mark.parametrize("size", [1, 4, 16, 33, 64, 100, 128, 3 * 64, 33 * 4, 300, 512])
def test_cholesky_solver(size):
    rng = np.random.default_rng(size)
    root = rng.normal(size=(size, size))
    matrix, rhs = root @ root.T + np.eye(size), rng.normal(size=size)
    with jax.enable_x64(True):
        # Only the lower triangle counts.
        lower = jnp.tril(matrix) + jnp.triu(jnp.full_like(matrix, 7.0), 1)
        solution = jax.jit(lambda a, b: cholesky_solver(a)(b))(lower, jnp.asarray(rhs))
    np.testing.assert_allclose(solution, np.linalg.solve(matrix, rhs), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_first_order_certifies_its_gap(noise):
    v = np.stack([planted(6, seed) for seed in range(2)])
    solution = andor.extract(v, noise, FirstOrder(tolerance=1e-3))
    assert solution.converged and np.all(solution.gap <= 1e-3)
    exact = andor.extract(v, noise)
    assert np.all(exact.dual <= solution.primal) and np.all(solution.dual <= exact.primal)


def test_first_order_takes_any_optimiser():
    v = planted(4, 3)
    solution = andor.extract(v, 0.0, FirstOrder(tolerance=1e-2, optimizer=optax.adam(3e-3), steps_per_round=200))
    assert solution.status == "converged"


def test_first_order_reports_progress_and_misses():
    seen = []
    solver = FirstOrder(
        tolerance=1e-6, max_steps=20, steps_per_round=10, progress=lambda step, gap: seen.append((int(step), gap.shape))
    )
    solution = andor.extract(np.stack([planted(4, 0)] * 2), 0.02, solver)
    assert seen == [(10, (2,)), (20, (2,))]
    assert solution.steps.tolist() == [20, 20]
    assert all("not converged" in status and "max_steps=20" in status for status in solution.status)


def test_first_order_reports_numpy_gaps_of_the_problems_there_are():
    seen = []
    solver = FirstOrder(max_steps=40, progress=lambda *given: seen.append(given))
    andor.extract(np.stack([planted(4, 0), np.zeros(16)]), 0.02, solver)
    assert [step for step, _ in seen] == sorted(step for step, _ in seen) and type(seen[0][0]) is int
    assert all(type(gap) is np.ndarray and gap.dtype == np.float64 and gap.shape == (1,) for _, gap in seen)


def test_first_order_that_diverges_returns_its_start():
    v = planted(4, 0)
    solution = andor.extract(v, 0.0, FirstOrder(max_steps=200, optimizer=optax.sgd(1e6)))
    and_effects, or_effects = least_norm_pair(jnp.asarray(lattice.moebius(v - v[0]), jnp.float32))
    least_norm = float(np.sum(np.abs(and_effects)) + np.sum(np.abs(or_effects)))
    assert solution.primal <= least_norm * (1 + 1e-5)
    assert "optimizer" in solution.status and not solution.converged


def test_first_order_in_single_precision():
    solution = andor.extract(planted(5, 0), 0.0, FirstOrder(tolerance=1e-2, precision="float32"))
    assert solution.status == "converged"
    assert solution.and_effects.dtype == np.float64


@pytest.mark.parametrize(
    "arguments", [dict(tolerance=2.0), dict(max_steps=10, steps_per_round=20), dict(width=0.0), dict(width=np.nan)]
)
def test_first_order_refuses_bad_settings(arguments):
    with pytest.raises(ValueError, match=r"FirstOrder\("):
        FirstOrder(**arguments)


def test_an_optimizer_that_was_not_called_is_refused():
    settings_ = FirstOrder()
    for optimizer in (optax.adam, "adam"):
        object.__setattr__(settings_, "optimizer", optimizer)  # past the annotations, which tests check
        with pytest.raises(ValueError, match=r"FirstOrder\(optimizer=...\) must be an optax gradient transformation"):
            settings_.__post_init__()


def published_with_matrices(v, bound, steps, learning_rate):
    """The published algorithm, written with the papers' matrices, for zero start."""
    size = len(v)
    eye = np.eye(size)
    to_and, to_or = lattice.moebius(eye).T, lattice.or_moebius(eye).T
    gamma, noise, velocity = np.zeros(size), np.zeros(size), np.zeros((2, size))
    for step in range(steps):
        sign_and = np.sign(to_and @ (0.5 * (v - noise) + gamma))
        sign_or = np.sign(to_or @ (0.5 * (v - noise) - gamma))
        sign_and[0] = sign_or[0] = 0
        gradient = np.stack([to_and.T @ sign_and - to_or.T @ sign_or, -0.5 * (to_and.T @ sign_and + to_or.T @ sign_or)])
        velocity = 0.9 * velocity + gradient
        gamma, noise = np.stack([gamma, noise]) - learning_rate * 0.1 ** (step / steps) * velocity
        noise = np.clip(noise, -bound, bound)
        noise[0] = 0
    return to_and @ (0.5 * (v - noise) + gamma), to_or @ (0.5 * (v - noise) - gamma)


def test_published_is_the_published_algorithm():
    v = planted(3, 0)
    solution = andor.extract(v, 0.05, Published(steps=300, learning_rate=1e-4))
    and_effects, or_effects = published_with_matrices(v - v[0], solution.noise_bound, 300, 1e-4)
    and_effects[[1, 2, 4]] += or_effects[[1, 2, 4]]
    np.testing.assert_allclose(solution.and_effects[1:], and_effects[1:], atol=1e-6)
    np.testing.assert_allclose(solution.or_effects, np.where(lattice.orders(3) >= 2, or_effects, 0), atol=1e-6)


def test_published_with_a_spread_knows_no_unit():
    v, solver = planted(4, 0), Published(steps=200, spread=10.0)
    one, thousand = (andor.extract(scale * v, 0.02, solver) for scale in (1.0, 1000.0))
    np.testing.assert_allclose(thousand.and_effects, 1000 * one.and_effects, atol=1e-6)
    np.testing.assert_allclose(thousand.or_effects, 1000 * one.or_effects, atol=1e-6)
    unit = 10 / np.ptp(v)
    as_published = andor.extract(unit * v, 0.02, Published(steps=200))
    np.testing.assert_allclose(unit * one.and_effects, as_published.and_effects, atol=1e-9)
    assert not andor.extract(np.ones(16), 0.02, solver).or_effects.any()


def test_published_depends_on_its_start_and_certifies_little():
    v = planted(5, 0)
    one, two = (andor.extract(v, 0.02, Published(steps=500, start=0.1, seed=seed)) for seed in (0, 1))
    assert np.max(np.abs(one.and_effects - two.and_effects)) > 1e-3
    optimum = andor.extract(v, 0.02).primal
    assert one.dual <= optimum <= one.primal and one.status.startswith("not converged")


def test_published_solves_each_problem_of_a_batch_as_alone():
    v = np.stack([planted(4, 0), planted(4, 1)])
    solver = Published(steps=200, start=0.1)
    batch = andor.extract(v, 0.02, solver)
    for i in range(2):
        np.testing.assert_allclose(batch.and_effects[i], andor.extract(v[i], 0.02, solver).and_effects, atol=1e-9)


@pytest.mark.parametrize(
    "arguments", [dict(learning_rate=np.nan), dict(start=np.nan), dict(tolerance=5.0), dict(steps=0), dict(spread=0.0)]
)
def test_published_refuses_bad_settings(arguments):
    with pytest.raises(ValueError, match=r"Published\("):
        Published(**arguments)


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_problems_solved_at_once_are_those_solved_one_by_one(noise, monkeypatch):
    """As on an accelerator; the last group of two is filled up."""
    v = np.stack([planted(3, seed) for seed in range(5)])
    joint = np.stack([v[:2], v[2:4], v[3:]])
    bounds, prices = noise * np.abs(joint[..., -1] - joint[..., 0]), np.ones((2, 8))
    problem = Problem(joint - joint[..., :1], bounds, prices, RowMax())
    one_by_one = andor.extract(v, noise), JointInteriorPoint().solve(problem)
    for module in ("interior_point", "joint"):
        monkeypatch.setattr(f"andor.solvers.{module}.problems_at_once", lambda problems, _: 2)
    at_once = andor.extract(v, noise), JointInteriorPoint().solve(problem)
    for one, other in zip(one_by_one, at_once, strict=True):
        np.testing.assert_allclose(other.and_effects, one.and_effects, atol=1e-6)
        np.testing.assert_allclose(other.dual_values, one.dual_values, atol=1e-6)
    assert at_once[0].converged


def test_as_many_problems_at_once_as_fit(monkeypatch):
    assert interior_point.problems_at_once(50, 10) == 1  # on a CPU
    monkeypatch.setattr(interior_point, "exact_platform", lambda: "gpu")
    monkeypatch.setattr(interior_point, "exact_bytes", lambda: 1000)
    assert [interior_point.problems_at_once(50, size) for size in (1, 100, 10_000)] == [50, 5, 1]


def test_without_fast_float64_the_exact_solver_runs_on_the_host(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    assert isinstance(default_solver(10), InteriorPoint)
    assert default_solver(18) == WorkingSet()
    assert default_solver(19) == FirstOrder(precision="float32")
    assert default_solver(11, RowMax(), 2).precision == "float32"
    assert default_solver(19) == FirstOrder() == cli._solver("first-order")
    assert placement.exact_platform() == "cpu" and placement.platform() == "tpu"
    with placement.on_exact_device():
        assert placement.platform() == "cpu"
        assert jnp.zeros(1).devices() == {jax.devices("cpu")[0]}
    assert andor.extract(planted(3, 0), 0.02).converged


@pytest.mark.parametrize("solver", [InteriorPoint(), JointInteriorPoint(), FirstOrder(), Published()], ids=str)
def test_every_solver_refuses_what_does_not_fit_in_memory(solver):
    with pytest.raises(ValueError, match=r"extract_joint\(v=...\) has 40 players, for which \w+ needs .* GB"):
        solver.check_memory(40, 2, 3, "extract_joint")
    solver.check_memory(4, 2, 3)


@pytest.mark.parametrize("solver", [InteriorPoint(), JointInteriorPoint()], ids=str)
def test_what_a_solver_advises_does_not_hang_on_who_asks(solver):
    said = []
    for caller in ("extract", "extract_joint", "optimal_strength"):
        with pytest.raises(ValueError, match=rf"^{caller}\(v=...\) .* \(in extract and extract_joint\) ") as refused:
            solver.check_memory(40, caller=caller)
        said.append(str(refused.value).removeprefix(caller))
    assert len(set(said)) == 1


def test_default_solver(monkeypatch):
    assert [type(default_solver(n)) for n in (10, 11, 18, 19)] == [InteriorPoint, WorkingSet, WorkingSet, FirstOrder]
    assert isinstance(default_solver(12, OrderWeightedL1(2.0)), WorkingSet)
    assert isinstance(default_solver(6, Huber(0.1)), FirstOrder)
    assert isinstance(default_solver(12, RowMax(), 2), JointInteriorPoint)
    assert isinstance(default_solver(12, RowMax(), 3), FirstOrder)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert [type(default_solver(n)) for n in (13, 14)] == [InteriorPoint, WorkingSet]
