"""The decay / spindle split recovers planted mixtures. `python tests/test_spindle.py` prints the full validation."""

from dataclasses import dataclass, replace
from functools import partial
from math import comb, isnan

import numpy as np
import pytest

from andor.core.lattice import moebius
from andor.measures.metrics import OrderStrength, order_strength
from andor.measures.profile import profile
from andor.measures.spindle import spindle_split


@dataclass(frozen=True)
class Mixture:
    """A planted ground truth: total strength 1, `share` of it in the spindle, `positive` of the rest positive."""

    n_players: int
    share: float
    positive: float
    rate_positive: float
    rate_negative: float
    ratio: float

    def parts(self):
        """Decaying part of the positive and of the negative strengths, and the spindle of each sign. Three `[n]`."""
        order = np.arange(1, self.n_players + 1)
        up, down = (np.exp(-rate * order) for rate in (self.rate_positive, self.rate_negative))
        bulge = np.array([comb(self.n_players, int(o)) for o in order]) * self.ratio**order
        decaying = 1 - self.share
        return (
            decaying * self.positive * up / up.sum(),
            decaying * (1 - self.positive) * down / down.sum(),
            self.share / 2 * bulge / bulge.sum(),
        )

    def strength(self) -> OrderStrength:
        up, down, bulge = self.parts()
        return OrderStrength(up + bulge, down + bulge, (self.n_players,))


def random_mixture(rng, n_players: int, **fixed) -> Mixture:
    mixture = Mixture(
        n_players=n_players,
        share=rng.uniform(0, 1),
        positive=rng.uniform(0.3, 1),
        rate_positive=rng.uniform(0.3, 1.5),
        rate_negative=rng.uniform(0.3, 1.5),
        ratio=np.exp(rng.uniform(-np.log(2), np.log(2))),
    )
    return replace(mixture, **fixed)


def perturbed(rng, mixture: Mixture, *, noise: float) -> tuple[OrderStrength, float]:
    """Every strength off by a factor exp(noise * normal) and by 0.1 * noise of the largest one; and the true share."""
    clean = np.stack([mixture.strength().positive, mixture.strength().negative])
    noisy = clean * np.exp(noise * rng.standard_normal(clean.shape))
    noisy = np.abs(noisy + 0.1 * noise * clean.max() * rng.standard_normal(clean.shape))
    return OrderStrength(noisy[0], noisy[1], (mixture.n_players,)), mixture.share


def sampled(rng, mixture: Mixture, *, prompts: int) -> tuple[OrderStrength, float]:
    """Mean over prompts that each have about 30 decaying effects and 100 weaker spindle ones, and the drawn share."""
    decaying, bulge = np.array(mixture.parts()[:2]), np.array([mixture.parts()[2]] * 2)
    drawn = []
    for part, effects in ((decaying, 30), (bulge, 100)):
        counts = rng.poisson(prompts * effects * part / max(part.sum(), 1e-9))
        # The sum of m exponential strengths of mean size is a gamma variable of shape m.
        drawn.append(np.where(counts > 0, rng.gamma(np.maximum(counts, 1)), 0) * part.sum() / effects / prompts)
    both = drawn[0] + drawn[1]
    return OrderStrength(both[0], both[1], (mixture.n_players,)), float(drawn[1].sum() / both.sum())


def errors(n_players: int, trials: int, measure, seed: int = 0, **fixed) -> np.ndarray:
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(trials):
        strength, share = measure(rng, random_mixture(rng, n_players, **fixed))
        found.append(spindle_split(strength).spindle_share - share)
    return np.array(found)


@pytest.mark.parametrize("n_players", [8, 10, 12])
def test_recovers_exact_mixtures(n_players):
    rng = np.random.default_rng(n_players)
    errors = []
    for _ in range(20):
        mixture = random_mixture(rng, n_players)
        split = spindle_split(mixture.strength())
        errors.append(abs(split.spindle_share - mixture.share))
        assert split.misfit < 2e-3
        for got, true in zip((split.decay_positive, split.decay_negative, split.spindle), mixture.parts(), strict=True):
            np.testing.assert_allclose(got, true, atol=5e-3)
    assert max(errors) < 2e-3
    assert np.mean(errors) < 2e-3


@pytest.mark.parametrize("n_players", [8, 9, 10, 11, 12])
def test_spindle_share_error_under_005_at_ten_percent_noise(n_players):
    error = errors(n_players, 40, partial(perturbed, noise=0.1))
    assert np.abs(error).mean() < 0.05
    assert abs(error.mean()) < 0.02


@pytest.mark.parametrize("n_players", [8, 10, 12])
def test_spindle_share_error_under_005_over_ten_prompts_of_few_effects(n_players):
    error = errors(n_players, 40, partial(sampled, prompts=10))
    assert np.abs(error).mean() < 0.05
    assert abs(error.mean()) < 0.03


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_pure_mixtures_stay_near_their_end(share):
    error = errors(10, 25, partial(perturbed, noise=0.1), share=share)
    assert np.abs(error).mean() < 0.03


def test_and_only_effects_of_pure_noise_are_a_spindle():
    # Noise in v turns into AND-only effects of size 2^{order / 2} (arXiv 2401.16318, appendix D): r = sqrt(2). One
    # draw is far from balanced (noise of one small mask has the same sign in half of all effects of an order).
    games = np.random.default_rng(0).standard_normal((30, 2**10))
    split = profile([order_strength(moebius(v), np.zeros(2**10)) for v in games], [1.0] * 30).split
    assert split.spindle_share > 0.97
    assert abs(split.ratio - np.sqrt(2)) < 0.1
    assert split.misfit < 0.2


def test_additive_game_is_all_decay():
    and_effects = np.zeros(2**8)
    and_effects[2 ** np.arange(8)] = [3, -1, 2, 0.5, -0.5, 1, 1, 2]
    split = spindle_split(order_strength(and_effects, np.zeros(2**8)))
    assert split.spindle_share < 1e-3
    assert isnan(split.ratio) or split.spindle.sum() < 1e-2


def test_scale_and_sign_only_rescale_and_swap():
    rng = np.random.default_rng(1)
    strength, _ = perturbed(rng, random_mixture(rng, 9), noise=0.1)
    split = spindle_split(strength)
    scaled = spindle_split(OrderStrength(1e4 * strength.positive, 1e4 * strength.negative, (9,)))
    swapped = spindle_split(OrderStrength(strength.negative, strength.positive, (9,)))
    assert scaled.spindle_share == pytest.approx(split.spindle_share, abs=1e-6)
    np.testing.assert_allclose(scaled.spindle, 1e4 * split.spindle, rtol=1e-5)
    assert swapped.spindle_share == pytest.approx(split.spindle_share, abs=1e-6)
    np.testing.assert_allclose(swapped.decay_negative, split.decay_positive, rtol=1e-5)


def test_parts_are_non_negative_and_balanced_and_add_up():
    rng = np.random.default_rng(2)
    for _ in range(10):
        n_players = int(rng.integers(3, 13))
        strength = OrderStrength(rng.exponential(size=n_players), rng.exponential(size=n_players), (n_players,))
        split = spindle_split(strength)
        parts = (split.decay_positive, split.decay_negative, split.spindle)
        assert all((part >= 0).all() for part in parts)
        assert 0 <= split.spindle_share <= 1
        total = split.decay_positive.sum() + split.decay_negative.sum() + 2 * split.spindle.sum()
        assert split.spindle_share == pytest.approx(2 * split.spindle.sum() / total)
        assert (np.diff(split.decay_positive) <= 0).all() and (np.diff(split.decay_negative) <= 0).all()


def test_one_empty_sign_and_one_order():
    strength = OrderStrength(np.array([1.0, 0, 0, 0]), np.zeros(4), (4,))
    split = spindle_split(strength)
    assert split.spindle_share < 1e-2
    assert isnan(split.rate_negative) and not isnan(split.rate_positive)


@pytest.mark.parametrize("n_players", [0, 1, 2])
def test_undefined_without_middle_orders(n_players):
    split = spindle_split(OrderStrength(np.ones(n_players), np.ones(n_players), (n_players,)))
    assert isnan(split.spindle_share) and isnan(split.misfit)
    assert split.spindle.shape == (n_players,)


def test_undefined_without_strength():
    assert isnan(spindle_split(OrderStrength(np.zeros(8), np.zeros(8), (8,))).spindle_share)


def test_a_profile_of_prompts_of_different_sizes():
    # Same shapes at 8, 9 and 10 players; the mean strengths are neither's, and still split exactly. A decay has one
    # amplitude, so the cut ones are weaker: scale each prompt's decay to start alike, and its spindle to sum alike.
    order = np.arange(1, 11)
    prompts, bulges, totals = [], 0.0, 0.0
    for n_players in (8, 9, 10, 10):
        o = order[:n_players]
        binomials = np.array([comb(n_players, int(i)) for i in o]) * 0.8**o
        bulge = 2 * binomials / binomials.sum()
        up, down = 3 * np.exp(-0.5 * o), 1 * np.exp(-0.9 * o)
        scale = float(n_players)  # Any unit; a profile divides it away.
        prompts.append((OrderStrength(scale * (up + bulge), scale * (down + bulge), (n_players,)), scale))
        bulges += 2 * bulge.sum()
        totals += up.sum() + down.sum() + 2 * bulge.sum()
    found = profile(*zip(*prompts, strict=True))
    assert found.mean.players == (8, 9, 10, 10)
    split = found.split
    assert split.spindle_share == pytest.approx(bulges / totals, abs=2e-3)
    assert split.ratio == pytest.approx(0.8, abs=0.01)


def report(label: str, error: np.ndarray) -> None:
    size = np.abs(error)
    spread = f"95% {np.quantile(size, 0.95):.2f}   bias {error.mean():+.3f}"
    print(f"{label:56s} mean {size.mean():.3f}   {spread}", flush=True)


def main(trials: int = 200) -> None:
    """Print the error of the spindle share over random planted mixtures; about three minutes on one core."""
    for n_players in (4, 6, 8, 10, 12):
        for noise in (0.05, 0.1, 0.2):
            label = f"n = {n_players:2d}, strengths off by {noise:.0%}"
            report(label, errors(n_players, trials, partial(perturbed, noise=noise)))
        for prompts in (1, 10, 30):
            label = f"n = {n_players:2d}, {prompts} prompts of 130 effects"
            report(label, errors(n_players, trials, partial(sampled, prompts=prompts)))
    for name, fixed in (
        ("no spindle", {"share": 0.0}),
        ("no decay", {"share": 1.0}),
        ("slow decay, k = 0.1", {"rate_positive": 0.1, "rate_negative": 0.1}),
        ("fast decay, k = 3", {"rate_positive": 3.0, "rate_negative": 3.0}),
        ("low spindle, r = 1/3", {"ratio": 1 / 3}),
        ("high spindle, r = 3", {"ratio": 3.0}),
        ("too low a spindle, r = 0.2", {"ratio": 0.2}),
    ):
        report(f"n = 10, strengths off by 10%, {name}", errors(10, trials, partial(perturbed, noise=0.1), **fixed))
        report(f"n = 10, 10 prompts of 130 effects, {name}", errors(10, trials, partial(sampled, prompts=10), **fixed))


if __name__ == "__main__":
    main()
