"""Claim: few effects are strong. Strength of all effects in descending order, at the optimum and with AND only.

Arxiv 2305.01939 and 2401.16318, figure 2. A prompt's strengths are divided by its largest.
"""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from andor.core.explained import Compared, Method
from andor.figures import panels, style
from andor.measures import metrics

_PER_ROW = 3

BOTH: tuple[Method, Method] = ("certified", "and_only")
"""Methods that are drawn: the compact explanation has few effects because no more were asked for."""


def salient_counts(run: Compared, model: str, method: Method) -> np.ndarray:
    """Number of salient effects of every prompt, at the run's tau."""
    return np.array([metrics.salient_count(*run[model, p.id].pair(method), run.tau) for p in run.prompts])


def plot(run: Compared, width: float = style.TWO_COLUMNS) -> Figure:
    """Strength against rank, both logarithmic, one panel per model."""
    narrow = style.narrow(width)
    columns = 1 if narrow else min(len(run.models), _PER_ROW)
    rows = -(-len(run.models) // columns)
    figure = style.new_figure(width, 0.9 + (2.0 if narrow else 2.5) * rows)
    style.title(figure, _claim(run))
    axes = figure.subplots(rows, columns, squeeze=False, sharey=True, sharex=True).ravel()
    for place, (ax, model) in enumerate(zip(axes, run.models, strict=False)):
        _plot_model(ax, run, model, style.model_colour(place))
        ax.tick_params(labelbottom=True, labelleft=place % columns == 0)
        ax.set_ylabel("strength / strongest effect" if place % columns == 0 else "")
    for ax in axes[len(run.models) :]:
        ax.set_visible(False)
    handles = [
        *(Line2D([], [], color=style.model_colour(i), label=run.labels[m]) for i, m in enumerate(run.models)),
        Line2D([], [], color=style.AND_ONLY, ls="--", label="same, AND only (Harsanyi)"),
        Line2D([], [], color=style.NOISE, lw=0.5, label="one prompt"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(2 if narrow else 4, len(handles)))
    return figure


def caption(run: Compared) -> str:
    """What the figure shows, and its numbers."""
    parts = []
    for model in run.models:
        ours, theirs = (salient_counts(run, model, how) for how in BOTH)
        parts.append(f"{run.labels[model]} {_spread(ours)}, AND only {_spread(theirs)}")
    return (
        f"Sparsity. Strength |I(S)| of all AND and OR effects in descending order, each prompt divided by its "
        f"strongest effect, both axes logarithmic: thin lines {len(run.prompts)} prompts, thick line their median; "
        f"dashed: AND effects only (Harsanyi dividends) in place of the certified optimum. Dotted: the threshold "
        f"τ = {run.tau:g}. Circles: the median number of salient effects, with the smallest and largest "
        f"in brackets: {'; '.join(parts)}."
    )


def _claim(run: Compared) -> str:
    ours, theirs = ([np.median(salient_counts(run, model, how)) for model in run.models] for how in BOTH)
    return (
        f"{style.listed(ours, 'g')} {'effect is' if set(ours) == {1} else 'effects are'} salient in the median prompt; "
        f"with AND effects alone {style.listed(theirs, 'g')}"
    )


def _plot_model(ax, run: Compared, model: str, colour: str) -> None:
    tau = run.tau
    for method, shade, dashes in (("and_only", style.AND_ONLY, "--"), ("certified", colour, "-")):
        strengths = metrics.sparsity_curves([run[model, p.id].pair(method) for p in run.prompts])
        rank = np.arange(1, strengths.shape[1] + 1)
        # Zeros have no place on a logarithmic axis; drawn below its lower end, they let the line fall off there.
        drawn = np.maximum(strengths, panels.FLOOR / 100)
        ax.plot(rank, drawn.T, color=shade, lw=0.4, alpha=0.25)
        ax.plot(rank, np.median(drawn, axis=0), color=shade, ls=dashes)
        count = np.median(salient_counts(run, model, method))
        if count:
            ax.plot([count], [tau], "o", ms=4.5, mfc="white", mec=shade, mew=1.2, zorder=4)
            # Above every curve: the axis ends most of a decade over the strongest effect to make this room.
            text = f"AND only: {count:g} salient" if method == "and_only" else f"{count:g} salient"
            height = 0.9 if method == "and_only" else 0.98
            ax.text(1, height, text, transform=ax.transAxes, ha="right", va="top", color=shade, fontweight="bold")
    ax.axhline(tau, color=style.MUTED, lw=0.8, ls=":")
    box = {"facecolor": "white", "alpha": 0.8, "lw": 0, "pad": 0.6}
    ax.annotate(
        f"τ = {tau:g}", (1, tau), xytext=(0, 3), textcoords="offset points", color=style.MUTED, bbox=box, zorder=5
    )
    panels.strength_axes(ax, 8.0)
    ax.set_yticks([10.0**power for power in range(round(np.log10(panels.FLOOR)), 1)])
    ax.set_xlim(0.9, None)
    ax.set_title(run.labels[model], color=colour, fontweight="bold")
    ax.set_xlabel("rank of the effect")


def _spread(counts: np.ndarray) -> str:
    return f"{np.median(counts):g} [{counts.min()}, {counts.max()}]"
