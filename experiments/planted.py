"""Games with known effects, a part of them decaying with order and a part a balanced spindle; how far `andor.spindle`
gets with them when the effects are given, and when they have to be found from v first."""

import itertools
from dataclasses import dataclass
from math import comb

import numpy as np

from andor.core import lattice
from andor.measures import metrics, profile
from andor.measures.bootstrap import interval
from experiments.methods import FEW_STEPS, by_method, published_solvers
from experiments.study import Settings

PROMPT_COUNTS = (1, 3, 10, 30)
NOISES = (0.002, 0.01)
"""Levels of noise on v, in units of |v(N) - v(∅)|. The published solver, which is slow, gets the first only."""


@dataclass(frozen=True, eq=False)
class Planted:
    """A game with known effects, a part of them decaying with order and a part a balanced spindle.

    Attributes:
      and_effects, or_effects: `[2**n_players]`.
      share: strength of the spindle's effects / strength of all.
      v: `[2**n_players]`, with noise.
    """

    and_effects: np.ndarray
    or_effects: np.ndarray
    share: float
    v: np.ndarray


def planted(
    rng: np.random.Generator,
    n_players: int,
    share: float,
    rate: float,
    ratio: float,
    or_too: bool,
    noise: float = NOISES[0],
) -> Planted:
    """About 30 decaying effects and 100 weaker spindle ones.

    Each part's effects lie on different subsets and are exponentially distributed, so that their strength per order
    follows the part's shape in the mean.

    Args:
      share: of the spindle in the mean strength.
      rate: k of the decay, both signs; 70% of the decaying effects are positive.
      ratio: r of the spindle.
      or_too: half of the effects of two players or more are OR effects; else all are AND effects.
      noise: standard deviation on v, in units of |v(N) - v(∅)|.
    """
    order = np.arange(1, n_players + 1)
    decay = np.exp(-rate * order)
    bulge = np.array([comb(n_players, int(o)) for o in order]) * ratio**order
    effects = np.zeros((2, 2, 2**n_players))  # decay or spindle, AND or OR, subset
    parts = ((decay, 30, 1 - share, 0.7), (bulge, 100, share, 0.5))
    for part, (shape, count, strength, positive) in enumerate(parts):
        shape = shape / shape.sum()
        for o in order:
            subsets = np.flatnonzero(lattice.orders(n_players) == o)
            places = [(0, s) for s in subsets] + [(1, s) for s in subsets if or_too and o > 1]
            chosen = rng.permutation(len(places))[: max(1, rng.poisson(count * shape[o - 1]))]
            for place in chosen:
                sign = 1 if rng.random() < positive else -1
                effects[part][places[place]] = sign * rng.exponential() * strength * shape[o - 1] / chosen.size
    and_effects, or_effects = effects.sum(axis=0)
    strengths = np.abs(effects).sum(axis=(1, 2))
    v = lattice.zeta(and_effects) + lattice.or_sums(or_effects)
    v = v + noise * abs(v[-1] - v[0]) * rng.standard_normal(v.size)
    return Planted(and_effects, or_effects, float(strengths[1] / strengths.sum()), v)


def validate(settings: Settings) -> list[dict]:
    """Errors of the spindle share on planted mixtures: one record per kind of game, noise, prompts and method."""
    trials = 2 if settings.smoke else 8 if settings.quick else 20
    prompts = 2 if settings.smoke else max(PROMPT_COUNTS)
    n_players = 5 if settings.smoke else 8 if settings.quick else 9
    records = []
    for or_too, noise in itertools.product((True, False), NOISES):
        rng = np.random.default_rng([settings.seed, n_players, or_too])  # the same games at every noise
        solvers = published_solvers(settings, FEW_STEPS) if noise == NOISES[0] else ()
        errors: dict[tuple[str, int], list[float]] = {}
        for _ in range(trials):
            share, rate, ratio = rng.uniform(0, 1), rng.uniform(0.3, 1.5), np.exp(rng.uniform(-np.log(2), np.log(2)))
            games = [planted(rng, n_players, share, rate, ratio, or_too, noise) for _ in range(prompts)]
            v = np.stack([game.v for game in games])
            found = {"effects": [(game.and_effects, game.or_effects) for game in games]}
            found |= by_method(v, solvers)
            for (method, pairs), count in itertools.product(found.items(), PROMPT_COUNTS):
                if count <= prompts:
                    strengths = [metrics.order_strength(*pair) for pair in pairs[:count]]
                    split = profile.profile(strengths, [profile.strength(pair) for pair in pairs[:count]]).split
                    true = np.mean([game.share for game in games[:count]])
                    errors.setdefault((method, count), []).append(split.spindle_share - true)
        for (method, count), found_errors in errors.items():
            records.append(
                {
                    "players": n_players,
                    "or_effects": or_too,
                    "noise": noise,
                    "method": method,
                    "prompts": count,
                    "trials": trials,
                    "error": interval(np.abs(found_errors), seed=settings.seed),
                    "bias": float(np.mean(found_errors)),
                }
            )
    return records
