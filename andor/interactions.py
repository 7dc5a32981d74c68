"""The AND-OR problem: write v as few AND and OR effects plus bounded noise, and prove how few.

For the log-odds v[T] of all 2**n_players masked prompts,

    minimise    sum_S P(and_effects[S]) + sum_S P(or_effects[S])                                      over S ≠ ∅
    such that   v = zeta(and_effects) + or_sums(or_effects) + noise,   |noise| <= noise_bound,   noise[∅] = 0

with P(x) = weights[S] |x| (Li & Zhang, ICML 2023, arXiv 2302.13080), which is a linear programme, or another penalty of
`andor.penalties`. The problem is convex, so a solution can be proved optimal: whatever the solver, `andor.certificate`
computes a lower bound on the minimum from what it hands over, reported as gap = (primal - dual) / primal.

Canonical form. and_effects[∅] is v(∅). A one-player OR is the same function as the one-player AND and is reported as
the latter, so or_effects is 0 wherever |S| <= 1. Ties between different optima are common ({i} + {j} = AND{ij} +
OR{ij}, at the same cost); which optimum is returned is the solver's business, see `andor.solvers.InteriorPoint`.
"""

import dataclasses
from typing import ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

from andor import lattice
from andor.certificate import dual_bound, feasible_dual, feasible_primal, objective
from andor.certificate import reconstruct as reconstruct
from andor.penalties import L1, Penalty
from andor.values import Values

Array = np.ndarray


@dataclasses.dataclass(frozen=True)
class Problem:
    """A batch of g problems of m models each over the same number of players, as solvers receive it.

    The penalty ties the models of a problem together; m is 1 but in `andor.joint`. Problems are independent.

    Attributes:
      v: float64 `[g, m, s]`, log-odds above those of the empty set: v[..., 0] == 0.
      noise_bound: float64 `[g, m]`, largest |noise| allowed, in log-odds.
      weights: float64 `[s]`, positive factor on the penalty per subset, its `order_prices` included; weights[0] plays
        no part.
      penalty: price of the effects.
    """

    v: Float[Array, "g m s"]
    noise_bound: Float[Array, "g m"]
    weights: Float[Array, "s"]
    penalty: Penalty

    @property
    def n_players(self) -> int:
        return lattice.n_players_of(self.v)


@dataclasses.dataclass(frozen=True)
class RawSolution:
    """What a solver hands back: approximate effects and approximate dual values. `extract` makes both feasible.

    Attributes:
      and_effects, or_effects, dual_values: float64 `[g, m, s]`.
      steps: int `[g]`.
      advice: for each problem, why it stopped and what to change if the gap asked for was missed: a clause such as
        "raise max_steps".
    """

    and_effects: Float[Array, "g m s"]
    or_effects: Float[Array, "g m s"]
    dual_values: Float[Array, "g m s"]
    steps: Int[Array, "g"]
    advice: tuple[str, ...]


@runtime_checkable
class Solver(Protocol):
    """A frozen dataclass holding a solver's settings.

    Attributes:
      penalties: classes of penalties it can solve for.
      tolerance: certified relative gap that counts as converged.
    """

    penalties: ClassVar[tuple[type, ...]]
    tolerance: float

    def check_memory(self, n_players: int, n_models: int = 1, n_problems: int = 1, caller: str = "extract") -> None:
        """Raise ValueError, in the name of `caller`, when the memory there is does not hold what `solve` needs."""

    def solve(self, problem: Problem) -> RawSolution: ...


@dataclasses.dataclass(frozen=True)
class Solution:
    """AND-OR effects of one function v (`[s]` arrays) or of a batch (`[p, s]` arrays), with their certificate.

    Of m models extracted together, effects, noise and dual values are `[m, s]`, noise_bound is `[m]`, the rest numbers.

    Attributes:
      and_effects: float64 `[..., s]`; entry 0 is v(∅), a constant and not an effect.
      or_effects: float64 `[..., s]`; 0 wherever |S| <= 1.
      noise: float64 `[..., s]`; entry 0 is 0, |noise| <= noise_bound.
      dual_values: float64 `[..., s]`, the y of the certificate, feasible for the dual problem. Where the optimum is
        differentiable, this is its gradient with respect to v at a fixed noise_bound. A bound that is a multiple of
        |v(N) - v(∅)| moves with v too; `andor.optimal_strength` counts that in.
      noise_bound: float or `[p]`, in log-odds.
      primal: float or `[p]`, penalty of the effects; by default the sum of weights times |effects|.
      dual: float or `[p]`, a lower bound on the least possible primal.
      gap: float or `[p]`, (primal - dual) / primal, and 0 where primal is 0.
      steps: int or `[p]`, steps the solver took.
      status: "converged", or "not converged: ..." with what to do. One string, or a tuple of p.
    """

    and_effects: Float[Array, "*p s"]
    or_effects: Float[Array, "*p s"]
    noise: Float[Array, "*p s"]
    dual_values: Float[Array, "*p s"]
    noise_bound: float | Float[Array, "*p"]
    primal: float | Float[Array, "problems"]
    dual: float | Float[Array, "problems"]
    gap: float | Float[Array, "problems"]
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


def extract(
    v: Float[Array, "*p s"] | Values,
    noise: float | Float[Array, "p"] | Literal["measured"] = 0.02,
    solver: Solver | None = None,
    *,
    penalty: Penalty | None = None,
    noise_unit: Literal["range", "log-odds"] = "range",
    weights: Float[Array, "s"] | None = None,
) -> Solution:
    """AND and OR effects of least total strength that explain v within the noise, with a proof of optimality.

    Args:
      v: log-odds of every masked prompt, `[2**n_players]` or `[p, 2**n_players]` for p prompts or models over the same
        number of players; index as in `andor.lattice`. Or the `Values` of `andor.evaluate`.
      noise: how much of each v[T] may be left as noise: a multiple of |v(N) - v(∅)| (the published rule, 0.02 to 0.05
        of it) or, with `noise_unit="log-odds"`, the bound itself. One number, or one per problem of the batch. Or
        "measured": what evaluating again showed, `Values.measured_noise`.
      solver: a solver of `andor.solvers`; by default an exact one, and the first-order solver where there is none for
        the penalty or there are too many players for it.
      penalty: a penalty of `andor.penalties`; by default `L1()`, the sum of |effects|.
      noise_unit: "range" or "log-odds", the unit of `noise`.
      weights: factor on the penalty for every subset, positive, `[2**n_players]`; by default 1.

    Returns:
      A `Solution`. Check `status`: a solver that misses the gap it was asked for says so there.

    Raises:
      ValueError: for input of the wrong shape, not finite, negative, or too large for the memory there is, or a
        solver that does not know the penalty; before any work.
    """
    if isinstance(noise, str):
        if noise != "measured" or not isinstance(v, Values):
            raise ValueError(
                f"extract(noise={noise!r}) must be a number, or 'measured' where v is the Values of andor.evaluate; "
                f"got v of type {type(v).__name__}."
            )
        noise, noise_unit = v.measured_noise, "log-odds"
    v = v.v if isinstance(v, Values) else v
    v, noise_bound, weights = checked("extract", v, noise, noise_unit, weights)
    penalty = L1() if penalty is None else penalty
    batch = np.atleast_2d(v)[:, None]
    solution = solve("extract", batch, np.atleast_1d(noise_bound)[:, None], weights, penalty, solver)
    per_model = ("and_effects", "or_effects", "noise", "dual_values", "noise_bound")
    solution = dataclasses.replace(solution, **{name: getattr(solution, name)[:, 0] for name in per_model})
    return solution if v.ndim == 2 else solution[0]


def solve(
    caller: str,
    v: Float[Array, "g m s"],
    noise_bound: Float[Array, "g m"],
    weights: Float[Array, "s"],
    penalty: Penalty,
    solver: Solver | None,
) -> Solution:
    """Solve g problems of m models, make the answers feasible and certify them: a `Solution` with `[g, m, s]` arrays.

    `extract` and `andor.joint.extract_joint`, whichever is named as `caller`, are the front doors, with checks.
    """
    n_players = lattice.n_players_of(v)
    solver = checked_solver(caller, solver, penalty, n_players, v.shape[1])
    solver.check_memory(n_players, v.shape[1], len(v), caller)
    orders = lattice.orders(n_players)
    # Everything is done in differences to v(∅), which lose nothing, so that a large v(∅) does not drown the rest.
    problem = Problem(v - v[..., :1], noise_bound, weights * penalty.order_prices(orders), penalty)

    # Where the noise alone explains v, the optimum is 0 and relative gaps mean nothing; nothing is left to solve.
    open_ = np.any(np.abs(problem.v) > noise_bound[..., None], axis=(1, 2))
    raw_and, raw_or, raw_dual = np.zeros((3, *v.shape))
    steps, advice = np.zeros(len(v), dtype=np.int64), iter(())
    if open_.any():
        raw = solver.solve(dataclasses.replace(problem, v=problem.v[open_], noise_bound=noise_bound[open_]))
        raw_and[open_], raw_or[open_], raw_dual[open_] = raw.and_effects, raw.or_effects, raw.dual_values
        steps[open_], advice = raw.steps, iter(raw.advice)

    and_effects, or_effects, residual = feasible_primal(problem.v, noise_bound, raw_and, raw_or)
    certificate = problem.weights, penalty
    dual_values = feasible_dual(problem.v, noise_bound, raw_dual, *certificate)
    primal = objective(and_effects, or_effects, *certificate)
    dual = dual_bound(problem.v, noise_bound, dual_values, *certificate)
    gap = np.divide(primal - dual, primal, out=np.zeros_like(primal), where=primal != 0)
    advice = [next(advice) if solved else "" for solved in open_]
    status = tuple(map(describe, gap.tolist(), steps.tolist(), [solver.tolerance] * len(v), advice))
    and_effects[..., 0] = v[..., 0]
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
        status=status,
    )


def describe(gap: float, steps: int, tolerance: float, advice: str) -> str:
    """The status of a solution: "converged", or what was missed and what to do."""
    if gap <= tolerance:
        return "converged"
    digits = next(digits for digits in range(2, 18) if f"{gap:.{digits}g}" != f"{tolerance:.{digits}g}")
    return f"not converged: certified gap {gap:.{digits}g} > {tolerance:.{digits}g} after {steps} steps; {advice}."


def checked_solver(caller: str, solver, penalty, n_players: int, n_models: int) -> Solver:
    """The solver that the function named `caller` was given, or the default one, if it can solve for the penalty."""
    if isinstance(penalty, type) or not isinstance(penalty, Penalty):
        raise ValueError(f"{caller}(penalty=...) must be a penalty of andor.penalties, such as L1(); got {penalty!r}.")
    if solver is None:
        from andor.solvers import default_solver  # here, because the solvers import JAX and this module does not

        solver = default_solver(n_players, penalty, n_models)
    if isinstance(solver, type) or not isinstance(solver, Solver):
        hint = f" Pass a penalty as {caller}(..., penalty=...)." if isinstance(solver, Penalty) else ""
        raise ValueError(
            f"{caller}(solver=...) must be a solver of andor.solvers, such as InteriorPoint(); got {solver!r}.{hint}"
        )
    if not isinstance(penalty, solver.penalties):
        able = " and ".join(kind.__name__ for kind in solver.penalties)
        raise ValueError(
            f"{caller}(penalty={penalty}, solver={type(solver).__name__}(...)) do not go together: this solver is for "
            f"{able} alone. Use solver=FirstOrder(), which takes any penalty, or leave solver out."
        )
    return solver


def checked(
    caller: str, v, noise, noise_unit: str, weights
) -> tuple[Float[Array, "*p s"], Float[Array, "*p"], Float[Array, "s"]]:
    """Validated float64 copies (v, noise_bound, weights) of what a user gave to the function named `caller`."""
    v = _floats(caller, "v", v)
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
    # More is not to be had: the range, twice the largest value, has to be finite too.
    if np.max(np.abs(v)) > np.finfo(np.float64).max / 4:
        raise ValueError(f"{caller}(v=...) must have a finite range; got values up to {np.max(np.abs(v)):.3g}.")
    noise = _floats(caller, "noise", noise)
    if noise.shape not in ((), v.shape[:-1]):
        raise ValueError(
            f"{caller}(noise=...) must be one number or one per problem, shape {v.shape[:-1]}; got shape {noise.shape}."
        )
    if not np.isfinite(noise).all() or (noise < 0).any():
        raise ValueError(f"{caller}(noise=...) must be finite and not negative; got {noise}. Use 0 for no noise.")
    if noise_unit not in ("range", "log-odds"):
        raise ValueError(f'{caller}(noise_unit=...) must be "range" or "log-odds"; got {noise_unit!r}.')
    unit = np.abs(v[..., -1] - v[..., 0]) if noise_unit == "range" else np.ones(v.shape[:-1])
    weights = np.ones(size) if weights is None else _floats(caller, "weights", weights)
    if weights.shape != (size,):
        raise ValueError(f"{caller}(weights=...) must have shape ({size},), one per subset; got shape {weights.shape}.")
    if not np.isfinite(weights[1:]).all() or (weights[1:] <= 0).any():
        raise ValueError(
            f"{caller}(weights=...) must be finite and positive for every non-empty subset; got {weights[1:].min()} to "
            f"{weights[1:].max()}. A subset of weight 0 would explain anything for free."
        )
    weights[0] = 1.0  # and_effects[∅] is v(∅) whatever it costs
    return v, np.asarray(noise * unit), weights


def _floats(caller: str, name: str, values) -> np.ndarray:
    """A float64 copy of what `caller` was given as `name`."""
    try:
        if np.asarray(values).dtype.kind not in "cOSUmM":  # complex, objects, text, dates
            return np.array(values, dtype=np.float64)
    except (TypeError, ValueError):  # rows of different lengths
        pass
    raise ValueError(f"{caller}({name}=...) must be real numbers, in rows of equal length; got {values!s:.80}.")
