"""How far `andor.spindle` gets with planted mixtures of a decay and a spindle (`andor.core.games.mixture`), when the
effects are given, and when they have to be found from v first."""

import itertools

import numpy as np

from andor.core import games
from andor.measures import metrics, profile
from andor.measures.bootstrap import interval
from experiments.lab.methods import FEW_STEPS, by_method, published_solvers
from experiments.study import Settings

PROMPT_COUNTS = (1, 3, 10, 30)
NOISES = (0.002, 0.01)
"""Levels of noise on v, in units of |v(N) - v(∅)|. The published solver, which is slow, gets the first only."""


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
            mixtures = [games.mixture(rng, n_players, share, rate, ratio, or_too, noise) for _ in range(prompts)]
            v = np.stack([game.v for game, _ in mixtures])
            found = {"effects": [(game.and_effects, game.or_effects) for game, _ in mixtures]}
            found |= by_method(v, solvers)
            for (method, pairs), count in itertools.product(found.items(), PROMPT_COUNTS):
                if count <= prompts:
                    strengths = [metrics.order_strength(*pair) for pair in pairs[:count]]
                    split = profile.profile(strengths, [profile.strength(pair) for pair in pairs[:count]]).split
                    true = np.mean([true_share for _, true_share in mixtures[:count]])
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
