"""The AND-OR constraint in Harsanyi coordinates, shared by the solvers.

With c = moebius(v), the constraint v = A a + B b + e reads, on the rows S ≠ ∅,

    a - G b + Z e = c       (G the mirror of `lattice`, Z the Moebius transform)

since AND effects are their own Harsanyi effects, and those of OR effects are their mirror. The multipliers u of these
rows give the dual values y = Z^T u of the problem as posed, and the correlations A^T y = u and B^T y = -G^T u. Row and
entry ∅ are 0 throughout: v(∅) is exact.
"""

from jaxtyping import Array, Float

from andor import lattice

_MIRROR_TRANSPOSED = ((1, 0), (1, -1))
_MOEBIUS_TRANSPOSED = ((1, -1), (0, 1))


def without_empty(x: Float[Array, "*p s"]) -> Float[Array, "*p s"]:
    """x with entry ∅ set to 0."""
    return x.at[..., 0].set(0.0)


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
