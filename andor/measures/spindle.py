"""Decay / spindle split: which part of a model's order strengths falls off, and which is a balanced mid-order bulge.

Cheng et al. (arXiv 2502.10162) find that effects that generalise fall off with their order, and that effects that do
not generalise form a spindle: strongest at middle orders, positive and negative alike. This module splits measured
order strengths in two parts of these shapes,

    positive(o) = p exp(-k+ o) + s(o),    negative(o) = m exp(-k- o) + s(o),    s(o) proportional to C(n, o) r^o,

and reports the *spindle share*, the strength of the second part over the total. The generalisation score of a model
is 1 - spindle share of its strengths pooled over prompts. Each sign has its own decay, since what a model gains with
order and what it loses need not fall equally fast; one rate for both gains little where the rates are equal and, at 5%
noise, doubles the error where they are not. The spindle is common to both signs.

"Middle orders" is part of the definition, not something data could decide: with small r the spindle C(n, o) r^o is
itself a falling curve. Here 1/3 <= r <= 3, a mean order between n/4 and 3n/4, and for few players also a mode
strictly between 1 and n. A balanced bulge below that counts as decay.

How far to trust it: error of the share over 200 random planted mixtures (`python tests/test_spindle.py`: share 0..1,
rates 0.3..1.5, r 0.5..2), mean and 95th percentile of |error|.

    players                                          6           8           10          12
    strengths off by 10%                        .05   .13   .03   .09   .02   .06   .02   .06
    strengths off by 20%                        .09   .26   .05   .16   .04   .12   .05   .15
    10 prompts of 30 decaying, 100 other effects .06  .17   .05   .16   .03   .12   .02   .06
    1 such prompt                               .11   .32   .09   .28   .08   .23   .07   .22

So one prompt is not enough, and below 8 players the shapes can hardly be told apart (4 players: .10 over 10 prompts).
Amplitudes cannot be negative, so where there is no spindle the share comes out above 0: by .03 on average at 10
players and 10%, by .04 over 10 prompts (95%: .21). A small share is therefore no evidence of a spindle: resample the
prompts to learn its spread. The split is weakest where the two shapes are most alike, at r near 1/3 (.06) and at slow
decay (.05 over 10 prompts at k = 0.1), and wrong where the bulge is outside the definition (r = 0.2: .35 too low).

All this is with the effects given. Where they have to be found from v first, the extraction errs more than the split:
over 30 planted prompts of 9 players the mean error is .03 with the effects given, .15 at the certified optimum (.07
where the truth has no OR effects; bias .01) and .32 with AND effects alone (.24), which nearly always see too much
spindle (`python -m experiments spindle`, figures/spindle.json).
"""

from dataclasses import dataclass
from math import comb, inf, nan

import numpy as np
from jaxtyping import Float

from andor.measures.metrics import OrderStrength

_RATES = (0.1, 5.0)  # k: from 10% less per order, which is all but flat, to all but order 1 gone.
_MOST_TILTED = 3.0  # r and 1 / r at most this.
_GRID = 24  # points per parameter of the first grid; later ones close in on its best point.
_REFINEMENTS = 4
# Weights strength^-1.5: between a sum of few effects, whose variance is proportional to it, and a proportional error.
# The floor, a share of the largest strength, keeps near-empty orders from dominating.
_VARIANCE_POWER, _FLOOR = 1.5, 0.02


@dataclass(frozen=True)
class SpindleSplit:
    """Order strengths as a decaying part plus a spindle. All nan with fewer than 3 players or without any strength.

    Attributes:
      spindle_share: strength of the fitted spindle, both signs, / strength of the whole fit. In [0, 1].
      decay_positive: `[orders]`, decaying part of the positive strengths; entry o - 1 is order o.
      decay_negative: `[orders]`, decaying part of the negative strengths, >= 0.
      spindle: `[orders]`, the spindle, the same for both signs.
      rate_positive: k+, per order; nan when the positive strengths have no decaying part.
      rate_negative: k-, per order; nan when the negative strengths have no decaying part.
      ratio: r of the spindle; nan when there is none.
      misfit: sum of |strength - fit| / sum of strength. On mixtures that do have these shapes it is about 0.1 when
        strengths are off by 10% or over ten prompts, and 0.4 for one prompt of few effects. Well above that the
        shapes do not describe the model, and the share says little.
    """

    spindle_share: float
    decay_positive: Float[np.ndarray, "orders"]
    decay_negative: Float[np.ndarray, "orders"]
    spindle: Float[np.ndarray, "orders"]
    rate_positive: float
    rate_negative: float
    ratio: float
    misfit: float


def spindle_split(strength: OrderStrength) -> SpindleSplit:
    """Weighted least squares fit of a decay per sign and a common spindle, all amplitudes >= 0.

    Deterministic, and invariant to the scale of the strengths: for given rates and ratio the amplitudes have a closed
    form; rates and ratio come from a full grid, refined around its best point: no starting point, no optimiser. About
    15 ms. Exact mixtures come back to 1e-3.

    For a mean over prompts (`andor.measures.profile`) with different numbers of players the shapes are means of the
    prompts' own shapes: every prompt has the same decay, cut at its last order, and a spindle of the same strength.
    """
    observed = np.stack([strength.positive, strength.negative])
    highest = max(strength.players, default=0)
    if highest < 3 or not observed.any():
        empty = np.full(observed.shape[1], nan)
        return SpindleSplit(nan, empty, empty, empty, nan, nan, nan, nan)
    assert observed.shape[1] == highest, "one entry per order up to the largest number of players"

    weights = (observed / observed.max() + _FLOOR) ** -_VARIANCE_POWER
    tilt = min(_MOST_TILTED, (highest - 1) / 2)  # (n - 1) / 2 puts the mode at n - 1.
    ratios = np.geomspace(1 / tilt, tilt, _GRID)
    cell = 2 * np.log(tilt) / (_GRID - 1)
    for refinement in range(1 + _REFINEMENTS):
        loss, rates, amplitudes = _fit_each_ratio(observed, weights, ratios, strength.players)
        best = np.argmin(loss)
        ratio, (rate_up, rate_down), (up, down, bulge) = ratios[best], rates[:, best], amplitudes[:, best]
        ratios = _closer(ratio[None], cell, refinement, 1 / tilt, tilt)[0]

    decay_positive = up * _decays(rate_up, strength.players)
    decay_negative = down * _decays(rate_down, strength.players)
    spindle = bulge * _spindles(ratio, strength.players)
    fitted = np.stack([decay_positive, decay_negative]) + spindle
    return SpindleSplit(
        spindle_share=float(2 * spindle.sum() / fitted.sum()),
        decay_positive=decay_positive,
        decay_negative=decay_negative,
        spindle=spindle,
        rate_positive=float(rate_up) if up > 0 else nan,
        rate_negative=float(rate_down) if down > 0 else nan,
        ratio=float(ratio) if bulge > 0 else nan,
        misfit=float(np.abs(observed - fitted).sum() / observed.sum()),
    )


def _fit_each_ratio(observed, weights, ratios, players):
    """For every spindle ratio the best rates and amplitudes: loss `[r]`, rates `[2, r]`, amplitudes `[3, r]`.

    The loss has a long narrow valley along the ratio, so the rates are searched to the end at each ratio, not with it.
    """
    spindles = _spindles(ratios, players)
    slow, fast = _RATES
    cell = np.log(fast / slow) / (_GRID - 1)
    grids = np.broadcast_to(np.geomspace(slow, fast, _GRID), (2, ratios.size, _GRID))
    every = np.arange(ratios.size)
    for refinement in range(1 + _REFINEMENTS):
        loss, amplitudes = _fit(observed, weights, _decays(grids[0], players), _decays(grids[1], players), spindles)
        i, j = np.divmod(np.argmin(loss.reshape(ratios.size, -1), axis=1), loss.shape[2])
        rates = np.stack([grids[0][every, i], grids[1][every, j]])
        grids = _closer(rates, cell, refinement, slow, fast)
    return loss[every, i, j], rates, amplitudes[:, every, i, j]


def _fit(observed, weights, decays_up, decays_down, spindles):
    """Best amplitudes >= 0 for every combination of shapes, by trying every set of amplitudes that are not zero.

    Args:
      observed, weights: `[2, orders]`, positive and negative strengths.
      decays_up, decays_down: `[r, a, orders]`, `[r, b, orders]`, the decays to try with each spindle.
      spindles: `[r, orders]`.

    Returns:
      Weighted squared error `[r, a, b]`, and amplitudes `[3, r, a, b]`: positive decay, negative decay, spindle.
    """
    decay_square, decay_data, decay_spindle = [], [], []
    for sign, (decays, other) in enumerate([(decays_up, 2), (decays_down, 1)]):
        weighted = decays * weights[sign][None, None, :]
        decay_square.append(np.expand_dims(np.sum(weighted * decays, axis=2), other))
        decay_data.append(np.expand_dims(weighted @ observed[sign], other))
        decay_spindle.append(np.expand_dims(np.sum(weighted * spindles[:, None, :], axis=2), other))
    spindle_square = (spindles**2 @ weights.sum(axis=0))[:, None, None]
    spindle_data = (spindles @ (weights * observed).sum(axis=0))[:, None, None]
    data_square = np.sum(weights * observed**2)

    shape = (len(spindles), decays_up.shape[1], decays_down.shape[1])
    loss, amplitudes = np.full(shape, inf), np.zeros((3, *shape))
    # Positive decay, negative decay, spindle. Without a spindle both decays are >= 0, since the strengths are.
    for has in ((1, 1, 0), (1, 1, 1), (1, 0, 1), (0, 1, 1), (0, 0, 1)):
        # Eliminating the decays leaves one equation for the spindle.
        square = spindle_square - sum(has[i] * decay_spindle[i] ** 2 / decay_square[i] for i in (0, 1))
        data = spindle_data - sum(has[i] * decay_data[i] * decay_spindle[i] / decay_square[i] for i in (0, 1))
        bulge = has[2] * data / np.where(square > 1e-9 * spindle_square, square, inf)
        up, down = (has[i] * (decay_data[i] - bulge * decay_spindle[i]) / decay_square[i] for i in (0, 1))
        error = data_square - sum(has[i] * decay_data[i] ** 2 / decay_square[i] for i in (0, 1)) - bulge * data
        better = (up >= 0) & (down >= 0) & (bulge >= 0) & (error < loss)
        loss = np.where(better, error, loss)
        for old, new in zip(amplitudes, (up, down, bulge), strict=True):
            old[:] = np.where(better, new, old)
    return loss, amplitudes


def _decays(rates, players: tuple[int, ...]) -> np.ndarray:
    """exp(-rate * o) up to each prompt's last order, mean over prompts, scaled to sum 1. `[..., orders]`."""
    order = np.arange(1, max(players) + 1)
    reaching = np.mean(order[None, :] <= np.array(players)[:, None], axis=0)
    shapes = reaching * np.exp(-np.multiply.outer(rates, order - 1))
    return shapes / shapes.sum(axis=-1, keepdims=True)


def _spindles(ratios, players: tuple[int, ...]) -> np.ndarray:
    """C(n, o) ratio^o, scaled to sum 1 for each prompt, mean over prompts. `[..., orders]`."""
    order = np.arange(1, max(players) + 1)
    powers = np.power.outer(ratios, order)
    mean = np.zeros_like(powers)
    for n_players, count in zip(*np.unique(players, return_counts=True), strict=True):
        shapes = powers * np.array([comb(int(n_players), int(o)) for o in order], dtype=np.float64)
        mean += count / len(players) * shapes / shapes.sum(axis=-1, keepdims=True)
    return mean


def _closer(best: np.ndarray, cell: float, refinement: int, low: float, high: float) -> np.ndarray:
    """9 points on either side of each best point, inside [low, high], a quarter as far out each time. `[..., 9]`."""
    steps = np.linspace(-1, 1, 9) * cell / 4**refinement
    return np.clip(np.multiply.outer(best, np.exp(steps)), low, high)
