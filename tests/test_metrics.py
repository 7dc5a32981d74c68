"""Every metric on hand-made games with known answers."""

import subprocess
import sys
from math import isnan

import jaxtyping
import numpy as np
import pytest

from andor.core.lattice import masks, moebius, or_sums, subset_of, zeta
from andor.measures.metrics import (
    cancellation,
    ips,
    logic_model,
    low_order_r2,
    matching,
    order_strength,
    output_range,
    ranking,
    salient,
    salient_count,
    shared_order_strength,
    sparsity_curve,
    sparsity_curves,
    transfer,
    walsh_r2,
    weighted_overlap,
)


def game(n_players, ands=None, ors=None, constant=0.0):
    """Effects from {players: value}: `game(3, {(0, 1): 2.0})` is AND of players 0 and 1 with strength 2."""
    and_effects, or_effects = np.zeros(2**n_players), np.zeros(2**n_players)
    and_effects[0] = constant
    for effects, given in ((and_effects, ands or {}), (or_effects, ors or {})):
        for players, value in given.items():
            effects[subset_of(players)] = value
    return and_effects, or_effects


def values(and_effects, or_effects):
    return zeta(and_effects) + or_sums(or_effects)


def random_game(rng, n_players):
    and_effects, or_effects = rng.standard_normal((2, 2**n_players))
    or_effects[np.bitwise_count(np.arange(2**n_players)) <= 1] = 0
    return and_effects, or_effects


EXAMPLE = game(3, ands={(0,): 4.0, (0, 1): -2.0, (0, 1, 2): 0.1}, ors={(1, 2): 3.0, (0, 2): -0.5}, constant=-7.0)
NOTHING = game(3, constant=5.0)
NOTHING_OF_TWO = game(2)


def test_importing_metrics_loads_no_jax():
    code = "import sys, andor; andor.metrics, andor.spindle; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Ranking and logic model


def test_ranking_is_strongest_first_and_leaves_out_constant_and_zeros():
    top = ranking(*EXAMPLE)
    np.testing.assert_array_equal(top.effect, [4.0, 3.0, -2.0, -0.5, 0.1])
    np.testing.assert_array_equal(top.subset, [0b001, 0b110, 0b011, 0b101, 0b111])
    np.testing.assert_array_equal(top.is_or, [False, True, False, True, False])


def test_ranking_breaks_ties_by_order_then_and_before_or_then_subset():
    effects = game(3, ands={(0, 1, 2): -1.0, (1, 2): 1.0, (0, 1): 1.0, (2,): -1.0}, ors={(0, 1): 1.0})
    top = ranking(*effects)
    np.testing.assert_array_equal(top.subset, [0b100, 0b011, 0b110, 0b011, 0b111])
    np.testing.assert_array_equal(top.is_or, [False, False, False, True, False])


def test_one_player_or_counts_as_that_and():
    as_or = game(2, ands={(0,): 1.0}, ors={(0,): 2.0, (1,): -1.0})
    as_and = game(2, ands={(0,): 3.0, (1,): -1.0})
    np.testing.assert_array_equal(ranking(*as_or).effect, ranking(*as_and).effect)
    np.testing.assert_array_equal(ranking(*as_or).is_or, [False, False])
    np.testing.assert_array_equal(logic_model(*as_or), logic_model(*as_and))
    assert weighted_overlap(as_or, as_and, (1.0, 1.0)) == 1


def test_logic_model_by_hand():
    # Constant, the three strongest: AND{0} 4, OR{1,2} 3, AND{0,1} -2.
    expected = -7 + np.array([0, 4, 3, 4 + 3 - 2, 3, 4 + 3, 3, 4 + 3 - 2])
    np.testing.assert_allclose(logic_model(*EXAMPLE, k=3), expected)
    np.testing.assert_array_equal(logic_model(*EXAMPLE, k=0), np.full(8, -7.0))


def test_logic_model_of_all_effects_is_v():
    rng = np.random.default_rng(0)
    effects = random_game(rng, 6)
    np.testing.assert_allclose(logic_model(*effects), values(*effects), atol=1e-12)
    np.testing.assert_allclose(logic_model(*effects, k=10**6), values(*effects), atol=1e-12)


# Matching


def test_matching_by_hand():
    effects = game(2, ands={(0,): 2.0, (0, 1): 1.0}, constant=1.0)
    v = values(*effects)  # 1, 3, 1, 4; the range is 3, the mean 2.25, the total sum of squares 6.75.
    found = matching(v, *effects, k=1)  # Only the last mask is off, by 1.
    assert found.k == 1
    assert found.r2 == pytest.approx(1 - 1 / 6.75)
    assert found.max_error == pytest.approx(1 / 3)
    assert found.mean_error == pytest.approx(1 / 12)


def test_matching_is_exact_with_all_effects_and_reports_how_many_there_were():
    v = values(*EXAMPLE)
    found = matching(v, *EXAMPLE, k=100)
    assert found.k == 5
    assert found.r2 == pytest.approx(1)
    assert found.max_error == pytest.approx(0, abs=1e-12)


def test_matching_sees_the_noise_that_effects_leave_out():
    noise = np.array([0, 0.3, -0.3, 0, 0, 0, 0, 0])
    found = matching(values(*EXAMPLE) + noise, *EXAMPLE, k=5)
    assert found.max_error == pytest.approx(0.3 / output_range(values(*EXAMPLE)))


def test_matching_undefined_cases_are_nan():
    constant = matching(np.full(8, 5.0), *NOTHING, k=3)
    assert constant.k == 0 and isnan(constant.r2) and isnan(constant.max_error) and isnan(constant.mean_error)
    same_ends = game(2, ands={(0,): 1.0, (0, 1): -1.0})  # v = 0, 1, 0, 0.
    found = matching(values(*same_ends), *same_ends, k=1)  # Only the last mask is off, by 1.
    assert isnan(found.max_error) and isnan(found.mean_error) and found.spread_error == pytest.approx(1 / 4)


def test_matching_one_player():
    effects = game(1, ands={(0,): 2.0}, constant=1.0)
    assert matching(values(*effects), *effects, k=1).r2 == 1
    assert matching(values(*effects), *effects, k=0).max_error == 1


# Sparsity


def test_sparsity_curve_has_every_effect_once():
    curve = sparsity_curve(*EXAMPLE)
    assert curve.size == 2**4 - 3 - 2
    np.testing.assert_allclose(curve[:6], [4, 3, 2, 0.5, 0.1, 0])
    assert sparsity_curve(*game(1, ands={(0,): -2.0}, constant=9.0)).tolist() == [2.0]
    assert sparsity_curve(*game(0)).size == 0
    of_two = sparsity_curves([EXAMPLE, game(1, ands={(0,): -2.0})])
    np.testing.assert_allclose(of_two[:, :3], [[1, 0.75, 0.5], [1, 0, 0]])


def test_salient_is_above_five_percent_of_the_largest_effect():
    effects = game(3, ands={(0,): -10.0, (1,): 0.5, (2,): 0.51}, ors={(0, 1): -0.6}, constant=1000.0)
    chosen_and, chosen_or = salient(*effects)
    assert np.flatnonzero(chosen_and).tolist() == [0b001, 0b100]
    assert np.flatnonzero(chosen_or).tolist() == [0b011]
    assert salient_count(*effects) == 3
    assert salient_count(*effects, tau=0.0) == 4
    assert salient_count(*NOTHING) == 0


# Transfer


def test_transfer_counts_the_shared_top_k_for_and_and_or_apart():
    first = game(3, ands={(0,): 5.0, (1,): 4.0, (2,): 1.0}, ors={(0, 1): 3.0, (1, 2): 2.0})
    second = game(3, ands={(0,): -5.0, (2,): 4.0, (1,): 1.0}, ors={(0, 1): 3.0, (0, 2): 2.0})
    two = transfer(first, second, k=2)
    assert (two.k, two.s_and, two.s_or) == (2, 0.5, 0.5)  # {0, 1} and {0, 2}; a sign does not matter.
    three = transfer(first, second, k=3)
    assert (three.s_and, three.s_or) == (1.0, 0.5)  # Only two ORs each: out of 2, not 3.
    assert transfer(first, first, k=50).s_or == 1.0


def test_transfer_to_a_model_with_fewer_effects():
    first = game(2, ands={(0,): 1.0, (1,): 1.0})
    second = game(2, ands={(0,): 1.0})
    assert transfer(first, second, k=2).s_and == transfer(second, first, k=2).s_and == 0.5
    assert isnan(transfer(first, second, k=2).s_or)
    assert transfer(first, NOTHING_OF_TWO, k=2).s_and == 0.0


def test_transfer_does_not_share_solver_dust():
    dust = 1e-4 * np.arange(8)
    first = (EXAMPLE[0] + dust, EXAMPLE[1])
    assert transfer(first, EXAMPLE, k=8).s_and == 1.0


def test_transfer_of_random_games_is_symmetric():
    rng = np.random.default_rng(0)
    first, second = random_game(rng, 6), random_game(rng, 6)
    assert transfer(first, second, k=20) == transfer(second, first, k=20)


# Weighted overlap


def test_weighted_overlap_by_hand():
    first = game(2, ands={(0,): 4.0, (1,): 2.0, (0, 1): 1.0}, constant=9.0)
    second = game(2, ands={(0,): 1.0, (1,): -1.0}, ors={(0, 1): 0.5}, constant=-9.0)
    # Ranges 2 and 1: (2, 1, .5, 0) against (1, -1, 0, .5). Same sign: min 1. Larger: 2 + 1 + .5 + .5.
    assert weighted_overlap(first, second, ranges=(2.0, 1.0)) == pytest.approx(1 / 4)
    assert weighted_overlap(second, first, ranges=(1.0, 2.0)) == pytest.approx(1 / 4)


def test_weighted_overlap_ends():
    doubled = (2 * EXAMPLE[0], 2 * EXAMPLE[1])
    assert weighted_overlap(EXAMPLE, doubled, ranges=(1.0, 2.0)) == pytest.approx(1)
    assert weighted_overlap(EXAMPLE, (-EXAMPLE[0], -EXAMPLE[1]), ranges=(1.0, 1.0)) == 0
    assert weighted_overlap(EXAMPLE, NOTHING, ranges=(1.0, 1.0)) == 0
    assert isnan(weighted_overlap(NOTHING, NOTHING, ranges=(1.0, 1.0)))
    assert isnan(weighted_overlap(EXAMPLE, EXAMPLE, ranges=(0.0, 1.0)))


# Order strength and cancellation


def test_order_strength_by_hand():
    strength = order_strength(*EXAMPLE)
    np.testing.assert_allclose(strength.positive, [4, 3, 0.1])
    np.testing.assert_allclose(strength.negative, [0, 2.5, 0])
    assert strength.players == (3,)
    np.testing.assert_allclose(order_strength(*EXAMPLE, tau=0.05).positive, [4, 3, 0])


def test_order_strength_sums_to_the_output_change():
    effects = random_game(np.random.default_rng(1), 7)
    strength, v = order_strength(*effects), values(*effects)
    assert strength.positive.sum() - strength.negative.sum() == pytest.approx(v[-1] - v[0])


def test_order_strength_edge_cases():
    assert order_strength(*NOTHING).positive.tolist() == [0, 0, 0]
    assert order_strength(*game(1, ands={(0,): -2.0})).negative.tolist() == [2]
    assert order_strength(*game(0, constant=1.0)).positive.size == 0


def test_shared_order_strength_keeps_each_models_own_values():
    first = game(3, ands={(0,): 4.0, (1,): 3.0, (0, 1): -2.0, (2,): 0.01}, ors={(1, 2): 1.0})
    second = game(3, ands={(0,): 2.0, (0, 1): 1.0, (2,): 2.0}, ors={(0, 2): 1.0})
    one, two = shared_order_strength(first, second)  # Salient in both: AND{0}, AND{0, 1}.
    np.testing.assert_allclose([one.positive, one.negative], [[4, 0, 0], [0, 2, 0]])
    np.testing.assert_allclose([two.positive, two.negative], [[2, 1, 0], [0, 0, 0]])
    everything = order_strength(*first, tau=0.05)
    assert (one.positive <= everything.positive).all() and (one.negative <= everything.negative).all()


def test_cancellation_by_hand():
    found = cancellation(order_strength(*EXAMPLE))
    np.testing.assert_allclose(found.per_order, [0, 1 - 0.5 / 5.5, 0])
    assert found.overall == pytest.approx(1 - 4.6 / 9.6)


def test_cancellation_is_one_when_signs_balance_and_nan_without_effects():
    found = cancellation(order_strength(*game(3, ands={(0,): 1.0, (1,): -1.0, (0, 1): 2.0, (1, 2): -2.0})))
    np.testing.assert_array_equal(found.per_order, [1, 1, np.nan])
    assert found.overall == 1
    assert isnan(cancellation(order_strength(*NOTHING)).overall)


# Rivals


def test_walsh_r2_is_that_of_the_strongest_parities():
    signs = 1 - 2 * (masks(3) @ np.array([[1, 0], [1, 1], [0, 1]]) % 2)  # parities of {0, 1} and of {1, 2}
    v = 5.0 + signs @ np.array([1.0, 2.0])
    assert [walsh_r2(v, k) for k in (0, 1, 2, 9)] == pytest.approx([0, 0.8, 1, 1])
    assert isnan(walsh_r2(np.ones(8), 1))


def test_low_order_r2_is_that_of_least_squares():
    v = np.random.default_rng(0).normal(size=16).cumsum()
    masks = np.arange(16)
    columns = np.stack([(masks & subset) == subset for subset in range(16) if subset.bit_count() <= 2], axis=1)
    fit = columns @ np.linalg.lstsq(columns.astype(float), v, rcond=None)[0]
    assert low_order_r2(v) == pytest.approx(1 - ((v - fit) ** 2).sum() / ((v - v.mean()) ** 2).sum())
    assert low_order_r2(v, 4) == pytest.approx(1) and low_order_r2(v, 0) == pytest.approx(0)
    assert isnan(low_order_r2(np.ones(16)))


# IPS


def test_ips_by_hand():
    first = game(2, ands={(0,): 4.0, (1,): 2.0}, ors={(0, 1): 0.1})
    second = game(2, ands={(0,): 1.0, (0, 1): -1.0})
    # Divided by their largest: (1, .5, 0) and (1, 0, -1) on AND{0}, AND{1}, AND{0,1}; the OR is not salient in either.
    found = ips(first, second)
    assert found.count == 3 and found.ips == pytest.approx(2 * (0 + 1 + 1) / 3)
    np.testing.assert_allclose(found.per_order, [1, 2])
    assert (found.opposite, found.different, found.similar) == pytest.approx((0, 2 / 3, 1 / 3))
    assert ips(second, first).ips == pytest.approx(4 / 3)


def test_ips_by_thirds_of_the_orders_and_types_of_stability():
    first = game(4, ands={(0,): 1.0, (1, 2): 0.6, (0, 1, 2): 0.5}, ors={(0, 1): 0.4, (0, 1, 2, 3): 0.5})
    second = game(4, ands={(0,): 1.0, (1, 2): 0.2, (0, 1, 2): -0.5}, ors={(0, 1): 0.4, (0, 1, 2, 3): 0.25})
    found = ips(first, second)
    # Of four orders 1 is low, 2 is middle, 3 and 4 are high.
    assert (found.low, found.middle, found.high) == pytest.approx((0, (1 + 0) / 2, (2 + 2 / 3) / 2))
    assert found.ips == pytest.approx((0 + 1 + 0 + 2 + 2 / 3) / 5)
    assert (found.opposite, found.different, found.similar) == pytest.approx((1 / 5, 1 / 5, 3 / 5))


def test_ips_ends():
    scaled = (3 * EXAMPLE[0], 3 * EXAMPLE[1])
    assert ips(EXAMPLE, scaled).ips == pytest.approx(0) and ips(EXAMPLE, scaled).similar == 1
    turned = ips(EXAMPLE, (-EXAMPLE[0], -EXAMPLE[1]))
    assert turned.ips == pytest.approx(2) and turned.opposite == 1
    assert ips(EXAMPLE, NOTHING).ips == 2 and ips(EXAMPLE, NOTHING).different == 1
    assert ips(NOTHING, NOTHING).count == 0 and isnan(ips(NOTHING, NOTHING).ips)


def test_ips_takes_solver_dust_for_nothing():
    first, second = game(2, ands={(0,): 1.0, (1,): 1.0}), game(2, ands={(0,): 1.0, (1,): -1e-4})
    assert ips(first, second).opposite == 0 and ips(first, second).ips == 1


# Input


def test_float32_effects_are_measured_in_float64():
    effects = tuple(part.astype(np.float32) for part in EXAMPLE)
    assert ranking(*effects).effect.dtype == logic_model(*effects).dtype == np.float64


def test_inputs_are_left_alone():
    and_effects, or_effects = game(2, ands={(0,): 1.0}, ors={(1,): 2.0}, constant=3.0)
    before = and_effects.copy(), or_effects.copy()
    matching(values(and_effects, or_effects), and_effects, or_effects, k=1)
    weighted_overlap((and_effects, or_effects), (and_effects, or_effects), (1.0, 1.0))
    np.testing.assert_array_equal([and_effects, or_effects], before)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ranking(np.zeros(8), np.zeros(4)), "must both be"),
        (lambda: ranking(np.zeros((2, 8)), np.zeros((2, 8))), "one prompt at a time"),
        (lambda: ranking(np.zeros(6), np.zeros(6)), "2\\*\\*n_players"),
        (lambda: ranking(np.full(8, np.nan), np.zeros(8)), "finite"),
        (lambda: matching(np.zeros(4), *EXAMPLE, k=1), "must have one shape"),
        (lambda: matching(np.zeros(8), *EXAMPLE, k=-1), "at least 0; got -1"),
        (lambda: transfer(EXAMPLE, EXAMPLE, k=0), "at least 1; got 0"),
        (lambda: transfer(EXAMPLE, game(2), k=5), "must have the same players"),
        (lambda: weighted_overlap(EXAMPLE, game(2), (1.0, 1.0)), "must have the same players"),
        (lambda: output_range(np.zeros(3)), "2\\*\\*n_players"),
    ],
)
def test_bad_input_is_refused(call, message, monkeypatch):
    # As users run it: the checked annotations of the tests would speak first.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match=message):
        call()


def test_and_only_effects_of_a_planted_or_are_all_ands():
    # OR{0,1} = AND{0} + AND{1} - AND{0,1}: three effects where the AND-OR form has one.
    effects = game(2, ors={(0, 1): 1.0})
    and_only = moebius(values(*effects)), np.zeros(4)
    assert salient_count(*effects) == 1
    assert salient_count(*and_only) == 3
    assert cancellation(order_strength(*and_only)).overall == pytest.approx(1 - 1 / 3)
