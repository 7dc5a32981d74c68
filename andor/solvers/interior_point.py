"""Exact solver: a primal-dual interior point method whose normal equations need no matrix product.

Mehrotra's predictor-corrector method (SIAM J. Optim. 2, 1992) on the linear programme of `andor.core.problem`, in the
coordinates of `andor.solvers.coordinates`. With the barrier's diagonal matrices D_and, D_or, D_noise, the normal matrix
of a Newton step is there, up to the signs (-1)^(|S| + |S'|),

    K[S, S'] = D_and[S] [S = S']  +  superset sums of D_or at S ∪ S'  +  subset sums of D_noise at S ∩ S'

two butterflies and two gathers. One Cholesky factorisation a step, 2^(3 n_players) / 3 operations, is all the rest.
(In the coordinates of v every block of K is dense, and steps lose accuracy at larger gaps.)
"""

import abc
import dataclasses
import functools
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from andor.core import lattice
from andor.core.penalties import L1
from andor.core.problem import Problem, RawSolution
from andor.devices.memory import require_memory
from andor.solvers.central_path import (
    START,
    Array,
    Iterate,
    Number,
    Progress,
    advice,
    conjugate_gradients,
    follow,
    predictor_corrector,
)
from andor.solvers.cholesky import cholesky_solver
from andor.solvers.coordinates import HARSANYI, Coordinates, correlations, harsanyi_sum, without_empty
from andor.solvers.placement import exact_bytes, exact_platform, on_exact_device


@dataclasses.dataclass(frozen=True)
class Exact(abc.ABC):
    """Settings of the exact solvers, which compute in float64.

    Attributes:
      tolerance: certified relative gap to reach. The solver goes on to the canonical end of the central path, which
        takes a few steps more.
      max_steps: Newton steps at most; 10 to 20 are usual, and 15 to 30 for several models.
      tie_break: makes the answer canonical. Effects of lower order are cheaper by up to this fraction, so that of
        several optima the one of lower order is returned ({i} + {j} rather than AND{ij} + OR{ij}). What ties in this
        too is averaged, because the method ends on the central path. Costs up to this much of the gap.
    """

    tolerance: float = 1e-6
    max_steps: int = 60
    tie_break: float = 2e-7

    def __post_init__(self):
        name = type(self).__name__
        if not 0 <= self.tie_break < self.tolerance < 1:
            raise ValueError(
                f"{name}(tolerance=..., tie_break=...) must be 0 <= tie_break < tolerance < 1, as tie_break costs up "
                f"to that much of the gap; got {self.tolerance} and {self.tie_break}."
            )
        if self.max_steps < 1:
            raise ValueError(f"{name}(max_steps=...) must be at least 1; got {self.max_steps}.")

    @abc.abstractmethod
    def bytes_of_one(self, n_players: int, n_models: int = 1) -> int:
        """Memory of one problem."""

    def check_memory(self, n_players: int, n_models: int = 1, n_problems: int = 1, caller: str = "extract") -> None:
        """Raise ValueError when a problem of so many players and models does not fit in the memory there is."""
        del n_problems  # solved in groups that fit
        needed = self.bytes_of_one(n_players, n_models)
        way_out = (
            "Use fewer players, or (in extract and extract_joint) FirstOrder(), whose memory grows with 2**n_players."
        )
        require_memory(caller, self, n_players, needed, exact_bytes(), way_out)

    def advice(self, steps: Int[np.ndarray, "g"], gaps: Float[np.ndarray, "g"]) -> tuple[str, ...]:
        """Why each path ended where it did, and what to do if that is too early."""
        return tuple(advice(*ended, self.max_steps) for ended in zip(steps.tolist(), gaps.tolist(), strict=True))


@dataclasses.dataclass(frozen=True)
class InteriorPoint(Exact):
    """Exact AND-OR solver, the default up to 10 players on a CPU and 13 on a GPU. Settings as for `Exact`.

    Memory is 24 * 4^n_players bytes, 1.6 GB at 13 players and 6.4 GB at 14, and the time of a step grows eightfold with
    every player.

    The answer is the point of the central path at a distance that `tolerance` and `tie_break` set, so up to rounding it
    does not depend on a start, on the labels of the players or on the unit of v, and moves smoothly with v. Rounding
    shows: where a game was relabelled, effects differed by 1e-7 of the largest, and by 5e-6 in the worst of 131 games
    (planted ones of 6 and 8 players; integer, 0/1, heavy-tailed, symmetric and sparse ones of 4 to 6).
    """

    penalties: ClassVar[tuple[type, ...]] = (L1,)

    def bytes_of_one(self, n_players: int, n_models: int = 1) -> int:
        """Memory of one problem: the normal matrix, what is gathered into it, and its factor."""
        del n_models  # solved one by one, as this penalty does not tie them together
        return 3 * 8 * 4**n_players

    def solve(self, problem: Problem) -> RawSolution:
        """Solve a batch of problems. `andor.extract` is the front door, with checks and certificate."""
        weights = problem.weights * tie_breaking(problem.n_players, self.tie_break)
        groups, models, size = problem.v.shape
        v, bounds = problem.v.reshape(-1, size), problem.noise_bound.ravel()
        # Unit scale per problem: start and barrier do not depend on the unit of v.
        scale = np.max(np.abs(v), axis=-1)
        scale = np.where(scale > 0, scale, 1.0)
        at_once = problems_at_once(len(v), self.bytes_of_one(problem.n_players))
        settings = weights, self.tolerance - self.tie_break, self.max_steps
        with jax.enable_x64(True), on_exact_device():
            answers = in_groups(_answer, at_once, (v / scale[:, None], bounds / scale), settings)
        and_effects, or_effects, dual_values, steps, gaps = answers
        steps, gaps = (np.max(x.reshape(groups, models), axis=-1) for x in (steps, gaps))
        return RawSolution(
            and_effects=(and_effects * scale[:, None]).reshape(problem.v.shape),
            or_effects=(or_effects * scale[:, None]).reshape(problem.v.shape),
            dual_values=dual_values.reshape(problem.v.shape),
            steps=steps,
            advice=self.advice(steps, gaps),
        )


def problems_at_once(n_problems: int, bytes_of_one: int) -> int:
    """How many problems to solve in one call: on an accelerator, as many as half of its memory holds.

    On a CPU one after the other: one factorisation already keeps it busy.
    """
    if exact_platform() == "cpu":
        return 1
    return max(1, min(n_problems, exact_bytes() // 2 // bytes_of_one))


def in_groups(answer: Callable, at_once: int, of_each: tuple, of_all: tuple) -> tuple[np.ndarray, ...]:
    """answer(*x, *of_all) for every x along the first axis of `of_each`, under `vmap` in groups of up to `at_once`."""
    count = len(of_each[0])
    if at_once == 1:
        answers = [answer(*(x[i] for x in of_each), *of_all) for i in range(count)]
        return tuple(np.stack(parts) for parts in zip(*answers, strict=True))
    # Groups of one size, so that one compiled function serves all; the last problem fills the last group.
    n_groups = -(-count // at_once)
    size = -(-count // n_groups)
    chosen = np.minimum(np.arange(n_groups * size), count - 1).reshape(n_groups, size)
    batched = _batched(answer, len(of_each), len(of_all))
    answers = [batched(*(x[group] for x in of_each), *of_all) for group in chosen]
    return tuple(np.concatenate(parts)[:count] for parts in zip(*answers, strict=True))


@functools.cache
def _batched(answer, n_batched: int, n_shared: int):
    return jax.jit(jax.vmap(answer, in_axes=(0,) * n_batched + (None,) * n_shared))


def tie_breaking(n_players: int, tie_break: float) -> np.ndarray:
    """Factor on the weights that makes lower orders cheaper, float64 `[2, s]`, from 1 - tie_break to 1.

    Never above 1, so that dual values feasible for the changed weights are feasible for the problem as posed.
    """
    return np.tile(1.0 - tie_break * (1.0 - lattice.orders(n_players) / n_players), (2, 1))


# The entries of an `Iterate`, for one problem:
#   primal `[6, s]`: AND+, AND-, OR+, OR- (effect = plus - minus), noise_bound + noise, noise_bound - noise;
#   slack `[6, s]`: weights -+ correlation for the effects, then the multipliers of the two bounds on the noise.


def effects_of(iterate: Iterate) -> tuple[Float[Array, "s"], Float[Array, "s"], Float[Array, "s"]]:
    """(AND effects, OR effects, noise) of a point."""
    and_plus, and_minus, or_plus, or_minus, above, below = iterate.primal
    return and_plus - and_minus, or_plus - or_minus, (above - below) / 2


def answer_of(
    iterate: Iterate, v: Float[Array, "s"], coordinates: Coordinates = HARSANYI
) -> tuple[Float[Array, "s"], Float[Array, "s"], Float[Array, "s"]]:
    """(AND effects, OR effects, dual values) of a point; what its effects miss of v is added to the AND effects.

    They are exactly v with the solver's own noise, which whoever makes the answer feasible can then find again.
    """
    and_effects, or_effects, noise = effects_of(iterate)
    missing = coordinates.from_masks(v) - coordinates.total(and_effects, or_effects, noise)
    return and_effects + coordinates.to_harsanyi(missing), or_effects, coordinates.correlations(iterate.u)[2]


@jax.jit
def _answer(v, noise_bound, weights, tolerance, max_steps):
    """(AND effects, OR effects, dual values, steps, gap) of one problem."""
    progress = solve_one(v, noise_bound, weights, tolerance, max_steps)
    return *answer_of(progress.best, v), progress.step, progress.gap


@jax.jit
def solve_one(
    v: Float[Array, "s"], noise_bound: Float[Array, ""], weights: Float[Array, "2 s"], tolerance, max_steps
) -> Progress:
    """Solve one problem, at unit scale and v[∅] = 0, to a relative gap of `tolerance`."""
    return path(v, noise_bound, weights, tolerance, max_steps, HARSANYI, lambda barrier, _: barrier.solver())


def path(
    v: Float[Array, "s"],
    noise_bound: Number,
    weights: Float[Array, "2 s"],
    tolerance,
    max_steps,
    coordinates: Coordinates,
    newton: Callable[["Barrier", Any], Callable],
    while_loop: Callable = jax.lax.while_loop,
) -> Progress:
    """The central path of one problem, at unit scale and v[∅] = 0, to a relative gap of `tolerance`.

    Args:
      v, noise_bound, weights: the problem, all JAX arrays or all of NumPy.
      tolerance, max_steps, while_loop: as for `follow`.
      coordinates: those that rows and multipliers are in.
      newton: from the barrier of a point, and what its effects miss of v, to the inverse of the normal matrix there.
    """
    xp = v.__array_namespace__()
    active = active_pairs(v.shape[0], noise_bound, xp)
    prices = xp.repeat(weights, 2, axis=0)  # plus and minus
    target = coordinates.from_masks(v)

    def bounds(iterate):
        # Of the effects as `andor.core.problem` makes them feasible: what they miss is added to the AND effects.
        and_effects, or_effects, noise = effects_of(iterate)
        missing = coordinates.to_harsanyi(target - coordinates.total(and_effects, or_effects, noise))
        primal = xp.sum(weights * xp.abs(xp.stack([and_effects + missing, or_effects])))
        y = without_empty(coordinates.correlations(iterate.u)[2])
        return primal, iterate.u @ target - noise_bound * xp.sum(xp.abs(y))

    # Balanced: every pair's product is START, with correlations and noise 0.
    start = Iterate(
        primal=xp.concat([xp.where(active[:4], START, 0.0), xp.where(active[4:], noise_bound, 0.0)]),
        slack=xp.concat(
            [
                xp.where(active[:4], prices, 1.0),
                START / xp.where(active[4:], noise_bound, START),
            ]
        ),
        u=xp.zeros_like(v),
    )
    advance = functools.partial(_advance, target, active, coordinates, newton)
    return follow(start, active, advance, bounds, tolerance, max_steps, while_loop)


def active_pairs(size: int, noise_bound: Number, xp=jnp) -> Bool[Array, "6 s"]:
    """Which pairs exist: AND effects from one player up, OR effects from two, noise if any is allowed."""
    orders = xp.asarray(lattice.orders(size.bit_length() - 1))
    return xp.stack([orders >= 1] * 2 + [orders >= 2] * 2 + [(orders >= 1) & (noise_bound > 0)] * 2)


class Barrier(NamedTuple):
    """The normal matrix harsanyi_sum · diag(d_and, d_or, d_noise) · correlations of a point, and what goes with it.

    ratio: `[4, s]`, primal / slack of the effects. inverse: `[2, s]`, slack / primal of the noise. product: primal *
    slack, the mean of all pairs.
    """

    ratio: Float[Array, "4 s"]
    inverse: Float[Array, "2 s"]
    d_and: Float[Array, "s"]
    d_or: Float[Array, "s"]
    d_noise: Float[Array, "s"]
    product: Number

    @classmethod
    def at(cls, iterate: Iterate, active: Bool[Array, "6 s"]) -> "Barrier":
        xp = active.__array_namespace__()
        primal, slack, _ = iterate
        ratio = xp.where(active[:4], primal[:4] / slack[:4], 0.0)
        inverse = xp.where(active[4:], slack[4:] / xp.where(active[4:], primal[4:], 1.0), 1.0)
        # In parallel, not in sum: noise is held by whichever of its two bounds is closer.
        d_noise = xp.where(active[4], 1.0 / (inverse[0] + inverse[1]), 0.0)
        product = xp.sum(xp.where(active, primal * slack, 0.0)) / xp.sum(active)
        return cls(ratio, inverse, ratio[0] + ratio[1], ratio[2] + ratio[3], d_noise, product)

    def solver(self):
        """r -> K^{-1} r on the rows S ≠ ∅."""
        factorised = _factorised(self.d_and, self.d_or, self.d_noise)

        def normal(u):
            t_and, t_or, y = correlations(u)
            return harsanyi_sum(self.d_and * t_and, self.d_or * t_or, self.d_noise * y)

        return functools.partial(conjugate_gradients, normal, factorised)


def _advance(
    target: Float[Array, "s"],
    active: Bool[Array, "6 s"],
    coordinates: Coordinates,
    newton: Callable[[Barrier, Float[Array, "s"]], Callable],
    iterate: Iterate,
    end: Number,
) -> Iterate:
    """One predictor-corrector step: one factorisation, two directions."""
    xp = active.__array_namespace__()
    primal, slack, _ = iterate
    barrier = Barrier.at(iterate, active)
    missing = target - coordinates.total(*effects_of(iterate))
    solve_normal = newton(barrier, missing)

    def direction(change):
        per_slack = xp.where(active[:4], change[:4] / slack[:4], 0.0)
        per_primal = xp.where(active[4:], change[4:] / xp.where(active[4:], primal[4:], 1.0), 0.0)
        push = barrier.d_noise * (per_primal[0] - per_primal[1])
        held = coordinates.total(per_slack[0] - per_slack[1], per_slack[2] - per_slack[3], push)
        du = solve_normal(missing - held)
        t_and, t_or, dy = coordinates.correlations(du)
        t = xp.stack([t_and, -t_and, t_or, -t_or])
        d_noise = push + barrier.d_noise * dy
        d_room = xp.stack([d_noise, -d_noise])
        d_primal = xp.concat([per_slack + barrier.ratio * t, d_room])
        d_slack = xp.concat([-t, per_primal - barrier.inverse * d_room])
        return Iterate(xp.where(active, d_primal, 0.0), xp.where(active, d_slack, 0.0), du)

    return predictor_corrector(iterate, active, end, direction)


def _factorised(d_and: Float[Array, "s"], d_or: Float[Array, "s"], d_noise: Float[Array, "s"]):
    """r -> K^{-1} r on the rows S ≠ ∅, by Cholesky factorisation."""
    subset = jnp.arange(d_and.shape[0])
    sign = 1.0 - 2.0 * (jax.lax.population_count(subset) % 2)
    rows, columns = subset[:, None], subset[None, :]
    normal = lattice.zeta_transposed(d_or)[rows | columns] + lattice.zeta(d_noise)[rows & columns]
    # Unit diagonal (d spans 20 orders of magnitude late on), and row ∅ that of the identity.
    scale = jnp.where(subset > 0, jax.lax.rsqrt(jnp.where(subset > 0, jnp.diagonal(normal) + d_and, 1.0)), 0.0)
    normal = (normal * scale[:, None] * scale[None, :]).at[subset, subset].set(1.0 + 1e-14)
    solve = cholesky_solver(normal)
    return lambda r: sign * scale * solve(sign * scale * r)
