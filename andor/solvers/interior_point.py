"""Exact solver: a primal-dual interior point method whose normal equations need no matrix product.

Mehrotra's predictor-corrector method (SIAM J. Optim. 2, 1992) on the linear programme of `andor.interactions`, in
Harsanyi coordinates. With c = moebius(v), the constraint v = A a + B b + e reads, on the rows S ≠ ∅,

    a - G b + Z e = c       (G the mirror of `lattice`, Z the Moebius transform)

since AND effects are their own Harsanyi effects, and those of OR effects are their mirror. With the barrier's diagonal
matrices D_and, D_or, D_noise, the normal matrix of a Newton step is then, up to the signs (-1)^(|S| + |S'|),

    K[S, S'] = D_and[S] [S = S']  +  superset sums of D_or at S ∪ S'  +  subset sums of D_noise at S ∩ S'

two butterflies and two gathers. One Cholesky factorisation a step, 2^(3 n_players) / 3 operations, is all the rest.
(In the coordinates of v every block of K is dense, and steps lose accuracy at larger gaps.)
"""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from andor import lattice
from andor.interactions import Problem, RawSolution
from andor.solvers.cholesky import cholesky_solver

_MIRROR = ((1, 1), (0, -1))
_MIRROR_TRANSPOSED = ((1, 0), (1, -1))
_MOEBIUS_TRANSPOSED = ((1, -1), (0, 1))

# Fraction of the way to the boundary that a step goes, and steps without progress after which rounding has won.
_STEP_FRACTION = 0.99
_PATIENCE = 4


@dataclasses.dataclass(frozen=True)
class InteriorPoint:
    """Exact AND-OR solver in float64, for up to 12 players on a CPU and 14 on a GPU with fast float64.

    Attributes:
      tolerance: certified relative gap to reach.
      max_steps: Newton steps at most; 12 to 25 are usual.
      tie_break: makes the answer canonical. Effects of lower order are cheaper by up to this fraction, so that of
        several optima the one of lower order is returned ({i} + {j} rather than AND{ij} + OR{ij}). What ties in this
        too is averaged, because the method ends at the centre of the optimal face. Costs up to this much of the gap.
    """

    tolerance: float = 1e-6
    max_steps: int = 60
    tie_break: float = 1e-7

    def __post_init__(self):
        if not 0 < self.tolerance < 1:
            raise ValueError(f"InteriorPoint(tolerance=...) must be between 0 and 1; got {self.tolerance}.")
        if self.max_steps < 1:
            raise ValueError(f"InteriorPoint(max_steps=...) must be at least 1; got {self.max_steps}.")
        if not 0 <= self.tie_break < self.tolerance:
            raise ValueError(
                f"InteriorPoint(tie_break=...) must be at least 0 and below tolerance={self.tolerance}, because it "
                f"costs up to that much of the gap; got {self.tie_break}."
            )

    def solve(self, problem: Problem) -> RawSolution:
        """Solve a batch of problems. `andor.extract` is the front door, with checks and certificate."""
        orders = lattice.orders(problem.n_players)
        # Never above the true weights, so that dual values feasible for these are feasible for the problem as posed.
        weights = problem.weights * (1.0 - self.tie_break * (1.0 - orders / problem.n_players))
        # Unit scale per problem: start and barrier do not depend on the unit of v.
        scale = np.max(np.abs(problem.v), axis=-1)
        with jax.enable_x64(True):
            result = _solve_batch(
                jnp.asarray(problem.v / scale[:, None]),
                jnp.asarray(problem.noise_bound / scale),
                jnp.asarray(weights),
                self.tolerance - self.tie_break,
                self.max_steps,
            )
            and_effects, or_effects, dual_values, steps = (np.asarray(x) for x in result)
        return RawSolution(
            and_effects=and_effects * scale[:, None],
            or_effects=or_effects * scale[:, None],
            dual_values=dual_values,
            steps=steps,
            advice=f"raise max_steps={self.max_steps} of the solver if they were used up, or ask for a larger tolerance",
        )


class _Iterate(NamedTuple):
    """A primal-dual point. Every entry of `primal` is paired with that of `slack`; their products go to 0 together.

    primal: `[6, s]`, AND+, AND-, OR+, OR- (effect = plus - minus), noise_bound + noise, noise_bound - noise.
    slack: `[6, s]`, weights -+ correlation for the effects, then the two multipliers of the noise bounds.
    harsanyi_dual: `[s]`, multipliers u of the constraints in Harsanyi coordinates; dual values y = Z^T u.
    """

    primal: Float[Array, "6 s"]
    slack: Float[Array, "6 s"]
    harsanyi_dual: Float[Array, "s"]


class _State(NamedTuple):
    iterate: _Iterate
    best: _Iterate
    best_gap: Float[Array, ""]
    best_step: Int[Array, ""]
    step: Int[Array, ""]


@jax.jit
def _solve_batch(v, noise_bound, weights, tolerance, max_steps):
    """All problems one after the other: one factorisation already keeps the machine busy, and memory is for one."""
    return jax.lax.map(lambda problem: _solve_one(*problem, weights, tolerance, max_steps), (v, noise_bound))


def _solve_one(
    v: Float[Array, "s"], noise_bound: Float[Array, ""], weights: Float[Array, "s"], tolerance, max_steps
) -> tuple[Float[Array, "s"], Float[Array, "s"], Float[Array, "s"], Int[Array, ""]]:
    """(and_effects, or_effects, dual_values, steps) of one problem at unit scale."""
    orders = jnp.asarray(lattice.orders(lattice.n_players_of(v)))
    player, pair = orders >= 1, orders >= 2
    noisy = player & (noise_bound > 0)
    active = jnp.stack([player, player, pair, pair, noisy, noisy])
    price = jnp.where(active[:4], jnp.stack([weights] * 4), 1.0)
    target = jnp.where(player, lattice.moebius(v), 0.0)

    def explained(effects_and, effects_or, noise):
        """Harsanyi effects of AND effects, OR effects and noise; rows S ≠ ∅."""
        mirrored = lattice.kron_power(_MIRROR, effects_or)
        return jnp.where(player, effects_and - mirrored + lattice.moebius(noise), 0.0)

    def correlations(u):
        """The transpose of `explained`."""
        return u, -lattice.kron_power(_MIRROR_TRANSPOSED, u), lattice.kron_power(_MOEBIUS_TRANSPOSED, u)

    def effects(iterate):
        and_plus, and_minus, or_plus, or_minus, above, below = iterate.primal
        return and_plus - and_minus, or_plus - or_minus, (above - below) / 2

    def relative_gap(iterate):
        """Of the effects as `andor.interactions` makes them feasible: what they miss is added to the AND effects."""
        effects_and, effects_or, noise = effects(iterate)
        missing = target - explained(effects_and, effects_or, noise)
        primal = jnp.sum(weights * (jnp.abs(effects_and + missing) + jnp.abs(effects_or)))
        u = iterate.harsanyi_dual
        y = jnp.where(player, correlations(u)[2], 0.0)
        return (primal - (u @ target - noise_bound * jnp.sum(jnp.abs(y)))) / primal

    def body(state):
        iterate = _step(state.iterate, target, active, explained, correlations)
        gap = relative_gap(iterate)
        better = gap < state.best_gap
        return _State(
            iterate=iterate,
            best=jax.tree.map(functools.partial(jnp.where, better), iterate, state.best),
            best_gap=jnp.where(better, gap, state.best_gap),
            best_step=jnp.where(better, state.step, state.best_step),
            step=state.step + 1,
        )

    def unfinished(state):
        progressing = state.step - state.best_step <= _PATIENCE
        return (state.best_gap > tolerance) & progressing & (state.step < max_steps)

    # Every pair's product starts at 1e-2: effects 1e-2, correlations 0, noise 0.
    product = 1e-2
    start = _Iterate(
        primal=jnp.where(
            active, jnp.stack([jnp.full_like(v, product)] * 4 + [jnp.full_like(v, 1) * noise_bound] * 2), 0.0
        ),
        slack=jnp.concatenate(
            [price, jnp.where(noisy, product / jnp.where(noisy, noise_bound, 1.0), 1.0)[None].repeat(2, 0)]
        ),
        harsanyi_dual=jnp.zeros_like(v),
    )
    zero = jnp.zeros((), dtype=int)
    state = jax.lax.while_loop(unfinished, body, _State(start, start, jnp.full((), jnp.inf), zero, zero))
    effects_and, effects_or, _ = effects(state.best)
    return effects_and, effects_or, correlations(state.best.harsanyi_dual)[2], state.step


def _step(iterate: _Iterate, target, active: Bool[Array, "6 s"], explained, correlations) -> _Iterate:
    """One predictor-corrector step: one factorisation, two solves."""
    primal, slack, u = iterate
    player = active[0]
    ratio = jnp.where(active, primal / slack, 0.0)
    d_and, d_or = ratio[0] + ratio[1], ratio[2] + ratio[3]
    # In parallel, not in sum: noise is held by whichever of its two bounds is closer.
    inverse = jnp.where(active[4:], slack[4:] / jnp.where(active[4:], primal[4:], 1.0), 1.0)
    d_noise = jnp.where(active[4], 1.0 / (inverse[0] + inverse[1]), 0.0)
    solve_normal = _factorised(d_and, d_or, d_noise, player)

    above, below = primal[4:]
    missing = target - explained(primal[0] - primal[1], primal[2] - primal[3], (above - below) / 2)

    def normal(u):
        t_and, t_or, y = correlations(u)
        return explained(d_and * t_and, d_or * t_or, d_noise * y)

    def direction(change):
        """Newton direction that changes every pair's product by `change` `[6, s]`, and removes `missing`."""
        per_slack = jnp.where(active[:4], change[:4] / slack[:4], 0.0)
        per_primal = jnp.where(active[4:], change[4:] / jnp.where(active[4:], primal[4:], 1.0), 0.0)
        push = d_noise * (per_primal[0] - per_primal[1])
        rhs = missing - explained(per_slack[0] - per_slack[1], per_slack[2] - per_slack[3], push)
        du = solve_normal(rhs)
        du = du + solve_normal(rhs - normal(du))  # one step of iterative refinement
        t_and, t_or, dy = correlations(du)
        t = jnp.stack([t_and, -t_and, t_or, -t_or])
        d_effects = per_slack + ratio[:4] * t
        d_e = push + d_noise * dy
        d_bounds = jnp.stack([d_e, -d_e])
        d_multipliers = per_primal - inverse * d_bounds
        zero = jnp.zeros(())
        return (
            jnp.where(active, jnp.concatenate([d_effects, d_bounds]), zero),
            jnp.where(active, jnp.concatenate([-t, d_multipliers]), zero),
            du,
        )

    products = jnp.where(active, primal * slack, 0.0)
    n_pairs = jnp.sum(active)
    d_primal, d_slack, _ = direction(-products)
    affine = (primal + _length(primal, d_primal) * d_primal) * (slack + _length(slack, d_slack) * d_slack)
    centring = (jnp.sum(jnp.where(active, affine, 0.0)) / jnp.sum(products)) ** 3
    goal = jnp.where(active, centring * jnp.sum(products) / n_pairs - d_primal * d_slack, 0.0)
    d_primal, d_slack, du = direction(goal - products)
    primal_length = jnp.minimum(1.0, _STEP_FRACTION * _length(primal, d_primal))
    dual_length = jnp.minimum(1.0, _STEP_FRACTION * _length(slack, d_slack))
    return _Iterate(primal + primal_length * d_primal, slack + dual_length * d_slack, u + dual_length * du)


def _length(x, dx):
    """Longest step at most 1 that keeps x + step * dx from going negative."""
    shrinking = dx < 0
    return jnp.min(jnp.where(shrinking, x / jnp.where(shrinking, -dx, 1.0), 1.0), initial=1.0)


def _factorised(d_and, d_or, d_noise, player: Bool[Array, "s"]):
    """Solver of the normal equations: r -> K^{-1} r on the rows S ≠ ∅."""
    subset = jnp.arange(d_and.shape[0])
    sign = 1.0 - 2.0 * (jax.lax.population_count(subset) % 2)
    rows, columns = subset[:, None], subset[None, :]
    normal = lattice.zeta_transposed(d_or)[rows | columns] + lattice.zeta(d_noise)[rows & columns]
    diagonal = jnp.where(player, jnp.diagonal(normal) + d_and, 1.0)
    # Unit diagonal (d spans 20 orders of magnitude late on), and row ∅ replaced by that of the identity.
    scale = jnp.where(player, jax.lax.rsqrt(diagonal), 0.0)
    normal = normal * scale[:, None] * scale[None, :]
    normal = normal.at[subset, subset].set(1.0 + 1e-14)
    solve = cholesky_solver(normal)
    return lambda r: sign * scale * solve(sign * scale * r)
