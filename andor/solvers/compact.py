"""The compact explanation: few AND and OR effects, fitted to v by least squares, without a bound on the noise.

The optimum of `andor.extract` has the least strength of all explanations within its noise bound, and is proved to. But
least strength is not fewest effects: every effect is shrunk by what the bound allows, and what two effects would give
is often spread over ten. Here an effect counts, not its size (`andor.solvers.search`).

What this gives up is told by a certificate: of the least strength of any explanation that leaves no more of any v[T]
unexplained than this one does (`andor.core.compact.Compact.excess`).
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float

from andor.core import lattice
from andor.core.certificate import reconstruct
from andor.core.compact import Compact
from andor.core.explained import Pair
from andor.core.problem import Array, Solution, Solver
from andor.core.values import Values
from andor.solvers.extract import NoiseUnit, checked, default_solver, extract
from andor.solvers.search import Search, strongest_columns

_LEAST = 1e-2
"""Relative gap at which the least strength is known well enough: it stands below a ratio of two decimals."""


def compact(
    v: Float[Array, "*p s"] | Values,
    most: int | None = None,
    *,
    start: Solution | None = None,
    noise: float | Literal["auto"] = "auto",
    noise_unit: NoiseUnit = "range",
    solver: Solver | None = None,
) -> Compact:
    """Few AND and OR effects that give v: as many as pay for themselves, or at most so many.

    Args:
      v: log-odds of every masked prompt, `[2**n_players]`, or the `Values` of `andor.evaluate`.
      most: effects at most; by default only the criterion decides. A v that is no sum of few effects, as a model's, has
        many that pay.
      start: a `Solution` of this v to start from; by default `andor.extract` with the next three.
      noise, noise_unit, solver: of the optimum to start from, as for `andor.extract`. They matter little: the criterion
        knows no bound.

    Raises:
      ValueError: as `andor.extract`, or for `most` below 1; before any work.
    """
    v = v.v if isinstance(v, Values) else v
    v, bound, _ = checked("compact", v, noise if start is None else 0.0, noise_unit, None)
    if v.ndim != 1:
        raise ValueError(f"compact(v=...) must have shape [2**n_players]; got shape {v.shape}. Take one row at a time.")
    if most is not None and most < 1:
        raise ValueError(f"compact(most=...) must be at least 1, or None; got {most}.")
    if start is None:
        start = extract(v, float(bound), solver, noise_unit="log-odds")
    elif start.and_effects.shape != v.shape:
        raise ValueError(
            f"compact(start=...) must be a Solution of the same v, with effects of shape {v.shape}; got "
            f"{start.and_effects.shape}."
        )
    (found,) = compact_of(v[None], [start], most, solver)
    return found


def compact_of(
    v: Float[Array, "p s"], starts: Sequence[Solution], most: int | None, solver: Solver | None = None
) -> list[Compact]:
    """`compact` of a batch over the same number of players, each from a solution; least strengths are one solve."""
    finer = dataclasses.replace(solver or default_solver(lattice.n_players_of(v)), tolerance=_LEAST)
    found = [fitted(row, start, most) for row, start in zip(v, starts, strict=True)]
    errors = np.array([np.abs(row - reconstruct(*pair)).max() for row, pair in zip(v, found, strict=True)])
    least = extract(v, errors, finer, noise_unit="log-odds")
    return [Compact.of(*each) for each in zip(v, found, least.dual_values, strict=True)]


def fitted(v: Float[Array, "s"], start: Solution, most: int | None) -> Pair:
    """(AND, OR) effects of `compact` alone, without the certificate, which takes another solve."""
    search = Search(v, most)
    return search.fitted(search.best_of(strongest_columns(start), np.empty(0, np.int64)))
