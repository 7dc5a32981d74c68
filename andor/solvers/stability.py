"""How much of a solution is pinned down by v: extract again after re-measuring v within its error.

The exact solvers' answer is canonical: the same v always gives the same effects. But v is measured in floating point
by a model, and an explanation that changes when v moves within its own error says little. Noise of size s in v becomes
noise of size s 2^(|S|/2) in a pure Moebius effect of order |S| (Chen et al., ICLR 2024, arXiv 2401.16318, appendix D).
"""

import dataclasses

import numpy as np
from jaxtyping import Float

from andor.core.effects import strongest
from andor.core.penalties import Penalty
from andor.core.problem import Array, Solver
from andor.solvers.extract import NoiseUnit, checked, extract


@dataclasses.dataclass(frozen=True)
class Stability:
    """What stays of one solution when v is measured again.

    Attributes:
      shared: fraction of the k strongest effects, AND and OR together, that are among the k strongest of a
        re-measurement too; mean over re-measurements.
      k: how many effects were compared: as asked, or as many as are not 0.
      and_spread: float64 `[s]`, root mean square change of every AND effect.
      or_spread: float64 `[s]`, of every OR effect.
      strength_spread: root mean square change of the primal, relative to it.
      status: "converged", or the first status of the solutions that says otherwise. Solutions that stopped early differ
        by how they stopped, so the rest means nothing then.
    """

    shared: float
    k: int
    and_spread: Float[Array, "s"]
    or_spread: Float[Array, "s"]
    strength_spread: float
    status: str

    @property
    def converged(self) -> bool:
        """Whether every solution that was compared reached the gap asked for."""
        return self.status == "converged"


def stability(
    v: Float[Array, "s"],
    measurement_error: float,
    noise: float = 0.02,
    solver: Solver | None = None,
    *,
    penalty: Penalty | None = None,
    noise_unit: NoiseUnit = "range",
    weights: Float[Array, "*k s"] | None = None,
    k: int = 100,
    repeats: int = 5,
    seed: int = 0,
) -> Stability:
    """Extract v, and again after adding independent normal errors to it.

    Args:
      v: log-odds of every masked prompt, `[2**n_players]`.
      measurement_error: standard deviation of the error of each v[T], in log-odds: about 1e-2 for a forward pass in
        bfloat16. A second run in another precision measures it.
      noise, solver, penalty, noise_unit, weights: as for `andor.extract`.
      k: how many of the strongest effects to compare.
      repeats: re-measurements.
      seed: of the errors.

    Raises:
      ValueError: for bad settings, and as `andor.extract`; before any work.
    """
    v, noise_bound, weights = checked("stability", v, noise, noise_unit, weights)
    if v.ndim != 1:
        raise ValueError(f"stability(v=...) must have shape [2**n_players]; got shape {v.shape}.")
    if noise_bound.ndim:
        raise ValueError(f"stability(noise=...) must be one number; got shape {noise_bound.shape}.")
    if not 0 <= measurement_error < np.inf:
        raise ValueError(f"stability(measurement_error=...) must be finite and not negative; got {measurement_error}.")
    if k < 1 or repeats < 1:
        raise ValueError(f"stability(k=..., repeats=...) must be at least 1; got {k} and {repeats}.")
    errors = measurement_error * np.random.default_rng(seed).normal(size=(repeats, v.size))
    solutions = extract(
        np.concatenate([v[None], v + errors]), noise, solver, penalty=penalty, noise_unit=noise_unit, weights=weights
    )
    first = solutions[0]
    top = strongest(first.and_effects, first.or_effects, k)
    again = [strongest(solutions.and_effects[i], solutions.or_effects[i], len(top)) for i in range(1, repeats + 1)]
    return Stability(
        status=next((status for status in solutions.status if status != "converged"), "converged"),
        shared=float(np.mean([len(top & other) / len(top) for other in again])) if top else 1.0,
        k=len(top),
        and_spread=_root_mean_square(solutions.and_effects[1:] - first.and_effects),
        or_spread=_root_mean_square(solutions.or_effects[1:] - first.or_effects),
        strength_spread=float(_root_mean_square(np.asarray(solutions.primal)[1:] - first.primal))
        / max(float(first.primal), 1e-300),
    )


def _root_mean_square(changes):
    return np.sqrt(np.mean(np.square(changes), axis=0))
