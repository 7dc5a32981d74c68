"""Order profiles: how the strength of effects is spread over orders, over many prompts.

A profile is in units of each prompt's own strength, that of all its effects at the optimum unless other units are
given, so that every prompt weighs the same. In units of |v(N) - v(∅)| a mean would be that of the one prompt whose v(N)
happens to be next to v(∅).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from andor.core.explained import Compared, Method, Pair
from andor.measures.bootstrap import REPEATS, Resampled, draws, interval, resampled
from andor.measures.metrics import OrderStrength, order_strength
from andor.measures.spindle import SpindleSplit, spindle_split

FAINT = 0.005
"""Below this share of the total strength an order's cancellation is not told: it would be one of solver dust."""


@dataclass(frozen=True, eq=False)
class Profile:
    """Order strengths on every prompt, each in its unit.

    Attributes:
      strengths: `[prompts, 2, orders]`; positive, then negative (>= 0); entry o - 1 is order o. 0 above a prompt's last
        order.
      players: number of players of each prompt.
    """

    strengths: Float[np.ndarray, "prompts 2 orders"]
    players: tuple[int, ...]

    @property
    def mean(self) -> OrderStrength:
        """Mean over prompts. It ends at the most players that any has: a resample may lack the longest prompt."""
        return OrderStrength(*self.strengths.mean(axis=0)[:, : max(self.players, default=0)], self.players)

    @property
    def split(self) -> SpindleSplit:
        """The mean as a decay and a spindle."""
        return spindle_split(self.mean)

    @property
    def standard_error(self) -> Float[np.ndarray, "2 orders"]:
        """Standard error of the mean; nan for one prompt."""
        prompts = len(self.strengths)
        if prompts == 1:
            return np.full(self.strengths.shape[1:], np.nan)
        return self.strengths.std(axis=0, ddof=1) / np.sqrt(prompts)

    @property
    def total(self) -> float:
        """Mean strength of all effects: 1 at the optimum in units of the optimum."""
        return float(self.strengths.sum(axis=(1, 2)).mean())

    @property
    def low_orders(self) -> float:
        """Share of the mean strength that orders 1 and 2 carry; nan without any strength."""
        return _share(self.strengths[:, :, :2].sum(), self.strengths.sum())

    @property
    def mean_order(self) -> float:
        """Mean order of the mean strength; nan without any."""
        by_order = self.strengths.sum(axis=(0, 1))
        return _share(by_order @ np.arange(1, by_order.size + 1), by_order.sum())

    @property
    def positive(self) -> float:
        """Share of the mean strength that is positive; nan without any."""
        return _share(self.strengths[:, 0].sum(), self.strengths.sum())

    @property
    def balance(self) -> float:
        """1 where every order has as much positive as negative mean strength, 0 where each has one sign; nan without
        any."""
        return 1 - _share(np.abs(self.mean.positive - self.mean.negative).sum(), self.total)

    @property
    def cancellation(self) -> Float[np.ndarray, "orders"]:
        """Share of each order's strength that cancels within the same prompt; nan where there is next to none."""
        positive, negative = self.strengths[:, 0], self.strengths[:, 1]
        both = (positive + negative).sum(axis=0)
        left = np.abs(positive - negative).sum(axis=0)
        seen = both >= FAINT * both.sum()
        return np.where(seen, 1 - left / np.where(seen, both, 1.0), np.nan)

    def of(self, chosen: Sequence[int] | np.ndarray) -> "Profile":
        """The profile of some of the prompts, one perhaps more than once."""
        return Profile(self.strengths[chosen], tuple(self.players[each] for each in chosen))

    def interval(
        self, statistic: Callable[["Profile"], float], seed: int = 0, repeats: int = REPEATS
    ) -> tuple[float, float, float]:
        """(estimate, low, high) of a number of the profile: 95%, over prompts. A spindle share takes 15 ms for each of
        the repeats."""
        return resampled(len(self.players), lambda places: statistic(self.of(places)), seed, repeats).interval()

    def intervals(self, seed: int = 0) -> Float[np.ndarray, "2 orders 3"]:
        """(estimate, low, high) of the mean strength, positive then negative, of every order: 95%, over prompts."""
        sides = self.strengths.transpose(1, 0, 2)
        return np.array([[interval(column, seed=seed) for column in side.T] for side in sides])

    def cancellation_intervals(self, seed: int = 0) -> Float[np.ndarray, "orders 3"]:
        """(estimate, low, high) of the cancellation of every order: 95%, over prompts."""
        found = np.array([self.of(places).cancellation for places in draws(len(self.players), seed=seed)])
        return np.array([Resampled(*each).interval() for each in zip(self.cancellation, found.T, strict=True)])


def profile(strengths: Sequence[OrderStrength], units: Sequence[float]) -> Profile:
    """The profile of prompts with these order strengths, each divided by its unit (positive)."""
    stacked = np.zeros((len(strengths), 2, max((each.positive.size for each in strengths), default=0)))
    for row, each, unit in zip(stacked, strengths, units, strict=True):
        row[:, : each.positive.size] = np.stack([each.positive, each.negative]) / unit
    return Profile(stacked, tuple(max(each.players) for each in strengths))


def profile_of(pairs: Sequence[tuple], units: Sequence[float] | None = None) -> Profile:
    """The profile of prompts with these (AND, OR) effects, perhaps of different numbers of players; without units each
    prompt is in that of its own strength, where it has any."""
    strengths = [order_strength(*pair) for pair in pairs]
    return profile(strengths, [strength(pair) or 1.0 for pair in pairs] if units is None else units)


def run_profile(run: Compared, model: str, method: Method) -> Profile:
    """Profile of a model by a method, on the prompts where every model of the run has effects at the optimum."""
    explained = [run[model, prompt_id] for prompt_id in prompts_with_effects(run)]
    return profile_of([each.pair(method) for each in explained], [strength(each.pair()) for each in explained])


def prompts_with_effects(run: Compared) -> tuple[str, ...]:
    """Ids of the prompts that have effects under every model: the noise bound alone explains v under none."""
    ids = (prompt.id for prompt in run.prompts)
    return tuple(each for each in ids if all(strength(run[model, each].pair()) > 0 for model in run.models))


def strength(pair: Pair) -> float:
    """Sum of |effect| over all effects, in the unit of v."""
    orders = order_strength(*pair)
    return float(orders.positive.sum() + orders.negative.sum())


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole > 0 else math.nan
