"""Coordinates that the solvers work in: Harsanyi coordinates, and a tight frame for the split into AND and OR.

With c = moebius(v), the constraint v = A a + B b + e reads, on the rows S ≠ ∅,

    a - G b + Z e = c       (G the mirror of `lattice`, Z the Moebius transform)

since AND effects are their own Harsanyi effects, and those of OR effects are their mirror. The multipliers u of these
rows give the dual values y = Z^T u of the problem as posed, and the correlations A^T y = u and B^T y = -G^T u. Row and
entry ∅ are 0 throughout: v(∅) is exact.

The tight frame is orthonormal coordinates for the split of a function between AND and OR effects.
With G the mirror (G G = I), the pairs of effects (a, b) that cancel, a - G b = 0 in Harsanyi coordinates, are
(G b, b). Symmetric powers of G G^T and G^T G, which are Kronecker powers of 2x2 matrices with eigenvalues 2.618 and its
inverse, make that basis orthonormal: with K = (I + G^T G)^{-1/2}, the map z -> (G K z, K z) preserves length. Along it
the penalty is as well conditioned as it can be; in the coordinates of the published solver (functions, not effects)
the condition number is about 1.6^(2 n_players). O(n_players 2^n_players) a transform.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from andor.core import lattice

Array = TypeVar("Array", bound=jax.Array | np.ndarray)

_MIRROR_TRANSPOSED = ((1, 0), (1, -1))
_MOEBIUS_TRANSPOSED = ((1, -1), (0, 1))
_MIRROR = np.array(lattice.MIRROR)
_COLUMNS, _COLUMN_BASIS = np.linalg.eigh(_MIRROR.T @ _MIRROR)  # G^T G
_ROWS, _ROW_BASIS = np.linalg.eigh(_MIRROR @ _MIRROR.T)  # G G^T


def without_empty(x: Float[Array, "*p s"]) -> Float[Array, "*p s"]:
    """x with entry ∅ set to 0."""
    xp = x.__array_namespace__()
    return xp.concat([xp.zeros_like(x[..., :1]), x[..., 1:]], axis=-1)


def harsanyi_sum(
    and_effects: Float[Array, "*p s"], or_effects: Float[Array, "*p s"], noise: Float[Array, "*p s"]
) -> Float[Array, "*p s"]:
    """Harsanyi effects of the function that AND effects, OR effects and noise add up to: a - G b + Z e."""
    return without_empty(and_effects - lattice.kron_power(lattice.MIRROR, or_effects) + lattice.moebius(noise))


def correlations(
    u: Float[Array, "*p s"],
) -> tuple[Float[Array, "*p s"], Float[Array, "*p s"], Float[Array, "*p s"]]:
    """Transpose of `harsanyi_sum`: (A^T y, B^T y, y) of the dual values y = Z^T u, for u[∅] = 0; y[∅] is -sum(y)."""
    return u, without_empty(-lattice.kron_power(_MIRROR_TRANSPOSED, u)), lattice.kron_power(_MOEBIUS_TRANSPOSED, u)


class Coordinates(NamedTuple):
    """One way to write that effects and noise add up to v, as functions.

    Attributes:
      total: (AND effects, OR effects, noise) -> the function they add up to. Row ∅ is 0.
      correlations: the transpose of `total`, from multipliers u of its rows: (A^T y, B^T y, y).
      from_masks: from v to its rows. Row ∅ is 0.
      to_harsanyi: from rows to Harsanyi effects.
    """

    total: Callable
    correlations: Callable
    from_masks: Callable
    to_harsanyi: Callable


HARSANYI = Coordinates(harsanyi_sum, correlations, lambda v: without_empty(lattice.moebius(v)), lambda rows: rows)
"""One row per subset, as above: what makes normal matrices that are gathered from two arrays."""


def _mask_sum(and_effects, or_effects, noise):
    """A a + B b + e: both dictionaries from one pair of subset sums."""
    xp = noise.__array_namespace__()
    of_and, of_or = lattice.zeta(xp.stack([and_effects, or_effects]))
    return without_empty(of_and + (of_or[-1] - lattice.complement(of_or)) + noise)


def _mask_correlations(y):
    """(A^T y, B^T y, y) of dual values with y[∅] == 0: superset sums are subset sums of complements."""
    xp = y.__array_namespace__()
    supersets, subsets = lattice.zeta(xp.stack([lattice.complement(y), y]))
    return without_empty(lattice.complement(supersets)), without_empty(subsets[-1] - lattice.complement(subsets)), y


MASKS = Coordinates(_mask_sum, _mask_correlations, lambda v: without_empty(v - v[..., :1]), lattice.moebius)
"""One row per mask: the multipliers are the dual values, and few of them are not 0."""


def _spectral(eigenvalues, basis, function: Callable, x: Float[Array, "*p s"]) -> Float[Array, "*p s"]:
    """function(M^{⊗n}) x for a symmetric 2x2 matrix M with these eigenvalues and eigenvectors."""
    n_players = lattice.n_players_of(x)
    orders = lattice.orders(n_players)
    spectrum = function(eigenvalues[0] ** (n_players - orders) * eigenvalues[1] ** orders)
    rotated = lattice.kron_power(basis.T, x)
    return lattice.kron_power(basis, jnp.broadcast_to(jnp.asarray(spectrum, x.dtype), x.shape) * rotated)


def cancelling_pair(z: Float[Array, "*m s"]) -> tuple[Float[Array, "*m s"], Float[Array, "*m s"]]:
    """(AND effects, OR effects) that add up to 0 beyond v(∅), an isometry from z with z[∅] = 0 up to entries ∅."""
    or_effects = _spectral(_COLUMNS, _COLUMN_BASIS, lambda t: (1 + t) ** -0.5, z)
    return lattice.kron_power(_MIRROR, or_effects), or_effects


def least_norm_pair(harsanyi: Float[Array, "*m s"]) -> tuple[Float[Array, "*m s"], Float[Array, "*m s"]]:
    """(AND effects, OR effects) of least squared norm with the given Harsanyi effects: a - G b = harsanyi."""
    and_effects = _spectral(_ROWS, _ROW_BASIS, lambda t: 1 / (1 + t), harsanyi)
    return and_effects, -lattice.kron_power(_MIRROR.T, and_effects)


def nearest_multipliers(of_and: Float[Array, "*m s"], of_or: Float[Array, "*m s"]) -> Float[Array, "*m s"]:
    """u whose correlations (u, -G^T u) are nearest to given ones in the sense of least squares."""
    return _spectral(_ROWS, _ROW_BASIS, lambda t: 1 / (1 + t), of_and - lattice.kron_power(_MIRROR, of_or))
