"""The working-set solver: the answer of the dense one, and what is particular to it."""

import dataclasses

import numpy as np
import pytest
from games import highs_optimum, planted

import andor
from andor.core import lattice
from andor.core.certificate import reconstruct
from andor.solvers import FirstOrder, InteriorPoint, WorkingSet, working_set
from andor.solvers.coordinates import MASKS
from andor.solvers.working_set import _between_effects, _between_masks, _Preconditioner


@pytest.fixture(autouse=True)
def for_few_players_too(monkeypatch):
    """Here the working set serves games of any size: small ones are quick, and known exactly."""
    monkeypatch.setattr(working_set, "FEWEST_PLAYERS", 1)


@pytest.fixture
def alone(monkeypatch):
    """No other solver may step in."""

    def refuse(*_):
        raise AssertionError("the working-set solver handed the problem on")

    monkeypatch.setattr(InteriorPoint, "solve", refuse)
    monkeypatch.setattr(FirstOrder, "solve", refuse)


def dictionary(n_players: int) -> np.ndarray:
    """[A B], `[s, 2 s]`, with row ∅ and the columns that do not count at 0."""
    eye = np.eye(2**n_players)
    unit = [
        np.stack([MASKS.total(e, 0 * e, 0 * e) for e in eye]),
        np.stack([MASKS.total(0 * e, e, 0 * e) for e in eye]),
    ]
    return np.concatenate(unit).T


GAMES = {
    "planted": planted(6, 0),
    "exact": planted(6, 1, sigma=0.0),
    "sparse": lattice.zeta(np.isin(np.arange(64), (3, 5, 17)).astype(float)),
    "one mask": np.eye(64)[-1],
    "one player": lattice.masks(6)[:, 2].astype(float),
    "large": 1e6 * planted(6, 4) + 1e9,
}


@pytest.mark.parametrize("name", GAMES)
def test_it_gives_the_answer_of_the_dense_solver(name, alone, monkeypatch):
    v = GAMES[name]
    solution = andor.extract(v, 0.02, WorkingSet(), noise_unit="spread")
    monkeypatch.undo()
    dense = andor.extract(v, 0.02, InteriorPoint(), noise_unit="spread")
    assert solution.status == "converged"
    largest = np.max(np.abs(dense.and_effects[1:]))
    np.testing.assert_allclose(solution.and_effects[1:], dense.and_effects[1:], atol=2e-5 * largest)
    np.testing.assert_allclose(solution.or_effects, dense.or_effects, atol=2e-5 * largest)
    assert solution.primal == pytest.approx(highs_optimum(v, solution.noise_bound), rel=2e-6)


@pytest.mark.parametrize(
    "v",
    [
        np.random.default_rng(2).normal(size=64),
        np.random.default_rng(3).integers(-3, 4, 64).astype(float),
        np.cos(2 * lattice.orders(6)),
        np.full(64, 7.0),
    ],
    ids=["random", "integer", "symmetric", "constant"],
)
@pytest.mark.parametrize("noise", [0.02, 0.2])
def test_a_game_that_is_not_for_it_is_solved_all_the_same(v, noise):
    """Most masks are tight, or many effects tie: by itself where it can, by the dense solver where not."""
    solution = andor.extract(v, noise, WorkingSet(), noise_unit="spread")
    assert solution.status == "converged"
    assert solution.primal == pytest.approx(highs_optimum(v, solution.noise_bound), rel=2e-6, abs=1e-12)


@pytest.mark.parametrize("n_players", [1, 2, 3, 8])
def test_it_reaches_the_optimum(n_players, alone):
    v = planted(n_players, 10 + n_players)
    solution = andor.extract(v, 0.05, WorkingSet())
    assert solution.status == "converged"
    assert solution.primal == pytest.approx(highs_optimum(v, solution.noise_bound), rel=2e-6, abs=1e-12)
    assert solution.dual <= solution.primal


def test_no_other_explanation_is_cheaper_than_its_bound(alone):
    """The certificate against effects that explain v otherwise: the AND effects of v and any noise, ORs mixed in."""
    v, rng = planted(8, 0), np.random.default_rng(0)
    solution = andor.extract(v, 0.05, WorkingSet())
    for _ in range(20):
        noise = rng.uniform(-1, 1, v.size) * solution.noise_bound
        noise[0] = 0.0
        or_effects = np.where(lattice.orders(8) >= 2, rng.normal(size=v.size) * (rng.uniform(size=v.size) < 0.1), 0.0)
        and_effects = lattice.moebius(v - v[0] - noise - lattice.or_sums(or_effects))
        np.testing.assert_allclose(reconstruct(and_effects, or_effects) + noise, v - v[0], atol=1e-9)
        assert np.abs(and_effects[1:]).sum() + np.abs(or_effects).sum() >= solution.dual


def test_weights_are_prices(alone):
    v, weights = planted(5, 0), np.random.default_rng(0).uniform(0.02, 1, (2, 32))
    weights[1, lattice.orders(5) == 1] = weights[0, lattice.orders(5) == 1]
    solution = andor.extract(v, 0.05, WorkingSet(), weights=weights)
    assert solution.status == "converged"
    assert solution.primal == pytest.approx(highs_optimum(v, solution.noise_bound, weights), rel=2e-6)


def test_relabelled_players_give_the_relabelled_answer(alone):
    v, order = planted(8, 3, n_and=15, n_or=10), np.random.default_rng(1).permutation(8).tolist()
    subsets = np.array([lattice.subset_of(order[i] for i in lattice.members(s)) for s in range(256)])
    game = np.empty_like(v)
    game[subsets] = 3.7 * v
    one, other = andor.extract(v, 0.02, WorkingSet()), andor.extract(game, 0.02, WorkingSet())
    largest = np.max(np.abs(one.and_effects[1:]))
    np.testing.assert_allclose(other.and_effects[subsets][1:] / 3.7, one.and_effects[1:], atol=1e-5 * largest)
    np.testing.assert_allclose(other.or_effects[subsets] / 3.7, one.or_effects, atol=1e-5 * largest)


def test_the_working_set_is_a_part(alone):
    """Of ten players, 1,023 masks and 2,036 effects; what it is and how far it came is told."""
    seen = []
    solution = andor.extract(
        planted(10, 0, n_and=15, n_or=10), 0.05, WorkingSet(progress=lambda *size: seen.append(size))
    )
    assert solution.status == "converged"
    assert [step for step, _, _ in seen] == list(range(1, solution.steps + 1))
    assert max(masks for _, masks, _ in seen) < 700 and max(effects for _, _, effects in seen) < 1400
    assert seen[-1][1] < 300 and seen[-1][2] < 500


def test_a_batch_is_solved_as_each_alone(alone):
    v = np.stack([planted(5, 0), np.zeros(32), planted(5, 1)])
    batch = andor.extract(v, 0.05, WorkingSet())
    assert batch.converged and batch.primal[1] == 0
    for i in (0, 2):
        np.testing.assert_array_equal(batch.and_effects[i], andor.extract(v[i], 0.05, WorkingSet()).and_effects)


@pytest.mark.parametrize("noise", [0.0, 1e-9])
def test_without_noise_the_dense_solver_answers(noise, monkeypatch):
    """All masks are tight, or nearly."""
    v = planted(6, 0)
    dense = andor.extract(v, noise, InteriorPoint())
    monkeypatch.setattr(working_set, "_LARGEST", 40)
    solution = andor.extract(v, noise, WorkingSet())
    assert solution.status == "converged"
    np.testing.assert_array_equal(solution.and_effects, dense.and_effects)


def test_beyond_the_dense_solver_the_status_says_who_stepped_in(monkeypatch):
    monkeypatch.setattr(working_set, "MOST_PLAYERS_DENSE", 3)
    rough = InteriorPoint(max_steps=2)  # in its place, since compiling it takes longer than all other tests here
    monkeypatch.setattr(FirstOrder, "solve", lambda _, problem: rough.solve(problem))
    solution = andor.extract(planted(4, 0), 0.0, WorkingSet())
    assert "not converged" in solution.status and "FirstOrder() took over; allow more noise" in solution.status


def test_stopping_early_is_told(monkeypatch):
    monkeypatch.setattr(working_set, "MOST_PLAYERS_DENSE", 3)
    solution = andor.extract(planted(4, 0), 0.05, WorkingSet(max_steps=3))
    assert "not converged" in solution.status and "max_steps=3" in solution.status


def test_its_memory_grows_with_the_masks():
    assert WorkingSet().bytes_of_one(16) < 3e9
    with pytest.raises(ValueError, match=r"extract\(v=...\) has 40 players, for which WorkingSet needs .* GB"):
        WorkingSet().check_memory(40)
    with pytest.raises(ValueError, match=r"WorkingSet\(tolerance=..., tie_break=...\)"):
        WorkingSet(tolerance=0.0)
    assert dataclasses.replace(WorkingSet(), max_steps=5).max_steps == 5


def test_sums_over_masks_and_effects_are_those_of_matrices():
    rng, n_players = np.random.default_rng(0), 5
    columns = dictionary(n_players)
    d_effects, softness = rng.uniform(size=(2, 32)), rng.uniform(size=32)
    softness[0] = 0.0
    d_effects[:, 0] = 0.0
    d_effects[1, lattice.orders(n_players) < 2] = 0.0
    masks, ands, ors = np.array([1, 7, 30]), np.array([1, 6, 21, 31]), np.array([3, 6, 25])
    between = columns @ np.diag(d_effects.ravel()) @ columns.T
    np.testing.assert_allclose(_between_masks(d_effects, masks), between[np.ix_(masks, masks)], atol=1e-12)
    effects = np.concatenate([ands, 32 + ors])
    gram = (columns.T * softness) @ columns
    np.testing.assert_allclose(_between_effects(softness, ands, ors), gram[np.ix_(effects, effects)], atol=1e-12)


def test_the_preconditioner_is_the_inverse_of_what_it_says():
    rng, n_players = np.random.default_rng(1), 4
    columns = dictionary(n_players)
    d_effects, d_noise = rng.uniform(size=(2, 16)), rng.uniform(0.1, 1, 16)
    d_effects[:, 0] = d_noise[0] = 0.0
    d_effects[1, lattice.orders(n_players) < 2] = 0.0
    masks, effects = np.array([2, 5, 15]), np.array([1, 6, 16 + 3, 16 + 12])
    of_others = d_effects.ravel().copy()
    of_others[effects] = 0.0
    others = columns @ np.diag(of_others) @ columns.T
    kept = np.diag(np.diag(others))
    kept[np.ix_(masks, masks)] = others[np.ix_(masks, masks)]
    live = columns[:, effects] @ np.diag(d_effects.ravel()[effects]) @ columns[:, effects].T
    matrix = (np.diag(d_noise) + kept + live)[1:, 1:]
    r = np.r_[0.0, rng.normal(size=15)]
    preconditioner = _Preconditioner(d_effects, d_noise, masks, effects)
    np.testing.assert_allclose(preconditioner(r)[1:], np.linalg.solve(matrix, r[1:]), atol=1e-9)
    assert preconditioner.applied == 1
