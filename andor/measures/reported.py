"""Which numbers of effects are reported, and how they are averaged over prompts."""

import math
from collections.abc import Iterable, Mapping

import numpy as np

from andor.core.explained import Compared

TOP_K = 100
"""Effects of the logic model: "around 100" of 2 * 2**10 suffice (arXiv 2305.01939)."""

SHARES = (0.01, 0.03, 0.05, 0.10)
"""Shares of all effects whose match is reported next to the top 100; published: 3 to 5% give v (arXiv 2401.16318)."""

TRANSFER_K = (10, 50)
"""k of the transfer of effects; 50 is published (arXiv 2401.16318)."""


def top_counts(n_players: int) -> tuple[int, ...]:
    """Numbers of effects behind `SHARES` (rounded up, of 2**(n+1) - n - 2 for n players), then `TOP_K`."""
    available = 2 ** (n_players + 1) - n_players - 2
    return (*(math.ceil(share * available) for share in SHARES), TOP_K)


def labelled(run: Compared) -> bool:
    """Whether any prompt of a run has labels of its players; then every prompt has `unreliable`, nan without labels."""
    return any(prompt.labels is not None for prompt in run.prompts)


def mean_of_defined(numbers: Iterable[float | int]) -> float:
    """Mean of the numbers that are not nan; nan when none is left."""
    defined = [x for x in numbers if not np.isnan(x)]
    return float(np.mean(defined)) if defined else float("nan")


def median_of_defined(numbers: Iterable[float | int]) -> float:
    """Median of the numbers that are not nan; nan when none is left."""
    defined = [x for x in numbers if not np.isnan(x)]
    return float(np.median(defined)) if defined else float("nan")


def closest_to_median(numbers: Mapping[str, float]) -> str:
    """The key whose number is the lower median; the first of equals. Numbers that are nan come last."""
    ranked = sorted(numbers, key=lambda key: (np.isnan(numbers[key]), numbers[key]))
    defined = sum(not np.isnan(x) for x in numbers.values()) or len(ranked)
    return ranked[(defined - 1) // 2]
