"""Rules that find the phases of a training run: where the order of effects turns from falling to growing, and where the
gap between held-out and training loss opens."""

import numpy as np
from jaxtyping import Float

from andor.measures.bootstrap import Resampled, draws, interval


def phase_change(
    mean_order: Float[np.ndarray, "prompts steps"], strength: Float[np.ndarray, "prompts steps"], seed: int = 0
) -> dict:
    """Where falling turns into growing, and whether it does.

    The curve is the mean order of the strength of all prompts together: a prompt weighs as much as it has strength. The
    change is at the step where it is least. It counts if the fall (first step less least step) and the rise (last step
    less least step) are both above 0 with 97.5% confidence. The least of many noisy numbers always looks low, so for
    this test the prompts are divided in two, and each half's step is tested on the other half's prompts.

    Args:
      mean_order: of each prompt's effects at each step; anything where it has none.
      strength: total strength of the same effects, nats; 0 where there are none.
      seed: of the resampling.

    Returns:
      index: the step's place in the list of steps, None if there is no change.
      low, high: 95% interval of the place, over prompts.
      fall, rise: (estimate, low, high) of the test, in orders. nan with fewer than 4 prompts, or where a half of them
        has no effects at some step.
    """
    moment = np.where(strength > 0, strength * mean_order, 0.0)
    halves = np.arange(len(strength)) % 2
    if len(strength) < 4 or not all(strength[halves == half].any(axis=0).all() for half in (0, 1)):
        nothing = (np.nan,) * 3
        return {"index": None, "low": None, "high": None, "fall": nothing, "rise": nothing}
    chosen = np.array([_curve(moment[halves != half], strength[halves != half]).argmin() for half in (0, 1)])
    every = np.arange(len(strength))
    at_least = moment[every, chosen[halves]], strength[every, chosen[halves]]
    fall, rise = (
        interval(np.column_stack([moment[:, end], strength[:, end], *at_least]), _difference, seed) for end in (0, -1)
    )
    resampled = [_curve(moment[each], strength[each]).argmin() for each in draws(len(strength), seed=seed)]
    low, high = (int(np.quantile(resampled, q, method="nearest")) for q in (0.025, 0.975))
    found = fall[1] > 0 and rise[1] > 0
    return {
        "index": int(_curve(moment, strength).argmin()) if found else None,
        "low": low if found else None,
        "high": high if found else None,
        "fall": fall,
        "rise": rise,
    }


def _curve(moment: np.ndarray, strength: np.ndarray) -> np.ndarray:
    """Mean order of the strength of all prompts at each step; infinite where there is none."""
    total = strength.sum(axis=0)
    return np.divide(moment.sum(axis=0), total, out=np.full(total.shape, np.inf), where=total > 0)


def _difference(rows: Float[np.ndarray, "prompts 4"]) -> float:
    """Mean order of the first two columns (moment, strength) less that of the last two; nan where one has none."""
    one, one_strength, other, other_strength = rows.sum(axis=0)
    return one / one_strength - other / other_strength if one_strength and other_strength else np.nan


def gap_interval(held_out: Float[np.ndarray, "a"], train: Float[np.ndarray, "b"]) -> tuple[float, float, float]:
    """Mean of the first less mean of the second, with a 95% interval; both are resampled."""
    rng = np.random.default_rng(0)
    means = [Resampled(each.mean(), each[draws(len(each), seed=rng)].mean(axis=1)) for each in (held_out, train)]
    return (means[0] - means[1]).interval()


def gap_opening(gaps: Float[np.ndarray, "steps 3"]) -> int | None:
    """Place of the first step from which on the gap's interval is above 0; None if it is not so at the last step."""
    open_ = gaps[:, 1] > 0
    if not open_[-1]:
        return None
    return int(len(open_) - np.argmin(open_[::-1])) if not open_.all() else 0


def coincide(change: dict, gap_opens: int | None) -> bool | None:
    """Whether the gap opens at a step inside the interval of the phase change, or next to it in the list of watched
    steps. The step where it opens has no interval. None: there is no change, or the gap does not open."""
    if change["index"] is None or gap_opens is None:
        return None
    return change["low"] - 1 <= gap_opens <= change["high"] + 1
