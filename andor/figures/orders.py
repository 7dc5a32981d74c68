"""Claim: which orders carry the strength. Positive and negative strength per order, and how much of it cancels.

Arxiv 2401.16318, section 3, and 2502.10162 (decay and spindle). The certified optimum stands beside AND-only effects,
because a part of a spindle can be the method's and not the model's.
"""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from andor import metrics
from andor.figures import results, style
from andor.spindle import spindle_split
from andor.store import Run

METHODS = {"certified optimum": results.optimum, "AND only (Harsanyi)": results.and_only}


FAINT = 0.005
"""Below this share of the total strength an order's cancellation is not drawn: it would be one of solver dust."""


def pooled(run: Run, model: str, pair_of) -> metrics.OrderStrength | None:
    """Mean order strength over prompts, in units of |v(N) - v(∅)|; None when no prompt has such a unit."""
    ids = results.with_range(run, run.models)
    if not ids:
        return None
    strengths = [metrics.order_strength(*pair_of(run, model, p)) for p in ids]
    return metrics.pool(strengths, [results.value_range(run, model, p) for p in ids])


def standard_errors(run: Run, model: str, pair_of) -> np.ndarray:
    """Standard error over prompts of the positive and the negative strength, `[2, orders]`; nan for one prompt."""
    ids = results.with_range(run, run.models)
    highest = max(p.n_players for p in run.prompts if p.id in ids)
    each = np.zeros((len(ids), 2, highest))
    for row, p in zip(each, ids, strict=True):
        strength = metrics.order_strength(*pair_of(run, model, p))
        row[:, : strength.positive.size] = strength.positive, strength.negative
        row /= results.value_range(run, model, p)
    return each.std(axis=0, ddof=1) / np.sqrt(len(ids)) if len(ids) > 1 else np.full(each.shape[1:], np.nan)


def plot(run: Run) -> Figure:
    """Above, strength per order, positive up and negative down; below, cancellation. Left and right, the methods."""
    figure = style.new_figure(style.TWO_COLUMNS, 3.9)
    style.title(figure, _claim(run))
    axes = figure.subplots(2, 2, sharex=True, height_ratios=[2.6, 1])
    strengths = {
        name: [pooled(run, model, pair_of) for model in run.models] for name, pair_of in METHODS.items()
    }  # fmt: skip
    if None in strengths["certified optimum"]:
        for ax in axes.ravel():
            style.empty(ax, "v(N) = v(∅) in every prompt")
        return figure
    for column, (name, pair_of) in enumerate(METHODS.items()):
        above, below = axes[:, column]
        for place, model in enumerate(run.models):
            _plot_bars(above, strengths[name][place], standard_errors(run, model, pair_of), place, len(run.models))
            _plot_cancellation(below, strengths[name][place], place)
        totals = style.listed([_total(strength) for strength in strengths[name]], ".1f")
        above.set_title(f"{name[0].upper()}{name[1:]}: total strength {totals}")
        _finish(above, below, strengths[name])
    if axes[0, 1].get_ylim()[1] > axes[0, 0].get_ylim()[1]:
        _outline(axes[0, 1], strengths["certified optimum"])
    axes[0, 0].set_ylabel("strength / |v(N) − v(∅)|\n← negative     positive →")
    axes[1, 0].set_ylabel("cancellation")
    handles = [Patch(color=style.model_colour(i), label=run.labels[m]) for i, m in enumerate(run.models)]
    outline = Patch(facecolor="none", edgecolor=style.AND_ONLY, lw=0.8, label="the optimum at the scale of AND only")
    figure.legend(handles=[*handles, outline], loc="outside lower center", ncols=min(4, len(handles) + 1))
    return figure


def caption(run: Run) -> str:
    """What the figure shows, and its numbers."""
    used = len(results.with_range(run, run.models))
    parts = []
    for model in run.models:
        for name, pair_of in METHODS.items():
            strength = pooled(run, model, pair_of)
            if strength is None:
                continue
            split = spindle_split(strength)
            cancelled = style.number(_mean_cancellation(run, model, pair_of))
            parts.append(
                f"{run.labels[model]}, {name}: total {style.number(_total(strength))}, strongest order "
                f"{_peak(strength)}, mean cancellation within a prompt {cancelled}, spindle share "
                f"{style.number(split.spindle_share)} (misfit {style.number(split.misfit)})"
            )
    return (
        f"Order distribution. Above: mean strength over {used} of {len(run.prompts)} prompts of the positive (up) and "
        f"negative (down) effects of each order |S|, AND and OR together, in units of |v(N) − v(∅)|, with one standard "
        f"error; left the certified optimum, right the AND effects alone (Harsanyi dividends) of the same values, on "
        f"their own scale, with the optimum outlined. Below: cancellation 1 − |sum| / sum of strengths of the bars "
        f"above, where they hold over {FAINT:.1%} of the total. {'; '.join(parts)}."
    )


def _claim(run: Run) -> str:
    peaks = []
    for pair_of in METHODS.values():
        strengths = [pooled(run, model, pair_of) for model in run.models]
        if None in strengths:
            return "No order carries strength: v(N) = v(∅) in every prompt"
        peaks.append(sorted({_peak(strength) for strength in strengths}))
    ours, theirs = (" and ".join(map(str, peak)) for peak in peaks)
    if peaks[0] == peaks[1]:
        return f"Strength peaks at order {ours}, at the certified optimum and with AND effects alone"
    return f"Strength peaks at order {ours} at the certified optimum, at order {theirs} with AND effects alone"


def _mean_cancellation(run: Run, model: str, pair_of) -> float:
    strengths = [metrics.order_strength(*pair_of(run, model, p)) for p in results.prompt_ids(run)]
    overall = [metrics.cancellation(strength).overall for strength in strengths]
    return results.mean_of_defined(overall)


def _total(strength: metrics.OrderStrength) -> float:
    return float(strength.positive.sum() + strength.negative.sum())


def _peak(strength: metrics.OrderStrength) -> int:
    return int(np.argmax(strength.positive + strength.negative)) + 1


def _plot_bars(ax, strength, errors, place: int, models: int) -> None:
    width = 0.84 / models
    order = np.arange(1, strength.positive.size + 1) + (place - (models - 1) / 2) * width
    colour = style.model_colour(place)
    for side, heights, error in ((1, strength.positive, errors[0]), (-1, strength.negative, errors[1])):
        ax.bar(order, side * heights, 0.92 * width, color=colour, lw=0)
        ax.errorbar(order, side * heights, error, fmt="none", ecolor=style.MUTED, elinewidth=0.6, capsize=0)


def _plot_cancellation(ax, strength, place: int) -> None:
    values = metrics.cancellation(strength).per_order
    values[strength.positive + strength.negative < FAINT * _total(strength)] = np.nan
    order = np.arange(1, values.size + 1)
    marker = "osD^vP"[place % 6]
    ax.plot(order, values, color=style.model_colour(place), marker=marker, ms=3.5, lw=1.0, clip_on=False)


def _outline(ax, strengths) -> None:
    width = 0.84 / len(strengths)
    for place, strength in enumerate(strengths):
        order = np.arange(1, strength.positive.size + 1) + (place - (len(strengths) - 1) / 2) * width
        for heights in (strength.positive, -strength.negative):
            ax.bar(order, heights, 0.92 * width, facecolor="none", edgecolor=style.AND_ONLY, lw=0.6)


def _finish(above, below, strengths) -> None:
    # The same reach up and down, so that balance between the signs is seen as symmetry.
    low, high = above.get_ylim()
    reach = max(-low, high)
    above.set_ylim(-reach, reach)
    above.axhline(0, color="black", lw=0.6)
    above.yaxis.set_major_locator(MaxNLocator(7, symmetric=True))
    above.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{abs(y):g}"))
    above.grid(axis="y")
    below.set_ylim(0, 1)
    below.set_yticks([0, 0.5, 1])
    below.grid(axis="y")
    below.set_xticks(range(1, strengths[0].positive.size + 1))
    below.set_xlabel("order |S|, number of words")
