"""The front doors: `extract` one function v or a batch, `extract_joint` several models together; checks and defaults.

Whatever the solver, what it hands over is made feasible and certified here (`andor.core.certificate`).

Joint extraction (Chen et al., ICLR 2024, arXiv 2401.16318, eq. 6) solves, for the log-odds v[i] of m models on the same
masked prompts,

    minimise    sum_S P(and_effects[:, S]) + sum_S P(or_effects[:, S])
    such that   every model's effects and bounded noise add up to its own v, as in `andor.core.problem`,

with P = `andor.penalties.RowMax`: an effect that all models have is paid for once, so that of several explanations the
models tend to get the same one. The certificate sums over models. `shared_and_own` splits a solution into what the
models share and what is each one's own.
"""

import dataclasses
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float

from andor.core import lattice
from andor.core.certificate import dual_bound, feasible_dual, feasible_primal, objective
from andor.core.penalties import L1, Penalty, RowMax
from andor.core.problem import Array, Problem, Solution, Solver
from andor.core.values import Values
from andor.devices.rules import standard_rules
from andor.solvers.first_order import FirstOrder
from andor.solvers.interior_point import InteriorPoint
from andor.solvers.joint import JointInteriorPoint
from andor.solvers.placement import exact_platform, has_fast_float64
from andor.solvers.search import estimated_noise
from andor.solvers.working_set import FEWEST_PLAYERS, MOST_PLAYERS_DENSE, WorkingSet

NoiseUnit = Literal["range", "spread", "log-odds"]
NOISE_UNITS: tuple[NoiseUnit, ...] = get_args(NoiseUnit)

# Of several models: a minute on a CPU, or some seconds on a GPU. On the CPU of a host, whose accelerator could do
# something better with a minute, seconds.
_MOST_PLAYERS_JOINT = 13
_MOST_PLAYERS_JOINT_ON_HOST = 10

# Of one model: minutes on the CPU, where few masks are tight.
_MOST_PLAYERS_EXACT = 18


def default_solver(
    n_players: int, penalty: Penalty | None = None, n_models: int = 1
) -> InteriorPoint | WorkingSet | JointInteriorPoint | FirstOrder:
    """The solver used when none is given: exact where there is one for the penalty and it takes minutes, not hours.

    One model's answer is the same by `InteriorPoint` and by `WorkingSet`, so the number of players decides.

    Args:
      n_players: number of players.
      penalty: by default `L1()`.
      n_models: models extracted together.
    """
    if isinstance(L1() if penalty is None else penalty, L1):
        if n_players < FEWEST_PLAYERS or (n_players <= MOST_PLAYERS_DENSE and exact_platform() != "cpu"):
            return InteriorPoint()
        if n_players <= _MOST_PLAYERS_EXACT:
            return WorkingSet()
    most = _MOST_PLAYERS_JOINT if has_fast_float64() else _MOST_PLAYERS_JOINT_ON_HOST
    if isinstance(penalty, RowMax) and n_models * 2**n_players <= 2**most:
        return JointInteriorPoint()
    return FirstOrder()


def extract(
    v: Float[Array, "*p s"] | Values,
    noise: float | Float[Array, "p"] | Literal["auto", "measured"] = "auto",
    solver: Solver | None = None,
    *,
    penalty: Penalty | None = None,
    noise_unit: NoiseUnit = "range",
    weights: Float[Array, "*k s"] | None = None,
) -> Solution:
    """AND and OR effects of least total strength that explain v within the noise, with a proof of optimality.

    Args:
      v: log-odds of every masked prompt, `[2**n_players]` or `[p, 2**n_players]` for p prompts or models over the same
        number of players; index as in `andor.lattice`. Or the `Values` of `andor.evaluate`.
      noise: how much of each v[T] may be left as noise. "auto": what is left of v when as many effects are fitted as
        pay for themselves (`andor.solvers.estimated_noise`). "measured": what evaluating again showed
        (`Values.measured_noise`). Or a multiple of `noise_unit`, one number or one per problem of the batch.
      solver: a solver of `andor.solvers`; by default an exact one, and the first-order solver where there is none for
        the penalty or there are too many players for it.
      penalty: a penalty of `andor.penalties`; by default `L1()`, the sum of |effects|.
      noise_unit: the unit of `noise`. "range": |v(N) - v(∅)|, of which 0.02 to 0.05 are published; where it is small
        against what v does between, that asks for an explanation of every wiggle. "spread": the standard deviation of v
        over all masks, which never is. "log-odds": nats.
      weights: factor on the penalty, positive: `[2**n_players]`, one for every subset, or `[2, 2**n_players]`, one for
        every AND and one for every OR effect; by default 1. Of one player the AND's counts.

    Returns:
      A `Solution`. Check `status`: a solver that misses the gap it was asked for says so there.

    Raises:
      ValueError: for input of the wrong shape, not finite, negative, or too large for the memory there is, or a
        solver that does not know the penalty; before any work.
    """
    if isinstance(noise, str) and noise == "measured":
        if not isinstance(v, Values):
            raise ValueError(
                f"extract(noise='measured') takes the Values of andor.evaluate; got v of type {type(v).__name__}. Give "
                "a bound, or noise='auto'."
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


@standard_rules()
def solve(
    caller: str,
    v: Float[Array, "g m s"],
    noise_bound: Float[Array, "g m"],
    weights: Float[Array, "2 s"],
    penalty: Penalty,
    solver: Solver | None,
) -> Solution:
    """Solve g problems of m models, make the answers feasible and certify them: a `Solution` with `[g, m, s]` arrays.

    `extract` and `extract_joint`, whichever is named as `caller`, are the front doors, with checks.
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
) -> tuple[Float[Array, "*p s"], Float[Array, "*p"], Float[Array, "2 s"]]:
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
    if isinstance(noise, str):
        if noise != "auto":
            raise ValueError(
                f"{caller}(noise={noise!r}) must be a number, 'auto', or 'measured' where Values are given."
            )
        found = [estimated_noise(row) for row in np.atleast_2d(v)]
        noise, noise_unit = found if v.ndim == 2 else found[0], "log-odds"
    noise = _floats(caller, "noise", noise)
    if noise.shape not in ((), v.shape[:-1]):
        raise ValueError(
            f"{caller}(noise=...) must be one number or one per problem, shape {v.shape[:-1]}; got shape {noise.shape}."
        )
    if not np.isfinite(noise).all() or (noise < 0).any():
        raise ValueError(f"{caller}(noise=...) must be finite and not negative; got {noise}. Use 0 for no noise.")
    if noise_unit not in NOISE_UNITS:
        raise ValueError(f"{caller}(noise_unit=...) must be one of {', '.join(NOISE_UNITS)}; got {noise_unit!r}.")
    unit = {"range": np.abs(v[..., -1] - v[..., 0]), "spread": np.std(v, axis=-1), "log-odds": np.ones(v.shape[:-1])}
    weights = np.ones(size) if weights is None else _floats(caller, "weights", weights)
    if weights.shape not in ((size,), (2, size)):
        raise ValueError(
            f"{caller}(weights=...) must have shape ({size},), one per subset, or (2, {size}), one per AND and one per "
            f"OR effect; got shape {weights.shape}."
        )
    weights = np.array(np.broadcast_to(weights, (2, size)), np.float64)
    if not np.isfinite(weights[:, 1:]).all() or (weights[:, 1:] <= 0).any():
        raise ValueError(
            f"{caller}(weights=...) must be finite and positive for every non-empty subset; got "
            f"{np.min(weights[:, 1:])} to {np.max(weights[:, 1:])}. A subset of weight 0 would explain anything for "
            "free."
        )
    weights[:, 0] = 1.0  # and_effects[∅] is v(∅) whatever it costs
    one_player = lattice.orders(lattice.n_players_of(v)) == 1
    weights[1, one_player] = weights[0, one_player]  # the same function
    return v, np.asarray(noise * unit[noise_unit]), weights


def _floats(caller: str, name: str, values) -> np.ndarray:
    """A float64 copy of what `caller` was given as `name`."""
    try:
        if np.asarray(values).dtype.kind not in "cOSUmM":  # complex, objects, text, dates
            return np.array(values, dtype=np.float64)
    except (TypeError, ValueError):  # rows of different lengths
        pass
    raise ValueError(f"{caller}({name}=...) must be real numbers, in rows of equal length; got {values!s:.80}.")


def extract_joint(
    v: Float[Array, "..."],
    noise: float | Float[Array, "m"] = 0.02,
    solver: Solver | None = None,
    *,
    penalty: Penalty | None = None,
    noise_unit: NoiseUnit = "range",
    weights: Float[Array, "*k s"] | None = None,
) -> Solution:
    """AND and OR effects of m models on one prompt, extracted together so that they share what they can.

    Args:
      v: log-odds of every masked prompt under every model, `[m, 2**n_players]`.
      noise, noise_unit, weights: as for `andor.extract`; noise is one number, or one per model.
      solver: as for `andor.extract`; exact for `RowMax` is `andor.solvers.JointInteriorPoint()`.
      penalty: by default `RowMax()`, the paper's.

    Returns:
      A `Solution` whose effects, noise and dual values are `[m, 2**n_players]`, with one certificate for all.

    Raises:
      ValueError: as `andor.extract`, before any work.
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
