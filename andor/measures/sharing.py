"""What kind of effects two models share, and what kind sets them apart.

Shared: salient in both and of one sign. Distinctive: salient in one, and not shared (arXiv 2401.16318, section 3;
2606.08129 claims that shared effects are of lower order and cancel less).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from andor.core import lattice
from andor.core.explained import Pair
from andor.measures import metrics

DRAWS = 200
"""Random choices behind a cancellation of equally many effects."""


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
    values = [np.stack(pair) for pair in pairs]
    common = masks[0] & masks[1] & (values[0] * values[1] > 0)
    order = np.tile(lattice.orders(lattice.n_players_of(pairs[0][0])), (2, 1))
    found = []
    for mask, own in zip(masks, values, strict=True):
        chosen = {"shared": common, "distinctive": mask & ~common}
        fewest = min(int(each.sum()) for each in chosen.values())
        whole = float(np.abs(own[mask]).sum())
        found.append(
            {name: group(own[each], order[each], int(order.max()), whole, fewest, rng) for name, each in chosen.items()}
        )
    return found


def group(values, order, n_players: int, whole: float, fewest: int, rng: np.random.Generator) -> Group:
    """The group of effects with these values and orders. `whole` is the strength of all salient effects, `fewest` the
    size of the smaller group."""
    strength = np.zeros((2, n_players))
    np.add.at(strength, ((values < 0).astype(int), order - 1), np.abs(values) / (whole or 1.0))
    nan = float("nan")
    matched = nan
    if fewest >= 2:
        draws = np.array([rng.choice(values, fewest, replace=False) for _ in range(DRAWS)])
        matched = float(np.mean([_cancellation(draw) for draw in draws]))
    mean_order, cancellation = (float(order.mean()), _cancellation(values)) if len(order) else (nan, nan)
    return Group(strength, mean_order, cancellation, matched)


def _cancellation(values: np.ndarray) -> float:
    return float(1 - abs(values.sum()) / np.abs(values).sum())
