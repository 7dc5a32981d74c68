"""The solver of the papers, kept as it was: stochastic-gradient settings on the split of v, no optimality.

Li & Zhang, ICML 2023 (arXiv 2302.13080), and Chen et al., ICLR 2024 (arXiv 2401.16318): minimise |I_and|_1 + |I_or|_1
over gamma and e, where I_and is the Moebius transform of 0.5 (v - e) + gamma and I_or the OR effects of 0.5 (v - e) -
gamma, by gradient descent with momentum 0.9, a learning rate log-spaced from 1e-5 down tenfold, 20,000 to 50,000 steps,
and e clipped to its bound after every step. The published figures were drawn with it, so comparing with them needs it.
In planted games it stops at 1.05 to 1.16 times the optimum for 6 players, 1.18 to 1.44 for 8 and 1.41 to 3.3 for 10
(`experiments/benchmarks/solver_benchmark.py`); use `InteriorPoint` for everything else.

Learning rates are absolute, and suit large language models, whose v spreads over some ten nats. Values that spread over
less are left with jitter of all orders, the more players the more; `spread` scales v first. `python -m
experiments ablations` has both published rates with v scaled to ten nats and as it is.

The one difference is speed: butterflies in place of the 2^n x 2^n matrices.
"""

import dataclasses
import functools
from typing import ClassVar, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax

from andor.core import lattice
from andor.core.penalties import L1
from andor.core.problem import Problem, RawSolution
from andor.devices.memory import available_bytes, require_memory
from andor.solvers.coordinates import correlations, nearest_multipliers, without_empty


@dataclasses.dataclass(frozen=True)
class Published:
    """SGD on gamma and e, as published. Deterministic given `seed`.

    Attributes:
      steps: gradient steps; published 20,000 to 50,000.
      learning_rate: first learning rate, in units of v; published 1e-5 or 1e-6. The last is a tenth of it, and those
        between are log-spaced.
      momentum: published 0.9.
      spread: scale v so that max v - min v is this, in nats, before the descent, and the effects back; None leaves v as
        it is, as published.
      start: standard deviation of a random start of gamma, in units of |v(N) - v(∅)|; 0 starts from gamma = 0.
      seed: of the random start.
      tolerance: certified relative gap that counts as converged; not a stopping rule, the number of steps is fixed.
    """

    penalties: ClassVar[tuple[type, ...]] = (L1,)

    steps: int = 50_000
    learning_rate: float = 1e-5
    momentum: float = 0.9
    spread: float | None = None
    start: float = 0.0
    seed: int = 0
    tolerance: float = 1e-2

    def __post_init__(self):
        # Written so that NaN fails.
        sound = self.steps >= 1 and 0 < self.learning_rate < np.inf and 0 <= self.momentum < 1
        if not (sound and 0 <= self.start < np.inf):
            raise ValueError(
                "Published(steps=..., learning_rate=..., momentum=..., start=...) must be at least 1, positive, in "
                f"[0, 1) and not negative, and finite; got {self.steps}, {self.learning_rate}, {self.momentum}, "
                f"{self.start}."
            )
        if self.spread is not None and not 0 < self.spread < np.inf:
            raise ValueError(f"Published(spread=...) must be positive and finite, or None; got {self.spread}.")
        if not 0 < self.tolerance < 1:
            raise ValueError(f"Published(tolerance=...) must be between 0 and 1; got {self.tolerance}.")

    def check_memory(self, n_players: int, n_models: int = 1, n_problems: int = 1, caller: str = "extract") -> None:
        """Raise ValueError when problems of so many players do not fit in the memory there is."""
        # v, parameters, their velocities and gradients, effects and signs; as many again on the way.
        needed = 2 * 16 * 8 * n_problems * n_models * 2**n_players
        way_out = "Use fewer players, or fewer problems at once."
        require_memory(caller, self, n_players, needed, available_bytes(), way_out)

    def solve(self, problem: Problem) -> RawSolution:
        """Solve a batch of problems. `andor.extract` is the front door, with checks and certificate."""
        with jax.enable_x64(True):
            # This penalty does not tie models together: each is a problem of its own.
            v, bound = problem.v.reshape(-1, problem.v.shape[-1]), problem.noise_bound.ravel()
            units = np.ptp(v, axis=1) / self.spread if self.spread else np.ones(len(v))
            units = np.where(units > 0, units, 1.0)  # a constant v has no effects
            v, bound = v / units[:, None], bound / units
            # The same start for every problem, so that one of a batch is solved as it is alone.
            noise = jnp.broadcast_to(jax.random.normal(jax.random.key(self.seed), v.shape[-1:]), v.shape)
            start = noise * self.start * np.abs(v[:, -1:])
            descend = functools.partial(_descend, settings=self)
            answers = jax.vmap(descend, in_axes=(0, 0, 0, None))(v, bound, start, problem.weights)
            and_effects, or_effects, dual_values = (np.array(x) for x in answers)
            shape = problem.v.shape
            return RawSolution(
                and_effects=(and_effects * units[:, None]).reshape(shape),
                or_effects=(or_effects * units[:, None]).reshape(shape),
                dual_values=dual_values.reshape(shape),
                steps=np.full(len(problem.v), self.steps),
                advice=("the published solver does not reach the optimum; use InteriorPoint, or FirstOrder",)
                * len(problem.v),
            )


def _effects(v, gamma, noise):
    half = 0.5 * (v - noise)
    return lattice.moebius(half + gamma), lattice.or_moebius(half - gamma)


@functools.partial(jax.jit, static_argnames="settings")
def _descend(v, noise_bound, gamma, weights, settings: Published):
    """(and_effects, or_effects, dual values) of one problem with v[∅] = 0, after all steps."""

    def loss(parameters):
        of_and, of_or = map(jnp.abs, _effects(v, *parameters))
        return jnp.sum((weights[0] * of_and + weights[1] * of_or)[1:])

    schedule = optax.exponential_decay(settings.learning_rate, settings.steps, 0.1)
    optimizer = optax.sgd(schedule, settings.momentum)
    parameters = without_empty(gamma), jnp.zeros_like(v)

    def step(_, carry):
        parameters, state, mean_signs = carry
        updates, state = optimizer.update(jax.grad(loss)(parameters), state)
        gamma, noise = cast(tuple[jax.Array, jax.Array], optax.apply_updates(parameters, updates))
        noise = without_empty(jnp.clip(noise, -noise_bound, noise_bound))
        signs = tuple(map(lambda x, price: price * jnp.sign(x), _effects(v, gamma, noise), weights))
        # The signs of effects that hover around 0 average to their multipliers, over the last hundredth or so.
        mean_signs = jax.tree.map(lambda mean, new: mean + (new - mean) * window, mean_signs, signs)
        return (gamma, noise), state, mean_signs

    window = min(1.0, 100 / settings.steps)
    start = parameters, optimizer.init(parameters), (jnp.zeros_like(v), jnp.zeros_like(v))
    parameters, _, (of_and, of_or) = jax.lax.fori_loop(0, settings.steps, step, start)
    u = without_empty(nearest_multipliers(without_empty(of_and), without_empty(of_or)))
    return *_effects(v, *parameters), correlations(u)[2]
