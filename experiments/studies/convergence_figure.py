"""The figure of `studies.convergence`, from its saved result."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, NullLocator

from andor.figures import panels, style
from experiments.lab.methods import LABELS, look

_AND, _OR = "#0072B2", "#D55E00"
_SHARED_ROWS = "#EEEEEE"
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
    style.heading(figure, f"{words['id']}: effects on “{words['target'].strip()}” / |v(N) − v(∅)|")
    axes = figure.subplots(1, 2, sharex=True, sharey=True)
    _effect_bars(axes, words["effects"], models, lw=0.6, fontsize=6.5)
    figure.legend(handles=_shared_and_distinctive(), loc="outside lower center", ncols=2)


def _draw_overlaps(ax, cases: dict) -> None:
    # From what should share everything to what should share nothing.
    names = sorted(cases, key=lambda name: -cases[name]["mean_overlap"][0])
    for row, name in enumerate(names):
        numbers, mean = [x for x in cases[name]["overlap"] if x is not None], cases[name]["mean_overlap"]
        certified = name == "two models, certified optimum"
        look = {"ms": 2, "color": style.model_colour(0) if certified else style.MUTED, "alpha": 0.55, "clip_on": False}
        weight = "bold" if certified else "normal"
        panels.dots(ax, row, numbers, mean, f"{mean[0]:.2f}", half=0.38, weight=weight, **look)
    panels.row_axes(ax, names, fontsize=6.5)
    ax.set_xlim(0, 1)
    ax.set_xlabel("weighted overlap (bar: mean, 95%)")


def _draw_transfer(figure, cases: dict, counts: list[int]) -> None:
    axes = figure.subplots(1, 2, sharey=True)
    for ax, kind, colour in zip(axes, ("s_and", "s_or"), (_AND, _OR), strict=True):
        for name, (_, dashes) in _LINES.items():
            of_case = style.NOISE if dashes in (":", "-.") else colour
            panels.band(ax, counts, cases[name][kind], shade=0.2, color=of_case, ls=dashes, lw=1.1)
        for marker, published in zip("x+", _PUBLISHED.values(), strict=True):
            ax.plot(_PUBLISHED_K, published, marker, color="black", ms=5, mew=1.0)
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter(panels.plain)
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
        strength, filling = certified[name]["strength"], _fill(style.model_colour(0), filled)
        panels.order_bars(orders, strength, 0.4, offset, error=style.MUTED, label=name, lw=0.6, **filling)
    panels.order_axes(orders, len(strength[0]))
    orders.set_xlabel("order |S|")
    orders.set_ylabel("share of salient strength")
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


def _effect_bars(axes, effects: Sequence[Mapping], models: Sequence[str], *, lw: float, **text):
    """Effects of two models in words, a panel per model and a bar per effect; shared ones first, on grey.

    Args:
      axes: two matplotlib axes.
      effects: each with name, is_or, shared and values (of the two models).
      models: their labels.
      lw: width of outlines.
      text: of the names.
    """
    shared = sum(effect["shared"] for effect in effects)
    for side, (ax, model) in enumerate(zip(axes, models, strict=True)):
        ax.axhspan(-0.5, shared - 0.5, color=_SHARED_ROWS, lw=0, zorder=0)
        for row, effect in enumerate(effects):
            filled = _fill(_OR if effect["is_or"] else _AND, effect["shared"])
            ax.barh(row, effect["values"][side], 0.7, lw=lw, **filled)
        ax.axvline(0, color="black", lw=0.6)
        ax.set_title(model, color=style.model_colour(side), fontweight="bold")
        ax.tick_params(axis="y", length=0, labelleft=side == 0)
        ax.spines["left"].set_visible(False)
        ax.grid(axis="x")
    axes[0].set_yticks(range(len(effects)), [effect["name"] for effect in effects], **text)
    axes[0].set_ylim(len(effects) - 0.5, -0.5)


def _fill(colour: str, shared: bool) -> dict:
    """How the bar of an effect is filled: whole if two models share it, hatched if it is distinctive of one."""
    whole = {"facecolor": colour, "edgecolor": colour}
    return whole if shared else whole | {"facecolor": "white", "hatch": "//////"}


def _shared_and_distinctive() -> list[Patch]:
    """Legend of `_fill` for AND and OR effects."""
    return [
        Patch(**_fill(colour, shared), label=f"{kind}, {'shared' if shared else 'distinctive'}")
        for shared in (True, False)
        for kind, colour in (("AND", _AND), ("OR", _OR))
    ]
