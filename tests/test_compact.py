"""The compact explanation: what it finds, what it says of itself, and what it does not depend on."""

import numpy as np
import pytest
from games import dictionaries, planted

import andor
from andor.core import lattice
from andor.core.certificate import reconstruct
from andor.solvers.compact import compact_of
from andor.solvers.search import MOST_NOISE, Search, estimated_noise
from experiments.benchmarks.solver_benchmark import relabelled


def columns_of(n_players: int) -> np.ndarray:
    """Every AND and every OR effect on all masks, `[s, 2 s]`."""
    within, touching = dictionaries(n_players)
    return np.hstack([within, touching]).astype(float)


def test_inner_products_are_those_of_the_dictionaries():
    dense, every = columns_of(4), np.arange(32)
    search = Search(planted(4, 0), None)
    np.testing.assert_array_equal(search.products(every, every), dense.T @ dense)
    np.testing.assert_array_equal(search.norms[search.possible], np.diag(dense.T @ dense)[search.possible])


def test_growing_adds_what_lowers_the_rest_most():
    v = planted(4, 1, n_and=3, n_or=2)
    search, dense = Search(v, None), columns_of(4)
    chosen = search.grown(np.array([1, 6, 16 + 12]))

    def rest(columns):
        return np.linalg.lstsq(dense[:, columns], v - v[0], rcond=None)[1].sum()

    fourth = min(
        (j for j in np.flatnonzero(search.possible) if j not in chosen[:3]), key=lambda j: rest([*chosen[:3], j])
    )
    assert chosen[3] == fourth
    assert search.fit(chosen)[2] * search.scale**2 == pytest.approx(rest(chosen), rel=1e-6)


@pytest.mark.parametrize("sigma", [0.0, 0.01])
def test_planted_effects_come_back(sigma):
    orders = lattice.orders(6)
    rng = np.random.default_rng(3)
    effects = np.zeros((2, 64))
    for kind, least in ((0, 1), (1, 2)):
        effects[kind, rng.choice(np.flatnonzero((orders >= least) & (orders <= 4)), 5, replace=False)] = rng.uniform(
            1, 2, 5
        )
    v = reconstruct(*effects) + sigma * rng.normal(size=64)
    found = andor.compact(v)
    assert found.count == 10
    np.testing.assert_allclose(found.and_effects[1:], effects[0, 1:], atol=1e-9 + 5 * sigma)
    np.testing.assert_allclose(found.or_effects, effects[1], atol=1e-9 + 5 * sigma)


def test_what_it_says_of_itself():
    v = planted(6, 0)
    found = andor.compact(v, 8)
    left = v - reconstruct(found.and_effects, found.or_effects)
    chosen = np.r_[found.and_effects, found.or_effects] != 0
    chosen[0] = False
    assert found.count == chosen.sum() == 8
    np.testing.assert_allclose(columns_of(6)[:, chosen].T[:, 1:] @ left[1:], 0, atol=1e-9)  # least squares
    assert found.and_effects[0] == v[0] and found.worst_error == np.abs(left).max()
    assert found.r2 == pytest.approx(1 - left @ left / np.var(v) / 64)
    least = andor.extract(v, found.worst_error, noise_unit="log-odds")
    assert found.least_strength == pytest.approx(least.dual, rel=1e-2) and found.least_strength <= least.primal
    assert found.excess == found.strength / found.least_strength >= 1
    assert "8 effects" in repr(found)


def test_more_effects_leave_less():
    v = planted(6, 1, n_and=25, n_or=20)
    r2 = [andor.compact(v, most).r2 for most in (2, 5, 10, 20)]
    assert r2 == sorted(r2)
    assert andor.compact(v, 1000).count <= 31  # half of the masks


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("game", ["planted", "heavy-tailed", "integer"])
def test_relabelling_players_permutes_effects(game, seed):
    rng = np.random.default_rng(seed)
    v = {
        "planted": planted(5, seed),
        "heavy-tailed": rng.standard_t(2, size=32),
        "integer": rng.integers(-2, 3, 32).astype(float),
    }[game]
    subsets, other = relabelled(v, seed)
    one, two = andor.compact(v), andor.compact(3.7 * other)
    np.testing.assert_allclose(two.and_effects[subsets][1:] / 3.7, one.and_effects[1:], atol=1e-8)
    np.testing.assert_allclose(two.or_effects[subsets] / 3.7, one.or_effects, atol=1e-8)


def test_symmetry_is_kept():
    v = lattice.zeta(np.where(lattice.orders(5) == 2, 1.0, 0.0))
    found = andor.compact(v)
    assert found.r2 == pytest.approx(1) and found.count == 10
    for effects in (found.and_effects, found.or_effects):
        for order in range(1, 6):
            assert np.ptp(effects[lattice.orders(5) == order]) < 1e-9


def test_ties_go_to_the_lower_order():
    v = lattice.zeta(np.isin(np.arange(16), (1, 2)).astype(float))  # {0} + {1}, or AND{01} + OR{01}
    found = andor.compact(v)
    assert found.count == 2
    np.testing.assert_allclose(found.and_effects[[1, 2]], 1)


def test_a_solution_to_start_from():
    v = planted(5, 2)
    nothing = andor.extract(np.zeros(32))
    one, two = andor.compact(v, 6, start=andor.extract(v, 0.02)), andor.compact(v, 6, start=nothing)
    assert one.r2 >= two.r2 > 0


def test_a_batch_is_found_row_by_row():
    v = np.stack([planted(4, seed) for seed in (0, 1)])
    starts = andor.extract(v)
    both = compact_of(v, [starts[0], starts[1]], 5)
    for row, found in zip(v, both, strict=True):
        alone = andor.compact(row, 5, start=andor.extract(row))
        np.testing.assert_array_equal(found.and_effects, alone.and_effects)
        assert found.excess == pytest.approx(alone.excess, rel=1e-6)


@pytest.mark.parametrize("v", [np.zeros(8), np.full(8, 3.0)])
def test_nothing_to_explain(v):
    found = andor.compact(v)
    assert found.count == 0 and np.isnan(found.r2) and np.isnan(found.excess) and found.worst_error == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(v=np.zeros((2, 8))), "one row at a time"),
        (dict(v=np.zeros(8), most=0), "at least 1, or None"),
        (dict(v=np.zeros(7)), r"compact\(v=...\) must have shape"),
        (dict(v=np.arange(8.0), start=andor.extract(np.arange(4.0))), "a Solution of the same v"),
    ],
)
def test_bad_input_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        andor.compact(**arguments)


@pytest.mark.parametrize("sigma", [0.0, 0.02, 0.1])
def test_noise_is_estimated_from_v_alone(sigma):
    noise = sigma * np.random.default_rng(0).normal(size=256)
    clean = planted(8, 0, n_and=6, n_or=3)
    worst = np.abs(noise - noise[0]).max()
    most = MOST_NOISE * np.std(clean + noise)
    assert min(0.6 * worst, most) <= estimated_noise(clean + noise) <= min(1.1 * worst + 0.1, most)
    assert estimated_noise(np.full(8, 3.0)) == 0


def test_estimated_noise_is_the_bound_of_every_row():
    v = np.stack([planted(4, seed) + 0.05 * np.random.default_rng(seed).normal(size=16) for seed in (0, 1)])
    np.testing.assert_array_equal(andor.extract(v).noise_bound, [estimated_noise(row) for row in v])
    assert andor.extract(v[0], "auto").noise_bound == estimated_noise(v[0])
