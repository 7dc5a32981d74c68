"""Claim: which orders carry the strength. Positive and negative strength per order, and how much of it cancels.

arXiv 2401.16318, section 3, and 2502.10162 (decay and spindle). The certified optimum stands beside AND-only effects,
because a part of a spindle can be the method's and not the model's.

Unit: a prompt's effects, of either method, are divided by the strength of all its effects at the optimum, so that every
prompt counts the same. |v(N) - v(∅)|, the usual unit, is near 0 on prompts whose words pull both ways, and a mean over
prompts would then show those prompts alone.
"""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from andor.core.explained import Compared, Method
from andor.figures import panels, style
from andor.measures import metrics
from andor.measures.profile import FAINT, Profile, prompts_with_effects, run_profile
from andor.measures.reported import mean_of_defined

METHODS: dict[str, Method] = {"certified optimum": "certified", "AND only (Harsanyi)": "and_only"}

_WIDTH = 0.84  # of the bars of all models at one order


def plot(run: Compared, width: float = style.TWO_COLUMNS) -> Figure:
    """Above, strength per order, positive up and negative down; below, cancellation. Left and right, the methods."""
    narrow = style.narrow(width)
    figure = style.new_figure(width, 3.9)
    style.title(figure, _claim(run))
    axes = figure.subplots(2, 2, sharex=True, height_ratios=[2.6, 1])
    if not prompts_with_effects(run):
        for ax in axes.ravel():
            style.empty(ax, "v is constant up to noise in every prompt")
        return figure
    found = {name: [run_profile(run, model, method) for model in run.models] for name, method in METHODS.items()}
    for (name, profiles), (above, below) in zip(found.items(), axes.T, strict=True):
        for place, each in enumerate(profiles):
            colour = style.model_colour(place)
            _plot_bars(above, each, place, len(profiles), error=style.MUTED, color=colour, lw=0)
            _plot_cancellation(below, each, place)
        _finish(above, below, orders=profiles[0].strengths.shape[2])
        above.set_title(name[0].upper() + name[1:])
    optimum, and_only = found.values()
    for place, each in enumerate(optimum):
        _plot_bars(axes[0, 1], each, place, len(optimum), facecolor="none", edgecolor=style.AND_ONLY, lw=0.6)
    times = style.listed([each.total for each in and_only], ".1f")
    more = f",\n{times} × as strong" if narrow else f": {times} times the strength"
    title = axes[0, 1].set_title(axes[0, 1].get_title("left") + more)
    title.set_fontsize(7 if narrow else title.get_fontsize())
    axes[0, 0].set_ylabel("strength / total at the optimum\n← negative     positive →")
    axes[1, 0].set_ylabel("cancellation")
    handles = [Patch(color=style.model_colour(i), label=run.labels[m]) for i, m in enumerate(run.models)]
    outline = Patch(facecolor="none", edgecolor=style.AND_ONLY, lw=0.8, label="the optimum at the scale of AND only")
    figure.legend(
        handles=[*handles, outline], loc="outside lower center", ncols=min(1 if narrow else 4, len(handles) + 1)
    )
    return figure


def caption(run: Compared) -> str:
    """What the figure shows, and its numbers."""
    ids = prompts_with_effects(run)
    if not ids:
        return "Order distribution. Nothing to draw: v is constant up to noise in every prompt."
    parts = []
    for model in run.models:
        for name, method in METHODS.items():
            each = run_profile(run, model, method)
            split = each.split
            cancelled = mean_of_defined(
                metrics.cancellation(metrics.order_strength(*run[model, p].pair(method))).overall for p in ids
            )
            parts.append(
                f"{run.labels[model]}, {name}: {style.number(each.total)} times the strength of the optimum, "
                f"{each.low_orders:.0%} of it in orders 1 and 2, mean cancellation within a prompt "
                f"{style.number(cancelled)}, spindle share {style.number(split.spindle_share)} "
                f"(misfit {style.number(split.misfit)})"
            )
    return (
        f"Order distribution. Above: mean strength over {len(ids)} of {len(run.prompts)} prompts of the positive (up) "
        f"and negative (down) effects of each order |S|, AND and OR together, with one standard error. Every prompt's "
        f"effects are divided by the strength of all its effects at the certified optimum (left); right, the AND "
        f"effects alone (Harsanyi dividends) of the same values in the same unit, on their own scale, with the optimum "
        f"outlined. Below: cancellation, 1 − |sum| / sum of strengths within a prompt, for orders with over "
        f"{FAINT:.1%} of the strength. "
        f"{'; '.join(parts)}."
    )


def _claim(run: Compared) -> str:
    if not prompts_with_effects(run):
        return "No order carries strength"
    optimum, and_only = (
        style.listed([100 * run_profile(run, model, method).low_orders for model in run.models], ".0f")
        for method in METHODS.values()
    )
    return f"Orders 1 and 2 carry {optimum}% of the strength; {and_only}% of that of AND effects alone"


def _plot_bars(ax, each: Profile, place: int, models: int, error: str | None = None, **look) -> None:
    mean, spread = np.stack([each.mean.positive, each.mean.negative]), each.standard_error
    numbers = np.stack([mean, mean - spread, mean + spread], axis=-1)
    shift = (place - (models - 1) / 2) * _WIDTH / models  # side by side around their order
    panels.order_bars(ax, numbers, 0.92 * _WIDTH / models, shift, error, **look)


def _plot_cancellation(ax, each: Profile, place: int) -> None:
    order = np.arange(1, each.cancellation.size + 1)
    marker = "osD^vP"[place % 6]
    ax.plot(order, each.cancellation, color=style.model_colour(place), marker=marker, ms=3.5, lw=1.0, clip_on=False)


def _finish(above, below, orders: int) -> None:
    panels.balanced(above)
    panels.order_axes(above, orders, ticks=7)
    above.grid(axis="y")
    below.set_ylim(0, 1)
    below.set_yticks([0, 0.5, 1])
    below.grid(axis="y")
    below.set_xlabel("order |S|, words")
