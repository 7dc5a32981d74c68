"""What all explanations that are about as good have in common: intervals of strength, proved.

Optima tie, and an explanation a thousandth stronger than the least is no worse. The strength of chosen effects, as of
the low orders, is therefore known up to an interval: over all effects that explain v within the noise bound and whose
strength is at most 1 + slack times the least. Two solves bound it from outside. With the price of the chosen effects
raised to 1 + step, let L be the least of strength + step * chosen strength, proved by its dual; then every explanation
in question has

    chosen strength >= (L - (1 + slack) least) / step

and with the price lowered to 1 - step, likewise at most ((1 + slack) least - L) / step. Any step proves something; the
sharpest depends on v; of one effect, which is small against the rest, a larger one than of whole orders.
"""

import numpy as np
from jaxtyping import Bool, Float

from andor.core import lattice
from andor.core.problem import Array, Solution, Solver
from andor.core.values import Values
from andor.solvers.extract import extract


def strength_interval(
    v: Float[Array, "s"] | Values,
    solution: Solution,
    counted: Bool[Array, "..."],
    *,
    slack: float = 1e-3,
    step: float = 0.1,
    solver: Solver | None = None,
) -> tuple[float, float]:
    """(low, high) bounds on the strength of chosen effects over all explanations that are nearly the weakest.

    Args:
      v: log-odds of every masked prompt, `[2**n_players]`.
      solution: of `andor.extract` for this v with the L1 penalty and equal weights.
      counted: which AND and which OR effects, `[2, 2**n_players]`. Of one player the AND counts.
      slack: how much stronger than the least an explanation may be, relative to it.
      step: change of the price of the chosen effects, between 0 and 1.
      solver: as for `andor.extract`.

    Raises:
      ValueError: for settings out of range or arrays of another shape, and as `andor.extract`.
    """
    v = v.v if isinstance(v, Values) else v
    if not 0 <= slack < np.inf or not 0 < step < 1:
        raise ValueError(
            "strength_interval(slack=..., step=...) must be not negative and finite, and between 0 and 1; got "
            f"{slack} and {step}."
        )
    if v.shape != solution.and_effects.shape or counted.shape != (2, *v.shape):
        raise ValueError(
            "strength_interval(v=..., solution=..., counted=...) must be of one v; got shapes "
            f"{v.shape}, {solution.and_effects.shape} and {counted.shape}."
        )
    most = (1 + slack) * float(solution.primal)  # no less than 1 + slack times the least
    dearer, cheaper = (
        extract(v, solution.noise_bound, solver, noise_unit="log-odds", weights=np.where(counted, 1 + each, 1.0))
        for each in (step, -step)
    )
    low, high = (dearer.dual - most) / step, (most - cheaper.dual) / step
    return max(0.0, float(low)), min(most, float(high))


def effect_interval(
    v: Float[Array, "s"] | Values, solution: Solution, subset: int, is_or: bool, *, step: float = 0.5, **settings
) -> tuple[float, float]:
    """(low, high) bounds on |effect| of one subset over all explanations that are nearly the weakest.

    Settings and errors as for `strength_interval`. An effect whose low is 0 may be none.
    """
    counted = np.zeros((2, *solution.and_effects.shape), bool)
    counted[int(is_or), subset] = True
    return strength_interval(v, solution, counted, step=step, **settings)


def share_of_orders(
    v: Float[Array, "s"] | Values, solution: Solution, highest: int = 2, **settings
) -> tuple[float, float]:
    """(low, high) bounds on the share of the orders up to `highest` in the strength; nan where there is none.

    Settings as for `strength_interval`.
    """
    if not solution.dual > 0:
        return np.nan, np.nan
    low_orders = lattice.orders(lattice.n_players_of(solution.and_effects)) <= highest
    counted = np.tile(low_orders, (2, 1))
    low, high = strength_interval(v, solution, counted, **settings)
    most = (1 + settings.get("slack", 1e-3)) * float(solution.primal)
    return low / most, min(1.0, high / float(solution.dual))
