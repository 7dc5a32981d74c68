"""Solvers of the AND-OR problem, one algorithm per file. Pass one to `andor.extract(v, solver=...)`.

    InteriorPoint       exact, certified to 1e-6 and better; the default up to 13 players
    FirstOrder          any optax optimiser; the default beyond
    Published           the solver of the papers, to redraw their figures
    JointInteriorPoint  exact, several models at once; for `andor.joint.extract_joint`

`optimal_strength` and `optimal_effects` (`andor.solvers.differentiable`) are the exact solution as JAX functions with
derivatives.
"""

from andor.solvers.differentiable import optimal_effects as optimal_effects
from andor.solvers.differentiable import optimal_strength as optimal_strength
from andor.solvers.first_order import FirstOrder as FirstOrder
from andor.solvers.interior_point import InteriorPoint as InteriorPoint
from andor.solvers.joint import JointInteriorPoint as JointInteriorPoint
from andor.solvers.published import Published as Published

_MOST_PLAYERS_EXACT = 13


def default_solver(n_players: int) -> InteriorPoint | FirstOrder:
    """The solver `andor.extract` uses when none is given: exact as far as that takes minutes, not hours."""
    return InteriorPoint() if n_players <= _MOST_PLAYERS_EXACT else FirstOrder()
