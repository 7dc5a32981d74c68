"""95% percentile bootstrap intervals: of numbers over prompts, of paired differences, over clusters drawn whole.

Two numbers on the same resamples are paired: the difference of them (`Resampled`) varies only by what they do not
share. Numbers on resamples of their own make an unpaired difference.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int

REPEATS = 2000
"""Resamples, where a statistic is fast."""


@dataclasses.dataclass(frozen=True, eq=False)
class Resampled:
    """A number, and the same on every resample; nan: undefined."""

    value: float
    resampled: Float[np.ndarray, "repeats"]

    def __sub__(self, other):
        """Field by field, and so resample by resample."""
        names = [field.name for field in dataclasses.fields(self)]
        return type(self)(*(getattr(self, name) - getattr(other, name) for name in names))

    def interval(self) -> tuple[float, float, float]:
        """(estimate, low, high); resamples that are nan are left out."""
        defined = self.resampled[~np.isnan(self.resampled)]
        low, high = np.quantile(defined, [0.025, 0.975]) if len(defined) else (math.nan, math.nan)
        return float(self.value), float(low), float(high)

    def p_above(self) -> float:
        """p of the number being above 0: the share of resamples that are not, counting one more; 1 where undefined."""
        defined = self.resampled[~np.isnan(self.resampled)]
        return float((1 + np.sum(defined <= 0)) / (1 + len(defined)))


def holm(p: Sequence[float]) -> Float[np.ndarray, "tests"]:
    """p of several tests, adjusted so that below 0.05 all that are said to hold do so with 95% (Holm, 1979).

    The smallest times the number of tests, the next times one less, and so on; none below one before it, or above 1.
    """
    p = np.asarray(p, np.float64)
    by_size = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    adjusted[by_size] = np.minimum(1, np.maximum.accumulate(p[by_size] * np.arange(len(p), 0, -1)))
    return adjusted


def draws(count: int, repeats: int = REPEATS, seed: int | np.random.Generator = 0) -> Int[np.ndarray, "repeats count"]:
    """Places of so many samples, drawn with replacement."""
    return np.random.default_rng(seed).integers(0, count, (repeats, count))


def crossed_draws(
    clusters: int, count: int, repeats: int = REPEATS, seed: int = 0
) -> Int[np.ndarray, "repeats places"]:
    """Places cluster * count + sample: clusters drawn, and of each the same samples drawn, both with replacement."""
    rng = np.random.default_rng(seed)
    chosen, samples = rng.integers(0, clusters, (repeats, clusters)), rng.integers(0, count, (repeats, count))
    return (chosen[:, :, None] * count + samples[:, None, :]).reshape(repeats, -1)


def clustered_draw(labels, rng: np.random.Generator) -> Int[np.ndarray, "places"]:
    """Places of one resample, given the label of every sample: labels are drawn with replacement, each with all of its
    samples."""
    members = [np.flatnonzero(np.array(labels) == label) for label in np.unique(labels)]
    return np.concatenate([members[i] for i in rng.integers(0, len(members), len(members))])


def resampled(count: int, statistic: Callable[[np.ndarray], float], seed: int = 0, repeats: int = REPEATS) -> Resampled:
    """A statistic that is told the places of the samples; nan without samples. Equal seeds: equal resamples."""
    if not count:
        return Resampled(math.nan, np.empty(0))
    return Resampled(
        statistic(np.arange(count)), np.array([statistic(places) for places in draws(count, repeats, seed)])
    )


def interval(
    samples, statistic: Callable[[np.ndarray], float] = np.mean, seed: int = 0, repeats: int = REPEATS
) -> tuple[float, float, float]:
    """(estimate, low, high) of a statistic of samples; nan without samples.

    Args:
      samples: one entry, or row, per prompt. Entries that are nan (undefined for that prompt) are left out; rows are
        kept as they are.
      statistic: of as many samples as there are.
      seed: of the resampling.
      repeats: resamples.
    """
    samples = np.asarray(samples, dtype=np.float64)
    if samples.ndim == 1:
        samples = samples[~np.isnan(samples)]
    if len(samples) and samples.ndim == 1 and statistic in (np.mean, np.median):  # of all resamples in one call
        found = statistic(samples[draws(len(samples), repeats, seed)], axis=1)
        return Resampled(statistic(samples), found).interval()
    return resampled(len(samples), lambda places: statistic(samples[places]), seed, repeats).interval()
