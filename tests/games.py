"""Games with known effects, and the linear programme solved by somebody else."""

import numpy as np
import scipy.optimize
import scipy.sparse

from andor.core import lattice


def planted(n_players: int, seed: int, *, n_and: int = 8, n_or: int = 5, sigma: float = 0.01) -> np.ndarray:
    """v of some AND and OR effects of random subsets plus normal noise, `[2**n_players]`."""
    rng = np.random.default_rng(seed)
    size = 2**n_players
    and_effects, or_effects = np.zeros((2, size))
    and_effects[rng.choice(size, min(n_and, size), replace=False)] = rng.normal(size=min(n_and, size))
    or_effects[rng.choice(size, min(n_or, size), replace=False)] = rng.normal(size=min(n_or, size))
    return lattice.zeta(and_effects) + lattice.or_sums(or_effects) + sigma * rng.normal(size=size)


def dictionaries(n_players: int) -> tuple[np.ndarray, np.ndarray]:
    """The AND and OR dictionaries as dense 0/1 matrices, by definition."""
    subsets = np.arange(2**n_players)
    within = (subsets[:, None] & subsets[None, :]) == subsets[None, :]
    touching = (subsets[:, None] & subsets[None, :]) != 0
    return within.astype(float), touching.astype(float)


def highs_optimum(v: np.ndarray, noise_bound: float, weights: np.ndarray | None = None) -> float:
    """Least strength of AND-OR effects that explain v within the bound, by scipy's HiGHS on dense dictionaries."""
    n_players = lattice.n_players_of(v)
    within, touching = dictionaries(n_players)
    columns = scipy.sparse.csc_matrix(np.hstack([within[1:, 1:], touching[1:, 1:]]))
    price = np.broadcast_to(1.0 if weights is None else weights, (2, 2**n_players))[:, 1:].ravel()
    identity = scipy.sparse.identity(2**n_players - 1)
    result = scipy.optimize.linprog(
        np.concatenate([price, price, np.zeros(2**n_players - 1)]),
        A_eq=scipy.sparse.hstack([columns, -columns, identity]),
        b_eq=(v - v[0])[1:],
        bounds=[(0, None)] * (2 * len(price)) + [(-noise_bound, noise_bound)] * (2**n_players - 1),
        method="highs",
    )
    assert result.status == 0, result.message
    return result.fun


def highs_joint_optimum(v: np.ndarray, noise_bound: np.ndarray, shared: float, own: float) -> float:
    """Least joint price, `shared` max + `own` sum over models, by scipy's HiGHS."""
    m = len(v)
    n_players = lattice.n_players_of(v)
    within, touching = dictionaries(n_players)
    orders = lattice.orders(n_players)
    columns = np.hstack([within[1:, 1:], touching[1:][:, orders >= 2]])
    n_rows, n_effects = columns.shape
    # Unknowns: t [n_effects], then per model plus, minus [n_effects each], noise [n_rows].
    per_model = 2 * n_effects + n_rows
    equations, caps = [], []
    for i in range(m):
        before, after = n_effects + i * per_model, (m - 1 - i) * per_model
        block = np.hstack([columns, -columns, np.eye(n_rows)])
        equations.append(np.hstack([np.zeros((n_rows, before)), block, np.zeros((n_rows, after))]))
        cap = np.hstack([np.eye(n_effects), np.eye(n_effects), np.zeros((n_effects, n_rows))])
        gap = np.zeros((n_effects, before - n_effects))
        caps.append(np.hstack([-np.eye(n_effects), gap, cap, np.zeros((n_effects, after))]))
    bounds = [(0, None)] * n_effects
    for i in range(m):
        bounds += [(0, None)] * (2 * n_effects) + [(-noise_bound[i], noise_bound[i])] * n_rows
    result = scipy.optimize.linprog(
        np.concatenate([np.full(n_effects, shared), np.tile(np.r_[np.full(2 * n_effects, own), np.zeros(n_rows)], m)]),
        A_eq=np.vstack(equations),
        b_eq=(v - v[:, :1])[:, 1:].ravel(),
        A_ub=np.vstack(caps),
        b_ub=np.zeros(m * n_effects),
        bounds=bounds,
        method="highs",
    )
    assert result.status == 0, result.message
    return result.fun
