"""The certificate: effects that add up to v exactly, dual values that are feasible, and the bound that these prove.

With A and B the AND and OR dictionaries (`reconstruct`), every y with sum(y) = 0 bounds the minimum of the problem of
`andor.core.problem` from below by

    v·y - noise_bound sum_{T ≠ ∅} |y[T]| - sum_S P*((A^T y)[S]) - sum_S P*((B^T y)[S])

where the conjugate P* of weights[S] |x| is 0 for |t| <= weights[S], and infinite beyond. Whatever the solver, that
bound is computed here, in NumPy, from the y the solver hands over. `weights` are one factor per subset `[s]`, or one
per AND and per OR effect `[2, s]`.
"""

import numpy as np
from jaxtyping import Float

from andor.core import lattice
from andor.core.penalties import Penalty

Array = np.ndarray


def reconstruct(and_effects: Float[Array, "*p s"], or_effects: Float[Array, "*p s"]) -> Float[Array, "*p s"]:
    """The function that the effects add up to, without the noise: zeta(and_effects) + or_sums(or_effects)."""
    return lattice.zeta(and_effects) + lattice.or_sums(or_effects)


def objective(
    and_effects: Float[Array, "*g m s"],
    or_effects: Float[Array, "*g m s"],
    weights: Float[Array, "*k s"],
    penalty: Penalty,
) -> float | Float[Array, "*g"]:
    """Penalty of the effects, over all S ≠ ∅."""
    of_and, of_or = _of_kinds(weights)
    prices = penalty.price(and_effects, of_and) + penalty.price(or_effects, of_or)
    return np.sum(prices[..., 1:], axis=-1)


def canonical(
    and_effects: Float[Array, "*p s"], or_effects: Float[Array, "*p s"]
) -> tuple[Float[Array, "*p s"], Float[Array, "*p s"]]:
    """The same function with one-player ORs moved to the one-player ANDs, and the OR of nobody (always 0) dropped."""
    one_player = lattice.orders(lattice.n_players_of(and_effects)) == 1
    above = lattice.orders(lattice.n_players_of(and_effects)) >= 2
    return and_effects + np.where(one_player, or_effects, 0.0), np.where(above, or_effects, 0.0)


def feasible_primal(
    v: Float[Array, "*p s"],
    noise_bound: Float[Array, "*p"],
    and_effects: Float[Array, "*p s"],
    or_effects: Float[Array, "*p s"],
) -> tuple[Float[Array, "*p s"], Float[Array, "*p s"], Float[Array, "*p s"]]:
    """Turn approximate effects into AND effects, OR effects and noise that add up to v exactly, in canonical form.

    What the effects leave unexplained becomes noise as far as the bound allows, and the rest AND effects (the
    Moebius transform of any function is a set of AND effects that add up to it).
    """
    and_effects, or_effects = canonical(and_effects, or_effects)
    and_effects[..., 0] = v[..., 0]
    bound = noise_bound[..., None]
    noise = np.clip(v - reconstruct(and_effects, or_effects), -bound, bound)
    noise[..., 0] = 0.0
    # Twice: the second pass removes the rounding of the first, whose Moebius sums have up to 2**n_players terms.
    for _ in range(2):
        and_effects = and_effects + lattice.moebius(v - noise - reconstruct(and_effects, or_effects))
    and_effects[..., 0] = v[..., 0]
    return and_effects, or_effects, noise


def feasible_dual(
    v: Float[Array, "*g m s"],
    noise_bound: Float[Array, "*g m"],
    dual_values: Float[Array, "*g m s"],
    weights: Float[Array, "*k s"],
    penalty: Penalty,
) -> Float[Array, "*g m s"]:
    """The multiple of the centred y in the dual domain that proves most, exactly so where P* is 0 or quadratic."""
    y = dual_values.copy()
    y[..., 0] = -np.sum(y[..., 1:], axis=-1)
    excesses = map(penalty.excess, _correlations(y), _of_kinds(weights))
    excess = np.max(np.maximum(*excesses), axis=-1)
    y = np.divide(y, excess[..., None, None], out=np.zeros_like(y), where=excess[..., None, None] > 0)
    # c y proves c linear - c^2 conjugate, which is most at c = linear / (2 conjugate).
    linear, conjugate = _linear(v, noise_bound, y), _conjugate(y, weights, penalty)
    best = np.divide(linear, 2 * conjugate, out=np.where(linear > 0, np.inf, 0.0), where=conjugate > 0)
    return np.clip(best, 0.0, 1.0)[..., None, None] * y


def dual_bound(
    v: Float[Array, "*g m s"],
    noise_bound: Float[Array, "*g m"],
    dual_values: Float[Array, "*g m s"],
    weights: Float[Array, "*k s"],
    penalty: Penalty,
) -> float | Float[Array, "*g"]:
    """The lower bound that a feasible y proves on the penalty of any solution."""
    return _linear(v, noise_bound, dual_values) - _conjugate(dual_values, weights, penalty)


def _linear(v, noise_bound, y):
    """v·y - noise_bound sum_{T ≠ ∅} |y[T]|, over the models of each problem."""
    # Differences to v(∅) because sum(y) = 0 holds to rounding only, and v(∅) may be large.
    each = np.sum((v - v[..., :1]) * y, axis=-1) - noise_bound * np.sum(np.abs(y[..., 1:]), axis=-1)
    return np.sum(each, axis=-1)


def _conjugate(y, weights, penalty):
    """sum_S P*((A^T y)[S]) + P*((B^T y)[S])."""
    of_and, of_or = map(penalty.conjugate, _correlations(y), _of_kinds(weights))
    return np.sum(of_and + of_or, axis=-1)


def _of_kinds(weights):
    """(weights of the AND effects, of the OR effects)."""
    return np.broadcast_to(weights, (2, weights.shape[-1]))


def _correlations(y):
    """(A^T y, B^T y), 0 where there is no effect to go with them: see canonical form."""
    orders = lattice.orders(lattice.n_players_of(y))
    of_and, of_or = lattice.zeta_transposed(y), lattice.or_sums_transposed(y)
    return np.where(orders >= 1, of_and, 0.0), np.where(orders >= 2, of_or, 0.0)
