"""Rules that find the phases of a training run: where the order of effects turns from falling to growing, and where the
gap between held-out and training loss opens."""

import numpy as np
from jaxtyping import Float

from experiments.study import interval

_REPEATS = 2000


def phase_change(mean_order: Float[np.ndarray, "prompts steps"], seed: int = 0) -> dict:
    """Where falling turns into growing, and whether it does.

    The change is at the step whose mean over prompts is least. It counts if the fall (first step less least step) and
    the rise (last step less least step) are both above 0 with 97.5% confidence. The least of many noisy numbers always
    looks low, so for this test the prompts are divided in two, and each half's step is tested on the other half's
    prompts. Prompts without effects at any step (nan) are left out.

    Returns:
      index: the step's place in the list of steps, None if there is no change.
      low, high: 95% interval of the place, over prompts.
      fall, rise: (estimate, low, high) of the test, in orders.
    """
    curves = mean_order[~np.isnan(mean_order).any(axis=1)]
    rng = np.random.default_rng(seed)
    if len(curves) < 4:
        nothing = (np.nan,) * 3
        return {"index": None, "low": None, "high": None, "fall": nothing, "rise": nothing}
    halves = np.arange(len(curves)) % 2
    differences = []
    for half in (0, 1):
        chosen = curves[halves != half].mean(axis=0).argmin()
        tested = curves[halves == half]
        differences.append(tested[:, [0, -1]] - tested[:, [chosen]])
    fall, rise = (interval(each, repeats=_REPEATS, seed=seed) for each in np.concatenate(differences).T)
    resampled = curves[rng.integers(0, len(curves), (_REPEATS, len(curves)))].mean(axis=1).argmin(axis=1)
    low, high = (int(np.quantile(resampled, q, method="nearest")) for q in (0.025, 0.975))
    found = fall[1] > 0 and rise[1] > 0
    return {
        "index": int(curves.mean(axis=0).argmin()) if found else None,
        "low": low if found else None,
        "high": high if found else None,
        "fall": fall,
        "rise": rise,
    }


def gap_interval(held_out: Float[np.ndarray, "a"], train: Float[np.ndarray, "b"]) -> tuple[float, float, float]:
    """Mean of the first less mean of the second, with a 95% interval; both are resampled."""
    rng = np.random.default_rng(0)
    means = [each[rng.integers(0, len(each), (_REPEATS, len(each)))].mean(axis=1) for each in (held_out, train)]
    low, high = np.quantile(means[0] - means[1], [0.025, 0.975])
    return float(held_out.mean() - train.mean()), float(low), float(high)


def gap_opening(gaps: Float[np.ndarray, "steps 3"]) -> int | None:
    """Place of the first step from which on the gap's interval is above 0; None if it is not so at the last step."""
    open_ = gaps[:, 1] > 0
    if not open_[-1]:
        return None
    return int(len(open_) - np.argmin(open_[::-1])) if not open_.all() else 0


def coincide(change: dict, gap_opens: int | None) -> bool | None:
    """Whether the gap opens inside the interval of the phase change, or next to it; None if one is missing."""
    if change["index"] is None or gap_opens is None:
        return None
    return change["low"] - 1 <= gap_opens <= change["high"] + 1
