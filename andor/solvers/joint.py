"""Exact solver of the joint problem of `extract_joint`: the interior point of one model, with a block per model.

At each subset and kind of effect, max_i |x_i| is bounded by one t: with x_i = plus_i - minus_i,

    minimise  shared t + own sum_i (plus_i + minus_i)      such that   plus_i + minus_i + room_i = t,  all >= 0.

The dual of room_i is q_i, with sum_i q_i = shared, and the slack of plus_i and minus_i is own + q_i -+ correlation_i.
Eliminating t, q and the signs leaves one symmetric m x m matrix D[S] per subset where one model has a number, so the
normal matrix is the one of `andor.solvers.interior_point` with m x m blocks:

    K[(i, S), (j, S')] = D_and[S]_ij [S = S']  +  superset sums of D_or,ij at S ∪ S'
                                               +  subset sums of D_noise,i at S ∩ S' [i = j]
"""

import dataclasses
import functools
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from andor.core import lattice
from andor.core.penalties import RowMax
from andor.core.problem import Problem, RawSolution
from andor.solvers.central_path import START, Iterate, Number, conjugate_gradients, follow, predictor_corrector
from andor.solvers.cholesky import cholesky_solver
from andor.solvers.coordinates import correlations, harsanyi_sum, without_empty
from andor.solvers.interior_point import Exact, in_groups, problems_at_once, tie_breaking
from andor.solvers.placement import on_exact_device


@dataclasses.dataclass(frozen=True)
class JointInteriorPoint(Exact):
    """Exact joint solver: m models of n_players cost what one of n_players + log2(m) does. Settings as for `Exact`."""

    penalties: ClassVar[tuple[type, ...]] = (RowMax,)

    max_steps: int = 80

    def bytes_of_one(self, n_players: int, n_models: int = 1) -> int:
        """Memory of one problem: the normal matrix, its two summands, and its factor."""
        return 4 * 8 * (n_models * 2**n_players) ** 2

    def solve(self, problem: Problem) -> RawSolution:
        """Solve a batch of problems. `andor.extract_joint` is the front door, with checks and certificate."""
        groups, models = problem.v.shape[:2]
        weights = problem.weights * tie_breaking(problem.n_players, self.tie_break)
        scale = np.max(np.abs(problem.v), axis=(1, 2))
        assert isinstance(problem.penalty, RowMax)  # the one of `penalties`
        prices = weights, problem.penalty.shared, problem.penalty.own
        settings = *prices, self.tolerance - self.tie_break, self.max_steps
        given = problem.v / scale[:, None, None], problem.noise_bound / scale[:, None]
        with jax.enable_x64(True), on_exact_device():
            at_once = problems_at_once(groups, self.bytes_of_one(problem.n_players, models))
            effects, dual_values, steps, gaps = in_groups(_answer, at_once, given, settings)
        effects = effects * scale[:, None, None, None]
        return RawSolution(
            and_effects=effects[:, :, 0],
            or_effects=effects[:, :, 1],
            dual_values=dual_values,
            steps=steps,
            advice=self.advice(steps, gaps),
        )


# The entries of an `Iterate`, `[4, m, 2, s]`: plus, minus, room and noise. The axis of size 2 is (AND, OR) for the
# first three and (noise_bound + noise, noise_bound - noise) for the last. `slack` holds their duals in the same place,
# that of room being q; `u` is `[m, s]`.


def _effects(iterate: Iterate) -> tuple[Float[Array, "m 2 s"], Float[Array, "m s"]]:
    """(effects with the axis (AND, OR), noise)."""
    plus, minus, _, noise = iterate.primal
    return plus - minus, (noise[:, 0] - noise[:, 1]) / 2


@jax.jit
def _answer(v, noise_bound, weights, shared, own, tolerance, max_steps):
    """(effects with the axis (AND, OR), dual values, steps, gap) of one problem, at unit scale and v[:, ∅] == 0."""
    m, size = v.shape
    orders = jnp.asarray(lattice.orders(lattice.n_players_of(v)))
    kinds = jnp.broadcast_to(jnp.stack([orders >= 1, orders >= 2])[None], (m, 2, size))
    noisy = jnp.broadcast_to((orders >= 1)[None, None] & (noise_bound > 0)[:, None, None], (m, 2, size))
    active = jnp.stack([kinds, kinds, kinds, noisy])
    target = without_empty(lattice.moebius(v))
    bound = jnp.broadcast_to(noise_bound[:, None, None], (m, 2, size))
    price = jnp.broadcast_to(weights[None], (m, 2, size))

    def bounds(iterate):
        effects, noise = _effects(iterate)
        missing = target - harsanyi_sum(effects[:, 0], effects[:, 1], noise)
        strength = jnp.abs(effects.at[:, 0].add(missing))
        primal = jnp.sum(weights * (shared * jnp.max(strength, axis=0) + own * jnp.sum(strength, axis=0)))
        y = without_empty(correlations(iterate.u)[2])
        dual = jnp.vdot(iterate.u, target) - noise_bound @ jnp.sum(jnp.abs(y), axis=-1)
        return primal, dual

    def present(x, fill):
        return jnp.where(kinds, x, fill)

    start = Iterate(
        primal=jnp.stack([present(START, 0.0)] * 3 + [jnp.where(noisy, bound, 0.0)]),
        slack=jnp.stack(
            [present((own + shared / m) * price, 1.0)] * 2
            + [present(shared / m * price, 1.0), START / jnp.where(noisy, bound, START)]
        ),
        u=jnp.zeros_like(v),
    )
    progress = follow(start, active, functools.partial(_advance, target, active), bounds, tolerance, max_steps)
    effects, noise = _effects(progress.best)
    missing = target - harsanyi_sum(effects[:, 0], effects[:, 1], noise)
    return effects.at[:, 0].add(missing), correlations(progress.best.u)[2], progress.step, progress.gap


class _Blocks(NamedTuple):
    """The elimination at each subset, all `[m, 2, s]`: of t over the models, of q and the signs within a model.

    both, difference: plus / slack + minus / slack and plus / slack - minus / slack. stiffness: room / q + both.
    """

    both: Float[Array, "m 2 s"]
    difference: Float[Array, "m 2 s"]
    stiffness: Float[Array, "m 2 s"]

    def q_change(self, given: Float[Array, "m 2 s"]) -> Float[Array, "m 2 s"]:
        """Change of q for right-hand sides `given` of stiffness_i dq_i = given_i - dt, with sum_i dq_i = 0."""
        dt = jnp.sum(given / self.stiffness, axis=0) / jnp.sum(1 / self.stiffness, axis=0)
        return (given - dt[None]) / self.stiffness

    def apply(self, t: Float[Array, "m 2 s"]) -> Float[Array, "m 2 s"]:
        """D t: change of the effects for a change t of the correlations."""
        return self.both * t - self.difference * self.q_change(self.difference * t)

    def matrices(self) -> Float[Array, "m m 2 s"]:
        """D, one symmetric m x m matrix for every kind and subset."""
        lean = self.difference / self.stiffness
        diagonal = jnp.eye(len(lean))[:, :, None, None] * (self.both - self.difference * lean)[:, None]
        return diagonal + lean[:, None] * lean[None, :] / jnp.sum(1 / self.stiffness, axis=0)[None, None]


def _advance(target: Float[Array, "m s"], active: Bool[Array, "4 m 2 s"], iterate: Iterate, end: Number) -> Iterate:
    """One predictor-corrector step: one factorisation, two directions."""
    primal, slack, _ = iterate
    kinds, noisy = active[0], active[3]
    ratio = jnp.where(active[:3], primal[:3] / slack[:3], 0.0)
    plus, minus, room = ratio
    blocks = _Blocks(plus + minus, plus - minus, jnp.where(kinds, room + plus + minus, 1.0))
    inverse = jnp.where(noisy, slack[3] / jnp.where(noisy, primal[3], 1.0), 1.0)
    d_noise = jnp.where(noisy[:, 0], 1 / (inverse[:, 0] + inverse[:, 1]), 0.0)
    effects, noise = _effects(iterate)
    missing = target - harsanyi_sum(effects[:, 0], effects[:, 1], noise)

    def normal(u):
        t_and, t_or, y = correlations(u)
        d_effects = blocks.apply(jnp.stack([t_and, t_or], axis=1))
        return harsanyi_sum(d_effects[:, 0], d_effects[:, 1], d_noise * y)

    solve_normal = functools.partial(conjugate_gradients, normal, _factorised(blocks.matrices(), d_noise))

    def direction(change):
        per_slack = jnp.where(active[:3], change[:3] / slack[:3], 0.0)
        per_primal = jnp.where(noisy, change[3] / jnp.where(noisy, primal[3], 1.0), 0.0)
        given = per_slack[0] + per_slack[1] + per_slack[2]
        push = per_slack[0] - per_slack[1] - blocks.difference * blocks.q_change(given)
        push_noise = d_noise * (per_primal[:, 0] - per_primal[:, 1])
        du = solve_normal(missing - harsanyi_sum(push[:, 0], push[:, 1], push_noise))
        t_and, t_or, dy = correlations(du)
        t = jnp.stack([t_and, t_or], axis=1)
        dq = blocks.q_change(given + blocks.difference * t)
        d_noise_value = push_noise + d_noise * dy
        d_room = jnp.stack([d_noise_value, -d_noise_value], axis=1)
        d_slack = jnp.stack([dq - t, dq + t, dq, per_primal - inverse * d_room])
        d_primal = jnp.concatenate([per_slack - ratio * d_slack[:3], d_room[None]])
        return Iterate(jnp.where(active, d_primal, 0.0), jnp.where(active, d_slack, 0.0), du)

    return predictor_corrector(iterate, active, end, direction)


def _factorised(d: Float[Array, "m m 2 s"], d_noise: Float[Array, "m s"]):
    """r -> K^{-1} r on the rows S ≠ ∅ of every model, by Cholesky factorisation."""
    m, size = d_noise.shape
    subset = jnp.arange(size)
    sign = 1.0 - 2.0 * (jax.lax.population_count(subset) % 2)[None]
    rows, columns = subset[:, None], subset[None, :]
    of_or = lattice.zeta_transposed(d[:, :, 1])[:, :, rows | columns]
    of_noise = jnp.eye(m)[:, :, None, None] * lattice.zeta(d_noise)[:, rows & columns][:, None]
    normal = (of_or + of_noise).at[:, :, subset, subset].add(d[:, :, 0])
    normal = jnp.swapaxes(normal, 1, 2).reshape(m * size, m * size)
    counted = jnp.tile(subset > 0, m)
    scale = jnp.where(counted, jax.lax.rsqrt(jnp.where(counted, jnp.diagonal(normal), 1.0)), 0.0)
    every = jnp.arange(m * size)
    solve = cholesky_solver((normal * scale[:, None] * scale[None, :]).at[every, every].set(1.0 + 1e-14))
    scale = scale.reshape(m, size)
    return lambda r: sign * scale * solve((sign * scale * r).reshape(-1)).reshape(m, size)
