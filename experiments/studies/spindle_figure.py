"""Drawing of `studies.spindle`: order profiles by label, what chance labels, and the validation."""

import itertools

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from andor.figures import panels, style
from experiments.lab.methods import LABELS, look

NAMES = LABELS | {"effects": "effects given"}
GROUPS = ("labelled", "other", "weak")
"""Salient and in most references; salient and not so; below the salient threshold."""
SETS = {
    "regularised": "regularised models, one another's references",
    "overfit": "overfit models",
    "given": "given models, one another's references",
}
"""Set of models that are shown together -> what it is called."""
SEEN = 20
"""Salient effects of an order from which on a share of them is drawn."""


def draw(result: dict) -> Figure:
    """A row of profiles by label for every set of models; behind them what chance labels, and the validation."""
    names = [name for name in SETS if f"{name} certified" in result["labels"]]
    rows = max(len(names), 2)
    figure = style.new_figure(style.TWO_COLUMNS, 4.6)
    style.title(figure, _claim(result, names))
    axes = figure.subplots(rows, 4)
    for row, column in itertools.product(range(rows), range(3)):
        ax, method = axes[row, column], list(LABELS)[column]
        if row >= len(names):
            style.empty(ax, "no second set of models" if column == 0 else "")
            continue
        _draw_profile(ax, result["labels"][f"{names[row]} {method}"])
        if row == 0:
            ax.set_title(LABELS[method])
        if row == len(names) - 1:
            ax.set_xlabel("order |S|")
        if column == 0:
            ax.set_ylabel(f"{names[row]} models\nstrength / total at the optimum\n← negative     positive →")
    _draw_labelled(axes[0, -1], result, names)
    if result["validation"]:
        _draw_validation(axes[1, -1], result["validation"])
    else:
        style.empty(axes[1, -1], "no planted games")
    handles = [
        Patch(color=colour, label=text)
        for colour, text in zip(
            _COLOURS,
            ("in most reference models", "salient, but not in most", "below the salient threshold"),
            strict=True,
        )
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


_COLOURS = (style.MODELS[3], style.MODELS[4], style.NOISE)


def _draw_profile(ax, found: dict) -> None:
    mean = np.array(found["mean"])
    order = np.arange(1, 1 + mean.shape[-1])
    low, high = np.array(found["low"]), np.array(found["high"])
    for side, sign in ((0, 1), (1, -1)):
        bottom = np.zeros(order.size)
        for group in range(len(GROUPS)):
            ax.bar(order, sign * mean[group, side], 0.8, bottom=sign * bottom, color=_COLOURS[group], lw=0)
            if group < 2:  # intervals of the two groups that are compared, side by side
                at = order + (-0.15, 0.15)[group]
                top = bottom + mean[group, side]
                error = np.abs(np.stack([mean[group, side] - low[group, side], high[group, side] - mean[group, side]]))
                ax.errorbar(at, sign * top, error[::sign], fmt="none", ecolor="black", elinewidth=0.6)
            bottom = bottom + mean[group, side]
    panels.order_axes(ax, order.size)
    ax.grid(axis="y")


def _draw_labelled(ax, result: dict, names: list[str]) -> None:
    """Share of the salient effects of each order that most references have, and what chance gives."""
    highest = 0.0
    for name, marker, colour in zip(names, "os", (style.MODELS[2], style.MODELS[1]), strict=False):
        found = result["labels"][f"{name} certified"]
        salient = np.array(found["salient"], float)
        order = np.arange(1, 1 + salient.size)
        seen = salient >= SEEN
        share = np.array(found["labelled"], float)[seen] / salient[seen]
        chance = np.array(found["chance"], float)[seen] / salient[seen]
        ax.plot(order[seen], share, color=colour, marker=marker, ms=3, label=name)
        ax.plot(order[seen], chance, color=colour, marker=marker, mfc="white", ms=2.5, ls=":", lw=1)
        ax.set_xticks(order)
        highest = max([highest, *share, *chance])
    ax.plot([], [], color=style.MUTED, marker="o", mfc="white", ms=2.5, ls=":", lw=1, label="by chance")
    ax.set_title("Labelled (optimum)")
    ax.set_ylabel("share of salient effects")
    ax.set_ylim(0, 1.35 * highest or 1.0)  # room for the legend
    ax.set_xlabel("order |S|")
    ax.grid(axis="y")
    ax.legend(loc="upper right")


def _draw_validation(ax, validation: list[dict]) -> None:
    """Mean error of the spindle share against the number of prompts, at the least noise; hollow without OR effects."""
    noise = min(each["noise"] for each in validation)
    lines = {"effects": {"color": style.MODELS[2], "ls": "-."}} | {method: look(method) for method in LABELS}
    for (method, line), or_too in itertools.product(lines.items(), (True, False)):
        chosen = [
            each
            for each in validation
            if (each["noise"], each["method"], each["or_effects"]) == (noise, method, or_too)
        ]
        ax.plot(
            [each["prompts"] for each in chosen],
            [each["error"][0] for each in chosen],
            marker="o",
            mfc=line["color"] if or_too else "white",
            ms=3,
            lw=1,
            label=NAMES[method] if or_too else None,
            **line,
        )
    ax.axhline(0.05, color=style.MUTED, lw=0.6)
    ax.set_xscale("log")
    ax.set_xticks([each["prompts"] for each in chosen], [str(each["prompts"]) for each in chosen])
    ax.minorticks_off()
    ax.set_ylim(0, 2.1 * max(each["error"][0] for each in validation if each["noise"] == noise))  # room for the legend
    ax.set_title(f"Planted, noise {noise:.1%}")
    ax.set_ylabel("error of the spindle share")
    ax.set_xlabel("prompts (hollow: no OR)")
    ax.grid(axis="y")
    ax.legend(loc="upper right")


def _claim(result: dict, names: list[str]) -> str:
    if not names:
        return "No model of this zoo has references"
    low, by_chance, shares, peaks = [], [], [], []
    for method in LABELS:
        found = result["labels"][f"{names[-1]} {method}"]
        low.append(np.array(found["labelled_in_low_orders"], float)[0])
        by_chance.append(np.array(found["low_orders_by_chance"], float)[0])
        shares.append(np.array(found["groups"]["others"]["spindle_share"], float)[0])
        peaks.append(found["groups"]["others"]["peak"])
    return (
        f"{names[-1].capitalize()} models: {low[0]:.0%} of the effects that most references share are of orders 1 and "
        f"2, by chance {by_chance[0]:.0%}; the rest has spindle share {style.number(shares[0])} and peaks at order "
        f"{peaks[0]} (AND only {style.number(shares[1])}, order {peaks[1]})"
    )
