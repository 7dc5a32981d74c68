"""Joint extraction for several models: effects that are cheap to share.

For the log-odds v[i] of m models on the same masked prompts (Chen et al., ICLR 2024, arXiv 2401.16318, eq. 6),

    minimise    sum_S weights[S] ( shared max_i |and[i, S]| + own sum_i |and[i, S]|   and the same for OR effects )
    such that   every model's effects and bounded noise add up to its own v, as in `andor.interactions`.

An effect that all models have is paid for once at the price `shared`, so that of several explanations the models tend
to get the same one. The dual bound: y[i] with  sum_i max(|A^T y[i]|[S] - own weights[S], 0) <= shared weights[S]  and
the same for B^T, for all S ≠ ∅, prove  sum_i v[i]·y[i] - noise_bound[i] |y[i]|_1  to be a lower bound on the minimum.
"""

import dataclasses
from typing import Literal

import numpy as np
from jaxtyping import Float

from andor import lattice
from andor.interactions import Array, Solution, checked, describe, dual_bound, feasible_primal


@dataclasses.dataclass(frozen=True)
class RowMax:
    """Penalty of ICLR 2024 eq. 6 over the models' effects at each subset: shared * max + own * sum.

    Attributes:
      alpha: price of having an effect at all, in [0, 1]; 0.1 in the released code.
      weighting: "paper" is max + alpha * sum, "released" is (1 - alpha) * max + alpha * sum.
    """

    alpha: float = 0.1
    weighting: Literal["paper", "released"] = "paper"

    def __post_init__(self):
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"RowMax(alpha=...) must be between 0 and 1; got {self.alpha}.")
        if self.weighting not in ("paper", "released"):
            raise ValueError(f'RowMax(weighting=...) must be "paper" or "released"; got {self.weighting!r}.')
        if self.shared == 0:
            raise ValueError(
                'RowMax(alpha=1, weighting="released") puts no price on the largest effect, so nothing is shared. '
                "Extract every model alone with andor.extract."
            )

    @property
    def own(self) -> float:
        """Price of every model's own |effect|."""
        return self.alpha

    @property
    def shared(self) -> float:
        """Price of the largest |effect| among the models."""
        return 1.0 if self.weighting == "paper" else 1.0 - self.alpha

    def __call__(self, effects: Float[Array, "m s"]) -> Float[Array, "s"]:
        """Price of the effects at every subset."""
        return self.shared * np.max(np.abs(effects), axis=0) + self.own * np.sum(np.abs(effects), axis=0)

    def excess(self, correlations: Float[Array, "m s"]) -> Float[Array, "s"]:
        """Factor by which the dual constraint is exceeded: correlations / excess satisfy it with equality.

        sum_i max(c |p_i| - own, 0) <= shared says c * (sum of the k largest |p|) <= shared + k own for every k.
        """
        largest_first = -np.sort(-np.abs(correlations), axis=0)
        count = np.arange(1, len(correlations) + 1)
        return np.max(np.cumsum(largest_first, axis=0) / (self.shared + count * self.own)[:, None], axis=0)


def joint_objective(
    and_effects: Float[Array, "m s"], or_effects: Float[Array, "m s"], weights: Float[Array, "s"], penalty: RowMax
) -> float:
    """Price of all effects, without ∅."""
    return float((penalty(and_effects) + penalty(or_effects))[1:] @ weights[1:])


def joint_feasible_dual(
    dual_values: Float[Array, "m s"], weights: Float[Array, "s"], penalty: RowMax
) -> Float[Array, "m s"]:
    """The multiple of the centred y that satisfies the joint dual constraints with equality somewhere (or y = 0)."""
    y = dual_values.copy()
    y[:, 0] = -np.sum(y[:, 1:], axis=-1)
    several = lattice.orders(lattice.n_players_of(y)) >= 2
    of_and = penalty.excess(lattice.zeta_transposed(y)) / weights
    of_or = np.where(several, penalty.excess(lattice.or_sums_transposed(y)) / weights, 0.0)
    excess = max(np.max(of_and[1:]), np.max(of_or))
    return y / excess if excess > 0 else np.zeros_like(y)


def extract_joint(
    v: Float[Array, "..."],
    noise: float | Float[Array, "m"] = 0.02,
    penalty: RowMax | None = None,
    solver=None,
    *,
    noise_unit: Literal["range", "log-odds"] = "range",
    weights: Float[Array, "s"] | None = None,
) -> Solution:
    """AND and OR effects of m models on one prompt, extracted together so that they share what they can.

    Args:
      v: log-odds of every masked prompt under every model, `[m, 2**n_players]`.
      noise: as for `andor.extract`; one number, or one per model.
      penalty: by default `RowMax()`, the paper's.
      solver: by default `andor.solvers.JointInteriorPoint()`.
      noise_unit: as for `andor.extract`.
      weights: as for `andor.extract`.

    Returns:
      A `Solution` whose effects, noise and dual values are `[m, 2**n_players]`, with one certificate for all.

    Raises:
      ValueError: for input of the wrong shape, not finite, negative, or too large for the memory there is; before
        any work.
    """
    if np.ndim(v) != 2:
        raise ValueError(
            f"extract_joint(v=...) must have shape [m, 2**n_players], one row per model; got shape {np.shape(v)}."
        )
    v, noise_bound, weights = checked("extract_joint", v, noise, noise_unit, weights)
    noise_bound = np.broadcast_to(noise_bound, v.shape[:1])
    penalty = RowMax() if penalty is None else penalty
    if solver is None:
        from andor.solvers import JointInteriorPoint  # here, because the solvers import JAX and this module does not

        solver = JointInteriorPoint()
    above_empty = v - v[:, :1]
    if np.all(np.abs(above_empty) <= noise_bound[:, None]):
        raw_and, raw_or, raw_dual, steps, advice = *np.zeros((3, *v.shape)), 0, ""
    else:
        raw = solver.solve_joint(above_empty, noise_bound, weights, penalty)
        raw_and, raw_or, raw_dual, advice = raw.and_effects, raw.or_effects, raw.dual_values, raw.advice
        steps = int(raw.steps)
    and_effects, or_effects, residual = feasible_primal(v, noise_bound, raw_and, raw_or)
    dual_values = joint_feasible_dual(raw_dual, weights, penalty)
    primal = joint_objective(and_effects, or_effects, weights, penalty)
    dual = float(np.sum(dual_bound(v, noise_bound, dual_values)))
    if dual < 0:  # y = 0 proves more
        dual_values, dual = np.zeros_like(dual_values), 0.0
    gap = (primal - dual) / primal if primal > 0 else 0.0
    return Solution(
        and_effects=and_effects,
        or_effects=or_effects,
        noise=residual,
        dual_values=dual_values,
        noise_bound=noise_bound,
        primal=primal,
        dual=dual,
        gap=gap,
        steps=steps,
        status=describe(gap, steps, solver.tolerance, advice),
    )


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
