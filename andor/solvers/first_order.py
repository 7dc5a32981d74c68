"""First-order solver: any optax optimiser on a smooth problem, inside a proximal method that makes it exact.

|x| has a kink where most effects end, so gradient steps on it cannot converge, and a Huber function in its place
solves another problem. The proximal method of multipliers (Rockafellar, Math. Oper. Res. 1, 1976) does neither: it
minimises a sum of Huber functions shifted by multipliers p,

    sum_S H(x_S + width p_S),      H(t) = min_r weight |r| + (t - r)^2 / (2 width),      p <- H'(x + width p),

and updates p between rounds of gradient steps; the width need not go to 0, and at the fixed point x is optimal and p
the dual solution. The noise box is treated the same way. The unknowns are tight-frame coordinates of the effects
(`andor.solvers.frame`) and the noise, so every iterate adds up to v and only its price changes.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from andor import lattice
from andor.interactions import Problem, RawSolution
from andor.solvers.frame import cancelling_pair, least_norm_pair, nearest_multipliers
from andor.solvers.harsanyi import correlations, harsanyi_sum, without_empty


@dataclasses.dataclass(frozen=True)
class FirstOrder:
    """Optax-driven solver, O(n_players 2^n_players) a step in memory and time: for more players than `InteriorPoint`.

    Attributes:
      tolerance: certified relative gap to reach.
      max_steps: gradient steps at most.
      optimizer: any optax gradient transformation; by default L-BFGS, `optax.lbfgs()`. It starts afresh every round,
        so a learning rate schedule spans a round; effects and noise are in units of max |v - v(∅)|.
      steps_per_round: gradient steps between updates of the multipliers and checks of the gap; by default 10 without
        noise and 20 with, which measured best on planted games of 8 and 10 players.
      width: the smoothing, in units of max |v - v(∅)|: wider makes rounds easier and more of them; by default 2e-3
        without noise and 5e-3 with.
      precision: "float64", or "float32" for accelerators without fast float64.
      progress: called as progress(step, gap) after every round, with the certified gap of each problem, `[p]`.
    """

    tolerance: float = 1e-2
    max_steps: int = 20_000
    optimizer: optax.GradientTransformation | None = None
    steps_per_round: int | None = None
    width: float | None = None
    precision: Literal["float32", "float64"] = "float64"
    progress: Callable[[int, np.ndarray], None] | None = None

    def __post_init__(self):
        if not 0 < self.tolerance < 1:
            raise ValueError(f"FirstOrder(tolerance=...) must be between 0 and 1; got {self.tolerance}.")
        if not 1 <= (1 if self.steps_per_round is None else self.steps_per_round) <= self.max_steps:
            raise ValueError(
                "FirstOrder(max_steps=..., steps_per_round=...) must be max_steps >= steps_per_round >= 1; got "
                f"{self.max_steps} and {self.steps_per_round}."
            )
        if self.width is not None and self.width <= 0:
            raise ValueError(f"FirstOrder(width=...) must be positive; got {self.width}.")
        if self.precision not in ("float32", "float64"):
            raise ValueError(f'FirstOrder(precision=...) must be "float32" or "float64"; got {self.precision!r}.')

    def solve(self, problem: Problem) -> RawSolution:
        """Solve a batch of problems. `andor.extract` is the front door, with checks and certificate."""
        scale = np.max(np.abs(problem.v), axis=-1)
        noisy = bool(np.any(problem.noise_bound > 0))
        rounds = (20 if noisy else 10) if self.steps_per_round is None else self.steps_per_round
        width = (5e-3 if noisy else 2e-3) if self.width is None else self.width
        settings = dataclasses.replace(self, steps_per_round=min(rounds, self.max_steps), width=width)
        with jax.enable_x64(self.precision == "float64"):
            harsanyi = without_empty(jnp.asarray(lattice.moebius(problem.v / scale[:, None]), self.precision))
            bound = jnp.asarray(problem.noise_bound / scale, self.precision)
            best, step = _solve(harsanyi, bound, jnp.asarray(problem.weights, self.precision), settings)
            return RawSolution(
                and_effects=np.asarray(best.and_effects, np.float64) * scale[:, None],
                or_effects=np.asarray(best.or_effects, np.float64) * scale[:, None],
                dual_values=np.asarray(best.dual_values, np.float64),
                steps=np.full(len(scale), int(step)),
                advice=f"raise max_steps={self.max_steps}, change width={width}, or use InteriorPoint",
            )


class Unknowns(NamedTuple):
    """What the optimiser moves: tight-frame coordinates of the split between AND and OR, and the noise. `[s]` each."""

    split: Float[Array, "s"]
    noise: Float[Array, "s"]


class Multipliers(NamedTuple):
    """Of AND effects, OR effects and noise, `[s]` each: at the optimum, correlations and dual values."""

    of_and: Float[Array, "s"]
    of_or: Float[Array, "s"]
    of_noise: Float[Array, "s"]


class Candidate(NamedTuple):
    """Feasible effects with their primal, and feasible dual values with their bound; `[s]` arrays and scalars."""

    and_effects: Float[Array, "*p s"]
    or_effects: Float[Array, "*p s"]
    primal: Float[Array, "*p"]
    dual_values: Float[Array, "*p s"]
    dual: Float[Array, "*p"]

    def gap(self) -> Float[Array, "*p"]:
        return (self.primal - self.dual) / self.primal

    def best_of(self, other: "Candidate") -> "Candidate":
        """The better effects and the better dual values of two: each proves what it proves, whoever it came with."""

        def choose(better, one, two):
            return jnp.where(better.reshape(*better.shape, *[1] * (one.ndim - better.ndim)), one, two)

        cheaper, higher = self.primal < other.primal, self.dual > other.dual  # False for NaN
        effects = (choose(cheaper, one, two) for one, two in zip(self[:3], other[:3], strict=True))
        return Candidate(*effects, *(choose(higher, one, two) for one, two in zip(self[3:], other[3:], strict=True)))


@functools.partial(jax.jit, static_argnames="settings")
def _solve(
    harsanyi: Float[Array, "p s"], bound: Float[Array, "p"], weights: Float[Array, "s"], settings: FirstOrder
) -> tuple[Candidate, Int[Array, ""]]:
    """Rounds until every problem of the batch has reached the tolerance."""
    optimizer = optax.with_extra_args_support(optax.lbfgs() if settings.optimizer is None else settings.optimizer)
    round_ = jax.vmap(functools.partial(_round, optimizer=optimizer, settings=settings), in_axes=(0, 0, 0, 0, None))

    def unfinished(state):
        _, _, best, step = state
        return jnp.any(~(best.gap() <= settings.tolerance)) & (step + settings.steps_per_round <= settings.max_steps)

    def body(state):
        unknowns, multipliers, best, step = state
        unknowns, multipliers, candidate = round_(unknowns, multipliers, harsanyi, bound, weights)
        best = candidate.best_of(best)
        step = step + settings.steps_per_round
        if settings.progress is not None:
            jax.debug.callback(settings.progress, step, best.gap())
        return unknowns, multipliers, best, step

    zero = jnp.zeros_like(harsanyi)
    best = Candidate(zero, zero, jnp.full_like(bound, jnp.inf), zero, jnp.zeros_like(bound))
    state = Unknowns(zero, zero), Multipliers(zero, zero, zero), best, jnp.zeros((), dtype=int)
    _, _, best, step = jax.lax.while_loop(unfinished, body, state)
    return best, step


def _effects(unknowns: Unknowns, harsanyi) -> tuple[Float[Array, "s"], Float[Array, "s"]]:
    """(AND effects, OR effects) that add up to v with the noise of `unknowns`."""
    least_and, least_or = least_norm_pair(harsanyi - without_empty(lattice.moebius(without_empty(unknowns.noise))))
    split_and, split_or = cancelling_pair(without_empty(unknowns.split))
    return without_empty(least_and + split_and), without_empty(least_or + split_or)


def _round(unknowns, multipliers, harsanyi, bound, weights, *, optimizer, settings):
    """Minimise the shifted Huber functions, then update the multipliers: (unknowns, multipliers, candidate)."""
    width = settings.width

    def shifted(unknowns):
        and_effects, or_effects = _effects(unknowns, harsanyi)
        return Multipliers(
            and_effects + width * multipliers.of_and,
            or_effects + width * multipliers.of_or,
            without_empty(unknowns.noise) + width * multipliers.of_noise,
        )

    def huber(x):
        inside = jnp.abs(x) <= width * weights
        return jnp.where(inside, x**2 / (2 * width), weights * jnp.abs(x) - width * weights**2 / 2)

    def beyond(x):
        return x - jnp.clip(x, -bound, bound)

    def loss(unknowns):
        x = shifted(unknowns)
        return jnp.sum(huber(x.of_and) + huber(x.of_or) + beyond(x.of_noise) ** 2 / (2 * width))

    def step(_, carry):
        unknowns, state = carry
        value, gradient = jax.value_and_grad(loss)(unknowns)
        updates, state = optimizer.update(gradient, state, unknowns, value=value, grad=gradient, value_fn=loss)
        return optax.apply_updates(unknowns, updates), state

    unknowns, _ = jax.lax.fori_loop(0, settings.steps_per_round, step, (unknowns, optimizer.init(unknowns)))
    x = shifted(unknowns)
    multipliers = Multipliers(
        jnp.clip(x.of_and / width, -weights, weights),
        jnp.clip(x.of_or / width, -weights, weights),
        beyond(x.of_noise) / width,
    )
    return unknowns, multipliers, _candidate(unknowns, multipliers, harsanyi, bound, weights)


def _candidate(unknowns, multipliers, harsanyi, bound, weights) -> Candidate:
    """Feasible effects and dual values nearest to where the iteration stands, and the gap they certify."""
    and_effects, or_effects = _effects(unknowns, harsanyi)
    noise = jnp.clip(without_empty(unknowns.noise), -bound, bound)
    and_effects = and_effects + harsanyi - harsanyi_sum(and_effects, or_effects, noise)
    primal = jnp.sum(weights * (jnp.abs(and_effects) + jnp.abs(or_effects)))

    def with_dual(u):
        t_and, t_or, _ = correlations(u)
        u = u / jnp.maximum(jnp.max(jnp.maximum(jnp.abs(t_and), jnp.abs(t_or)) / weights), 1e-30)
        y = correlations(u)[2]
        dual = u @ harsanyi - bound * jnp.sum(jnp.abs(without_empty(y)))
        return Candidate(and_effects, or_effects, primal, y, dual)

    # At the optimum both are the dual solution; on the way there, now the one is nearer and now the other.
    of_effects = without_empty(nearest_multipliers(multipliers.of_and, multipliers.of_or))
    of_noise = without_empty(lattice.zeta_transposed(multipliers.of_noise))
    return with_dual(of_effects).best_of(with_dual(of_noise))
