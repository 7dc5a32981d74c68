"""What the exact solvers share: Mehrotra's predictor-corrector method, without the problem.

S. Mehrotra, On the implementation of a primal-dual interior point method, SIAM J. Optim. 2 (1992). A problem supplies
its Newton directions; this module follows them along the central path. The path works on JAX arrays, under `jit`, and
on NumPy arrays, given `loop_on_host`.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

Array = jax.Array | np.ndarray
Number = Float[Array, ""] | np.floating | float

# Every pair's product of a primal variable and its slack starts here, at unit scale of v. Measured: from 1e-2, effects
# that have to grow stall for a dozen steps in some games; from 1, all take a step or two more.
START = 1e-1

# Fraction of the way to the boundary that a step goes.
_STEP_FRACTION = 0.99

# The path ends at the point where every product is `tolerance` times this over the number of pairs, at unit scale of v:
# a point that depends on the problem alone, and whose gap is well below the tolerance.
_END = 1e-3

# Products this close to the end, relatively, are there, if what the effects miss of v costs no more than this share of
# the tolerance. Newton's method converges quadratically, so the point is exact to about the square of it.
_CENTRED = 1e-2
_FEASIBLE = 0.1

# Steps without progress after which there is none to come: before the gap is reached, and on to the end of the path.
# At its start the gap may stall for several.
_PATIENCE = 12
_POLISH = 14

# A gap below which rounding is what stops progress.
_ROUNDING = 1e-4

# Relative residual at which a linear system counts as solved, and conjugate gradient iterations to get there.
_RESIDUAL = 1e-14
_MAX_REFINEMENTS = 12


class Iterate(NamedTuple):
    """A primal-dual point. Every entry of `primal` is paired with that of `slack`; their products go to 0 together.

    `u` are the multipliers of the constraints, in Harsanyi coordinates.
    """

    primal: Float[Array, "..."]
    slack: Float[Array, "..."]
    u: Float[Array, "*m s"]


class Progress(NamedTuple):
    """Where the path has come to after `step` steps, and the point to return with its relative gap.

    `best_step` is the last step that found a better gap, or the first that reached the tolerance.
    """

    current: Iterate
    best: Iterate
    gap: Float[Array, ""]
    centred: Bool[Array, ""]
    best_step: Int[Array, ""]
    step: Int[Array, ""]


def follow(
    start: Iterate,
    active: Bool[Array, "..."],
    advance: Callable[[Iterate, Number], Iterate],
    bounds: Callable[[Iterate], tuple[Number, Number]],
    tolerance: Number,
    max_steps: Int[Array, ""] | int,
    while_loop: Callable = jax.lax.while_loop,
) -> Progress:
    """Follow the central path to its canonical end, or as far as rounding and `max_steps` let it.

    Args:
      start: a strictly positive point.
      active: which pairs exist.
      advance: one step, towards products no smaller than its second argument.
      bounds: primal and dual value of a point, made feasible.
      tolerance: gap asked for. Until it is reached the best point so far counts, and then the last.
      max_steps: steps at most.
      while_loop: `jax.lax.while_loop`, or `loop_on_host` for NumPy arrays.
    """
    xp = active.__array_namespace__()
    end = _END * tolerance / xp.sum(active)

    def body(progress):
        current = advance(progress.current, end)
        primal, dual = bounds(current)
        new_gap = (primal - dual) / primal
        reached = progress.gap <= tolerance
        better = (new_gap < progress.gap) | (reached & (new_gap <= tolerance))  # False for NaN
        off = xp.max(xp.where(active, xp.abs(current.primal * current.slack / end - 1), 0.0))
        return Progress(
            current=current,
            best=jax.tree.map(functools.partial(xp.where, better), current, progress.best),
            gap=xp.where(better, new_gap, progress.gap),
            # A feasible and centred point has a gap of the sum of the products; more is what the effects miss of v.
            centred=better & (off <= _CENTRED) & (primal - dual <= _FEASIBLE * tolerance * primal),
            best_step=xp.where(better & ~reached, progress.step + 1, progress.best_step),
            step=progress.step + 1,
        )

    def unfinished(progress):
        patience = xp.where(progress.gap <= tolerance, _POLISH, _PATIENCE)
        improving = progress.step - progress.best_step <= patience
        return ~progress.centred & improving & (progress.step < max_steps)

    zero = xp.zeros((), dtype=int)
    fresh = Progress(start, start, xp.full((), xp.inf), xp.zeros((), dtype=bool), zero, zero)
    return while_loop(unfinished, body, fresh)


def loop_on_host(unfinished: Callable, body: Callable, state):
    """`jax.lax.while_loop` for NumPy arrays, which nothing has to be compiled for."""
    while unfinished(state):
        state = body(state)
    return state


def advice(steps: int, gap: float, max_steps: int) -> str:
    """Why the path ended where it did, and what to do if that is too early."""
    if steps >= max_steps:
        return f"raise max_steps={max_steps}"
    if gap <= _ROUNDING:
        return "rounding in float64 stopped the solver there, so ask for a larger tolerance"
    return f"{_PATIENCE} steps made no progress, so try solver=FirstOrder()"


def predictor_corrector(
    iterate: Iterate,
    active: Bool[Array, "..."],
    end: Number,
    direction: Callable[[Float[Array, "..."]], Iterate],
) -> Iterate:
    """One step: first aim at the end, see how far that goes, then aim at the central path that much closer to it.

    The predictor aims at `end`, not at 0 as Mehrotra's does: his second-order correction would not vanish at the end,
    and the steps settle beside the central path.

    Args:
      iterate: where to step from.
      active: which pairs exist.
      end: least product to aim at.
      direction: the Newton direction that changes every pair's product by the given amount, and makes the effects
        add up to v.
    """
    xp = active.__array_namespace__()
    primal, slack, u = iterate
    products = xp.where(active, primal * slack, 0.0)
    predictor = direction(xp.where(active, end - products, 0.0))
    affine = (primal + xp.minimum(1.0, _length(primal, predictor.primal)) * predictor.primal) * (
        slack + xp.minimum(1.0, _length(slack, predictor.slack)) * predictor.slack
    )
    total = xp.sum(products)
    centring = (xp.sum(xp.where(active, affine, 0.0)) / total) ** 3
    goal = xp.maximum(centring * total / xp.sum(active), end)
    # No product is sent below a tenth of the goal: one that is far below the others' jams all further steps.
    second_order = xp.minimum(predictor.primal * predictor.slack, 0.9 * goal)
    step = direction(xp.where(active, goal - second_order - products, 0.0))
    primal_length = xp.minimum(1.0, _STEP_FRACTION * _length(primal, step.primal))
    dual_length = xp.minimum(1.0, _STEP_FRACTION * _length(slack, step.slack))
    return Iterate(primal + primal_length * step.primal, slack + dual_length * step.slack, u + dual_length * step.u)


def _length(x, dx):
    """Longest step that keeps x + step * dx from going negative, possibly infinite."""
    xp = dx.__array_namespace__()
    shrinking = dx < 0
    return xp.min(xp.where(shrinking, x / xp.where(shrinking, -dx, 1.0), xp.inf))


def conjugate_gradients(normal: Callable, factorised: Callable, rhs: Float[Array, "*m s"]) -> Float[Array, "*m s"]:
    """Solve normal(u) = rhs, with a factorisation of `normal` as preconditioner.

    One iteration is the plain solve, and as a rule enough. Late in a degenerate problem the entries of the matrix span
    20 orders of magnitude, the factorisation knows only the largest, and what it leaves over takes some more.
    """
    floor = _RESIDUAL * jnp.sqrt(jnp.vdot(rhs, rhs))

    def iterate(state):
        u, residual, search, old, count = state
        z = factorised(residual)
        new = jnp.vdot(residual, z)
        search = z + jnp.where(count > 0, new / old, 0.0) * search
        image = normal(search)
        length = new / jnp.vdot(search, image)
        return u + length * search, residual - length * image, search, new, count + 1

    def unfinished(state):
        _, residual, _, _, count = state
        return (jnp.sqrt(jnp.vdot(residual, residual)) > floor) & (count < _MAX_REFINEMENTS)

    zero = jnp.zeros_like(rhs)
    return jax.lax.while_loop(unfinished, iterate, (zero, rhs, zero, jnp.ones(()), 0))[0]
