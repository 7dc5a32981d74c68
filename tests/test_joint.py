"""Joint extraction: against HiGHS, its certificate, and what sharing does."""

import numpy as np
import pytest
from games import highs_joint_optimum, planted
from hypothesis import given, settings
from hypothesis import strategies as st

import andor
from andor import interactions, lattice
from andor.joint import RowMax, extract_joint, joint_feasible_dual, joint_objective, shared_and_own
from andor.solvers import JointInteriorPoint

PENALTIES = [RowMax(), RowMax(weighting="released"), RowMax(alpha=0.0), RowMax(alpha=1.0)]


def two_models(n_players, seed):
    v = planted(n_players, seed)
    return np.stack([v, v + 0.3 * planted(n_players, seed + 1)])


@pytest.mark.parametrize("penalty", PENALTIES, ids=str)
@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_joint_optimum(penalty, noise):
    v = two_models(3, 0)
    solution = extract_joint(v, noise, penalty)
    optimum = highs_joint_optimum(v, noise * np.abs(v[:, -1] - v[:, 0]), penalty.shared, penalty.own)
    assert solution.status == "converged" and solution.gap <= 1e-6
    assert solution.primal == pytest.approx(optimum, rel=2e-6)
    assert solution.dual <= optimum * (1 + 1e-7)
    explained = interactions.reconstruct(solution.and_effects, solution.or_effects) + solution.noise
    assert np.max(np.abs(explained - v)) <= 1e-9 * np.ptp(v)
    assert not solution.or_effects[:, lattice.orders(3) <= 1].any()
    with pytest.raises(TypeError, match="not of a batch"):
        solution[0]


def test_three_models():
    v = np.stack([planted(3, seed) for seed in range(3)])
    solution = extract_joint(v, 0.02)
    optimum = highs_joint_optimum(v, solution.noise_bound, 1.0, 0.1)
    assert solution.primal == pytest.approx(optimum, rel=2e-6)


def test_one_model_alone_is_extract():
    v = planted(3, 0)
    joint, alone = extract_joint(v[None], 0.02), andor.extract(v, 0.02)
    assert joint.primal == pytest.approx(1.1 * alone.primal, rel=2e-6)  # max + 0.1 sum
    np.testing.assert_allclose(joint.and_effects[0], alone.and_effects, atol=1e-2)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(PENALTIES))
def test_any_dual_values_bound_any_solution(seed, penalty):
    rng = np.random.default_rng(seed)
    v, bound = two_models(3, seed), np.array([0.1, 0.3])
    weights = rng.uniform(0.5, 2, size=8)
    y = joint_feasible_dual(rng.normal(size=(2, 8)), weights, penalty)
    for correlations in (lattice.zeta_transposed(y), lattice.or_sums_transposed(y)):
        paid_alone = np.maximum(np.abs(correlations) - penalty.own * weights, 0)
        assert np.all(np.sum(paid_alone, axis=0)[1:] <= penalty.shared * weights[1:] * (1 + 1e-9) + 1e-12)
    and_effects, or_effects, _ = interactions.feasible_primal(v, bound, *rng.normal(size=(2, 2, 8)))
    proved = np.sum(interactions.dual_bound(v, bound, y))
    assert proved <= joint_objective(and_effects, or_effects, weights, penalty)


def test_the_excess_is_exact():
    """Against the definition: the least factor that makes the dual constraint hold, by bisection."""
    rng = np.random.default_rng(0)
    for penalty in PENALTIES:
        correlations = rng.normal(size=(4, 10))
        low, high = np.zeros(10), np.full(10, 100.0)
        for _ in range(60):
            middle = (low + high) / 2
            paid = np.sum(np.maximum(middle * np.abs(correlations) - penalty.own, 0), axis=0)
            low, high = np.where(paid <= penalty.shared, middle, low), np.where(paid <= penalty.shared, high, middle)
        np.testing.assert_allclose(penalty.excess(correlations), 1 / low, rtol=1e-9)


def test_models_share_more_when_extracted_together():
    v = planted(3, 0)
    v = np.stack([v, v + 0.1 * np.random.default_rng(5).normal(size=8)])

    def shared_strength(solution):
        effects = np.concatenate([solution.and_effects[:, 1:], solution.or_effects[:, 1:]], axis=1)
        same = np.sign(effects[0]) == np.sign(effects[1])
        return np.sum(np.where(same, np.min(np.abs(effects), axis=0), 0)) / np.sum(np.max(np.abs(effects), axis=0))

    assert shared_strength(extract_joint(v, 0.0)) > shared_strength(andor.extract(v, 0.0))


def test_shared_and_own():
    v = two_models(3, 1)
    solution = extract_joint(v, 0.0)
    shared, own = shared_and_own(v, solution)
    above = v - v[:, :1] - solution.noise
    explained = lattice.zeta(solution.and_effects) - v[:, :1]
    np.testing.assert_allclose(0.5 * above + shared + own, explained, atol=1e-9)
    np.testing.assert_allclose(own[0], -own[1], atol=1e-12)


def test_nothing_to_explain():
    solution = extract_joint(np.zeros((2, 8)))
    assert (solution.primal, solution.gap, solution.status) == (0, 0, "converged")


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match=r"extract_joint\(v=...\) must have shape \[m, 2\*\*n_players\]"):
        extract_joint(np.zeros(8))
    with pytest.raises(ValueError, match=r"extract_joint\(noise=...\) must be finite and not negative"):
        extract_joint(np.zeros((2, 8)), -1.0)
    with pytest.raises(ValueError, match=r"alpha=...\) must be between 0 and 1"):
        RowMax(alpha=2.0)
    with pytest.raises(ValueError, match="nothing is shared"):
        RowMax(alpha=1.0, weighting="released")
    with pytest.raises(ValueError, match="max_steps"):
        JointInteriorPoint(max_steps=0)
