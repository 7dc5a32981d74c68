"""The subset lattice of n players: the bit order, and the transforms that live on it.

This module owns the one convention everything else relies on: an array of length 2**n_players is indexed by
subset, and bit i of the index is player i (player 0 is the lowest bit). Index 0 is the empty set.

Every transform here is a Kronecker power of a 2x2 matrix (rows and columns: player absent, player present). It is
applied as n_players butterfly passes, O(n 2^n), and never as a 2^n x 2^n matrix. NumPy arrays stay on the host, JAX
arrays stay on their device and trace under `jit`, `vmap` and `grad`; leading axes are batch axes.
"""

import numpy as np

# Player absent / player present. Row: the new coefficient; column: the old one.
_ZETA = ((1, 0), (1, 1))
_MOEBIUS = ((1, 0), (-1, 1))
_ZETA_TRANSPOSED = ((1, 1), (0, 1))

# G, whose Kronecker power takes AND effects to minus the OR effects of the same function: see `mirror`.
MIRROR = ((1, 1), (0, -1))

_PLAYERS_PER_PRODUCT = 5


def n_players_of(values, what: str = "values") -> int:
    """Number of players of an array whose last axis is indexed by subset.

    Raises ValueError when the last axis is not a power of two.
    """
    shape = np.shape(values)
    size = shape[-1] if shape else 0
    if size < 1 or size & (size - 1):
        raise ValueError(
            f"{what} must have 2**n_players entries along its last axis; got shape {shape}. Give one value for "
            "every subset of the players, the empty set first."
        )
    return size.bit_length() - 1


def kron_power(matrix, values):
    """Apply the Kronecker power of a 2x2 matrix along the last axis, one butterfly pass per player.

    On a device, five passes at a time are one small matrix product: as many memory passes fewer, and ten times less
    to compile.

    Args:
      matrix: 2x2, rows and columns ordered (player absent, player present).
      values: `[..., 2**n_players]`, NumPy or JAX, real: floating, or signed integers where the matrix is of integers.

    Returns:
      Array of the shape, kind and dtype of `values`.

    Raises:
      ValueError: for another shape or dtype, such as bool, whose sums do not fit it.
    """
    n_players = n_players_of(values)
    matrix = np.asarray(matrix)
    kind = values.dtype.kind if hasattr(values, "dtype") else None
    if kind is None or kind in "bucOSUmM" or (kind == "i" and matrix.dtype.kind == "f"):
        found = type(values).__name__ if kind is None else values.dtype
        raise ValueError(
            f"kron_power(values=...) must be an array of floats, or of signed integers for an integer matrix; got "
            f"{found}. Convert it, for instance with np.asarray(values, float)."
        )
    if not isinstance(values, np.ndarray):
        return _kron_power_on_device(matrix, values, n_players)
    # In the dtype of the values, which a float64 matrix would widen.
    (absent_absent, absent_present), (present_absent, present_present) = matrix.astype(values.dtype)
    triangular = not absent_present and absent_absent == 1 and present_present == 1
    shape, low = values.shape, n_players // 2
    values = values.reshape(-1, 2 ** (n_players - low), 2**low)
    for players in (low, n_players - low):
        # One half of the players at a time is the outer axis, so that every pass runs along long rows of memory.
        values = values.swapaxes(1, 2).copy()
        for player in range(players):
            pairs = values.reshape(len(values), 2 ** (players - 1 - player), 2, -1)
            absent, present = pairs[:, :, 0], pairs[:, :, 1]
            if triangular:
                present += present_absent * absent if present_absent != 1 else absent
                continue
            before = absent.copy()
            absent[:] = absent_absent * before + absent_present * present
            present[:] = present_absent * before + present_present * present
    return values.reshape(shape)


def _kron_power_on_device(matrix, values, n_players: int):
    """`kron_power` for a JAX array."""
    import jax.numpy as jnp  # here, because this module must not make NumPy-only callers pay for JAX

    shape, done = values.shape, 0
    while done < n_players:
        players = min(_PLAYERS_PER_PRODUCT, n_players - done)
        factor = np.ones((1, 1))
        for _ in range(players):
            factor = np.kron(matrix, factor)
        # The lowest players' axis is transformed and becomes the highest; after all groups the order is the old one.
        groups = values.reshape(*shape[:-1], 2 ** (n_players - players), 2**players)
        values = jnp.einsum("ij,...aj->...ia", jnp.asarray(factor, values.dtype), groups, precision="highest")
        values = values.reshape(shape)
        done += players
    return values


def zeta(values):
    """Subset sums: out[T] = sum of values[S] over S ⊆ T. The AND dictionary A applied to effects. `[..., 2**n]`."""
    return kron_power(_ZETA, values)


def zeta_transposed(values):
    """Superset sums: out[S] = sum of values[T] over T ⊇ S. The transposed AND dictionary A^T. `[..., 2**n]`."""
    return kron_power(_ZETA_TRANSPOSED, values)


def moebius(values):
    """Inverse of `zeta`: out[S] = sum_{T ⊆ S} (-1)^(|S|-|T|) values[T] (Harsanyi dividends). `[..., 2**n]`."""
    return kron_power(_MOEBIUS, values)


def complement(values):
    """out[T] = values[N \\ T]: the subset axis reversed, since N \\ T is index 2**n - 1 - T. `[..., 2**n]`."""
    return values[..., ::-1]


def or_sums(effects):
    """The OR dictionary B applied to effects: out[T] = sum of effects[S] over S ∩ T ≠ ∅. `[..., 2**n]`."""
    within = zeta(effects)
    return within[..., -1:] - complement(within)


def or_sums_transposed(values):
    """B^T: out[S] = sum of values[T] over T ∩ S ≠ ∅. B is symmetric, so this equals `or_sums`. `[..., 2**n]`."""
    return or_sums(values)


def or_moebius(values):
    """OR effects b with B b = values - values[∅]: b_S = -sum_{T ⊆ S} (-1)^(|S|-|T|) values[N \\ T], b_∅ = 0.

    Li & Zhang, ICML 2023 (arXiv 2302.13080), OR interactions. `[..., 2**n]`.
    """
    xp = values.__array_namespace__()
    effects = -moebius(complement(values))
    return xp.concat([xp.zeros_like(effects[..., :1]), effects[..., 1:]], axis=-1)


def mirror(and_effects):
    """OR effects of the function whose AND effects are given: b = -G a on S ≠ ∅, with G = [[1,1],[0,-1]]^{⊗n}.

    G is an involution, so the same map takes OR effects (b_∅ = 0) back to AND effects on S ≠ ∅. Entry ∅ of the
    result is 0: a constant is neither. `[..., 2**n]`.
    """
    xp = and_effects.__array_namespace__()
    mirrored = -kron_power(MIRROR, and_effects)
    return xp.concat([xp.zeros_like(mirrored[..., :1]), mirrored[..., 1:]], axis=-1)


def orders(n_players: int) -> np.ndarray:
    """Order |S| of every subset. int64 `[2**n_players]`."""
    return np.bitwise_count(np.arange(2**n_players)).astype(np.int64)


def masks(n_players: int) -> np.ndarray:
    """Which players each subset holds. bool `[2**n_players, n_players]`."""
    return (np.arange(2**n_players)[:, None] >> np.arange(n_players)) & 1 == 1


def members(subset: int) -> tuple[int, ...]:
    """Players of one subset index, ascending. `members(0b101) == (0, 2)`."""
    return tuple(player for player in range(int(subset).bit_length()) if subset >> player & 1)


def subset_of(players) -> int:
    """Subset index of some players. `subset_of((0, 2)) == 0b101`."""
    return sum(1 << player for player in set(players))
