"""What the exact solvers share: Mehrotra's predictor-corrector method, without the problem.

S. Mehrotra, On the implementation of a primal-dual interior point method, SIAM J. Optim. 2 (1992). A problem supplies
its Newton directions; this module follows them along the central path.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

# Every pair's product of a primal variable and its slack starts here, at unit scale of v.
START = 1e-2

# Fraction of the way to the boundary that a step goes.
_STEP_FRACTION = 0.99

# Steps without progress after which rounding has won.
_PATIENCE = 4

# Relative residual at which a linear system counts as solved, and conjugate gradient iterations to get there.
_RESIDUAL = 1e-12
_MAX_REFINEMENTS = 12


class Iterate(NamedTuple):
    """A primal-dual point. Every entry of `primal` is paired with that of `slack`; their products go to 0 together.

    `u` are the multipliers of the constraints, in Harsanyi coordinates.
    """

    primal: Float[Array, "..."]
    slack: Float[Array, "..."]
    u: Float[Array, "*m s"]


class Progress(NamedTuple):
    """Where the path has come to, and the best point on the way with its relative gap and step."""

    current: Iterate
    best: Iterate
    gap: Float[Array, ""]
    best_step: Int[Array, ""]
    step: Int[Array, ""]


def follow(
    start: Iterate,
    advance: Callable[[Iterate], Iterate],
    gap: Callable[[Iterate], Float[Array, ""]],
    tolerance: Float[Array, ""],
    max_steps: Int[Array, ""],
) -> Progress:
    """Repeat `advance` until `gap` is at most `tolerance`, rounding stops progress, or `max_steps` are made."""

    def body(progress):
        current = advance(progress.current)
        new_gap = gap(current)
        better = new_gap < progress.gap  # False for NaN
        return Progress(
            current=current,
            best=jax.tree.map(functools.partial(jnp.where, better), current, progress.best),
            gap=jnp.where(better, new_gap, progress.gap),
            best_step=jnp.where(better, progress.step, progress.best_step),
            step=progress.step + 1,
        )

    def unfinished(progress):
        improving = progress.step - progress.best_step <= _PATIENCE
        return (progress.gap > tolerance) & improving & (progress.step < max_steps)

    zero = jnp.zeros((), dtype=int)
    return jax.lax.while_loop(unfinished, body, Progress(start, start, jnp.full((), jnp.inf), zero, zero))


def predictor_corrector(
    iterate: Iterate, active: Bool[Array, "..."], direction: Callable[[Float[Array, "..."]], Iterate]
) -> Iterate:
    """One step: first aim at the solution, see how far that goes, then aim at the central path that much closer to it.

    Args:
      iterate: where to step from.
      active: which pairs exist.
      direction: the Newton direction that changes every pair's product by the given amount, and makes the effects
        add up to v.
    """
    primal, slack, u = iterate
    products = jnp.where(active, primal * slack, 0.0)
    predictor = direction(-products)
    affine = (primal + jnp.minimum(1.0, _length(primal, predictor.primal)) * predictor.primal) * (
        slack + jnp.minimum(1.0, _length(slack, predictor.slack)) * predictor.slack
    )
    total = jnp.sum(products)
    centring = (jnp.sum(jnp.where(active, affine, 0.0)) / total) ** 3
    second_order = predictor.primal * predictor.slack
    step = direction(jnp.where(active, centring * total / jnp.sum(active) - second_order - products, 0.0))
    primal_length = jnp.minimum(1.0, _STEP_FRACTION * _length(primal, step.primal))
    dual_length = jnp.minimum(1.0, _STEP_FRACTION * _length(slack, step.slack))
    return Iterate(primal + primal_length * step.primal, slack + dual_length * step.slack, u + dual_length * step.u)


def _length(x, dx):
    """Longest step that keeps x + step * dx from going negative, possibly infinite."""
    shrinking = dx < 0
    return jnp.min(jnp.where(shrinking, x / jnp.where(shrinking, -dx, 1.0), jnp.inf))


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
