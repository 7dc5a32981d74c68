"""How well known effects are recovered: counts of hits, up to the ways of writing the same function that are as strong.

Recovered are the salient effects, above 5% of the largest. A recovered effect is a hit when a known one is of the same
kind (AND or OR), about the same players and of the same sign. Precision: hits / recovered. Recall: hits / known.

Ties. {i} + {j} and AND{ij} + OR{ij} are the same function at the same strength. So whenever some of the four are known,
there are usually other ways to write v that are just as strong, and an optimum is one of them or a mixture. Counted
*up to ties*, known and recovered effects are both first brought to one of these ways, by the same moves along that
identity (`canonical`).
"""

import numpy as np

from andor.core import lattice
from andor.core.explained import Pair
from andor.measures import metrics

NUMBERS = ("precision", "recall", "precision_strict", "recall_strict", "recall_and", "recall_or", "found")
"""What `score` gives."""

_SWEEPS = 20
_SAME = 1e-4  # of the largest effect: less is no difference


def canonical(pair: Pair) -> Pair:
    """One of the equally strong ways to write the same function, the same for all that differ by ties of pairs.

    For every c, adding c to {i} and {j} and taking it from AND{ij} and OR{ij} changes nothing. The strength of the four
    is least for c between the middle two of (-{i}, -{j}, AND{ij}, OR{ij}): a tie, unless these two are equal. Where the
    effects are in such a tie, the end with fewest salient effects is taken; of two the one of lower order, and then the
    one with less in OR. A pair that is not in a tie stays, so nothing gets weaker. Pairs share players: they are gone
    through until all stay.
    """
    and_effects, or_effects = (np.array(effects, np.float64) for effects in pair)
    and_effects[0] = 0
    n_players = lattice.n_players_of(and_effects)
    largest = max(np.abs(and_effects).max(), np.abs(or_effects).max())
    pairs = [(1 << first, 1 << second) for second in range(n_players) for first in range(second)]
    for _ in range(_SWEEPS):
        moved = False
        for one, other in pairs:
            both = one | other
            members = np.array([-and_effects[one], -and_effects[other], and_effects[both], or_effects[both]])
            low, high = np.sort(members)[1:3]
            strength = np.abs(members).sum()
            if np.abs(members - np.clip(0, low, high)).sum() < strength - _SAME * largest:
                continue
            best = min((low, high), key=lambda c: _untidiness(members - c, largest))
            if abs(best) > _SAME * largest:
                and_effects[[one, other]] += best
                and_effects[both] -= best
                or_effects[both] -= best
                moved = True
        if not moved:
            break
    return and_effects, or_effects


def _untidiness(members: np.ndarray, largest: float) -> tuple[int, int, bool]:
    """How many of the four are salient, the sum of their orders, and whether the OR is one. Counts, so that noise
    seldom decides."""
    salient = np.abs(members) > metrics.SALIENT * largest
    return int(salient.sum()), int(salient @ [1, 1, 2, 2]), bool(salient[3])


def hits(found: Pair, planted: Pair) -> np.ndarray:
    """Counts `[AND or OR, (hits, recovered, rules)]` of the salient effects of both."""
    chosen, rules = metrics.salient(*found), metrics.salient(*planted)
    counts = [
        [(a & b & (x * y > 0)).sum(), a.sum(), b.sum()]
        for a, b, x, y in zip(chosen, rules, found, planted, strict=True)
    ]
    return np.array(counts)


def score(found: Pair, planted: Pair) -> dict[str, float]:
    """The `NUMBERS` of one game; nan where nothing was recovered or there was no rule."""
    up_to_ties = hits(canonical(found), canonical(planted))
    strict = hits(found, planted).sum(axis=0)

    def share(part, whole):
        return part / whole if whole else np.nan

    total = up_to_ties.sum(axis=0)
    return {
        "precision": share(total[0], total[1]),
        "recall": share(total[0], total[2]),
        "precision_strict": share(strict[0], strict[1]),
        "recall_strict": share(strict[0], strict[2]),
        "recall_and": share(up_to_ties[0, 0], up_to_ties[0, 2]),
        "recall_or": share(up_to_ties[1, 0], up_to_ties[1, 2]),
        "found": float(total[1]),
    }
