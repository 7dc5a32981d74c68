"""Optimal AND-OR strength and effects as differentiable JAX functions, so that a training loss can penalise them.

The least strength is a convex function of v whose gradient is the dual solution y (envelope theorem), and its
derivative with respect to the noise bound is -sum |y|. The effects themselves are piecewise linear in v; their
derivative is that of the central path at its end: with the normal matrix K of the last barrier, a change dv of v
changes the effects by D (correlations of) K^{-1} moebius(dv). Both are exact away from the breakpoints.

Everything here is float64 inside, whatever the dtype of v and of the caller, and runs under `jit`, `vmap` and `grad`.
"""

import functools
from collections.abc import Collection

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from andor import lattice
from andor.solvers.harsanyi import correlations, harsanyi_sum, without_empty
from andor.solvers.interior_point import (
    Barrier,
    InteriorPoint,
    active_pairs,
    effects_of,
    solve_one,
    tie_breaking,
)


def optimal_effects(
    v: Float[Array, "s"], noise: float = 0.02, solver: InteriorPoint | None = None
) -> tuple[Float[Array, "s"], Float[Array, "s"]]:
    """(and_effects, or_effects) of least strength, as `andor.extract` finds them, differentiable in v.

    Args:
      v: log-odds of every masked prompt, `[2**n_players]`, any float dtype; may be traced.
      noise: bound on the noise, a multiple of |v(N) - v(∅)|, not negative.
      solver: settings of the interior point; by default `InteriorPoint()`.

    Returns:
      Effects of the dtype of v; and_effects[∅] is v(∅).
    """
    if noise < 0:
        raise ValueError(f"optimal_effects(noise=...) must not be negative; got {noise}.")
    bound = noise * jnp.abs(v[-1] - v[0])
    and_effects, or_effects = _effects(v - v[0], bound, InteriorPoint() if solver is None else solver)
    return and_effects.at[0].add(v[0]), or_effects


def optimal_strength(
    v: Float[Array, "s"],
    noise: float = 0.02,
    orders: Collection[int] | None = None,
    solver: InteriorPoint | None = None,
) -> Float[Array, ""]:
    """Sum of |effects| at the optimum, over all orders or over chosen ones, differentiable in v.

    Args:
      v: log-odds of every masked prompt, `[2**n_players]`, any float dtype; may be traced.
      noise: bound on the noise, a multiple of |v(N) - v(∅)|, not negative.
      orders: sizes |S| to count, from 1 to n_players; by default all, which is the value of the linear programme and
        so convex in v. The strength of chosen orders at the optimum is piecewise linear, and may jump where optima tie.
      solver: settings of the interior point; by default `InteriorPoint()`.
    """
    if noise < 0:
        raise ValueError(f"optimal_strength(noise=...) must not be negative; got {noise}.")
    n_players = lattice.n_players_of(v)
    solver = InteriorPoint() if solver is None else solver
    if orders is None:
        return _strength(v - v[0], noise * jnp.abs(v[-1] - v[0]), solver)
    if not orders or not all(1 <= order <= n_players for order in orders):
        raise ValueError(f"optimal_strength(orders=...) must be from 1 to n_players={n_players}; got {list(orders)}.")
    and_effects, or_effects = optimal_effects(v, noise, solver)
    chosen = np.isin(lattice.orders(n_players), list(orders))
    return jnp.sum(jnp.where(chosen, jnp.abs(and_effects) + jnp.abs(or_effects), 0.0))


# JAX traces float64 code in a float32 program as long as all of it is traced under `enable_x64`. A batching rule of
# `vmap` would trace it again, outside; so every function that holds float64 is `_own_trace`, which `vmap` maps over.
def _own_trace(function):
    @jax.custom_batching.sequential_vmap
    @functools.wraps(function)
    def traced(*arrays):
        with jax.enable_x64(True):
            return function(*arrays)

    return traced


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _strength(v: Float[Array, "s"], bound: Float[Array, ""], solver: InteriorPoint) -> Float[Array, ""]:
    """Least strength for v[∅] = 0 and an absolute noise bound."""
    return _strength_forward(v, bound, solver)[0]


def _strength_forward(v, bound, solver):
    @_own_trace
    def forward(v, bound):
        iterate, scale = _solved(v, bound, solver)
        and_effects, or_effects = _feasible_effects(v, iterate, scale)
        value = jnp.sum(jnp.abs(and_effects)) + jnp.sum(jnp.abs(or_effects))
        y = correlations(iterate.u)[2]
        d_bound = -jnp.sum(jnp.abs(without_empty(y)))
        return value.astype(v.dtype), y.astype(v.dtype), d_bound.astype(bound.dtype)

    value, y, d_bound = forward(v, bound)
    return value, (y, d_bound)


def _strength_backward(solver, residuals, cotangent):
    del solver
    y, d_bound = residuals
    return cotangent * y, cotangent * d_bound


_strength.defvjp(_strength_forward, _strength_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _effects(v: Float[Array, "s"], bound: Float[Array, ""], solver: InteriorPoint):
    """(and_effects, or_effects) for v[∅] = 0 and an absolute noise bound."""
    return _effects_forward(v, bound, solver)[0]


def _effects_forward(v, bound, solver):
    @_own_trace
    def forward(v, bound):
        iterate, scale = _solved(v, bound, solver)
        and_effects, or_effects = _feasible_effects(v, iterate, scale)
        return and_effects.astype(v.dtype), or_effects.astype(v.dtype), iterate, bound.astype(jnp.float64) / scale

    and_effects, or_effects, iterate, unit_bound = forward(v, bound)
    return (and_effects, or_effects), (iterate, unit_bound)


def _effects_backward(solver, residuals, cotangents):
    del solver

    @_own_trace
    def backward(iterate, bound, of_and, of_or):
        active = active_pairs(iterate.u.shape[0], bound)
        barrier = Barrier.at(iterate, active)
        pull = harsanyi_sum(barrier.d_and * of_and, barrier.d_or * of_or, jnp.zeros_like(iterate.u))
        y = correlations(barrier.solver()(pull))[2]
        # Moving the bounds by db moves the noise by d_noise (inverse[1] - inverse[0]) db at fixed multipliers.
        moved = jnp.where(active[4], barrier.d_noise * (barrier.inverse[1] - barrier.inverse[0]), 0.0)
        return y.astype(of_and.dtype), -(y @ moved).astype(of_and.dtype)

    return backward(*residuals, *cotangents)


_effects.defvjp(_effects_forward, _effects_backward)


def _solved(v, bound, solver: InteriorPoint):
    """(last point of the central path, scale of v) in float64, for v[∅] = 0."""
    v, bound = v.astype(jnp.float64), bound.astype(jnp.float64)
    weights = jnp.asarray(tie_breaking(lattice.n_players_of(v), solver.tie_break))
    scale = jnp.max(jnp.abs(v))
    scale = jnp.where(scale > 0, scale, 1.0)  # a constant function has no effects
    return solve_one(
        v / scale, bound / scale, weights, solver.tolerance - solver.tie_break, solver.max_steps
    ).best, scale


def _feasible_effects(v, iterate, scale):
    """(and_effects, or_effects) in float64, with what they miss added to the AND effects."""
    and_effects, or_effects, noise = effects_of(iterate)
    target = without_empty(lattice.moebius(v.astype(jnp.float64)))
    missing = target / scale - harsanyi_sum(and_effects, or_effects, noise)
    return (and_effects + missing) * scale, or_effects * scale
