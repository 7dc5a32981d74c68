"""Cholesky factorisation made of matrix products, for the normal equations of the interior point.

On the CPU, XLA hands a factorisation to LAPACK, whose threads spin: next to any other busy process, one of 256 x 256
takes a hundred milliseconds instead of one. XLA's own matrix product has no such trouble and runs several times
faster than LAPACK's factorisation, so the matrix is halved recursively,

    [A11  .  ]            [L11   . ]
    [A21  A22]  =  L L^T, [L21  L22]     L21 = A21 L11^{-T},   L22 L22^T = A22 - L21 L21^T,

with explicit inverses of the diagonal blocks, down to leaves that a loop eliminates row by row. The inverses cost some
accuracy in theory; one step of refinement of the solution gives it back. Elsewhere the native factorisation is used.

A matrix that does not halve evenly is extended by ones on the diagonal.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import cho_solve
from jaxtyping import Array, Float

from andor.solvers.placement import platform


def _leaf(size: int) -> int:
    """Measured: below, the products are too small to be worth it; above, the leaves' loops are too slow."""
    return 32 if size <= 256 else 64 if size <= 1024 else 128


class _Split(NamedTuple):
    """Factor of a matrix in halves. `last` is a `_Split` again, or at the bottom the inverse of its factor."""

    inverse_first: Float[Array, "h h"]
    below: Float[Array, "h h"]
    last: "_Split | Float[Array, 'h h']"


def cholesky_solver(matrix: Float[Array, "m m"]):
    """Solver r -> matrix^{-1} r of a symmetric positive definite matrix. Reads its lower triangle.

    The factorisation happens here, once; the solver may be called any number of times. Not positive definite to
    working precision shows as NaN.
    """
    if platform() != "cpu":
        factor = jax.lax.linalg.cholesky(matrix, symmetrize_input=False)
        return lambda r: cho_solve((factor, True), r)
    size = matrix.shape[0]
    leaf = _leaf(size)
    # Halves of halves have to be whole: a multiple of the number of leaves.
    leaves = 2 ** max(0, (-(-size // leaf) - 1).bit_length())
    extra = -size % leaves
    every = jnp.arange(size, size + extra)
    matrix = jnp.pad(matrix, ((0, extra), (0, extra))).at[every, every].set(1.0)
    factor = _split(matrix, leaf)
    return lambda r: _backward(factor, _forward(factor, jnp.pad(r, (0, extra))))[:size]


def _split(matrix, leaf: int):
    """Factor of `matrix` without the inverse of the whole: a `_Split`, or the inverse for a leaf."""
    if matrix.shape[0] <= leaf:
        return _leaf_inverse(matrix)
    inverse_first, below, rest = _halve(matrix, leaf)
    return _Split(inverse_first, below, _split(rest, leaf))


def _inverse(matrix, leaf: int):
    """Inverse of the Cholesky factor of `matrix`."""
    if matrix.shape[0] <= leaf:
        return _leaf_inverse(matrix)
    inverse_first, below, rest = _halve(matrix, leaf)
    inverse_last = _inverse(rest, leaf)
    bands = _bands(below.shape[0])
    # Bands skip the zero half of the triangular factors.
    product = jnp.concatenate([below[:, band.start :] @ inverse_first[band.start :, band] for band in bands], axis=1)
    corner = -jnp.concatenate([inverse_last[band, : band.stop] @ product[: band.stop] for band in bands], axis=0)
    return jnp.block([[inverse_first, jnp.zeros_like(corner)], [corner, inverse_last]])


def _halve(matrix, leaf: int):
    """Eliminate the first half of the rows: (inverse of L11, L21, lower triangle of what is left to factorise)."""
    half = matrix.shape[0] // 2
    bands = _bands(half)
    inverse_first = _inverse(matrix[:half, :half], leaf)
    corner = matrix[half:, :half]
    below = jnp.concatenate([corner[:, : band.stop] @ inverse_first[band, : band.stop].T for band in bands], axis=1)
    rest = matrix[half:, half:]
    if len(bands) == 1:
        return inverse_first, below, rest - below @ below.T
    rows = [rest[band, : band.stop] - below[band] @ below[: band.stop].T for band in bands]
    return inverse_first, below, jnp.concatenate([jnp.pad(row, ((0, 0), (0, half - row.shape[1]))) for row in rows])


def _bands(size: int) -> list[slice]:
    """Up to 4 equal slices of at least 256 rows."""
    count = max(1, min(4, size // 256))
    return [slice(i * size // count, (i + 1) * size // count) for i in range(count)]


def _leaf_inverse(matrix):
    """Inverse of the Cholesky factor of a small matrix, by elimination on [matrix | identity]. Reads its lower half."""
    size = matrix.shape[0]
    rows = jnp.arange(size)
    symmetric = jnp.where(rows[:, None] >= rows[None, :], matrix, matrix.T)

    def eliminate(pivot, work):
        row = work[pivot]
        scale = jax.lax.rsqrt(row[pivot])
        below = jnp.where(rows > pivot, work[:, pivot], 0.0) * scale
        row = row * scale
        return jnp.where((rows == pivot)[:, None], row[None, :], work - below[:, None] * row[None, :])

    work = jnp.concatenate([symmetric, jnp.eye(size, dtype=matrix.dtype)], axis=1)
    return jax.lax.fori_loop(0, size, eliminate, work)[:, size:]


def _forward(factor, r):
    """L^{-1} r."""
    if not isinstance(factor, _Split):
        return factor @ r
    half = factor.below.shape[0]
    first = factor.inverse_first @ r[:half]
    return jnp.concatenate([first, _forward(factor.last, r[half:] - factor.below @ first)])


def _backward(factor, z):
    """L^{-T} z."""
    if not isinstance(factor, _Split):
        return z @ factor
    half = factor.below.shape[0]
    last = _backward(factor.last, z[half:])
    return jnp.concatenate([(z[:half] - last @ factor.below) @ factor.inverse_first, last])
