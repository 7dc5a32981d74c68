"""How much of a solution a re-measurement of v confirms."""

import numpy as np
import pytest
from games import planted

from andor.core import lattice
from andor.core.effects import strongest
from andor.solvers import InteriorPoint
from andor.solvers.stability import stability


def test_without_error_everything_is_pinned_down():
    report = stability(planted(4, 0), 0.0, k=5)
    assert report.shared == 1.0 and report.k == 5
    assert not report.and_spread.any() and not report.or_spread.any() and report.strength_spread < 1e-12


def test_error_shows_and_strong_effects_survive():
    effects = np.zeros(32)
    effects[[3, 12, 21]] = 2.0, -3.0, 1.0
    v = lattice.zeta(effects)
    small, large = (stability(v, error, 0.1, k=3) for error in (0.01, 1.0))
    assert small.shared == 1.0
    assert small.strength_spread < large.strength_spread
    assert np.max(small.and_spread) < np.max(large.and_spread)


def test_solutions_that_did_not_converge_are_told():
    report = stability(planted(4, 0), 0.01, solver=InteriorPoint(max_steps=1))
    assert not report.converged and "max_steps=1" in report.status
    assert stability(planted(4, 0), 0.01).converged


def test_ties_are_not_effects():
    """An additive function has one effect per player, and many optima."""
    v = lattice.zeta(np.eye(64)[[1, 2, 4, 8, 16, 32]].T @ np.arange(1.0, 7.0))
    report = stability(v, 0.0, k=100)
    assert report.k == 6 and report.shared == 1.0


def test_dust_is_measured_by_the_strongest_effect():
    effects = np.array([9.0, 1.0, 2e-3, 5e-4])
    for unit in (1e-6, 1.0, 1e3):
        assert strongest(unit * effects, 0 * effects, 10) == {0, 1}  # places behind that of the constant


def test_nothing_to_explain():
    report = stability(np.zeros(8), 0.0)
    assert report.k == 0 and report.shared == 1.0


@pytest.mark.parametrize("arguments", [dict(measurement_error=-1.0), dict(k=0), dict(repeats=0)])
def test_bad_input_is_refused(arguments):
    with pytest.raises(ValueError, match=r"stability\("):
        stability(np.zeros(8), **(dict(measurement_error=0.1) | arguments))


def test_bad_values_are_refused_by_name():
    with pytest.raises(ValueError, match=r"stability\(v=...\) must have shape .* got shape \(63,\)"):
        stability(np.zeros(63), 0.1)
