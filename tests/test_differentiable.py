"""Derivatives of the optimum against finite differences, in float32 and float64 programs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from games import planted

import andor
from andor.core import lattice
from andor.solvers import FirstOrder, InteriorPoint, differentiable, optimal_effects, optimal_strength

N_PLAYERS = 3
SIZE = 2**N_PLAYERS
PAIRS = lattice.orders(6) == 2
V = planted(N_PLAYERS, 4, sigma=0.2)


def finite_differences(function, v, step=1e-4):
    return np.array([(function(v + step * e) - function(v - step * e)) / (2 * step) for e in np.eye(len(v))])


def strength_of(orders, noise):
    chosen = np.isin(lattice.orders(N_PLAYERS), orders)

    def strength(v):
        solution = andor.extract(v, noise)
        return np.sum((np.abs(solution.and_effects) + np.abs(solution.or_effects))[chosen])

    return strength


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_gradient_of_the_strength(noise, x64):
    with jax.enable_x64(x64):
        v = jnp.asarray(V)
        value, gradient = jax.jit(jax.value_and_grad(lambda v: optimal_strength(v, noise)))(v)
        assert value.dtype == gradient.dtype == v.dtype
    assert value == pytest.approx(andor.extract(V, noise).primal, rel=1e-5)
    expected = finite_differences(lambda v: andor.extract(v, noise).primal, V)
    np.testing.assert_allclose(gradient, expected, atol=1e-3)


@pytest.mark.parametrize("orders", [(1,), (2, 3)])
@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_gradient_of_the_strength_of_chosen_orders(orders, noise):
    with jax.enable_x64(True):
        value, gradient = jax.value_and_grad(lambda v: optimal_strength(v, noise, orders))(jnp.asarray(V))
    assert value == pytest.approx(strength_of(orders, noise)(V), rel=1e-4)
    np.testing.assert_allclose(gradient, finite_differences(strength_of(orders, noise), V), atol=2e-2)


def test_gradient_of_any_function_of_the_effects():
    weights = np.random.default_rng(0).normal(size=(2, SIZE))

    def loss(v):
        and_effects, or_effects = optimal_effects(v, 0.0)
        return jnp.sum(weights[0] * and_effects**2 + weights[1] * or_effects**3)

    def loss_of_extract(v):
        solution = andor.extract(v, 0.0)
        return np.sum(weights[0] * solution.and_effects**2 + weights[1] * solution.or_effects**3)

    with jax.enable_x64(True):
        gradient = jax.grad(loss)(jnp.asarray(V))
    np.testing.assert_allclose(gradient, finite_differences(loss_of_extract, V), atol=2e-2)


def test_batches_under_vmap():
    batch = jnp.asarray(np.stack([V, planted(N_PLAYERS, 5)]), jnp.float32)
    gradients = jax.jit(jax.vmap(jax.grad(optimal_strength)))(batch)
    effects = jax.vmap(lambda v: optimal_effects(v, 0.02))(batch)
    for i in range(2):
        np.testing.assert_allclose(gradients[i], jax.grad(optimal_strength)(batch[i]), atol=1e-5)
        np.testing.assert_allclose(effects[0][i], optimal_effects(batch[i], 0.02)[0], atol=1e-5)


def test_a_training_loss_can_lower_the_strength():
    v = jnp.asarray(V, jnp.float32)
    descend = jax.jit(lambda v: v - 0.01 * jax.grad(optimal_strength)(v))
    lower = v
    for _ in range(5):
        lower = descend(lower)
    assert optimal_strength(lower) < optimal_strength(v) - 0.1


def test_a_constant_has_no_strength():
    value, gradient = jax.value_and_grad(optimal_strength)(jnp.ones(SIZE))
    assert value == pytest.approx(0, abs=1e-6) and np.all(np.isfinite(gradient))


def test_gradient_at_six_players():
    """Chosen orders too, which only the end of the central path makes smooth, at steps wider than its own width."""
    v = np.random.default_rng(6).normal(size=64)
    direction = np.random.default_rng(7).normal(size=64)

    def strength(v):
        solution = andor.extract(v, 0.0)
        return np.array([solution.primal, np.sum((np.abs(solution.and_effects) + np.abs(solution.or_effects))[PAIRS])])

    expected = (strength(v + 1e-4 * direction) - strength(v - 1e-4 * direction)) / 2e-4
    with jax.enable_x64(True):
        of_all, of_pairs = (
            np.asarray(jax.grad(lambda v, o=o: optimal_strength(v, 0.0, o))(jnp.asarray(v))) for o in (None, (2,))
        )
    assert of_all @ direction == pytest.approx(expected[0], abs=1e-3)
    assert of_pairs @ direction == pytest.approx(expected[1], abs=0.05)


@pytest.mark.parametrize("orders", [None, (1, 2)])
def test_what_is_not_solved_is_not_a_number(orders):
    value, gradient = jax.value_and_grad(optimal_strength)(jnp.asarray(V), 0.02, orders, InteriorPoint(max_steps=2))
    assert np.isnan(value) and np.all(np.isnan(gradient))
    assert all(np.all(np.isnan(x)) for x in optimal_effects(jnp.asarray(V), 0.02, InteriorPoint(max_steps=2))[1:])


@pytest.mark.parametrize("noise", [np.nan, np.inf, -0.1])
def test_bad_noise_is_refused(noise):
    for function in (optimal_strength, optimal_effects):
        with pytest.raises(ValueError, match=rf"{function.__name__}\(noise=...\) must be finite and not negative"):
            function(jnp.asarray(V), noise)


def test_what_annotations_catch_in_tests_is_refused_without_them():
    with pytest.raises(ValueError, match=r"got shape \(2, 8\). Use jax.vmap\(optimal_strength\) for a batch"):
        differentiable._checked("optimal_strength", np.zeros((2, 8)), 0.0, None)
    with pytest.raises(ValueError, match=r"solver=...\) must be an InteriorPoint.* got FirstOrder"):
        differentiable._checked("optimal_strength", np.zeros(8), 0.0, FirstOrder())
    with pytest.raises(ValueError, match=r"optimal_effects\(v=...\) has 20 players, .* Use fewer players, or "):
        differentiable._checked("optimal_effects", np.zeros(2**20), 0.0, None)
    with pytest.raises(ValueError, match=r"must have shape \[2\*\*n_players\]; got shape \(7,\)"):
        optimal_strength(jnp.zeros(7))
    for orders in ("12", [1.5], np.array([9])):
        with pytest.raises(ValueError, match=r"orders=...\) must be a collection of orders from 1 to n_players=3"):
            differentiable._chosen_orders(orders, 3)
    with pytest.raises(ValueError, match=r"such as \(1, 2\); got 2."):
        differentiable._chosen_orders(2, 3)
    assert differentiable._chosen_orders(np.array([1, 3]), 3) == [1, 3]


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="orders"):
        optimal_strength(jnp.asarray(V), 0.02, (0, 1))
    with pytest.raises(ValueError, match="noise"):
        optimal_effects(jnp.asarray(V), -0.1)
