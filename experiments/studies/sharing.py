"""How much two sets of effects share, and what kind of effects those are. NumPy only.

Shared: salient in both and of one sign. Distinctive: salient in one, and not shared (arXiv 2401.16318, section 3;
2606.08129 claims that shared effects are of lower order and cancel less).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from andor.core import lattice
from andor.measures import metrics
from andor.measures.metrics import Pair

TRANSFER_K = (5, 10, 20, 50, 100, 200)
"""k at which transfer is measured; 50 is published."""

DRAWS = 200
"""Random choices behind a cancellation of equally many effects."""


@dataclass(frozen=True)
class Overlap:
    """What two models have in common on one prompt.

    Attributes:
      overlap: weighted overlap, in [0, 1].
      s_and, s_or: transfer at each of `TRANSFER_K`.
    """

    overlap: float
    s_and: tuple[float, ...]
    s_or: tuple[float, ...]


def overlap(first: Pair, second: Pair, ranges: tuple[float, float]) -> Overlap:
    """Weighted overlap and transfer; `ranges` are the two |v(N) - v(∅)|."""
    transfers = [metrics.transfer(first, second, k) for k in TRANSFER_K]
    return Overlap(
        overlap=metrics.weighted_overlap(first, second, ranges),
        s_and=tuple(each.s_and for each in transfers),
        s_or=tuple(each.s_or for each in transfers),
    )


def mean(overlaps: Sequence[Overlap]) -> Overlap:
    """Entry by entry; nan stays nan."""
    return Overlap(
        overlap=float(np.mean([each.overlap for each in overlaps])),
        s_and=tuple(np.mean([each.s_and for each in overlaps], axis=0).tolist()),
        s_or=tuple(np.mean([each.s_or for each in overlaps], axis=0).tolist()),
    )


def shuffled(pair: Pair, rng: np.random.Generator) -> Pair:
    """The same effects on other subsets of the same order, AND and OR apart: equal order strengths, nothing shared."""
    orders = lattice.orders(lattice.n_players_of(pair[0]))
    both = []
    for effects in pair:
        moved = effects.copy()
        for order in range(1, orders.max() + 1):
            places = np.flatnonzero(orders == order)
            moved[places] = effects[rng.permutation(places)]
        both.append(moved)
    return both[0], both[1]


@dataclass(frozen=True)
class Group:
    """Shared or distinctive effects of one model on one prompt. nan: there are none, or too few.

    Attributes:
      strength: `[2, orders]`, of positive and of negative effects, over that of all salient effects of the model.
      order: mean order, every effect counted once.
      cancellation: 1 - |sum of effects| / sum of |effects|.
      matched: the same, mean over random choices of as many effects as the smaller group has, at least two: few
        effects cancel less than many, whatever they are.
    """

    strength: Float[np.ndarray, "2 orders"]
    order: float
    cancellation: float
    matched: float


def groups(pairs: Sequence[Pair], rng: np.random.Generator) -> list[dict[str, Group]]:
    """For each of two models its "shared" and its "distinctive" effects on one prompt."""
    masks = [np.stack(metrics.salient(*pair)) for pair in pairs]
    effects = [np.stack(pair) for pair in pairs]
    common = masks[0] & masks[1] & (effects[0] * effects[1] > 0)
    order = np.tile(lattice.orders(lattice.n_players_of(pairs[0][0])), (2, 1))
    found = []
    for mask, values in zip(masks, effects, strict=True):
        chosen = {"shared": common, "distinctive": mask & ~common}
        fewest = min(int(each.sum()) for each in chosen.values())
        whole = np.abs(values[mask]).sum()
        found.append(
            {name: _group(values[each], order[each], order.max(), whole, fewest, rng) for name, each in chosen.items()}
        )
    return found


def _group(values, order, n_players: int, whole: float, fewest: int, rng: np.random.Generator) -> Group:
    strength = np.zeros((2, n_players))
    np.add.at(strength, ((values < 0).astype(int), order - 1), np.abs(values) / (whole or 1.0))
    nan = float("nan")
    matched = nan
    if fewest >= 2:
        draws = np.array([rng.choice(values, fewest, replace=False) for _ in range(DRAWS)])
        matched = float(np.mean([_cancellation(draw) for draw in draws]))
    return Group(
        strength=strength,
        order=float(order.mean()) if len(order) else nan,
        cancellation=_cancellation(values) if len(values) else nan,
        matched=matched,
    )


def _cancellation(values: np.ndarray) -> float:
    return float(1 - abs(values.sum()) / np.abs(values).sum())
