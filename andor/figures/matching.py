"""Claim: a few AND-OR effects give the model's output on all 2**n_players masked prompts.

Above, v on all masks of one prompt, sorted, with the logic model of the top effects over it; below, what they leave
unexplained over all prompts (arXiv 2305.01939, universal matching; 2401.16318, figure 6).
"""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, NullLocator

from andor.core.explained import Compared
from andor.figures import panels, style
from andor.measures import metrics
from andor.measures.reported import SHARES, TOP_K, closest_to_median, median_of_defined, top_counts

_PER_ROW = 3  # panels of sorted values side by side
_LEAST = 1e-6  # of 1 - R² that is drawn: what is left of less is rounding
_FEWEST = 5  # prompts that have quartiles worth a box


def matches(run: Compared) -> dict[str, dict[str, list[metrics.Matching]]]:
    """Model -> prompt id -> the match at each of `top_counts`."""
    return {
        model: {
            p.id: [
                metrics.matching(run[model, p.id].values.v, *run[model, p.id].pair(), k)
                for k in top_counts(p.n_players)
            ]
            for p in run.prompts
        }
        for model in run.models
    }


def representative(found: dict[str, dict[str, list[metrics.Matching]]]) -> str:
    """The prompt drawn above: median R² of the top 100, R² averaged over the models."""
    prompts = next(iter(found.values()))
    return closest_to_median({p: float(np.mean([found[m][p][-1].r2 for m in found])) for p in prompts})


def plot(run: Compared, width: float = style.TWO_COLUMNS) -> Figure:
    """Sorted values with the logic model over them, and what it leaves unexplained over all prompts."""
    found = matches(run)
    shown = representative(found)
    narrow = style.narrow(width)
    columns = 1 if narrow else min(len(run.models), _PER_ROW)
    rows = -(-len(run.models) // columns)
    heights = 0.2 + (1.75 if narrow else 2.1) * rows, 4.0 if narrow else 2.3
    figure = style.new_figure(width, 0.6 + sum(heights))
    style.title(figure, _claim(found))
    above, below = figure.subfigures(2, 1, height_ratios=heights)

    text = next(p.text for p in run.prompts if p.id == shown)
    style.heading(above, f"{shown}: {_quoted(text)}")
    axes = above.subplots(rows, columns, squeeze=False).ravel()
    for place, (ax, model) in enumerate(zip(axes, run.models, strict=False)):
        _plot_values(ax, run, model, shown, style.model_colour(place), found[model][shown][-1].r2)
    for ax in axes[len(run.models) :]:
        ax.set_visible(False)

    unexplained, error = below.subplots(2, 1) if narrow else below.subplots(1, 2)
    left = {m: [[max(1 - x.r2, _LEAST) for x in p] for p in found[m].values()] for m in found}
    _plot_spread(unexplained, run, left)
    _plot_spread(error, run, {m: [[x.spread_error for x in p] for p in found[m].values()] for m in found})
    unexplained.set_title(f"Left unexplained, {_prompts(run)}")
    unexplained.set_ylabel("1 − R² over all masks")
    unexplained.set_yscale("log")
    unexplained.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:.6f}".rstrip("0").rstrip(".")))
    unexplained.yaxis.set_minor_locator(NullLocator())
    error.set_title(f"Mean |error|, {_prompts(run)}")
    error.set_ylabel("share of max v − min v")
    error.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{100 * y:.3g}%"))
    error.set_ylim(0, 1.06 * error.get_ylim()[1])
    handles = [
        Patch(color=style.model_colour(place), alpha=0.6, label=run.labels[model])
        for place, model in enumerate(run.models)
    ]
    below.legend(handles=handles, loc="outside lower center", ncols=min(2 if narrow else 4, len(handles)))
    return figure


def caption(run: Compared) -> str:
    """What the figure shows, and its numbers."""
    found = matches(run)
    shown = representative(found)
    prompt = next(p for p in run.prompts if p.id == shown)
    target = run[run.models[0], shown].target
    parts = []
    for model in run.models:
        medians = _medians(found[model])
        shares = ", ".join(f"{s:.0%}: {style.number(r2, 3)}" for s, r2 in zip(SHARES, medians, strict=False))
        worst = min((p[-1].r2 for p in found[model].values() if not np.isnan(p[-1].r2)), default=np.nan)
        error = style.number(100 * median_of_defined(p[-1].spread_error for p in found[model].values()), 1)
        parts.append(
            f"{run.labels[model]} {shares}, top {TOP_K}: {style.number(medians[-1], 3)} "
            f"(worst prompt {style.number(worst, 3)}; median mean |error| {error}% of max v − min v)"
        )
    boxes = "dots: prompts, bars: medians"
    if len(run.prompts) >= _FEWEST:
        boxes += ", boxes: quartiles"
    return (
        f"Universal matching. Above: log-odds v of {target!r} on all {2**prompt.n_players:,} masked versions of "
        f"{_quoted(prompt.text)}, sorted (black), the bound on the noise around it (grey), and the logic model "
        f"of the {TOP_K} strongest AND-OR effects (colour). The prompt is the one of median R² at the top {TOP_K}, "
        f"R² averaged over the models. Below: what the strongest 1, 3, 5 and 10% of all effects and the top {TOP_K} "
        f"leave unexplained over {_prompts(run)}; {boxes}. Median R²: {'; '.join(parts)}."
    )


def _claim(found) -> str:
    left = style.listed([100 * (1 - _medians(prompts)[-1]) for prompts in found.values()], ".2f")
    return f"The top {TOP_K} effects leave {left}% of the variance of v unexplained in the median prompt"


def _plot_values(ax, run: Compared, model: str, prompt_id: str, colour: str, r2: float) -> None:
    v = run[model, prompt_id].values.v
    bound = run[model, prompt_id].solution.noise_bound
    by_value = np.argsort(v, kind="stable")
    rank = np.arange(1, v.size + 1)
    logic = metrics.logic_model(*run[model, prompt_id].pair(), TOP_K)
    ax.fill_between(rank, v[by_value] - bound, v[by_value] + bound, color=style.NOISE, alpha=0.45, lw=0)
    panels.sorted_values(ax, v[by_value], logic[by_value], lw=0.9, ms=1.6, color=colour, alpha=0.7)
    ax.set_title(run.labels[model], color=colour, fontweight="bold")
    ax.set_xlabel(f"all {v.size:,} masked prompts, sorted by v")
    ax.set_ylabel("v, log-odds of the target")
    top = f"top {TOP_K} effects, R² = {style.number(r2, 3)}"
    handles = [
        Line2D([], [], color="black", lw=0.9, label="v, the model"),
        Line2D([], [], color=colour, marker="o", ms=3, mew=0, ls="", label=top),
        Patch(color=style.NOISE, alpha=0.45, lw=0, label="v ± noise bound"),
    ]
    ax.legend(handles=handles, loc="upper left")


def _plot_spread(ax, run: Compared, numbers: dict[str, list[list[float]]]) -> None:
    """One group per number of effects, one dot per prompt, and one box per model where prompts are enough."""
    groups = len(SHARES) + 1
    width = 0.8 / len(numbers)
    for place, by_prompt in enumerate(numbers.values()):
        colour = style.model_colour(place)
        for group, column in enumerate(np.array(by_prompt).T):
            column = column[~np.isnan(column)]
            size = 2.4 if column.size < _FEWEST else 1.8
            if not column.size:
                continue
            centre = group + (place - (len(numbers) - 1) / 2) * width
            low, lower, median, upper, high = np.quantile(column, [0, 0.25, 0.5, 0.75, 1])
            if column.size >= _FEWEST:
                # By hand: Axes.boxplot makes matplotlib choose a backend for the whole process.
                ax.vlines(centre, low, high, color=colour, lw=0.7)
                ax.bar(centre, upper - lower, 0.8 * width, bottom=lower, color=colour, alpha=0.35, lw=0)
            ax.hlines(median, centre - 0.4 * width, centre + 0.4 * width, color="black", lw=1.0)
            ax.plot(
                centre + 0.55 * width * style.aside(column.size),
                column,
                "o",
                ms=size,
                mew=0,
                color=colour,
            )
    counts = {top_counts(p.n_players) for p in run.prompts}
    notes = [f"{min(k)}" if min(k) == max(k) else f"{min(k)}–{max(k)}" for k in zip(*counts, strict=True)]
    names = [f"{share:.0%}\n({note})" for share, note in zip(SHARES, notes, strict=False)]
    ax.set_xticks(range(groups), [*names, f"top\n{TOP_K}"])
    ax.set_xlim(-0.6, groups - 0.4)
    ax.set_xlabel("strongest effects used: share of all (number)")
    ax.grid(axis="y")


def _medians(prompts: dict[str, list[metrics.Matching]]) -> list[float]:
    return [median_of_defined(column) for column in np.array([[x.r2 for x in p] for p in prompts.values()]).T]


def _prompts(run: Compared) -> str:
    return "1 prompt" if len(run.prompts) == 1 else f"{len(run.prompts)} prompts"


def _quoted(text: str) -> str:
    return "“" + " ".join(text.split()) + "”"
