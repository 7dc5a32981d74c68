"""Solvers of the AND-OR problem, one algorithm per file. Pass one to `andor.extract(v, solver=...)`.

    InteriorPoint       exact for L1 penalties, certified to 1e-6 and better; the default up to 13 players
    JointInteriorPoint  exact for the joint penalty of several models; the default while m 2**n_players is no more
    FirstOrder          any optax optimiser, any penalty; the default beyond
    Published           the solver of the papers, to redraw their figures

On a TPU, which has no float64, the exact solvers run on the host's CPU and are the default up to 10 players; beyond, it
is the first-order solver in float32.

`optimal_strength` and `optimal_effects` (`andor.solvers.differentiable`) are the exact solution as JAX functions with
derivatives.
"""

from andor.penalties import L1, Penalty, RowMax
from andor.solvers.differentiable import optimal_effects as optimal_effects
from andor.solvers.differentiable import optimal_strength as optimal_strength
from andor.solvers.first_order import FirstOrder as FirstOrder
from andor.solvers.interior_point import InteriorPoint as InteriorPoint
from andor.solvers.joint import JointInteriorPoint as JointInteriorPoint
from andor.solvers.placement import has_fast_float64
from andor.solvers.published import Published as Published

# A minute on a CPU, or some seconds on a GPU.
_MOST_PLAYERS_EXACT = 13

# Seconds on the CPU of a host, whose accelerator could do something better with a minute.
_MOST_PLAYERS_ON_HOST = 10


def default_solver(
    n_players: int, penalty: Penalty | None = None, n_models: int = 1
) -> InteriorPoint | JointInteriorPoint | FirstOrder:
    """The solver used when none is given: exact where there is one for the penalty and it takes minutes, not hours.

    Args:
      n_players: number of players.
      penalty: by default `L1()`.
      n_models: models extracted together.
    """
    most = _MOST_PLAYERS_EXACT if has_fast_float64() else _MOST_PLAYERS_ON_HOST
    if isinstance(L1() if penalty is None else penalty, L1) and n_players <= most:
        return InteriorPoint()
    if isinstance(penalty, RowMax) and n_models * 2**n_players <= 2**most:
        return JointInteriorPoint()
    return FirstOrder(precision="float64" if has_fast_float64() else "float32")
