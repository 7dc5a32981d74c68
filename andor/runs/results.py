"""What the summary, the tables and the figures read from a run: effects at the certified optimum and with AND only,
their profile over orders, and how many of the strongest count.

NumPy only: importing this module imports neither jax nor matplotlib.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from andor.measures import metrics
from andor.measures.metrics import Pair

TOP_K = 100
"""Effects of the logic model: "around 100" of 2 * 2**10 suffice (arXiv 2305.01939)."""

SHARES = (0.01, 0.03, 0.05, 0.10)
"""Shares of all effects whose match is reported next to the top 100; published: 3 to 5% give v (arXiv 2401.16318)."""

TRANSFER_K = (10, 50)
"""k of the transfer of effects; 50 is published (arXiv 2401.16318)."""

FAINT = 0.005
"""Below this share of the total strength an order's cancellation is not drawn: it would be one of solver dust."""

Run = Mapping

PairOf = Callable[[Run, str, str], Pair]
"""`optimum` or `and_only`: called as pair_of(run, model, prompt_id)."""


def optimum(run: Run, model: str, prompt_id: str) -> Pair:
    """(AND effects, OR effects) of the saved solution."""
    return run[model, prompt_id].effects


def and_only(run: Run, model: str, prompt_id: str) -> Pair:
    """Harsanyi dividends (arXiv 2305.01939): the one set of AND effects that adds up to v, noise and all; no OR."""
    return run[model, prompt_id].and_only


def value_range(run: Run, model: str, prompt_id: str) -> float:
    """|v(N) - v(∅)|, the unit in which models and prompts are compared."""
    return run[model, prompt_id].range


def prompt_ids(run: Run) -> tuple[str, ...]:
    """Ids of the prompts, in order."""
    return tuple(prompt.id for prompt in run.prompts)


def with_range(run: Run, models: tuple[str, ...]) -> tuple[str, ...]:
    """Ids of the prompts on which v(N) differs from v(∅) under every one of these models: the others have no unit."""
    return tuple(p for p in prompt_ids(run) if all(value_range(run, model, p) > 0 for model in models))


def mean_of_defined(numbers) -> float:
    """Mean of the numbers that are not nan; nan when none is left."""
    defined = [x for x in numbers if not np.isnan(x)]
    return float(np.mean(defined)) if defined else float("nan")


def median_of_defined(numbers) -> float:
    """Median of the numbers that are not nan; nan when none is left."""
    defined = [x for x in numbers if not np.isnan(x)]
    return float(np.median(defined)) if defined else float("nan")


def closest_to_median(numbers: dict[str, float]) -> str:
    """The key whose number is the lower median; the first of equals. Numbers that are nan come last."""
    ranked = sorted(numbers, key=lambda key: (np.isnan(numbers[key]), numbers[key]))
    defined = sum(not np.isnan(x) for x in numbers.values()) or len(ranked)
    return ranked[(defined - 1) // 2]


def top_counts(n_players: int) -> tuple[int, ...]:
    """Numbers of effects behind `SHARES` (rounded up, of 2**(n+1) - n - 2 for n players), then `TOP_K`."""
    available = 2 ** (n_players + 1) - n_players - 2
    return (*(math.ceil(share * available) for share in SHARES), TOP_K)


@dataclass(frozen=True, eq=False)
class Profile:
    """Order strengths of one model by one method on every prompt, in units of the prompt's strength at the optimum.

    Attributes:
      strengths: `[prompts, 2, orders]`; positive, then negative (>= 0); entry o - 1 is order o.
      players: number of players of each prompt.
    """

    strengths: Float[np.ndarray, "prompts 2 orders"]
    players: tuple[int, ...]

    @property
    def mean(self) -> metrics.OrderStrength:
        """Mean over prompts."""
        return metrics.OrderStrength(*self.strengths.mean(axis=0), self.players)

    @property
    def standard_error(self) -> Float[np.ndarray, "2 orders"]:
        """Standard error of the mean; nan for one prompt."""
        prompts = len(self.strengths)
        if prompts == 1:
            return np.full(self.strengths.shape[1:], np.nan)
        return self.strengths.std(axis=0, ddof=1) / np.sqrt(prompts)

    @property
    def total(self) -> float:
        """Mean strength of all effects: 1 at the optimum."""
        return float(self.strengths.sum(axis=(1, 2)).mean())

    @property
    def low_orders(self) -> float:
        """Share of the mean strength that orders 1 and 2 carry."""
        return float(self.strengths[:, :, :2].sum() / self.strengths.sum())

    @property
    def cancellation(self) -> Float[np.ndarray, "orders"]:
        """Share of each order's strength that cancels within the same prompt; nan where there is next to none."""
        positive, negative = self.strengths[:, 0], self.strengths[:, 1]
        both = (positive + negative).sum(axis=0)
        left = np.abs(positive - negative).sum(axis=0)
        seen = both >= FAINT * both.sum()
        return np.where(seen, 1 - left / np.where(seen, both, 1.0), np.nan)


def profile(run: Run, model: str, pair_of: PairOf) -> Profile:
    """Order strengths of one model on the prompts where every model of the run has effects at the optimum."""
    ids = prompts_with_effects(run)
    found = [metrics.order_strength(*pair_of(run, model, p)) for p in ids]
    strengths = np.zeros((len(ids), 2, max((strength.positive.size for strength in found), default=0)))
    for row, strength, p in zip(strengths, found, ids, strict=True):
        row[:, : strength.positive.size] = np.stack([strength.positive, strength.negative]) / _total(run, model, p)
    return Profile(strengths, tuple(strength.positive.size for strength in found))


def prompts_with_effects(run: Run) -> tuple[str, ...]:
    """Prompts where the noise bound alone explains v under none of the models."""
    return tuple(p for p in prompt_ids(run) if all(_total(run, model, p) > 0 for model in run.models))


def _total(run: Run, model: str, prompt_id: str) -> float:
    strength = metrics.order_strength(*optimum(run, model, prompt_id))
    return float(strength.positive.sum() + strength.negative.sum())
