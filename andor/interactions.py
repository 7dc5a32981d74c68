"""The AND-OR problem: write v as few AND and OR effects plus bounded noise, and prove how few.

For the log-odds v[T] of all 2**n_players masked prompts,

    minimise    sum_S weights[S] (|and_effects[S]| + |or_effects[S]|)                                 over S ≠ ∅
    such that   v = zeta(and_effects) + or_sums(or_effects) + noise,   |noise| <= noise_bound,   noise[∅] = 0

(Li & Zhang, ICML 2023, arXiv 2302.13080; Chen et al., ICLR 2024, arXiv 2401.16318). This is a linear programme, so a
solution can be proved optimal: with A and B the AND and OR dictionaries (`zeta`, `or_sums`), every y with

    sum(y) = 0,   |A^T y|[S] <= weights[S]  and  |B^T y|[S] <= weights[S]  for all S ≠ ∅

bounds the minimum from below by  v·y - noise_bound sum_{T ≠ ∅} |y[T]|.  Whatever the solver, `extract` computes that
bound here, in NumPy, from the y the solver hands over, and reports gap = (primal - dual) / primal.

Canonical form. and_effects[∅] is v(∅). A one-player OR is the same function as the one-player AND and is reported as
the latter, so or_effects is 0 wherever |S| <= 1. Ties between different optima are common ({i} + {j} = AND{ij} +
OR{ij}, at the same cost); which optimum is returned is the solver's business, see `andor.solvers.InteriorPoint`.
"""

import dataclasses
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from andor import lattice

Array = np.ndarray


@dataclasses.dataclass(frozen=True)
class Problem:
    """A batch of p AND-OR problems over the same number of players, as solvers receive it.

    Attributes:
      v: float64 `[p, s]`, log-odds above those of the empty set: v[:, 0] == 0.
      noise_bound: float64 `[p]`, largest |noise| allowed, in log-odds.
      weights: float64 `[s]`, positive price of a unit of effect per subset; weights[0] plays no part.
    """

    v: Float[Array, "p s"]
    noise_bound: Float[Array, "p"]
    weights: Float[Array, "s"]

    @property
    def n_players(self) -> int:
        return lattice.n_players_of(self.v)


@dataclasses.dataclass(frozen=True)
class RawSolution:
    """What a solver hands back: approximate effects and approximate dual values. `extract` makes both feasible.

    Attributes:
      and_effects, or_effects, dual_values: float64 `[p, s]`.
      steps: int `[p]`.
      advice: what to change when the gap asked for was missed, a clause such as "raise max_steps".
    """

    and_effects: Float[Array, "p s"]
    or_effects: Float[Array, "p s"]
    dual_values: Float[Array, "p s"]
    steps: np.ndarray
    advice: str


@runtime_checkable
class Solver(Protocol):
    """A frozen dataclass holding a solver's settings."""

    tolerance: float

    def solve(self, problem: Problem) -> RawSolution: ...


@dataclasses.dataclass(frozen=True)
class Solution:
    """AND-OR effects of one function v (`[s]` arrays) or of a batch (`[p, s]` arrays), with their certificate.

    Attributes:
      and_effects: float64 `[..., s]`; entry 0 is v(∅), a constant and not an effect.
      or_effects: float64 `[..., s]`; 0 wherever |S| <= 1.
      noise: float64 `[..., s]`; entry 0 is 0, |noise| <= noise_bound.
      dual_values: float64 `[..., s]`, the y of the certificate, feasible for the dual problem. Where the optimum is
        differentiable, this is its gradient with respect to v.
      noise_bound: float or `[p]`, in log-odds.
      primal: float or `[p]`, sum of weights times |effects|.
      dual: float or `[p]`, a lower bound on the least possible primal.
      gap: float or `[p]`, (primal - dual) / primal, and 0 where primal is 0.
      steps: int or `[p]`, steps the solver took.
      status: "converged", or "not converged: ..." with what to do. One string, or a tuple of p.
    """

    and_effects: Float[Array, "*p s"]
    or_effects: Float[Array, "*p s"]
    noise: Float[Array, "*p s"]
    dual_values: Float[Array, "*p s"]
    noise_bound: float | Float[Array, "p"]
    primal: float | Float[Array, "p"]
    dual: float | Float[Array, "p"]
    gap: float | Float[Array, "p"]
    steps: int | np.ndarray
    status: str | tuple[str, ...]

    @property
    def converged(self) -> bool:
        """Whether every problem of the batch reached the gap asked for."""
        return set(np.atleast_1d(self.status)) == {"converged"}

    def __getitem__(self, index: int) -> "Solution":
        """The solution of one problem of a batch, with plain numbers in place of the `[p]` arrays."""
        if np.ndim(self.primal) == 0:
            raise TypeError("this Solution is of one problem, not of a batch; use it without an index.")
        fields = {field.name: getattr(self, field.name)[index] for field in dataclasses.fields(self)}
        return Solution(**{name: x.item() if np.ndim(x) == 0 and name != "status" else x for name, x in fields.items()})


def reconstruct(and_effects: Float[Array, "*p s"], or_effects: Float[Array, "*p s"]) -> Float[Array, "*p s"]:
    """The function that the effects add up to, without the noise: zeta(and_effects) + or_sums(or_effects)."""
    return lattice.zeta(and_effects) + lattice.or_sums(or_effects)


def objective(
    and_effects: Float[Array, "*p s"], or_effects: Float[Array, "*p s"], weights: Float[Array, "s"]
) -> float | Float[Array, "*p"]:
    """Strength of the effects: sum over S ≠ ∅ of weights[S] (|and_effects[S]| + |or_effects[S]|)."""
    return ((np.abs(and_effects) + np.abs(or_effects)) @ np.where(np.arange(weights.size) > 0, weights, 0.0))[()]


def canonical(
    and_effects: Float[Array, "*p s"], or_effects: Float[Array, "*p s"]
) -> tuple[Float[Array, "*p s"], Float[Array, "*p s"]]:
    """The same function with one-player ORs moved to the one-player ANDs, and the OR of nobody (always 0) dropped."""
    one_player = lattice.orders(lattice.n_players_of(and_effects)) == 1
    above = lattice.orders(lattice.n_players_of(and_effects)) >= 2
    return and_effects + np.where(one_player, or_effects, 0.0), np.where(above, or_effects, 0.0)


def feasible_primal(
    v: Float[Array, "*p s"],
    noise_bound: Float[Array, "*p"],
    and_effects: Float[Array, "*p s"],
    or_effects: Float[Array, "*p s"],
) -> tuple[Float[Array, "*p s"], Float[Array, "*p s"], Float[Array, "*p s"]]:
    """Turn approximate effects into AND effects, OR effects and noise that add up to v exactly, in canonical form.

    What the effects leave unexplained becomes noise as far as the bound allows, and the rest AND effects (the
    Moebius transform of any function is a set of AND effects that add up to it).
    """
    and_effects, or_effects = canonical(and_effects, or_effects)
    and_effects[..., 0] = v[..., 0]
    bound = noise_bound[..., None]
    noise = np.clip(v - reconstruct(and_effects, or_effects), -bound, bound)
    noise[..., 0] = 0.0
    # Twice: the second pass removes the rounding of the first, whose Moebius sums have up to 2**n_players terms.
    for _ in range(2):
        and_effects = and_effects + lattice.moebius(v - noise - reconstruct(and_effects, or_effects))
    and_effects[..., 0] = v[..., 0]
    return and_effects, or_effects, noise


def feasible_dual(dual_values: Float[Array, "*p s"], weights: Float[Array, "s"]) -> Float[Array, "*p s"]:
    """The nearest multiple of the centred y that satisfies the dual constraints with equality somewhere (or y = 0)."""
    orders = lattice.orders(lattice.n_players_of(dual_values))
    y = dual_values.copy()
    y[..., 0] = -np.sum(y[..., 1:], axis=-1)
    correlations = np.maximum(np.abs(lattice.zeta_transposed(y)), np.abs(lattice.or_sums_transposed(y)))
    excess = np.max(np.where(orders >= 1, correlations, 0.0) / weights, axis=-1, keepdims=True)
    return np.divide(y, excess, out=np.zeros_like(y), where=excess > 0)


def dual_bound(
    v: Float[Array, "*p s"], noise_bound: Float[Array, "*p"], dual_values: Float[Array, "*p s"]
) -> float | Float[Array, "*p"]:
    """The lower bound v·y - noise_bound sum_{T ≠ ∅} |y[T]| that a feasible y proves on the strength of any solution."""
    # Differences to v(∅) because sum(y) = 0 holds to rounding only, and v(∅) may be large.
    above_empty = v - v[..., :1]
    return np.sum(above_empty * dual_values, axis=-1) - noise_bound * np.sum(np.abs(dual_values[..., 1:]), axis=-1)


def extract(
    v: Float[Array, "*p s"],
    noise: float | Float[Array, "p"] = 0.02,
    solver: Solver | None = None,
    *,
    noise_unit: Literal["range", "log-odds"] = "range",
    weights: Float[Array, "s"] | None = None,
) -> Solution:
    """AND and OR effects of least total strength that explain v within the noise, with a proof of optimality.

    Args:
      v: log-odds of every masked prompt, `[2**n_players]` or `[p, 2**n_players]` for p prompts or models over the same
        number of players; index as in `andor.lattice`.
      noise: how much of each v[T] may be left as noise: a multiple of |v(N) - v(∅)| (the published rule, 0.02 to 0.05
        of it) or, with `noise_unit="log-odds"`, the bound itself. One number, or one per problem of the batch.
      solver: a solver of `andor.solvers`; by default the exact interior point, and the first-order solver where
        there are too many players for it.
      noise_unit: "range" or "log-odds", the unit of `noise`.
      weights: price of a unit of effect for every subset, positive, `[2**n_players]`; by default 1.

    Returns:
      A `Solution`. Check `status`: a solver that misses the gap it was asked for says so there.

    Raises:
      ValueError: for input of the wrong shape, not finite, negative, or too large for the memory there is; before
        any work.
    """
    v, noise_bound, weights = checked("extract", v, noise, noise_unit, weights)
    if solver is None:
        from andor.solvers import default_solver  # here, because the solvers import JAX and this module does not

        solver = default_solver(lattice.n_players_of(v))
    batch = np.atleast_2d(v)
    bounds = np.atleast_1d(noise_bound)
    problem = Problem(v=batch - batch[:, :1], noise_bound=bounds, weights=weights)

    # Where the noise alone explains v, the optimum is 0 and relative gaps mean nothing; nothing is left to solve.
    trivial = np.all(np.abs(problem.v) <= bounds[:, None], axis=-1)
    raw_and, raw_or, raw_dual = np.zeros((3, *batch.shape))
    steps, advice = np.zeros(len(batch), dtype=np.int64), ""
    if not trivial.all():
        raw = solver.solve(
            Problem(v=problem.v[~trivial], noise_bound=problem.noise_bound[~trivial], weights=problem.weights)
        )
        raw_and[~trivial], raw_or[~trivial], raw_dual[~trivial] = raw.and_effects, raw.or_effects, raw.dual_values
        steps[~trivial], advice = raw.steps, raw.advice

    and_effects, or_effects, residual = feasible_primal(batch, bounds, raw_and, raw_or)
    dual_values = feasible_dual(raw_dual, weights)
    primal = objective(and_effects, or_effects, weights)
    dual = dual_bound(batch, bounds, dual_values)
    useless = dual < 0  # y = 0 proves more
    dual_values[useless], dual[useless] = 0.0, 0.0
    gap = np.divide(primal - dual, primal, out=np.zeros_like(primal), where=primal > 0)
    status = tuple(describe(*of, solver.tolerance, advice) for of in zip(gap.tolist(), steps.tolist(), strict=True))
    solution = Solution(
        and_effects=and_effects,
        or_effects=or_effects,
        noise=residual,
        dual_values=dual_values,
        noise_bound=bounds,
        primal=primal,
        dual=dual,
        gap=gap,
        steps=steps,
        status=status,
    )
    return solution if v.ndim == 2 else solution[0]


def describe(gap: float, steps: int, tolerance: float, advice: str) -> str:
    """The status of a solution: "converged", or what was missed and what to do."""
    if gap <= tolerance:
        return "converged"
    return f"not converged: certified gap {gap:.1e} > {tolerance:.1e} after {steps} steps; {advice}."


def checked(
    caller: str, v, noise, noise_unit: str, weights
) -> tuple[Float[Array, "*p s"], Float[Array, "*p"], Float[Array, "s"]]:
    """Validated float64 copies (v, noise_bound, weights) of what a user gave to the function named `caller`."""
    v = np.array(v, dtype=np.float64)
    size = v.shape[-1] if v.ndim else 0
    if v.ndim not in (1, 2) or size < 2 or size & (size - 1) or v.shape[0] == 0:
        raise ValueError(
            f"{caller}(v=...) must have shape [2**n_players] or [p, 2**n_players] with n_players >= 1; got shape "
            f"{v.shape}. Give one log-odds value for every subset of the players, the empty set first."
        )
    if not np.isfinite(v).all():
        bad = np.argwhere(~np.isfinite(v))
        raise ValueError(
            f"{caller}(v=...) must be finite; got {len(bad)} NaN or infinite values of {v.size}, the first at index "
            f"{tuple(bad[0].tolist())}. A probability of exactly 0 or 1 has no log-odds: compute them from logits, in "
            "float32 or better."
        )
    noise = np.array(noise, dtype=np.float64)
    if noise.shape not in ((), v.shape[:-1]):
        raise ValueError(
            f"{caller}(noise=...) must be one number or one per problem, shape {v.shape[:-1]}; got shape {noise.shape}."
        )
    if not np.isfinite(noise).all() or (noise < 0).any():
        raise ValueError(f"{caller}(noise=...) must be finite and not negative; got {noise}. Use 0 for no noise.")
    if noise_unit not in ("range", "log-odds"):
        raise ValueError(f'{caller}(noise_unit=...) must be "range" or "log-odds"; got {noise_unit!r}.')
    unit = np.abs(v[..., -1] - v[..., 0]) if noise_unit == "range" else np.ones(v.shape[:-1])
    weights = np.ones(size) if weights is None else np.array(weights, dtype=np.float64)
    if weights.shape != (size,):
        raise ValueError(f"{caller}(weights=...) must have shape ({size},), one per subset; got shape {weights.shape}.")
    if not np.isfinite(weights[1:]).all() or (weights[1:] <= 0).any():
        raise ValueError(
            f"{caller}(weights=...) must be finite and positive for every non-empty subset; got {weights[1:].min()} to "
            f"{weights[1:].max()}. A subset of weight 0 would explain anything for free."
        )
    weights[0] = 1.0  # and_effects[∅] is v(∅) whatever it costs
    return v, np.asarray(noise * unit), weights
