"""Transforms against their definitions, host against device."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from andor.core import lattice

N_PLAYERS = 5
SUBSETS = range(2**N_PLAYERS)


def by_definition(name: str) -> np.ndarray:
    """The O(4^n) matrix of a transform, from the definition in its docstring."""
    size, full = 2**N_PLAYERS, 2**N_PLAYERS - 1

    def sign(s, t):
        return (-1.0) ** (int(s).bit_count() - int(t).bit_count())

    entries = {
        "zeta": lambda t, s: float(s & t == s),
        "zeta_transposed": lambda s, t: float(s & t == s),
        "moebius": lambda s, t: sign(s, t) if t & s == t else 0.0,
        "complement": lambda t, s: float(s == full - t),
        "or_sums": lambda t, s: float(s & t != 0),
        "or_sums_transposed": lambda s, t: float(s & t != 0),
        "or_moebius": lambda s, t: -sign(s, full - t) if s and (full - t) & s == full - t else 0.0,
        "mirror": lambda s, t: -((-1.0) ** int(s).bit_count()) if s and s & t == s else 0.0,
    }
    return np.array([[entries[name](row, column) for column in range(size)] for row in range(size)])


TRANSFORMS = (
    "zeta",
    "zeta_transposed",
    "moebius",
    "complement",
    "or_sums",
    "or_sums_transposed",
    "or_moebius",
    "mirror",
)


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("kind", ["host", "device"])
def test_transform_is_its_definition(name, kind):
    values = np.random.default_rng(0).normal(size=(3, 2**N_PLAYERS)).astype(np.float32)
    given_ = values if kind == "host" else jnp.asarray(values)
    out = getattr(lattice, name)(given_)
    assert isinstance(out, np.ndarray) == (kind == "host")
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, values @ by_definition(name).T.astype(np.float32), atol=2e-5)


@pytest.mark.parametrize("n_players", [0, 1, 4, 5, 6, 11])
def test_host_and_device_agree_at_every_group_size(n_players):
    values = np.random.default_rng(n_players).normal(size=2**n_players)
    with jax.enable_x64(True):
        for name in TRANSFORMS:
            transform = getattr(lattice, name)
            np.testing.assert_allclose(transform(jnp.asarray(values)), transform(values), atol=1e-9)


def test_twenty_players():
    values = np.random.default_rng(0).normal(size=2**20)
    np.testing.assert_allclose(lattice.moebius(lattice.zeta(values)), values, atol=1e-9)
    with jax.enable_x64(True):
        np.testing.assert_allclose(lattice.zeta(jnp.asarray(values)), lattice.zeta(values), atol=1e-7)


def test_integers_stay_integers():
    values = np.arange(16)
    for array in (values, jnp.asarray(values)):
        assert np.issubdtype(lattice.zeta(array).dtype, np.integer)
        np.testing.assert_array_equal(lattice.zeta(array), by_definition_of_zeta_for(4) @ values)


def by_definition_of_zeta_for(n_players):
    return np.array([[int(s & t == s) for s in range(2**n_players)] for t in range(2**n_players)])


vectors = st.lists(st.floats(-100, 100), min_size=16, max_size=16).map(np.array)


@settings(deadline=None)
@given(vectors, vectors, st.floats(-10, 10))
def test_transforms_are_linear(x, y, factor):
    for name in TRANSFORMS:
        transform = getattr(lattice, name)
        np.testing.assert_allclose(transform(x + factor * y), transform(x) + factor * transform(y), atol=1e-8)


@settings(deadline=None)
@given(vectors)
def test_inverses_and_involutions(x):
    without_empty = np.where(np.arange(16) > 0, x, 0.0)
    np.testing.assert_allclose(lattice.moebius(lattice.zeta(x)), x, atol=1e-9)
    np.testing.assert_allclose(lattice.mirror(lattice.mirror(without_empty)), without_empty, atol=1e-9)
    np.testing.assert_allclose(lattice.or_sums(lattice.or_moebius(x)), x - x[0], atol=1e-9)
    # The mirror turns AND effects into the OR effects of the same function.
    np.testing.assert_allclose(lattice.or_sums(lattice.mirror(without_empty)), lattice.zeta(without_empty), atol=1e-9)


@settings(deadline=None)
@given(vectors, vectors)
def test_transposes(x, y):
    for name in ("zeta", "or_sums"):
        forward, transposed = getattr(lattice, name), getattr(lattice, f"{name}_transposed")
        assert forward(x) @ y == pytest.approx(x @ transposed(y), abs=1e-6)


def test_bit_order():
    assert lattice.subset_of((0, 2)) == 0b101
    assert lattice.members(0b110) == (1, 2)
    np.testing.assert_array_equal(lattice.masks(2), [[False, False], [True, False], [False, True], [True, True]])
    np.testing.assert_array_equal(lattice.orders(3), [0, 1, 1, 2, 1, 2, 2, 3])


@pytest.mark.parametrize("shape", [(), (0,), (3,), (4, 6)])
def test_wrong_length_is_refused(shape):
    with pytest.raises(ValueError, match="2\\*\\*n_players"):
        lattice.zeta(np.zeros(shape))


@pytest.mark.parametrize("convert", [np.asarray, jnp.asarray], ids=["host", "device"])
def test_the_dtype_of_the_values_is_kept(convert):
    halves = np.array([[0.5, 0.5], [0.5, -0.5]])
    for dtype in (np.float32, np.float16):
        assert lattice.kron_power(halves, convert(np.ones(8, dtype))).dtype == dtype
    assert lattice.zeta(convert(np.ones(8, np.int32))).dtype == np.int32
    for dtype in (bool, np.uint8):
        with pytest.raises(ValueError, match=rf"must be an array of floats.* got {np.dtype(dtype)}"):
            lattice.zeta(convert(np.ones(8, dtype)))
    with pytest.raises(ValueError, match="got int32"):
        lattice.kron_power(halves, convert(np.ones(8, np.int32)))
    with pytest.raises(ValueError, match="got list"):
        lattice.kron_power(halves, [1.0, 2.0])
