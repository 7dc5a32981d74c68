"""First-order solver: any optax optimiser on a smooth problem, inside a proximal method that makes it exact.

A penalty P has a kink where most effects end, so gradient steps on it cannot converge, and a smooth function in its
place solves another problem. The proximal method of multipliers (Rockafellar, Math. Oper. Res. 1, 1976) does neither:
it minimises the Moreau envelopes of P, shifted by multipliers p,

    sum_S H(x_S + width p_S),      H(t) = min_r P(r) + |t - r|^2 / (2 width),      p <- H'(x + width p),

and updates p between rounds of gradient steps; the width need not go to 0, and at the fixed point x is optimal and p
the dual solution. H' is `multipliers` of `andor.penalties`, the only thing that differs between penalties. The noise
box is treated the same way. The unknowns are tight-frame coordinates of the effects (`andor.solvers.coordinates`) and
the noise, so every iterate adds up to v and only its price changes.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from andor.core import lattice
from andor.core.penalties import Penalty
from andor.core.problem import Problem, RawSolution
from andor.devices.memory import available_bytes, require_memory
from andor.solvers.coordinates import (
    cancelling_pair,
    correlations,
    harsanyi_sum,
    least_norm_pair,
    nearest_multipliers,
    without_empty,
)
from andor.solvers.placement import fast_precision


@dataclasses.dataclass(frozen=True)
class FirstOrder:
    """Optax-driven solver for any penalty, O(n_players 2^n_players) a step: for more players than the exact solvers.

    Of several optima it returns one that lies near its way there. In planted games of 8 players, two runs with the
    players relabelled shared 97 to 100 of their top 100 effects at a tolerance of 1e-3 without noise, and 93 to 100 at
    1e-4 with noise of 0.02; with the exact answer, which breaks ties, 72 to 100. Prefer an exact solver where it fits.

    Attributes:
      tolerance: certified relative gap to reach.
      max_steps: gradient steps at most; 1,000 to 10,000 are usual at 8 to 10 players.
      optimizer: any optax gradient transformation; by default L-BFGS, `optax.lbfgs()`. It starts afresh every round,
        so a learning rate schedule spans a round; effects and noise are in units of max |v - v(∅)|.
      steps_per_round: gradient steps between updates of the multipliers and checks of the gap.
      width: the smoothing, in units of the mean |effect| of the split of v of least squared norm: wider makes rounds
        easier and more of them. By default 0.05 without noise and 0.5 with, which took few steps on planted and on
        random games of 6 to 10 players alike.
      precision: "float64" or "float32"; by default float64 where the default device is fast in it, as a TPU is not.
      progress: called as progress(step, gap) after every round, in order, with the certified gaps so far, float64
        `[p]`, of the problems that the noise alone does not explain.
    """

    penalties: ClassVar[tuple[type, ...]] = (Penalty,)

    tolerance: float = 1e-2
    max_steps: int = 50_000
    optimizer: optax.GradientTransformation | None = None
    steps_per_round: int = 20
    width: float | None = None
    precision: Literal["float32", "float64"] = dataclasses.field(default_factory=fast_precision)
    progress: Callable[[int, np.ndarray], None] | None = None

    def __post_init__(self):
        if not 0 < self.tolerance < 1:
            raise ValueError(f"FirstOrder(tolerance=...) must be between 0 and 1; got {self.tolerance}.")
        if not 1 <= self.steps_per_round <= self.max_steps:
            raise ValueError(
                "FirstOrder(max_steps=..., steps_per_round=...) must be max_steps >= steps_per_round >= 1; got "
                f"{self.max_steps} and {self.steps_per_round}."
            )
        if self.optimizer is not None and not isinstance(self.optimizer, optax.GradientTransformation):
            raise ValueError(
                f"FirstOrder(optimizer=...) must be an optax gradient transformation, such as optax.adam(1e-3); got "
                f"{self.optimizer!r}."
            )
        if self.width is not None and not 0 < self.width < np.inf:
            raise ValueError(f"FirstOrder(width=...) must be positive and finite; got {self.width}.")
        if self.precision not in ("float32", "float64"):
            raise ValueError(f'FirstOrder(precision=...) must be "float32" or "float64"; got {self.precision!r}.')

    def check_memory(self, n_players: int, n_models: int = 1, n_problems: int = 1, caller: str = "extract") -> None:
        """Raise ValueError when problems of so many players do not fit in the memory there is."""
        # L-BFGS keeps 10 pairs of unknowns and gradients, both with split and noise; the rest is about as much again.
        arrays = 2 * 10 * 2 * 2
        needed = arrays * np.dtype(self.precision).itemsize * n_problems * n_models * 2**n_players
        way_out = "Use fewer players, fewer problems at once, or FirstOrder(precision='float32')."
        require_memory(caller, self, n_players, needed, available_bytes(), way_out)

    def solve(self, problem: Problem) -> RawSolution:
        """Solve a batch of problems. `andor.extract` is the front door, with checks and certificate."""
        noisy = bool(np.any(problem.noise_bound > 0))
        width = (0.5 if noisy else 0.05) if self.width is None else self.width
        with jax.enable_x64(self.precision == "float64"):
            best, step = _solve(
                without_empty(jnp.asarray(lattice.moebius(problem.v), self.precision)),
                jnp.asarray(problem.noise_bound, self.precision),
                jnp.asarray(np.max(np.abs(problem.v), axis=(1, 2)), self.precision),
                jnp.asarray(problem.weights, self.precision),
                jnp.asarray(width, self.precision),
                problem.penalty,
                dataclasses.replace(self, width=None),
            )
            if self.progress is not None:
                jax.effects_barrier()
            return RawSolution(
                and_effects=np.asarray(best.and_effects, np.float64),
                or_effects=np.asarray(best.or_effects, np.float64),
                dual_values=np.asarray(best.dual_values, np.float64),
                steps=np.full(len(problem.v), int(step)),
                advice=(self._advice(width),) * len(problem.v),
            )

    def _advice(self, width: float) -> str:
        advice = f"raise max_steps={self.max_steps}, or change width={width}"
        if self.optimizer is None:
            return advice
        return f"{advice}, steps_per_round={self.steps_per_round} or the optimizer; without one, L-BFGS is used"


class Unknowns(NamedTuple):
    """What the optimiser moves: tight-frame coordinates of the split between AND and OR, and the noise.

    In units of max |v|, so that settings of the optimiser do not depend on the unit of v. All else is in log-odds.
    """

    split: Float[Array, "*g m s"]
    noise: Float[Array, "*g m s"]


class Multipliers(NamedTuple):
    """Of AND effects, OR effects and noise: at the optimum, correlations and dual values."""

    of_and: Float[Array, "*g m s"]
    of_or: Float[Array, "*g m s"]
    of_noise: Float[Array, "*g m s"]


class Candidate(NamedTuple):
    """Feasible effects with their primal, and feasible dual values with their bound."""

    and_effects: Float[Array, "*g m s"]
    or_effects: Float[Array, "*g m s"]
    primal: Float[Array, "*g"]
    dual_values: Float[Array, "*g m s"]
    dual: Float[Array, "*g"]

    def gap(self) -> Float[Array, "*g"]:
        return (self.primal - self.dual) / self.primal

    def best_of(self, other: "Candidate") -> "Candidate":
        """The better effects and the better dual values of two: each proves what it proves, whoever it came with."""

        def choose(better, one, two):
            return jnp.where(better.reshape(*better.shape, *[1] * (one.ndim - better.ndim)), one, two)

        cheaper, higher = self.primal < other.primal, self.dual > other.dual  # False for NaN
        effects = (choose(cheaper, one, two) for one, two in zip(self[:3], other[:3], strict=True))
        return Candidate(*effects, *(choose(higher, one, two) for one, two in zip(self[3:], other[3:], strict=True)))


class Given(NamedTuple):
    """One problem: Harsanyi effects of v, noise bound, max |v|, width in log-odds, and weights."""

    harsanyi: Float[Array, "*g m s"]
    noise_bound: Float[Array, "*g m"]
    scale: Float[Array, "*g"]
    width: Float[Array, "*g"]
    weights: Float[Array, "2 s"]


@functools.partial(jax.jit, static_argnames=("penalty", "settings"))
def _solve(
    harsanyi: Float[Array, "g m s"],
    noise_bound: Float[Array, "g m"],
    scale: Float[Array, "g"],
    weights: Float[Array, "2 s"],
    width: Float[Array, ""],
    penalty: Penalty,
    settings: FirstOrder,
) -> tuple[Candidate, Int[Array, ""]]:
    """Rounds until every problem of the batch has reached the tolerance."""
    optimizer = optax.with_extra_args_support(optax.lbfgs() if settings.optimizer is None else settings.optimizer)
    typical = jnp.mean(jnp.abs(jnp.stack(least_norm_pair(harsanyi))), axis=(0, 2, 3))
    given = Given(harsanyi, noise_bound, scale, width * typical, weights)
    of_each = 0, 0, Given._make([0, 0, 0, 0, None])
    round_ = jax.vmap(functools.partial(_round, penalty=penalty, optimizer=optimizer, settings=settings), of_each)

    def unfinished(state):
        _, _, best, step = state
        return jnp.any(~(best.gap() <= settings.tolerance)) & (step + settings.steps_per_round <= settings.max_steps)

    def body(state):
        unknowns, multipliers, best, step = state
        unknowns, multipliers, candidate = round_(unknowns, multipliers, given)
        best = candidate.best_of(best)
        step = step + settings.steps_per_round
        if settings.progress is not None:
            jax.debug.callback(functools.partial(_report, settings.progress), step, best.gap(), ordered=True)
        return unknowns, multipliers, best, step

    zero = jnp.zeros_like(harsanyi)
    unknowns, multipliers = Unknowns(zero, zero), Multipliers(zero, zero, zero)
    # An optimiser that diverges never gets better than the start, the split of least norm.
    best = jax.vmap(functools.partial(_candidate, penalty=penalty), of_each)(unknowns, multipliers, given)
    state = unknowns, multipliers, best, jnp.zeros((), dtype=int)
    _, _, best, step = jax.lax.while_loop(unfinished, body, state)
    return best, step


def _report(progress: Callable, step, gap):
    progress(int(step), np.asarray(gap, np.float64))


def _several(x: Float[Array, "m s"], one: Float[Array, "m s"] | float) -> Float[Array, "m s"]:
    """x where |S| >= 2, `one` where |S| is 1, and 0 at ∅."""
    orders = jnp.broadcast_to(lattice.orders(lattice.n_players_of(x)), x.shape)
    return jnp.where(orders >= 2, x, jnp.where(orders == 1, one, 0.0))


def _effects(unknowns: Unknowns, given: Given) -> tuple[Float[Array, "m s"], Float[Array, "m s"], Float[Array, "m s"]]:
    """(AND effects, OR effects, noise) that add up to v, in canonical form."""
    split, noise = (given.scale * without_empty(x) for x in unknowns)
    least_and, least_or = least_norm_pair(given.harsanyi - without_empty(lattice.moebius(noise)))
    split_and, split_or = cancelling_pair(split)
    and_effects, or_effects = least_and + split_and, least_or + split_or
    return _several(and_effects, and_effects + or_effects), _several(or_effects, 0.0), noise


def _round(unknowns, multipliers, given, *, penalty, optimizer, settings):
    """Minimise the shifted envelopes, then update the multipliers: (unknowns, multipliers, candidate)."""
    width = given.width
    bound = given.noise_bound[:, None]

    def moved(unknowns):
        """Shifted effects and noise, and the multipliers there."""
        x = jax.tree.map(lambda x, p: x + width * p, Multipliers(*_effects(unknowns, given)), multipliers)
        effects = (penalty.multipliers(x[kind], width, given.weights[kind]) for kind in (0, 1))
        return x, Multipliers(*effects, (x.of_noise - jnp.clip(x.of_noise, -bound, bound)) / width)

    def loss(unknowns):
        x, new = moved(unknowns)
        # The envelope is the value at the best multipliers, and its gradient is they: their change plays no part.
        p = jax.lax.stop_gradient(new)
        conjugates = sum(jnp.sum(penalty.conjugate(p[kind], given.weights[kind])) for kind in (0, 1))
        conjugates += jnp.sum(bound * jnp.abs(p.of_noise))
        envelope = sum(jnp.sum(x_ * p_ - width / 2 * p_**2) for x_, p_ in zip(x, p, strict=True))
        return (envelope - conjugates) / given.scale

    def step(_, carry):
        unknowns, state = carry
        value, gradient = jax.value_and_grad(loss)(unknowns)
        updates, state = optimizer.update(gradient, state, unknowns, value=value, grad=gradient, value_fn=loss)
        return optax.apply_updates(unknowns, updates), state

    unknowns, _ = jax.lax.fori_loop(0, settings.steps_per_round, step, (unknowns, optimizer.init(unknowns)))
    _, multipliers = moved(unknowns)
    return unknowns, multipliers, _candidate(unknowns, multipliers, given, penalty)


def _candidate(unknowns, multipliers, given, penalty) -> Candidate:
    """Feasible effects and dual values nearest to where the iteration stands, and the gap they certify."""
    harsanyi, noise_bound, _, _, (and_price, or_price) = given
    bound = noise_bound[:, None]
    and_effects, or_effects, noise = _effects(unknowns, given)
    and_effects += harsanyi - harsanyi_sum(and_effects, or_effects, jnp.clip(noise, -bound, bound))
    primal = jnp.sum(penalty.price(and_effects, and_price) + penalty.price(or_effects, or_price))

    def with_dual(u):
        # As `andor.core.certificate.feasible_dual`, whose verdict counts.
        t_and, t_or, y = correlations(u)
        t_or = _several(t_or, 0.0)
        excess = jnp.max(jnp.maximum(penalty.excess(t_and, and_price), penalty.excess(t_or, or_price)))
        t_and, t_or, y = (x / jnp.maximum(excess, 1e-30) for x in (t_and, t_or, y))
        linear = jnp.vdot(t_and, harsanyi) - jnp.sum(bound * jnp.abs(without_empty(y)))
        conjugate = jnp.sum(penalty.conjugate(t_and, and_price) + penalty.conjugate(t_or, or_price))
        share = jnp.clip(linear / (2 * jnp.where(conjugate > 0, conjugate, 1e-30)), 0.0, 1.0)
        return Candidate(and_effects, or_effects, primal, share * y, share * linear - share**2 * conjugate)

    # At the optimum both are the dual solution; on the way there, now the one is nearer and now the other.
    of_or = _several(multipliers.of_or, multipliers.of_and)
    of_effects = without_empty(nearest_multipliers(multipliers.of_and, of_or))
    of_noise = without_empty(lattice.zeta_transposed(multipliers.of_noise))
    return with_dual(of_effects).best_of(with_dual(of_noise))
