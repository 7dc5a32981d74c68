"""The figure of `experiments.convergence`, from its saved result."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from andor.figures import style
from experiments.methods import LABELS, look

_PUBLISHED_K, _PUBLISHED = 50, {"apart": 0.32, "jointly": 0.50}
_LINES = {
    "two models, certified optimum": ("apart", "-"),
    "two models, extracted jointly": ("jointly", "--"),
    "effects shuffled within orders": ("shuffled", ":"),
    "extracted jointly, players permuted": ("jointly, permuted", "-."),
}
"""Cases whose transfer is drawn: what the legend calls them, dashes; grey those that by construction share nothing."""


def draw(result: dict) -> Figure:
    """Effects of one prompt in words; overlap beside its baselines; transfer over k; shared against distinctive."""
    cases = result["cases"]
    figure = style.new_figure(style.ONE_COLUMN, 8.6)
    overlap = cases["two models, certified optimum"]["mean_overlap"]
    style.title(
        figure,
        f"{' and '.join(result['models'])} share {overlap[0]:.0%} [{overlap[1]:.0%}, {overlap[2]:.0%}] of the strength "
        "of their effects",
    )
    words, overlaps, transfer, groups = figure.subfigures(4, 1, height_ratios=[2.5, 0.5 + 0.17 * len(cases), 1.9, 2.1])
    _draw_words(words, result["words"], result["models"])
    _draw_overlaps(overlaps.subplots(), cases)
    _draw_transfer(transfer, cases, result["transfer_k"])
    _draw_groups(groups, result["groups"])
    return figure


def _draw_words(figure, words: dict, models: list[str]) -> None:
    effects = words["effects"]
    style.heading(figure, f"{words['id']}: effects on “{words['target'].strip()}” / |v(N) − v(∅)|")
    axes = figure.subplots(1, 2, sharex=True, sharey=True)
    shared = sum(effect["shared"] for effect in effects)
    for side, (ax, model) in enumerate(zip(axes, models, strict=True)):
        ax.axhspan(-0.5, shared - 0.5, color="#EEEEEE", lw=0, zorder=0)
        for row, effect in enumerate(effects):
            colour = style.OR if effect["is_or"] else style.AND
            filled = style.fill(colour, effect["shared"])
            ax.barh(row, effect["values"][side], 0.7, lw=0.6, **filled)
        ax.axvline(0, color="black", lw=0.6)
        ax.set_title(model, color=style.model_colour(side), fontweight="bold")
        ax.tick_params(axis="y", length=0, labelleft=side == 0)
        ax.spines["left"].set_visible(False)
        ax.grid(axis="x")
    axes[0].set_yticks(range(len(effects)), [effect["name"] for effect in effects], fontsize=6.5)
    axes[0].set_ylim(len(effects) - 0.5, -0.5)
    figure.legend(handles=style.shared_and_distinctive(), loc="outside lower center", ncols=2)


def _draw_overlaps(ax, cases: dict) -> None:
    # From what should share everything to what should share nothing.
    names = sorted(cases, key=lambda name: -cases[name]["mean_overlap"][0])
    for row, name in enumerate(names):
        numbers = np.array([x for x in cases[name]["overlap"] if x is not None])
        certified = name == "two models, certified optimum"
        colour = style.model_colour(0) if certified else style.MUTED
        ax.plot(
            numbers, row + 0.5 * style.aside(len(numbers)), "o", ms=2, mew=0, color=colour, alpha=0.55, clip_on=False
        )
        middle, low, high = cases[name]["mean_overlap"]
        ax.plot([low, high], [row, row], color="black", lw=0.9)
        ax.plot([middle] * 2, [row - 0.38, row + 0.38], color="black", lw=1.6, solid_capstyle="butt")
        edge = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "va": "center"}
        ax.annotate(f"{middle:.2f}", (1, row), xytext=(4, 0), fontweight="bold" if certified else "normal", **edge)
    ax.set_yticks(range(len(names)), names, fontsize=6.5)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.set_xlim(0, 1)
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel("weighted overlap (bar: mean, 95%)")
    ax.grid(axis="x")


def _draw_transfer(figure, cases: dict, counts: list[int]) -> None:
    axes = figure.subplots(1, 2, sharey=True)
    for ax, kind, colour in zip(axes, ("s_and", "s_or"), (style.AND, style.OR), strict=True):
        for name, (_, dashes) in _LINES.items():
            middle, low, high = np.array(cases[name][kind], float).T
            shade = style.NOISE if dashes in (":", "-.") else colour
            ax.fill_between(counts, low, high, color=shade, alpha=0.2, lw=0)
            ax.plot(counts, middle, color=shade, ls=dashes, lw=1.1)
        for marker, published in zip("x+", _PUBLISHED.values(), strict=True):
            ax.plot(_PUBLISHED_K, published, marker, color="black", ms=5, mew=1.0)
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_xticks(counts, [str(k) for k in counts])
        ax.set_ylim(0, 1)
        ax.set_title("AND effects" if kind == "s_and" else "OR effects", color=colour)
        ax.set_xlabel("k strongest")
        ax.grid(axis="y")
    axes[0].set_ylabel("share of the k in common")
    handles = [Line2D([], [], color=style.MUTED, ls=dashes, label=label) for label, dashes in _LINES.values()]
    handles += [
        Line2D([], [], color="black", ls="", marker=marker, ms=5, label=f"published, {label}")
        for marker, label in zip("x+", _PUBLISHED, strict=True)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)


def _draw_groups(figure, groups: dict) -> None:
    axes = figure.subplot_mosaic([["orders", "order"], ["orders", "matched"]], width_ratios=[1.3, 1])
    orders = axes["orders"]
    certified = groups["certified"]
    for offset, name, filled in ((-0.21, "shared", True), (0.21, "distinctive", False)):
        for sign, side in zip((1, -1), np.array(certified[name]["strength"], float), strict=True):
            middle, low, high = side.T
            x = np.arange(1, len(middle) + 1) + offset
            filling = style.fill(style.model_colour(0), filled)
            orders.bar(x, sign * middle, 0.4, lw=0.6, label=name if sign > 0 else None, **filling)
            orders.errorbar(
                x, sign * middle, (middle - low, high - middle)[::sign], fmt="none", ecolor=style.MUTED, elinewidth=0.6
            )
    orders.axhline(0, color="black", lw=0.6)
    orders.set_xticks(range(1, len(x) + 1))
    orders.set_xlabel("order |S|")
    orders.set_ylabel("share of salient strength")
    orders.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{abs(y):g}"))
    orders.legend(loc="upper right")
    for what, label in (("order", "mean order"), ("matched", "cancellation")):
        ax = axes[what]
        for row, method in enumerate(LABELS):
            middle, low, high = groups[method]["difference"][what]
            ax.plot([low, high], [row, row], color="black", lw=0.9)
            ax.plot(middle, row, "o", ms=3, **look(method))
            ax.plot(groups[method]["chance"][what][0], row, "D", ms=4, mfc="none", mec=style.NOISE)
        ax.axvline(0, color="black", lw=0.6)
        ax.set_yticks(range(len(LABELS)), ["certified", "AND only", "published"], fontsize=6.5)
        ax.set_ylim(len(LABELS) - 0.5, -0.5)
        ax.set_title(label, fontsize=7.5)
        ax.tick_params(axis="y", length=0)
        ax.xaxis.set_major_locator(MaxNLocator(3))
        ax.grid(axis="x")
    axes["matched"].set_xlabel("distinctive − shared\n◇ by chance")
