"""Joint extraction: against HiGHS, its certificate, and what sharing does."""

import numpy as np
import pytest
from games import highs_joint_optimum, planted

import andor
from andor.core import certificate, lattice
from andor.core.penalties import L1, RowMax
from andor.solvers import FirstOrder, InteriorPoint, JointInteriorPoint
from andor.solvers.extract import extract_joint, shared_and_own

PENALTIES = [RowMax(), RowMax(weighting="released"), RowMax(alpha=0.0), RowMax(alpha=1.0)]


def two_models(n_players, seed):
    v = planted(n_players, seed)
    return np.stack([v, v + 0.3 * planted(n_players, seed + 1)])


@pytest.mark.parametrize("penalty", PENALTIES, ids=str)
@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_joint_optimum(penalty, noise):
    v = two_models(3, 0)
    solution = extract_joint(v, noise, penalty=penalty)
    optimum = highs_joint_optimum(v, noise * np.abs(v[:, -1] - v[:, 0]), penalty.shared, penalty.own)
    assert solution.status == "converged" and solution.gap <= 1e-6
    assert solution.primal == pytest.approx(optimum, rel=2e-6)
    assert solution.dual <= optimum * (1 + 1e-7)
    explained = certificate.reconstruct(solution.and_effects, solution.or_effects) + solution.noise
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


@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_the_first_order_solver_takes_the_same_road(noise):
    v = two_models(5, 0)
    solution, exact = (extract_joint(v, noise, solver=solver) for solver in (FirstOrder(tolerance=1e-3), None))
    assert solution.status == "converged" and solution.gap <= 1e-3
    assert exact.gap <= 1e-6
    assert exact.dual <= solution.primal and solution.dual <= exact.primal


def test_a_penalty_that_ties_nothing_is_extraction_one_by_one():
    v = np.concatenate([two_models(3, 0), np.full((1, 8), 2.0)])
    joint, alone = extract_joint(v, 0.02, penalty=L1()), andor.extract(v, 0.02)
    assert joint.primal == pytest.approx(np.sum(alone.primal), rel=1e-9)
    np.testing.assert_allclose(joint.and_effects, alone.and_effects, atol=1e-9)
    assert joint.status == "converged"


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
    with pytest.raises(
        ValueError, match=r"extract_joint\(penalty=RowMax.*InteriorPoint.* for L1 alone. Use solver=First"
    ):
        extract_joint(np.zeros((2, 8)), solver=InteriorPoint())
