"""The problem, its canonical form, its certificate, and what `extract` refuses."""

import dataclasses
from typing import ClassVar

import numpy as np
import pytest
from games import planted
from hypothesis import given, settings
from hypothesis import strategies as st

import andor
from andor.core import certificate, lattice
from andor.core.penalties import L1
from andor.core.problem import RawSolution
from andor.solvers import InteriorPoint
from andor.solvers.central_path import advice
from andor.solvers.extract import checked, checked_solver, describe

N_PLAYERS = 4
SIZE = 2**N_PLAYERS
ORDERS = lattice.orders(N_PLAYERS)


def random_effects(seed):
    return np.random.default_rng(seed).normal(size=(2, SIZE))


# Relabelled, shifted and scaled problems must have the same optimum, and the same effects where it is unique. Ties
# are not rare among small games with round numbers, so effects are compared on generic ones.
games = st.integers(0, 10_000).map(lambda seed: planted(N_PLAYERS, seed))
fast = settings(max_examples=15, deadline=None)


@fast
@given(games, st.sampled_from([0.0, 0.02, 0.1]))
def test_solution_adds_up_to_v(v, noise):
    solution = andor.extract(v, noise)
    explained = certificate.reconstruct(solution.and_effects, solution.or_effects) + solution.noise
    assert np.max(np.abs(explained - v)) <= 1e-9 * np.ptp(v)
    assert solution.and_effects[0] == v[0]
    assert not solution.or_effects[ORDERS <= 1].any()
    assert solution.noise[0] == 0 and np.max(np.abs(solution.noise)) <= solution.noise_bound
    assert solution.noise_bound == pytest.approx(noise * abs(v[-1] - v[0]))
    assert solution.status == "converged" and 0 <= solution.gap + 1e-12 <= 1e-6
    strength = np.abs(solution.and_effects)[1:].sum() + np.abs(solution.or_effects).sum()
    assert solution.primal == pytest.approx(strength, rel=1e-12)


@fast
@given(games, st.floats(-50, 50))
def test_a_constant_only_moves_the_value_of_the_empty_set(v, constant):
    here, there = andor.extract(v), andor.extract(v + constant)
    assert there.and_effects[0] == (v + constant)[0]
    np.testing.assert_allclose(there.and_effects[1:], here.and_effects[1:], atol=1e-4)
    np.testing.assert_allclose(there.or_effects, here.or_effects, atol=1e-4)


@fast
@given(games, st.floats(0.01, 100), st.sampled_from([-1, 1]))
def test_scaling_v_scales_effects(v, factor, sign):
    here, there = andor.extract(v), andor.extract(sign * factor * v)
    np.testing.assert_allclose(there.and_effects, sign * factor * here.and_effects, atol=1e-4 * factor)
    np.testing.assert_allclose(there.or_effects, sign * factor * here.or_effects, atol=1e-4 * factor)


@fast
@given(games, st.permutations(range(N_PLAYERS)))
def test_relabelling_players_permutes_effects(v, permutation):
    subsets = np.array([lattice.subset_of(permutation[i] for i in lattice.members(s)) for s in range(SIZE)])
    relabelled = np.empty_like(v)
    relabelled[subsets] = v
    here, there = andor.extract(v), andor.extract(relabelled)
    np.testing.assert_allclose(there.and_effects[subsets], here.and_effects, atol=1e-4)
    np.testing.assert_allclose(there.or_effects[subsets], here.or_effects, atol=1e-4)


def test_dual_values_of_a_solution_prove_its_bound():
    v = planted(N_PLAYERS, 0)
    solution = andor.extract(v, 0.05)
    given = v[None], np.array([solution.noise_bound])
    again = certificate.feasible_dual(*given, 3.0 * solution.dual_values[None], np.ones(SIZE), L1())
    np.testing.assert_allclose(again[0], solution.dual_values, rtol=1e-9)
    proved = certificate.dual_bound(*given, again, np.ones(SIZE), L1())
    assert proved == pytest.approx(solution.dual, rel=1e-9)
    assert solution.dual <= solution.primal
    assert solution.gap == (solution.primal - solution.dual) / solution.primal


def test_canonical_form_is_the_same_function():
    and_effects, or_effects = random_effects(0)
    canonical = certificate.canonical(and_effects, or_effects)
    np.testing.assert_allclose(certificate.reconstruct(*canonical), certificate.reconstruct(and_effects, or_effects))
    assert not canonical[1][ORDERS <= 1].any()


def test_ties_go_to_the_lower_order():
    """{0} + {1} = AND{0,1} + OR{0,1}, at the same cost."""
    v = lattice.zeta(np.eye(SIZE)[1] + np.eye(SIZE)[2])
    solution = andor.extract(v, 0.0)
    assert solution.primal == pytest.approx(2, rel=1e-6)
    np.testing.assert_allclose(solution.and_effects[[1, 2]], 1, atol=1e-3)
    assert np.max(np.abs(solution.or_effects)) < 1e-3


def test_batch_is_its_problems():
    v = np.stack([planted(N_PLAYERS, seed) for seed in range(3)])
    batch = andor.extract(v, np.array([0.0, 0.02, 0.1]))
    assert batch.and_effects.shape == (3, SIZE) and batch.gap.shape == (3,) and len(batch.status) == 3
    for i, noise in enumerate([0.0, 0.02, 0.1]):
        alone = andor.extract(v[i], noise)
        np.testing.assert_allclose(batch[i].and_effects, alone.and_effects, atol=1e-9)
        assert batch[i].status == alone.status and batch[i].steps == alone.steps
        assert isinstance(batch[i].primal, float) and isinstance(batch[i].steps, int)
    with pytest.raises(TypeError, match="not of a batch"):
        batch[0][0]


def test_noise_in_spreads():
    v = np.random.default_rng(0).normal(size=(2, SIZE))
    v[1, -1] = v[1, 0]  # of this range, 0, no multiple is a bound
    solution = andor.extract(v, 0.1, noise_unit="spread")
    np.testing.assert_allclose(solution.noise_bound, 0.1 * v.std(axis=1))
    assert solution.converged


def test_noise_in_log_odds():
    v = planted(N_PLAYERS, 1)
    bound = 0.1 * abs(v[-1] - v[0])
    absolute = andor.extract(v, bound, noise_unit="log-odds")
    np.testing.assert_allclose(absolute.and_effects, andor.extract(v, 0.1).and_effects)
    assert absolute.noise_bound == bound


@pytest.mark.parametrize("v", [np.zeros(8), np.full(8, -3.0), np.r_[1.0, 1 + 1e-3 * np.ones(7)]])
def test_nothing_to_explain(v):
    solution = andor.extract(v, 0.01, noise_unit="log-odds")
    assert (solution.primal, solution.dual, solution.gap, solution.status) == (0, 0, 0, "converged")
    np.testing.assert_allclose(solution.and_effects[0] + solution.noise, v, rtol=1e-15)


def test_batch_with_a_trivial_problem():
    v = np.stack([planted(N_PLAYERS, 0), np.zeros(SIZE)])
    solution = andor.extract(v, 0.02)
    assert solution.primal[0] > 0 and solution.primal[1] == 0 and solution.converged


def test_one_player():
    solution = andor.extract(np.array([1.0, 3.5]), 0.0)
    np.testing.assert_allclose(solution.and_effects, [1, 2.5], atol=1e-6)
    assert not solution.or_effects.any()


def test_a_large_constant_drowns_nothing():
    errors = 1e-12 * np.random.default_rng(0).normal(size=SIZE)
    assert andor.extract(1000.0 + errors, 0.0).status == "converged"


def test_what_rounding_leaves_is_said():
    solution = andor.extract(planted(6, 0), 0.02, InteriorPoint(tolerance=1e-17, tie_break=0.0))
    assert solution.status.startswith("not converged") and "rounding" in solution.status
    assert "max_steps" not in solution.status and solution.steps < InteriorPoint().max_steps


def test_a_status_shows_what_was_missed_however_little():
    assert describe(1.0004e-6, 9, 1e-6, "wait") == (
        "not converged: certified gap 1.0004e-06 > 1e-06 after 9 steps; wait."
    )
    assert describe(0.5, 9, 1e-6, "wait").startswith("not converged: certified gap 0.5 > 1e-06 after")
    assert describe(np.nan, 9, 1e-6, "wait").startswith("not converged: certified gap nan")


def test_no_progress_is_not_called_rounding():
    assert "rounding" in advice(20, 1e-5, 60)
    assert "FirstOrder" in advice(20, 0.5, 60) and "rounding" not in advice(20, 0.5, 60)


def test_a_missed_gap_is_said():
    solution = andor.extract(planted(N_PLAYERS, 0), 0.02, InteriorPoint(max_steps=2))
    assert not solution.converged
    assert solution.status.startswith("not converged: certified gap") and "max_steps=2" in solution.status
    assert solution.dual <= andor.extract(planted(N_PLAYERS, 0), 0.02).primal <= solution.primal


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(v=np.zeros(7)), r"extract\(v=...\) must have shape .* got shape \(7,\)"),
        (dict(v=np.zeros((2, 2, 4))), r"got shape \(2, 2, 4\)"),
        (dict(v=np.zeros(1)), "n_players >= 1"),
        (dict(v=np.zeros((0, 8))), r"got shape \(0, 8\)"),
        (dict(v=np.array([0, 1, np.nan, np.inf])), r"2 NaN or infinite values of 4, the first at index \(2,\)"),
        (dict(v=np.zeros(8), noise=-0.1), "must be finite and not negative; got -0.1"),
        (dict(v=np.zeros(8), noise=np.nan), "must be finite and not negative; got nan"),
        (dict(v=1.7e308 * np.array([0, 1.0, -1, 1])), r"finite range; got values up to 1.7e\+308"),
        (dict(v=np.zeros((2, 8)), noise=np.full(3, 0.1)), r"shape \(2,\); got shape \(3,\)"),
        (dict(v=np.zeros(8), weights=np.zeros(8)), "must be finite and positive"),
    ],
)
def test_bad_input_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        andor.extract(**arguments)


def test_bad_input_that_annotations_catch_in_tests_is_refused_without_them():
    with pytest.raises(ValueError, match="got 'percent'"):
        checked("extract", np.zeros(8), 0.0, "percent", None)
    with pytest.raises(ValueError, match=r"shape \(8,\), one per subset, .* got shape \(4,\)"):
        checked("extract", np.zeros(8), 0.0, "range", np.ones(4))


def test_of_one_player_the_price_of_the_and_counts():
    *_, weights = checked("extract", np.zeros(8), 0.0, "range", np.arange(16.0).reshape(2, 8))
    assert weights[:, [1, 2, 4]].tolist() == [[1, 2, 4]] * 2 and weights[:, [3, 7]].tolist() == [[3, 7], [11, 15]]


def test_too_many_players_for_the_memory():
    v = np.zeros(2**20)
    v[-1] = 1.0
    with pytest.raises(ValueError, match=r"extract\(v=...\) has 20 players, for which InteriorPoint needs .* GB"):
        andor.extract(v, solver=InteriorPoint())


@pytest.mark.parametrize(
    "settings_", [dict(tolerance=0.0), dict(max_steps=0), dict(tie_break=1e-3), dict(tie_break=-1.0)]
)
def test_bad_settings_are_refused(settings_):
    with pytest.raises(ValueError, match=r"InteriorPoint\("):
        InteriorPoint(**settings_)


@pytest.mark.parametrize(
    ("v", "noise", "message"),
    [
        ([[0.0, 1.0], [0.0]], 0.0, r"extract\(v=...\) must be real numbers, in rows of equal length; got \[\[0.0"),
        (np.zeros(8, complex), 0.0, r"extract\(v=...\) must be real numbers"),
        (np.zeros(8), None, r"extract\(noise=...\) must be real numbers, .* got None"),
        (np.zeros(8), "measured", "must be a number, 'auto', or 'measured' where Values are given"),
    ],
)
def test_what_is_no_array_of_numbers_is_refused(v, noise, message):
    with pytest.raises(ValueError, match=message):
        checked("extract", v, noise, "range", None)


@pytest.mark.parametrize(
    ("solver", "penalty", "message"),
    [
        (InteriorPoint, L1(), r"solver=...\) must be a solver of andor.solvers, such as InteriorPoint\(\); got <class"),
        ("exact", L1(), r"solver=...\) must be a solver .* got 'exact'"),
        (L1(), L1(), r"got L1\(\). Pass a penalty as extract\(..., penalty=...\)"),
        (None, L1, r"penalty=...\) must be a penalty of andor.penalties, such as L1\(\); got <class"),
        (None, "l1", r"penalty=...\) must be a penalty .* got 'l1'"),
    ],
)
def test_what_is_no_solver_or_penalty_is_refused(solver, penalty, message):
    with pytest.raises(ValueError, match=message):
        checked_solver("extract", solver, penalty, 4, 1)


@dataclasses.dataclass(frozen=True)
class Broken:
    """A solver that returns NaN."""

    penalties: ClassVar = (L1,)
    tolerance: float = 1e-2

    def check_memory(self, n_players, n_models=1, n_problems=1, caller="extract"):
        pass

    def solve(self, problem):
        nothing = np.full(problem.v.shape, np.nan)
        return RawSolution(nothing, nothing, nothing, np.ones(len(nothing), int), ("mend it",) * len(nothing))


def test_not_a_number_is_not_converged():
    solution = andor.extract(np.stack([planted(N_PLAYERS, 0), np.zeros(SIZE)]), 0.02, Broken())
    assert np.isnan(solution.gap[0]) and solution.gap[1] == 0
    assert solution.status[0] == "not converged: certified gap nan > 0.01 after 1 steps; mend it."
    assert not solution.converged and solution.status[1] == "converged"
