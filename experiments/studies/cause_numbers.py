"""Numbers of the models that `studies.causes` trains, and of its changes, with intervals over seeds and prompts.

What is changed, the training, differs from run to run. So an interval has to show how much the number depends on the
run: each resample draws seeds, then prompts, both with replacement, and takes the number over all pairs of the two.
Every model is explained on the same prompts and trained from the same seeds, and every number is resampled with the
same draws: differences are paired by seed and by prompt. With one seed an interval is over prompts only, and no
evidence that a change would come again. Resampling so few seeds makes intervals somewhat too narrow: with 5, the
standard error of a mean by a factor of 0.9.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from andor.measures.bootstrap import REPEATS, Resampled, crossed_draws
from andor.measures.profile import Profile
from experiments.lab.sentiment import METHODS, Orders, Snapshot
from experiments.studies.cause_settings import NUMBERS


@dataclasses.dataclass(frozen=True, eq=False)
class Sampled(Resampled):
    """A number of one model, or of a change: over all seeds and prompts, on resamples of both, and by seed."""

    by_seed: Float[np.ndarray, "seeds"]


def sampled(found: Sequence[Orders], resamples: int) -> dict[str, Sampled]:
    """The `NUMBERS` of one model by one method.

    Args:
      found: order strengths on the same prompts, one entry per seed.
      resamples: behind the interval of the score, which takes 15 ms each.
    """
    n_seeds, n_prompts = len(found), len(found[0].total)
    strengths = np.concatenate([each.profile.strengths for each in found])
    every = Orders(
        Profile(strengths, found[0].profile.players * n_seeds), total=np.concatenate([each.total for each in found])
    )
    statistics = {
        "score": (every.scores, resamples),
        "mean_order": (lambda places: _mean(every.mean_order[places]), REPEATS),
        "cancellation": (lambda places: _mean(every.cancellation[places]), REPEATS),
    }
    seeds = np.arange(n_seeds * n_prompts).reshape(n_seeds, n_prompts)
    return {
        number: Sampled(
            value=float(statistic(seeds.reshape(1, -1))[0]),
            resampled=statistic(crossed_draws(n_seeds, n_prompts, repeats)),
            by_seed=statistic(seeds),
        )
        for number, (statistic, repeats) in ((name, statistics[name]) for name in NUMBERS)
    }


def _mean(values: Float[np.ndarray, "rows pairs"]) -> Float[np.ndarray, "rows"]:
    """Mean of each row's entries that are not nan."""
    defined = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(defined, values, 0).sum(axis=1) / defined.sum(axis=1)


def of_model(name: str, snapshots: Sequence[Snapshot], numbers: dict[str, dict[str, Sampled]], found) -> dict:
    """Losses, and by method the numbers with their intervals and by seed, and the mean strength of each order."""
    record = {"model": name, "steps": [each.step for each in snapshots], **_losses(snapshots)}
    for method in METHODS:
        strengths = np.concatenate([each[method].profile.strengths for each in found])
        record[method] = _saved(numbers[method]) | {"by_order": np.nanmean(strengths, axis=0)}
    return record


def of_change(change: tuple[str, str, str, str], numbers: dict[str, dict[str, dict[str, Sampled]]]) -> dict:
    """By method, after less before."""
    kind, what, before, after = change
    return {"kind": kind, "what": what, "before": before, "after": after} | {
        method: _saved({key: numbers[after][method][key] - numbers[before][method][key] for key in NUMBERS})
        for method in METHODS
    }


def _saved(numbers: dict[str, Sampled]) -> dict:
    return {key: each.interval() for key, each in numbers.items()} | {
        f"{key}_by_seed": each.by_seed for key, each in numbers.items()
    }


def _losses(snapshots: Sequence[Snapshot]) -> dict:
    train, validation = (
        np.mean([getattr(each, part).mean() for each in snapshots]) for part in ("train", "validation")
    )
    return {
        "train": train,
        "validation": validation,
        "dev": np.mean([each.dev.mean() for each in snapshots]),
        "gap": validation - train,
        "accuracy": np.mean([each.accuracy for each in snapshots]),
    }


def sign(change: dict, number: str, method: str = "certified") -> str:
    """ "+" or "−" where there are several seeds and the interval of a saved change leaves out 0, else "0"."""
    _, low, high = np.array(change[method][number], float)
    if len(change[method][f"{number}_by_seed"]) < 2:
        return "0"
    return "+" if low > 0 else "−" if high < 0 else "0"
