"""The one order profile: units, the mean, prompts of different sizes, and which prompts of a run it is of."""

import numpy as np
import pytest
from small_runs import planted_run

from andor.measures.bootstrap import interval, resampled
from andor.measures.metrics import OrderStrength
from andor.measures.profile import Profile, profile, profile_of, prompts_with_effects, run_profile, strength
from andor.measures.spindle import spindle_split
from andor.prompts import Prompt

SMALL = OrderStrength(np.array([2.0, 4.0]), np.array([0.0, 2.0]), (2,))
LARGE = OrderStrength(np.array([1.0, 0.0, 3.0]), np.array([1.0, 1.0, 0.0]), (3,))


def test_a_profile_is_the_strength_of_every_prompt_in_its_unit():
    found = profile([SMALL, LARGE], [2.0, 1.0])
    assert found.players == (2, 3)
    np.testing.assert_array_equal(found.strengths, [[[1, 2, 0], [0, 1, 0]], [[1, 0, 3], [1, 1, 0]]])
    np.testing.assert_array_equal(found.mean.positive, [1, 1, 1.5])
    np.testing.assert_array_equal(found.mean.negative, [0.5, 1, 0])
    assert found.mean.players == (2, 3)
    assert found.total == (4 + 6) / 2
    assert found.low_orders == (4 + 3) / 10
    assert found.mean_order == pytest.approx((1 * 3 + 2 * 4 + 3 * 3) / 10)
    # By order: 2 + 0 of 3 is left; 1 + 1 of 4; 3 of 3.
    np.testing.assert_allclose(found.cancellation, [1 - (1 + 0) / 3, 1 - (1 + 1) / 4, 0])
    np.testing.assert_allclose(found.standard_error[0], np.std([[1, 2, 0], [1, 0, 3]], axis=0, ddof=1) / np.sqrt(2))


def test_units_weigh_prompts():
    twice = profile([SMALL, LARGE], [1.0, 2.0])
    np.testing.assert_allclose(twice.mean.positive, (np.array([2, 4, 0]) + np.array([1, 0, 3]) / 2) / 2)
    own = profile([SMALL, LARGE], [8.0, 6.0])
    np.testing.assert_allclose(own.strengths.sum(axis=(1, 2)), 1)
    assert own.total == 1


def test_a_choice_without_the_longest_prompt_has_no_order_that_none_of_them_has():
    strengths = np.zeros((3, 2, 10))
    strengths[:, :, :8] = np.random.default_rng(0).uniform(size=(3, 2, 8))
    found = Profile(strengths, (8, 8, 10))
    few = found.of(np.array([1, 0, 1]))
    assert few.players == (8, 8, 8) and few.strengths.shape == (3, 2, 10)
    np.testing.assert_array_equal(few.strengths, strengths[[1, 0, 1]])
    mean = strengths[[1, 0, 1]].mean(axis=0)[:, :8]
    np.testing.assert_array_equal([few.mean.positive, few.mean.negative], mean)
    cut = spindle_split(OrderStrength(*mean, (8, 8, 8)))
    assert few.split.spindle_share == cut.spindle_share and few.split.misfit == cut.misfit
    # An order at which nobody has strength is not the same as an order that nobody has.
    whole = Profile(strengths[[1, 0, 1]], (8, 8, 10))
    assert few.split.spindle_share != whole.split.spindle_share and np.isfinite(whole.split.spindle_share)


def test_effects_cancel_within_a_prompt_only():
    # Order 1: +1 in one prompt, -1 in the other. Order 2: +1 and -1 in each. Order 3: next to nothing.
    strengths = np.array([[[1.0, 1.0, 1e-9], [0.0, 1.0, 0.0]], [[0.0, 1.0, 0.0], [1.0, 1.0, 0.0]]])
    np.testing.assert_array_equal(Profile(strengths, (3, 3)).cancellation, [0, 1, np.nan])


def test_one_prompt_has_no_standard_error():
    assert np.isnan(profile([SMALL], [1.0]).standard_error).all()


def test_no_prompt_makes_an_empty_profile():
    found = profile([], [])
    assert found.players == () and found.strengths.shape == (0, 2, 0)


def test_the_profile_of_a_run_is_in_units_of_the_optimum():
    prompts = tuple(Prompt("a b c", list("abc"), "x", name) for name in "pq")
    run = planted_run({"one": 1.0, "two": -3.0}, {0b001: 1.0, 0b111: -2.0}, {0b110: 1.0}, constant=5.0, prompts=prompts)
    assert prompts_with_effects(run) == ("p", "q")
    assert strength(run["two", "p"].pair()) == 12, "v(∅) is no effect"
    for model, sign in (("one", 1), ("two", -1)):
        found = run_profile(run, model, "certified")
        assert found.players == (3, 3) and found.total == 1
        sides = np.array([[1, 1, 0], [0, 0, 2]])[::sign] / 4
        np.testing.assert_allclose([found.mean.positive, found.mean.negative], sides)
        # v = [a] + [b or c] - 2 [abc], and [b or c] = [b] + [c] - [bc].
        alone = run_profile(run, model, "and_only")
        np.testing.assert_allclose(alone.mean.positive + alone.mean.negative, np.array([3, 1, 2]) / 4)
        assert alone.total == 1.5


def test_a_prompt_without_effects_under_one_model_is_in_the_profile_of_none():
    run = planted_run({"one": 1.0, "none": 0.0}, {0b011: 1.0}, {}, constant=1.0)
    assert prompts_with_effects(run) == ()
    assert run_profile(run, "one", "certified").players == ()


def test_intervals_are_those_of_every_order_and_sign_over_prompts():
    found = Profile(np.random.default_rng(1).uniform(size=(6, 2, 3)), (3,) * 6)
    numbers = found.intervals(seed=2)
    assert numbers.shape == (2, 3, 3)
    np.testing.assert_array_equal(numbers[1, 2], interval(found.strengths[:, 1, 2], seed=2))
    low = resampled(6, lambda places: found.of(places).low_orders, 2, 50).interval()
    assert found.interval(lambda some: some.low_orders, 2, 50) == low
    estimates, ends = found.cancellation_intervals()[:, 0], found.cancellation_intervals()[:, 1:]
    np.testing.assert_array_equal(estimates, found.cancellation)
    assert (ends[:, 0] <= estimates).all() and (estimates <= ends[:, 1]).all()


def test_balance_and_positive_share():
    strengths = np.array([[[3.0, 1.0], [1.0, 1.0]]])
    found = Profile(strengths, (2,))
    assert found.positive == 4 / 6 and found.balance == 1 - 2 / 6
    nothing = Profile(np.zeros((2, 2, 3)), (3, 3))
    assert np.isnan([nothing.positive, nothing.balance, nothing.mean_order, nothing.low_orders]).all()


def test_a_profile_of_effects_is_in_units_of_their_own_strength():
    pairs = [(np.array([9.0, 1.0, -2.0, 1.0]), np.zeros(4)), (np.zeros(8), np.zeros(8))]
    found = profile_of(pairs)
    np.testing.assert_array_equal(found.strengths[0], [[0.25, 0.25, 0], [0.5, 0, 0]])
    assert not found.strengths[1].any()
    np.testing.assert_array_equal(profile_of(pairs, [8.0, 1.0]).strengths[0], found.strengths[0] / 2)
