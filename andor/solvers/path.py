"""`path`: the certified optimum at several noise bounds.

How an explanation looks depends on the bound: the share of low orders of a language model goes from a tenth to nine
tenths as the bound goes from nothing to a fifth of v. A finding at one bound is none; a curve over bounds is.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from andor.core.problem import Array, Solution, Solver
from andor.core.values import Values
from andor.solvers.extract import NoiseUnit, extract

BOUNDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4)
"""In units of the spread of v."""


def path(
    v: Float[Array, "s"] | Values,
    bounds: Sequence[float] = BOUNDS,
    *,
    noise_unit: NoiseUnit = "spread",
    solver: Solver | None = None,
) -> list[Solution]:
    """The optimum at every bound, in one solve of a batch.

    Args:
      v: log-odds of every masked prompt, `[2**n_players]`.
      bounds: on the noise, in `noise_unit`.
      noise_unit, solver: as for `andor.extract`.

    Raises:
      ValueError: as `andor.extract`.
    """
    v = v.v if isinstance(v, Values) else v
    if not len(bounds):
        raise ValueError("path(bounds=...) must have at least one bound; got none.")
    found = extract(np.tile(v, (len(bounds), 1)), np.array(bounds, np.float64), solver, noise_unit=noise_unit)
    return [found[place] for place in range(len(bounds))]
