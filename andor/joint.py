"""Joint extraction for several models: effects that are cheap to share.

For the log-odds v[i] of m models on the same masked prompts (Chen et al., ICLR 2024, arXiv 2401.16318, eq. 6),

    minimise    sum_S P(and_effects[:, S]) + sum_S P(or_effects[:, S])
    such that   every model's effects and bounded noise add up to its own v, as in `andor.interactions`,

with P = `andor.penalties.RowMax`: an effect that all models have is paid for once, so that of several explanations the
models tend to get the same one. The certificate is that of `andor.certificate`, summed over models. `shared_and_own`
splits a solution into what the models share and what is each one's own.
"""

from typing import Literal

import numpy as np
from jaxtyping import Float

from andor import lattice
from andor.interactions import Array, Solution, Solver, checked, solve
from andor.penalties import Penalty, RowMax


def extract_joint(
    v: Float[Array, "..."],
    noise: float | Float[Array, "m"] = 0.02,
    solver: Solver | None = None,
    *,
    penalty: Penalty | None = None,
    noise_unit: Literal["range", "log-odds"] = "range",
    weights: Float[Array, "s"] | None = None,
) -> Solution:
    """AND and OR effects of m models on one prompt, extracted together so that they share what they can.

    Args:
      v: log-odds of every masked prompt under every model, `[m, 2**n_players]`.
      noise: as for `andor.extract`; one number, or one per model.
      solver: as for `andor.extract`; exact for `RowMax` is `andor.solvers.JointInteriorPoint()`.
      penalty: by default `RowMax()`, the paper's.
      noise_unit: as for `andor.extract`.
      weights: as for `andor.extract`.

    Returns:
      A `Solution` whose effects, noise and dual values are `[m, 2**n_players]`, with one certificate for all.

    Raises:
      ValueError: for input of the wrong shape, not finite, negative, or too large for the memory there is, or a
        solver that does not know the penalty; before any work.
    """
    v, noise_bound, weights = checked("extract_joint", v, noise, noise_unit, weights)
    if v.ndim != 2:
        raise ValueError(f"extract_joint(v=...) must have shape [m, 2**n_players], one row per model; got {v.shape}.")
    penalty = RowMax() if penalty is None else penalty
    noise_bound = np.broadcast_to(noise_bound, v.shape[:1])
    return solve("extract_joint", v[None], noise_bound[None], weights, penalty, solver)[0]


def shared_and_own(v: Float[Array, "m s"], solution: Solution) -> tuple[Float[Array, "s"], Float[Array, "m s"]]:
    """The split of each model's v between AND and OR effects, gamma[i] = shared + own[i] (ICLR 2024, section 3).

    gamma[i] is what the AND effects explain beyond half of v[i] - noise[i]. The paper bounds |own[i]| by half of
    |v[i](N) - v[i](∅)|; here nothing is imposed, so compare: within the bound, the optimum is also the paper's. The
    shared part is taken midway between the extremes of the models, which makes the largest |own| least.
    """
    v = np.asarray(v, dtype=np.float64)
    explained = lattice.zeta(solution.and_effects) - solution.and_effects[:, :1]
    gamma = explained - 0.5 * (v - v[:, :1] - solution.noise)
    shared = 0.5 * (np.max(gamma, axis=0) + np.min(gamma, axis=0))
    return shared, gamma - shared
